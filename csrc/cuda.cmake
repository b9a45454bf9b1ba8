# hessx._cuda: every csrc/*.cu compiled by nvcc, bound by the C++ compiler.

set(HESSX_CUDA_ARCHITECTURES "80;90;100;120" CACHE STRING
  "Compute capabilities to compile for; the last one also as PTX, for GPUs that come later")

set(previous 0)
foreach(architecture IN LISTS HESSX_CUDA_ARCHITECTURES)
  if(NOT architecture MATCHES "^[1-9][0-9]*$" OR NOT architecture GREATER previous)
    message(FATAL_ERROR "HESSX_CUDA_ARCHITECTURES must be whole numbers in ascending order, like"
      " 80;90, got ${HESSX_CUDA_ARCHITECTURES}")
  endif()
  set(previous ${architecture})
endforeach()

enable_language(CUDA)
find_package(CUDAToolkit REQUIRED)

set(architectures ${HESSX_CUDA_ARCHITECTURES})
list(POP_BACK architectures last)
list(TRANSFORM architectures APPEND "-real")
list(APPEND architectures ${last})
if(last GREATER_EQUAL 100 AND CMAKE_CUDA_COMPILER_VERSION VERSION_LESS 12.8)
  message(FATAL_ERROR "nvcc ${CMAKE_CUDA_COMPILER_VERSION} does not know compute capability ${last}:"
    " use CUDA 12.8 or later, or set HESSX_CUDA_ARCHITECTURES, for example to 80;90")
endif()

file(GLOB kernels CONFIGURE_DEPENDS ${CMAKE_CURRENT_LIST_DIR}/*.cu)
add_library(kernels_cuda OBJECT ${kernels})
# One thread of nvcc an architecture. Nothing that trades accuracy for speed: no --use_fast_math.
target_compile_options(kernels_cuda PRIVATE --threads=0)
set_target_properties(kernels_cuda PROPERTIES
  CUDA_STANDARD 17 CUDA_STANDARD_REQUIRED ON CUDA_ARCHITECTURES "${architectures}"
  POSITION_INDEPENDENT_CODE ON CUDA_VISIBILITY_PRESET hidden)

pybind11_add_module(_cuda ${CMAKE_CURRENT_LIST_DIR}/bind_cuda.cpp)
string(REPLACE ";" "," architectures "${HESSX_CUDA_ARCHITECTURES}")
target_compile_definitions(_cuda PRIVATE
  HESSX_CUDA_MODULE=_cuda HESSX_CUDA_DEVICE="cuda" "HESSX_CUDA_ARCHITECTURES=${architectures}")
# Linked statically, the CUDA runtime ties the module to no other package, and the module can be
# imported where there is no driver.
target_link_libraries(_cuda PRIVATE kernels_cuda CUDA::cudart_static)

if(HESSX_WERROR)
  target_compile_options(_cuda PRIVATE -Wall -Wextra -Werror)
  target_compile_options(kernels_cuda PRIVATE --Werror=all-warnings -Xcompiler=-Wall,-Wextra)
endif()
