"""Where grown tensors go: files and live models."""
