"""Checkpoint files: formats, staging, manifests."""
