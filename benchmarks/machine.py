"""What a run ran on: processor, memory, versions, commit."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import psutil
import torch

from benchmarks import streaming
from growkernels.ops.backend import EXTENSION

_PACKAGES = ("torch", "numpy", "triton", "transformers", "safetensors")


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
        }
    return found


def versions() -> dict[str, str]:
    """Of Python and of every package that matters to speed and is there."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    if torch.version.cuda:
        found["cuda"] = torch.version.cuda
    return found


def commit() -> tuple[str, bool]:
    """The commit, and whether files other than results differ from it; "unknown" outside a checkout."""
    try:
        head = _output("git", "rev-parse", "--short=12", "HEAD")
        changed = _output("git", "status", "--porcelain", "--", ".", ":!benchmarks/results")
    except (OSError, subprocess.CalledProcessError):
        return "unknown", False
    return head, bool(changed)


def _lscpu(field: str) -> str | None:
    try:
        text = _output("lscpu")
    except (OSError, subprocess.CalledProcessError):
        return None
    found = re.search(rf"^{field}:\s*(.+)$", text, re.MULTILINE)
    return found[1].strip() if found else None


def _output(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
