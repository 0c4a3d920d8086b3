"""The parts of verification: stored tensors against the reference, and the two models' outputs against each other."""
