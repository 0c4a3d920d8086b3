"""Learned growth: where its matrices start, and how they are trained."""

from growkernels.learning.start import start_matrices

__all__ = ["start_matrices"]
