"""How classes choose experts and weigh what they put out, as far as another number of experts changes it.

Measured on every type of transformers 5.17 in float64: copies of all experts, as many times more of them for a token, compute
what one of each did, but for what stands here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from transformers import PreTrainedConfig

from growkernels.layouts.keys import words
from growkernels.layouts.knobs import MISSING, read, text_config

#: Keys of groups of experts, and of the balance loss, by preference.
GROUPS = words("n_group topk_group num_expert_group")
BALANCE = words("router_aux_loss_coef aux_loss_coef ffn_config.moe_loss_weight")
#: Keys of the ffn size of an expert, by preference.
SIZES = words("moe_intermediate_size intermediate_size")
#: Keys of the number of shared experts of the routed ones' size.
SHARED = words("n_shared_experts num_shared_experts moe_num_shared_experts")


@dataclass(frozen=True, slots=True)
class Routing:
    """The way of one type.

    `sums_to_one`: whether the weights of the chosen experts share out a fixed sum, so that copies get a part each (softmax,
    or scores divided by their sum); a config key that says so. `scale`: the key of a factor on what the experts put out.
    `bias_shrinks`: whether a correction bias is added to scores that become smaller the more experts there are.
    """

    sums_to_one: bool | str = True
    scale: str = ""
    bias_shrinks: bool = False

    def shares_out(self, loaded: PreTrainedConfig) -> bool:
        """Whether copies of an expert share out its weight under this config."""
        if isinstance(self.sums_to_one, bool):
            return self.sums_to_one
        value = read(text_config(loaded), self.sums_to_one)
        return value is not MISSING and bool(value)


_SOFTMAX = Routing()
_SIGMOID = Routing("norm_topk_prob", "routed_scaling_factor")

#: By type; others are refused.
ROUTINGS: Mapping[str, Routing] = {
    **dict.fromkeys(
        words(
            "mixtral qwen2_moe qwen3_moe qwen3_next olmoe flex_olmo granitemoe granitemoe_swa granitemoehybrid "
            "granitemoeshared gpt_oss jamba dbrx hunyuan_v1_moe deepseek_v2 afmoe minimax minimax_m2 mellum"
        ),
        _SOFTMAX,
    ),
    **dict.fromkeys(
        words(
            "deepseek_v3 deepseek_v32 glm4_moe glm4_moe_lite glm_moe_dsa dots1 exaone_moe solar_open mimo_v2_flash axk1 axk2"
        ),
        _SIGMOID,
    ),
    "llama4_text": Routing(False),
    "ernie4_5_moe": Routing(bias_shrinks=True),
}

#: Types whose copies are not exact, with what was measured.
APPROXIMATE: Mapping[str, str] = {
    "phimoe": "its router picks two experts one after the other, whatever the config says (error 1.1)",
    "lfm2_moe": "its router adds 1e-6 to the sum that it divides by (error 4e-7)",
    "longcat_flash": "its router also counts experts without weights, which would have to be copied among the others",
    "deepseek_v4": "its hash layers hold the numbers of experts in a table",
    "zaya": "its class takes one expert for a token only",
    "inkling_text": "its router has rows that are no experts'",
}


def changes(loaded: PreTrainedConfig) -> str:
    """Why copies are not exact under an option of the config; empty where they are."""
    power = read(loaded, "ffn_config.moe_normalize_expert_weights")
    if power not in (MISSING, None, 1, 1.0):
        return f"moe_normalize_expert_weights is {power}, and copies keep the weights' sum for 1 and null alone (error 0.47)"
    return ""
