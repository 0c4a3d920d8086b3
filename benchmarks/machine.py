"""What a run ran on: processor, memory, GPU, which kernels."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from typing import Any

import psutil
import torch

from benchmarks import provenance, streaming
from growkernels.ops.backends.extension import EXTENSION
from growkernels.ops.backends.registry import DEFAULTS


def describe(device: torch.device) -> dict[str, Any]:
    """The machine; `name` is the folder of its results."""
    found: dict[str, Any] = {
        "name": streaming.machine(),
        "processor": _lscpu("Model name") or platform.processor() or platform.machine(),
        "cores": psutil.cpu_count(logical=False) or os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_bytes": psutil.virtual_memory().total,
        "system": f"{platform.system()} {platform.machine()}",
        "instructions": EXTENSION.isa() if EXTENSION else "eager reference only",
    }
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        found |= {
            "name": "-".join(re.findall(r"[a-z0-9]+", properties.name.lower())),
            "gpu": properties.name,
            "gpu_memory_bytes": properties.total_memory,
            "gpu_l2_bytes": properties.L2_cache_size,
            "cuda": torch.version.cuda,
            "backend": DEFAULTS.get("cuda"),
        }
    return found


def _lscpu(field: str) -> str | None:
    try:
        text = provenance.output("lscpu")
    except (OSError, subprocess.CalledProcessError):
        return None
    found = re.search(rf"^{field}:\s*(.+)$", text, re.MULTILINE)
    return found[1].strip() if found else None
