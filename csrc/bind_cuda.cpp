// The Python module hessx._cuda: one function a kernel, which launches it. Grid, block and shared
// memory are chosen in Python (hessx/ops/<op>/cuda.py), where CuPy launches the same kernels.
#include <pybind11/pybind11.h>

#include <mutex>
#include <stdexcept>
#include <string>

#include "cuda_kernels.h"

namespace py = pybind11;

namespace {

using Address = uintptr_t;

// What Python passes for an argument of a kernel: pointers come as addresses.
template <class T>
struct Passed {
  using Type = T;
  static T value(T x) { return x; }
};

template <class T>
struct Passed<T*> {
  using Type = Address;
  static T* value(Address x) { return reinterpret_cast<T*>(x); }
};

void check(cudaError_t status, const char* kernel) {
  if (status == cudaSuccess) return;
  throw std::runtime_error(std::string(kernel) + ": " + cudaGetErrorString(status) +
                           " (CUDA error " + std::to_string(status) + ")");
}

// Kernels may use this much shared memory without asking for more.
constexpr unsigned DEFAULT_SHARED_BYTES = 48 * 1024;

template <class... Args>
void launch(const char* name, void (*kernel)(Args...), unsigned grid, unsigned block,
            unsigned shared, int device, Address stream, Args... args) {
  // The runtime is linked statically and keeps a current device of its own.
  check(cudaSetDevice(device), name);
  // The limit belongs to the kernel: another thread must not lower it before the launch.
  static std::mutex limit;
  std::unique_lock<std::mutex> locked(limit, std::defer_lock);
  if (shared > DEFAULT_SHARED_BYTES) {
    locked.lock();
    check(
        cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                             cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared)),
        name);
  }
  void* addresses[] = {&args...};
  check(cudaLaunchKernel(kernel, dim3(grid), dim3(block), addresses, shared,
                         reinterpret_cast<cudaStream_t>(stream)),
        name);
}

template <class... Args>
void def_kernel(py::module_& m, const char* name, void (*kernel)(Args...)) {
  m.def(name, [name, kernel](unsigned grid, unsigned block, unsigned shared, int device,
                             Address stream, typename Passed<Args>::Type... passed) {
    const py::gil_scoped_release released;
    launch<Args...>(name, kernel, grid, block, shared, device, stream,
                    Passed<Args>::value(passed)...);
  });
}

}  // namespace

PYBIND11_MODULE(HESSX_CUDA_MODULE, m) {
  m.doc() = "CUDA kernels of hessx on raw addresses; hessx.ops is the public face.";
  // The device type whose tensors the kernels take.
  m.attr("device") = HESSX_CUDA_DEVICE;
#if defined(HESSX_CUDA_ARCHITECTURES)
  // Compute capabilities with machine code here; the last one has PTX too. Emulators have none.
  m.attr("architectures") = py::make_tuple(HESSX_CUDA_ARCHITECTURES);
#endif
  def_kernel(m, "hessx_eigh_float", hessx_eigh_float);
  def_kernel(m, "hessx_eigh_double", hessx_eigh_double);
  def_kernel(m, "hessx_trust_region_float", hessx_trust_region_float);
  def_kernel(m, "hessx_trust_region_double", hessx_trust_region_double);
}
