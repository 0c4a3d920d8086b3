"""Growing in the middle of training: moments by the rules of their weights, and the options that keep training exact."""

from growkernels.optim.clip import clip_grad_norm_
from growkernels.optim.hooks import attach
from growkernels.optim.table import Row, Table, table

__all__ = ["Row", "Table", "attach", "clip_grad_norm_", "table"]
