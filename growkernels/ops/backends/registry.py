"""Which backend runs: the record of each one, and the table in which `register_backend` puts them."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib.metadata import entry_points
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.library import Library

from growkernels.errors import GrowthError
from growkernels.ops.backends.extension import CUDA_REMEDY
from growkernels.ops.backends.functional import replicate, tile
from growkernels.ops.expand import dense
from growkernels.ops.expand.cost import Rates
from growkernels.ops.library import SCHEMAS, define
from growkernels.ops.versions import raising_versions

#: Installed packages name their backends, objects of class Backend, in this group of entry points.
ENTRY_POINTS = "growkernels.backends"
#: The namespace of `torch.ops` whose ops run, on each type of device, by the backend that is the default there.
DEFAULT = "growkernels"
#: The backend that GROWKERNELS_BACKEND asks for.
FORCED = os.environ.get("GROWKERNELS_BACKEND") or None


@dataclass(frozen=True, slots=True)
class Backend:
    """An implementation of the ops for some types of devices.

    Attributes:
        name: what `backend=` and GROWKERNELS_BACKEND call it.
        devices: types of devices whose tensors it takes, such as "cpu"; none for any device.
        why_not: says why it cannot run in this process, and what to do; empty if it can. Called once, on registration.
        implementations: gives functions by the names of ops, with the parameters of their schemas. Called once, if the
            backend can run. In-place ops refuse what does not fit by a GrowthError, before they write; version counters
            are raised for them. May leave out ops that a C++ library registers in `namespace`; `tile` and `replicate`,
            which follow from `tile_` and `replicate_`; `expand`, `expand_` and `expand_backward`, which follow from
            `mix_`, `inner_products_`, `products_` and `rates`.
        rates: how fast its devices multiply matrices. Not needed where `implementations` has `expand`.
        default_for: types of devices on whose tensors it runs unasked, if no backend that was registered before it does.
        namespace: of its ops in `torch.ops`; `growkernels_` and the name by default.
        fresh: called with every new result of `expand` before it is written.

    Example:
        >>> register_backend(Backend("npu", ("npu",), why_not, implementations, Rates(20, 300), default_for=("npu",)))
    """

    name: str
    devices: tuple[str, ...]
    why_not: Callable[[], str]
    implementations: Callable[[], Mapping[str, Callable[..., Any]]]
    rates: Rates | None = None
    default_for: tuple[str, ...] = ()
    namespace: str = ""
    fresh: Callable[[Tensor], None] | None = None


class Registered(NamedTuple):
    """A backend, the overloads of its ops by name, and why it cannot run, empty if it can."""

    backend: Backend
    ops: SimpleNamespace
    why_not: str


#: In the order of registration.
BACKENDS: dict[str, Registered] = {}
#: The name of the backend that runs by default, by type of device.
DEFAULTS: dict[str, str] = {}
#: Why the backend of an entry point was not registered, by the name of the entry point.
FAILED: dict[str, str] = {}
_LIBRARIES: dict[str, Library] = {}


def register_backend(backend: Backend) -> None:
    """Make a backend known, and the default on the devices that it is the first to serve.

    Args:
        backend: its record.

    Raises:
        GrowthError: its name is taken or no identifier, or it has neither `rates` nor an op `expand`.
    """
    name = backend.name
    if not name.isidentifier():
        raise GrowthError(f"the name of a backend is {name!r}; expected letters, digits and underscores")
    if name in BACKENDS:
        raise GrowthError(f"a backend {name!r} is registered already; choose another name")
    why = backend.why_not()
    functions = {} if why else dict(backend.implementations())
    if not why and backend.rates is None and "expand" not in functions:
        raise GrowthError(f"backend {name!r} has no rates; give them, or implement expand")
    library = _library(backend.namespace or f"{DEFAULT}_{name}")
    if not why:
        for device in backend.devices or ("default",):
            _implement(library, device, backend, functions)
        for device in backend.default_for:
            if DEFAULTS.setdefault(device, name) == name and library.ns != DEFAULT:
                _implement(_library(DEFAULT), device, backend, functions)
    BACKENDS[name] = Registered(backend, _ops(library.ns), why)


def register_installed() -> None:
    """Register the backends that installed packages name as entry points; one that fails is warned of and left out."""
    for entry in entry_points(group=ENTRY_POINTS):
        try:
            register_backend(entry.load())
        except Exception as error:
            FAILED[entry.name] = f"its entry point {entry.value!r} failed ({type(error).__name__}: {error})"
            warnings.warn(f"growkernels goes without backend {entry.name!r}: {FAILED[entry.name]}", stacklevel=2)


def ops_of(name: str | None, tensor: Tensor) -> SimpleNamespace:
    """The ops by name for a tensor like this: of a backend, or of GROWKERNELS_BACKEND, or else of the default of its device.

    Raises GrowthError for a backend that cannot run or does not take such tensors, and for a device that none serves.
    """
    name = name or FORCED
    if why := refusal(name, tensor.device.type):
        raise GrowthError(why)
    return BACKENDS[name].ops if name else _DEFAULT_OPS


def refusal(name: str | None, device: str) -> str:
    """Why a backend, or any if None, does not take tensors of a type of device, and what to do; empty if it does."""
    if name is None:
        if device in DEFAULTS or device == "meta":
            return ""
        if device == "cuda":
            return f"no fused kernel for CUDA tensors in this installation; {CUDA_REMEDY}, or pass backend='eager'"
        return f"no fused kernel for {device} tensors; move them to the CPU or pass backend='eager'"
    if name in FAILED:
        return f"backend {name!r} was asked for, but {FAILED[name]}; repair its package, or choose backend 'eager'"
    if name not in BACKENDS:
        *others, last = map(repr, BACKENDS)
        return (
            f"unknown backend {name!r} (argument backend= or GROWKERNELS_BACKEND); choose {', '.join(others)} or {last}"
        )
    backend, _, why = BACKENDS[name]
    if why:
        return f"backend {name!r} was asked for, but {why}, or choose backend 'eager'"
    if backend.devices and device not in (*backend.devices, "meta"):
        return (
            f"backend {name!r} was asked for, but the tensors are on {device}; move them to "
            f"{' or '.join(backend.devices)}, or choose another backend"
        )
    return ""


def _library(namespace: str) -> Library:
    if namespace not in _LIBRARIES:
        _LIBRARIES[namespace] = define(namespace)
    return _LIBRARIES[namespace]


def _implement(library: Library, device: str, backend: Backend, functions: Mapping[str, Callable[..., Any]]) -> None:
    """Give a library a backend's implementations for a type of device, or for "default", any."""
    derived: dict[str, Callable[..., Any]] = {}
    if "tile_" in functions:
        derived["tile"] = partial(tile, functions["tile_"])
    if "replicate_" in functions:
        derived["replicate"] = partial(replicate, functions["replicate_"])
    if "expand" not in functions and backend.rates is not None:  # `register_backend` saw to one of the two
        derived |= dense.implementations(library, device, backend.rates, backend.fresh)
    # The op that it calls raises the versions.
    calling: dict[str, Callable[..., Any]] = {
        "tile_rules_traced_": partial(_call, getattr(torch.ops, library.ns).tile_rules_.default)
    }
    for name, function in {**raising_versions({**derived, **functions}), **calling}.items():
        torch.library.impl(f"{library.ns}::{name}", device, function, lib=library)


def _call(op: OpOverload, *arguments: Any) -> None:
    op(*arguments)


def _ops(namespace: str) -> SimpleNamespace:
    names = [schema.partition("(")[0] for schema in SCHEMAS]
    return SimpleNamespace(**{name: getattr(getattr(torch.ops, namespace), name).default for name in names})


_library(DEFAULT)
_DEFAULT_OPS = _ops(DEFAULT)
