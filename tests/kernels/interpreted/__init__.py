"""The kernels on CPU tensors by Triton's interpreter; tests/kernels/test_interpreted.py runs them in a process of their own."""
