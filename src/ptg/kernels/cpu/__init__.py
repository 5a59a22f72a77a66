"""CPU kernels: NumPy and BLAS first, numba where arrays cannot say it. Threads come from `threads` alone."""
