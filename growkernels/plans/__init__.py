"""Plans as pure data: rules of tensors, claims, totals. Knows no kernel and no paper."""

from growkernels.plans.matrices import Matrices
from growkernels.plans.plan import NOISE_VERSION, Claim, Plan
from growkernels.plans.rule import Kind, Rule
from growkernels.plans.totals import Totals
from growkernels.rules.index import MEAN, NEW, IndexVector, Segment
from growkernels.rules.key import noise_key
from growkernels.rules.learned import Learned, LearnedPart
from growkernels.rules.tensor import DTYPE_BYTES, TensorSpec
from growkernels.rules.tile import Fill, Noise, Tile

__all__ = [
    "DTYPE_BYTES",
    "MEAN",
    "NEW",
    "NOISE_VERSION",
    "Claim",
    "Fill",
    "IndexVector",
    "Kind",
    "Learned",
    "LearnedPart",
    "Matrices",
    "Noise",
    "Plan",
    "Rule",
    "Segment",
    "TensorSpec",
    "Tile",
    "Totals",
    "noise_key",
]
