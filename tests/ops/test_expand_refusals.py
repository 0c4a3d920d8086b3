"""What `expand` does not take: shapes, dtypes, what is no tensor, and targets that it cannot write."""

from __future__ import annotations

import pytest
import torch

from growkernels import ops
from growkernels.errors import GrowthError
from growkernels.ops import Expansion
from tests.ops.tools import assert_same_bits, data

W, B, A, DEPTH = data((2, 4, 6)), data((8, 4)), data((12, 6)), data((5, 2))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([], B, A), "no weights"),
        ((W[0][0], B, A), r"weights have shape \(6,\)"),
        ((W[None], B, A), r"weights have shape \(1, 2, 4, 6\)"),
        ((torch.empty(2, 0, 6), B, A), r"a layer has shape \(0, 6\).*not empty"),
        (([W[0], W[1].t()], B, A), r"layer 1 has shape \(6, 4\), layer 0 \(4, 6\)"),
        ((W, B.t(), A), r"b has shape \(4, 8\); expected \[target, 4\]"),
        ((W, B, A[None]), r"a has shape \(1, 12, 6\); expected \[target, 6\]"),
        ((W, B, B, None, True), r"a has shape \(8, 4\); expected \[new, 6\], the rows below the identity"),
        ((W, B[:3], A), r"b has shape \(3, 4\): a target side of 3 is smaller than the source's 4"),
        ((W, B, A, DEPTH.t()), r"depth has shape \(2, 5\); expected \[L2, 2\]"),
        ((W, B, A, DEPTH[0]), r"depth has shape \(2,\)"),
        ((W, B, A, DEPTH[:0]), r"depth has shape \(0, 2\)"),
        ((W[:, 0], A, A), r"layers of shape \(6,\) have one side, but b and a are both given"),
        ((W.int(), B, A), "a layer has dtype torch.int32"),
        ((W, B, A.to(torch.complex64)), "a has dtype torch.complex64"),
        ((W, B, A, DEPTH.long()), "depth has dtype torch.int64"),
        ((W, B, A, None, False, torch.int8), "dtype is torch.int8"),
        ((W, B.to("meta"), A), "b is on meta, the first layer on cpu"),
        (([W[0], W[1].half()], B, A), r"dtypes torch.float16, torch.float32; choose"),
    ],
)
def test_expand_refuses(arguments: tuple, message: str) -> None:
    with pytest.raises(GrowthError, match=message):
        ops.expand(*arguments)


def test_out_is_checked() -> None:
    out = torch.empty(5, 8, 12)
    for wrong, message in (
        (out[:4], "out has 4 layers; expand with this depth writes 5"),
        (out[:, :7], r"out has shape \(7, 12\); expand with these matrices writes \(8, 12\)"),
        (out.long(), r"out has dtype torch\.int64"),
        (out.to("meta"), "out is on meta"),
        (out[:1].expand(5, 8, 12), "two outputs overlap"),
    ):
        with pytest.raises(GrowthError, match=message):
            ops.expand_(wrong, W, B, A, DEPTH)
    with pytest.raises(GrowthError, match="overlaps an input"):
        ops.expand_(out, W, out[0, :, :4], A, DEPTH)
    with pytest.raises(GrowthError, match="no_grad"):
        ops.expand_(out, W, B, A, DEPTH.clone().requires_grad_())
    with pytest.raises(GrowthError, match="1 outs for 2 expansions"):
        ops.expand_many_([out], [Expansion(W), Expansion(W)])


def negated(*shape: int) -> torch.Tensor:
    """A view whose memory holds the negatives of its values."""
    return torch.complex(data(shape), data(shape)).conj().imag


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((None, B, A), "weights is None; expected a list of tensors"),
        ((1.0, B, A), "weights is of type float; expected a list of tensors"),
        (((w for w in W), B, A), "weights is of type generator; expected a list of tensors"),
        ((W.numpy(), B, A), "one of weights is of type ndarray; expected a tensor, as torch.from_numpy makes it"),
        (({"layer": W[0]}, B, A), "one of weights is of type str; expected a tensor, not a name"),
        (([W[0].tolist()], B, A), "one of weights is of type list; expected a tensor, as torch.tensor makes it"),
        ((W[0, 0, 0], B, A), r"weights have shape \(\)"),
        ((W[0].to_sparse(), B, A), r"weights has layout torch.sparse_coo; .* call to_dense\(\)"),
        (([W[0], W[1].to_sparse()], B, A), r"a layer of weights has layout torch.sparse_coo"),
        ((W, B.tolist(), A), "b is of type list; expected a tensor, as torch.tensor makes it"),
        ((W, B, 2), "a is of type int; expected a tensor"),
        ((W, B.to_sparse(), A), r"b has layout torch.sparse_coo; .* call to_dense\(\)"),
        ((W, B, A, DEPTH.tolist()), "depth is of type list; expected a tensor"),
        ((W, B, A, DEPTH, torch.float32), "structured is torch.float32; expected True or False, .* dtype="),
        ((W, B, A, DEPTH, "no"), "structured is 'no'; expected True or False"),
        ((W, B, A, DEPTH, False, "float32"), "dtype is 'float32'; expected a torch.dtype"),
        ((W, B, A, DEPTH, False, []), r"dtype is \[\]; expected a torch.dtype"),
    ],
)
def test_what_is_not_a_tensor_is_named(arguments: tuple, message: str) -> None:
    with pytest.raises(GrowthError, match=message):
        ops.expand(*arguments)
    if len(arguments) < 6:
        with pytest.raises(GrowthError, match=message):
            ops.expand_(torch.empty(5, 8, 12), *arguments)


def test_what_is_no_list_of_expansions_is_named() -> None:
    for wrong, message in (
        ([(W, B, A)], r"an expansion is of type tuple; expected Expansion\(weights, b, a, depth, structured\)"),
        ([W], "an expansion is of type Tensor"),
        (Expansion(W, B), "expansions is of type Expansion; expected a list"),
        (None, "expansions is of type NoneType; expected a list"),
    ):
        with pytest.raises(GrowthError, match=message):
            ops.expand_many(wrong)
        with pytest.raises(GrowthError, match=message):
            ops.expand_many_([torch.empty(2, 8, 6)], wrong)
    with pytest.raises(GrowthError, match="outs is of type NoneType; expected a list"):
        ops.expand_many_(None, [Expansion(W)])


@pytest.mark.parametrize("backend", [None, "eager", "emulated"])
def test_an_out_without_its_values_in_memory_is_refused(backend: str | None) -> None:
    out = negated(5, 8, 12)
    before = out.clone()
    for wrong, message in (
        (out, "out is a negated view.*write into a tensor of its own"),
        (None, "out is None"),
        ([torch.zeros(8, 12).to_sparse()] * 5, "a layer of out has layout torch.sparse_coo"),
        (torch.complex(out, out).conj(), "out has dtype torch.complex64"),
    ):
        with pytest.raises(GrowthError, match=message):
            ops.expand_(wrong, W, B, A, DEPTH, backend=backend)
    assert_same_bits(out, before)
    # What is read may be one.
    side = negated(8, 4)
    assert_same_bits(ops.expand(W, side, A, backend=backend), ops.expand(W, side.clone(), A, backend=backend))
