"""CUDA kernels on the CPU, with every access to memory checked.

`build.py` compiles `csrc/*.cu` and `csrc/bind_cuda.cpp` unchanged, with `include/cuda_runtime.h`
for CUDA and the runtime of `runtime/`; `module.py` makes the result a provider of kernels;
`replay.py` runs recorded launches under the compiler's own sanitizers.
"""
