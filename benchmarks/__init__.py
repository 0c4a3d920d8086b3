"""Measures the ops beside eager PyTorch, torch.compile, the papers' algorithms and the machine's own copy rate."""
