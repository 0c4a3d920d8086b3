"""The `expand` op: learned growth, `B (sum_j w_j W_j) A^T`."""
