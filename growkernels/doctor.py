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
from growkernels.devices import cuda_device
from growkernels.ops.backends import registry
from growkernels.ops.backends.extension import BUILD, EXTENSION, MISSING
from growkernels.plans import NOISE_VERSION

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
    """`versions`: of packages, None where missing; `backend`: what runs tensors of each device, and why; `machine`: what there
    is to run on; `remedies`: what to do, a sentence each.
    """

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
    versions["torch"] = torch.__version__  # with the CUDA that it was built for
    nvcc, gpu = shutil.which("nvcc"), cuda_device()
    machine = {
        "platform": platform.platform(),
        "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "compiler": shutil.which(os.environ.get("CXX", "c++")),
        "nvcc": _nvcc_release(nvcc) if nvcc else None,
        "cuda_device": gpu and gpu[0],
        "cuda_capability": gpu and gpu[1],
    }
    active = _backend()
    return Findings(versions, active, machine, tuple(_remedies(active, versions, machine)))


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _backend() -> dict[str, Any]:
    build: dict[str, Any] | None = EXTENSION.build_info() if EXTENSION else None
    if build is None:
        why_cpu = why_cuda = MISSING
    else:
        why_cpu = "the compiled extension loaded"
        why_cuda = f"the extension {'has kernels for ' + build['cuda'] if build['cuda'] else 'was built without CUDA'}"
    return {
        "forced": registry.FORCED,
        "cpu_tensors": _active("cpu", why_cpu),
        "cuda_tensors": _active("cuda", why_cuda),
        "backends": {name: found.why_not or "available" for name, found in registry.BACKENDS.items()} | registry.FAILED,
        "extension": getattr(EXTENSION, "__file__", None),
        "build": build,
        "isa": EXTENSION.isa() if EXTENSION else None,
        "noise_version": NOISE_VERSION,
    }


def _active(device: str, why: str) -> dict[str, str | None]:
    """What runs tensors of a type of device, None if nothing does, and why."""
    if refused := registry.refusal(registry.FORCED, device):
        return {"active": None, "why": refused}
    if registry.FORCED:
        return {"active": registry.FORCED, "why": f"GROWKERNELS_BACKEND={registry.FORCED}"}
    return {"active": registry.DEFAULTS[device], "why": why}


def _nvcc_release(nvcc: str) -> str:
    try:
        text = subprocess.run([nvcc, "--version"], capture_output=True, text=True, timeout=10, check=True).stdout
    except (OSError, subprocess.SubprocessError) as error:
        return f"{nvcc}: {error}"
    release = text.partition("release ")[2].partition(",")[0]
    return f"{nvcc} {release}".strip()


def _remedies(active: dict[str, Any], versions: dict[str, str | None], machine: dict[str, Any]) -> list[str]:
    remedies = []
    cpu, cuda = active["cpu_tensors"], active["cuda_tensors"]
    if active["extension"] is None:
        if machine["compiler"] is None:
            remedies.append("No C++ compiler was found: install one (Debian, Ubuntu: apt-get install g++ python3-dev).")
        remedies.append(
            f"Growth runs on the slow eager reference: {MISSING}. To build the kernels, {BUILD} (with -v to see why it fails)."
        )
    elif active["forced"] == "eager":
        remedies.append(
            "GROWKERNELS_BACKEND=eager forces the slow eager reference; unset it to use the compiled kernels."
        )
    remedies += [f"Backend {name} is left out: {why}." for name, why in registry.FAILED.items()]
    if active["forced"] and cpu["active"] is None and cuda["active"] is None:
        remedies.append(f"GROWKERNELS_BACKEND={active['forced']} cannot run; unset it: {cpu['why']}.")
    elif machine["cuda_device"] and cuda["active"] is None:
        remedies.append(f"CUDA tensors cannot be grown: {cuda['why']}.")
    elif cuda["active"] == "cuda" and machine["cuda_capability"] and not _runs(active["build"]["cuda"], machine):
        remedies.append(
            f"The CUDA kernels are for {active['build']['cuda']} and do not run on {machine['cuda_device']}: install triton "
            f"and set GROWKERNELS_BACKEND=triton."
        )
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


def _runs(architectures: str, machine: dict[str, Any]) -> bool:
    """Whether kernels for these run on the GPU: those of its own generation, no later; the last ones are translated."""
    capability = machine["cuda_capability"]
    built = [divmod(int(name.removeprefix("sm_")), 10) for name in architectures.split(", ")]
    return capability >= built[-1] or any(major == capability[0] and minor <= capability[1] for major, minor in built)
