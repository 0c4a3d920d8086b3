"""Learned growth: how its matrices are trained."""

from growkernels.learning.checkpoint import check_checkpoint_file
from growkernels.learning.curve import draw_losses
from growkernels.learning.fit import Fit, FitReport, fit_plan
from growkernels.learning.growth import LearnedGrowth
from growkernels.learning.text import TextBatches

__all__ = [
    "Fit",
    "FitReport",
    "LearnedGrowth",
    "TextBatches",
    "check_checkpoint_file",
    "draw_losses",
    "fit_plan",
]
