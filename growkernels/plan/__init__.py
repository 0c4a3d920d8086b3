"""Plans as pure data: index vectors, rules, plans. Knows no kernel and no paper."""

from growkernels.key import noise_key
from growkernels.plan.index import NEW, IndexVector, Segment
from growkernels.plan.learned import Learned, LearnedPart
from growkernels.plan.matrices import Matrices
from growkernels.plan.plan import NOISE_VERSION, Claim, Plan
from growkernels.plan.rule import Noise, Rule
from growkernels.plan.tensor import DTYPE_BYTES, TensorSpec
from growkernels.plan.totals import Totals

__all__ = [
    "DTYPE_BYTES",
    "NEW",
    "NOISE_VERSION",
    "Claim",
    "IndexVector",
    "Learned",
    "LearnedPart",
    "Matrices",
    "Noise",
    "Plan",
    "Rule",
    "Segment",
    "TensorSpec",
    "Totals",
    "noise_key",
]
