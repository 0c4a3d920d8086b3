"""What is installed, which code runs and why, and what to do where something is missing."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

import growkernels
from growkernels.ops import backend
from growkernels.plan import NOISE_VERSION

_PACKAGES = (
    "torch",
    "transformers",
    "safetensors",
    "huggingface_hub",
    "numpy",
    "triton",
)


@dataclass(frozen=True, slots=True)
class Findings:
    """`versions`: of packages, None where missing; `backend`: which code runs and why; `machine`: what there is to run on."""

    versions: dict[str, str | None]
    backend: dict[str, Any]
    machine: dict[str, Any]
    remedies: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
        return asdict(self)


def examine() -> Findings:
    """Look at this process and this machine. Starts `nvcc --version` if there is an nvcc, else nothing."""
    versions: dict[str, str | None] = {
        "growkernels": growkernels.__version__,
        "python": platform.python_version(),
    }
    versions |= {name: _version(name) for name in _PACKAGES}
    nvcc = shutil.which("nvcc")
    machine = {
        "platform": platform.platform(),
        "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "compiler": shutil.which(os.environ.get("CXX", "c++")),
        "nvcc": _nvcc_release(nvcc) if nvcc else None,
        "cuda_device": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }
    active = _backend()
    return Findings(versions, active, machine, tuple(_remedies(active, versions, machine)))


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _backend() -> dict[str, Any]:
    extension = backend.EXTENSION
    forced = backend.FORCED
    active = forced or ("eager" if extension is None else "cpu")
    if forced:
        why = f"GROWKERNELS_BACKEND={forced}"
    elif extension is None:
        why = f"the compiled extension did not load: {backend.EXTENSION_ERROR}"
    else:
        why = "the compiled extension loaded"
    return {
        "active": active,
        "why": why,
        "extension": getattr(extension, "__file__", None),
        "build": extension.build_info() if extension else None,
        "isa": extension.isa() if extension else None,
        "noise_version": NOISE_VERSION,
    }


def _nvcc_release(nvcc: str) -> str:
    try:
        text = subprocess.run([nvcc, "--version"], capture_output=True, text=True, timeout=10, check=True).stdout
    except (OSError, subprocess.SubprocessError) as error:
        return f"{nvcc}: {error}"
    release = text.partition("release ")[2].partition(",")[0]
    return f"{nvcc} {release}".strip()


def _remedies(active: dict[str, Any], versions: dict[str, str | None], machine: dict[str, Any]) -> list[str]:
    remedies = []
    if active["extension"] is None:
        if machine["compiler"] is None:
            remedies.append("No C++ compiler was found: install one (Debian, Ubuntu: apt-get install g++ python3-dev).")
        remedies.append(f"Growth runs on the slow eager reference. To mend it, {backend.REMEDY}.")
    elif active["active"] == "eager":
        remedies.append(
            "GROWKERNELS_BACKEND=eager forces the slow eager reference; unset it to use the compiled kernels."
        )
    if active["active"] not in ("cpu", "eager"):
        remedies.append(f"GROWKERNELS_BACKEND={active['active']} is unknown: set it to cpu or eager, or unset it.")
    if active["active"] == "cpu" and active["extension"] is None:
        remedies.append("GROWKERNELS_BACKEND=cpu cannot run without the compiled extension: unset it, or build.")
    built = (active["build"] or {}).get("version")
    if built not in (None, versions["growkernels"]):
        remedies.append(
            f"The extension is of version {built}, the package of {versions['growkernels']}: build it again."
        )
    if machine["torch_threads"] < machine["cpus"]:
        remedies.append(
            f"torch uses {machine['torch_threads']} of {machine['cpus']} CPUs (OMP_NUM_THREADS decides); "
            f"growth is bound by memory and needs several."
        )
    if versions["huggingface_hub"] is None:
        remedies.append("huggingface_hub is not installed: hub ids do not work, folders do.")
    return remedies
