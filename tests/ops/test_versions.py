"""Version counters of what in-place ops write: raised by one by every op of every library, raw or public."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from growkernels import ops
from growkernels.errors import GrowthError
from tests.ops.tools import data
from tests.ops.writes import PUBLIC, RAW, Write, check_inference, check_leaves, check_raised_once, check_results

#: The last one is the CUDA kernels, played by the CPU.
NAMESPACES = ("growkernels", "growkernels_eager", "growkernels_emulated")
CHECKS = (check_raised_once, check_leaves, check_results, check_inference)


def each_check(function: object) -> object:
    return pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)(function)


@each_check
@pytest.mark.parametrize("namespace", NAMESPACES)
@pytest.mark.parametrize("name", RAW)
def test_raw_ops(name: str, namespace: str, check: object) -> None:
    count, write = RAW[name]
    check(count, partial(write, getattr(torch.ops, namespace)))


@each_check
@pytest.mark.parametrize("backend", [None, "eager", "emulated"])
@pytest.mark.parametrize("name", PUBLIC)
def test_public_ops(name: str, backend: str | None, check: object) -> None:
    count, write = PUBLIC[name]
    check(count, partial(write, backend))


@pytest.mark.parametrize("name", PUBLIC)
def test_compiled_calls(name: str) -> None:
    count, write = PUBLIC[name]
    compiled: Write = torch.compile(partial(write, None), fullgraph=True, backend="aot_eager")
    saved = [data((6, 10), seed=k).requires_grad_().clone() for k in range(count)]
    loss = sum((each * each).sum() for each in saved)
    compiled([each.detach() for each in saved])
    assert all(each._version for each in saved)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@pytest.mark.parametrize("backend", [None, "eager", "emulated"])
def test_refused_calls_raise_nothing(backend: str | None) -> None:
    out, w = data((6, 9)), data((3, 5))
    for call in (
        lambda: ops.tile_(out, w, 2, 2, backend=backend),
        lambda: ops.replicate_([out], [w], [0], backend=backend),
        lambda: ops.tile_(out[:, :5], out[:3, 2:7], 2, 1, backend=backend),
    ):
        with pytest.raises(GrowthError):
            call()
    assert out._version == 0
