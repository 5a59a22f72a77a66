"""CUDA kernels: C++ in `.cu` files, compiled at run time by CuPy's NVRTC; cuBLAS and cuSOLVER through CuPy."""
