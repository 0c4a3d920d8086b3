"""Analysis of checkpoints: symmetry between copies, spectra, dead and duplicate parts, and what differs from a source."""

from growkernels.analyze.analysis import Analysis, analyze
from growkernels.analyze.picture import draw_analysis

__all__ = ["Analysis", "analyze", "draw_analysis"]
