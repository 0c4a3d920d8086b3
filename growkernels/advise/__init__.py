"""Advice on growth: when, from what, by which operator, at which cost, and on which evidence."""

from growkernels.advise.advice import FACTOR, FACTOR_RANGE, Advice, advise
from growkernels.advise.curve import draw_curve

__all__ = ["FACTOR", "FACTOR_RANGE", "Advice", "advise", "draw_curve"]
