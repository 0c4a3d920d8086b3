"""The `tile` op: copies along both axes of a matrix, divided, with noise that sums to zero."""
