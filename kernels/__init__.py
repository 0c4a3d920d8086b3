"""Triton twins of the kernels. Importing a file here needs Triton; importing growkernels never does."""
