"""Where source tensors come from: checkpoints, live models, and either of them on another device."""
