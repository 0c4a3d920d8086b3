"""What part of the experts works for a token, by the config: what counts in operations per token."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

#: Keys of the number of routed experts, and of those for a token, by preference; dotted where they are nested.
COUNTS = ("n_routed_experts", "num_local_experts", "num_experts", "moe_num_experts", "ffn_config.moe_num_experts")
TOP_KS = ("num_experts_per_tok", "moe_k", "moe_topk", "num_experts_per_token", "ffn_config.moe_top_k", "top_k_experts")

_EXPERTS = re.compile(r"(^|\.)experts\.")


def active_share(config: Mapping[str, Any]) -> float:
    """The share of the routed experts that a token is sent to; 1 for dense models, and where the config does not tell."""
    text = config.get("text_config", config)
    count, top_k = (next((v for key in keys if isinstance(v := _read(text, key), int)), 0) for keys in (COUNTS, TOP_KS))
    return top_k / count if 0 < top_k <= count else 1.0


def share_of(name: str, active: float) -> float:
    """The share of tokens that a tensor works for: that of routed experts, by their name, or all."""
    return active if _EXPERTS.search(name) else 1.0


def _read(config: Any, path: str) -> Any:
    for key in path.split("."):
        config = config.get(key) if isinstance(config, Mapping) else None
    return config
