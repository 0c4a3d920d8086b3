"""Where source tensors come from: checkpoints and live models."""
