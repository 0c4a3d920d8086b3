"""Where grown tensors go: files and modules."""
