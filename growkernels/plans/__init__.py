"""Plans as pure data: index vectors, rules, plans. Knows no kernel and no paper."""

from growkernels.plans.matrices import Matrices
from growkernels.plans.plan import NOISE_VERSION, Claim, Plan
from growkernels.plans.rule import Noise, Rule
from growkernels.plans.totals import Totals
from growkernels.rules.index import NEW, IndexVector, Segment
from growkernels.rules.key import noise_key
from growkernels.rules.learned import Learned, LearnedPart
from growkernels.rules.tensor import DTYPE_BYTES, TensorSpec

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
