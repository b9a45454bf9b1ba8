"""The project's own launch code over a CUDA runtime that writes launches down (fake_cudart.cpp)."""
