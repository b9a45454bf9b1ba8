"""A machine for PTX: what Triton and nvcc emit for sm_80, run on CPU tensors and checked."""
