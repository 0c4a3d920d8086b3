"""Verification: stored tensors against the reference, and the two models' outputs against each other."""

from growkernels.verification.checkpoint import Verification, verify

__all__ = ["Verification", "verify"]
