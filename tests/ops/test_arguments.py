"""Arguments that do not fit are refused with a message that says what was given and what was expected."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from growkernels import ops
from growkernels.errors import GrowthError
from growkernels.ops import Fill, IndexVector, Noise, Segment, Tile
from tests.ops.tools import data

W = data((4, 6))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((W, 0, 2), "n_out=0, n_in=2"),
        ((W, 2, -1), "n_out=2, n_in=-1"),
        ((W, 2, 2, "both"), "unknown variant 'both'"),
        ((W, 2, 2, "symmetric", 0.1, 10.0), "both given"),
        ((W, 2, 2, "symmetric", -0.1), "noise_std is -0.1"),
        ((W, 2, 2, "symmetric", float("nan")), "noise_std is nan"),
        ((W, 2, 2, "symmetric", None, float("nan")), "snr_db is NaN"),
        ((W, 2, 2, "symmetric", 0.1, None, 2**64), "does not fit 64 bits"),
        ((W, 2, 2, "symmetric", 0.1, None, -(2**63) - 1), "does not fit 64 bits"),
        ((W.int(), 2, 2), "torch.int32"),
        ((W, 2, 2, "symmetric", None, None, 0, torch.int8), "torch.int8"),
        ((W[0], 2, 2), r"\[size\] with n_in=1"),
        ((W[None], 2, 2), r"shape \(1, 4, 6\)"),
    ],
)
def test_tile_refuses(arguments: tuple, message: str) -> None:
    with pytest.raises(GrowthError, match=message):
        ops.tile(*arguments)


def test_out_is_checked() -> None:
    with pytest.raises(GrowthError, match=r"out has shape \(8, 11\); .* writes \(8, 12\)"):
        ops.tile_(torch.empty(8, 11), W, 2, 2)
    with pytest.raises(GrowthError, match=r"out has dtype torch\.int64"):
        ops.tile_(torch.zeros(8, 12, dtype=torch.int64), W, 2, 2)
    with pytest.raises(GrowthError, match="out is on meta"):
        ops.tile_(torch.empty(8, 12, device="meta"), W, 2, 2)
    with pytest.raises(GrowthError, match="no_grad"):
        ops.tile_(torch.empty(8, 12), W.clone().requires_grad_(), 2, 2)
    with torch.no_grad():
        ops.tile_(torch.empty(8, 12), W.clone().requires_grad_(), 2, 2)


def test_overlap_is_refused() -> None:
    memory = torch.ones(200)
    weight = memory[:24].view(4, 6)
    for start in (0, 23):
        with pytest.raises(GrowthError, match="overlaps an input"):
            ops.tile_(memory[start : start + 96].view(8, 12), weight, 2, 2)
        with pytest.raises(GrowthError, match="overlaps an input"):
            ops.replicate_([memory[start : start + 24].view(4, 6)], [weight], [0])
    ops.tile_(memory[24:120].view(8, 12), weight, 2, 2)
    for out in (torch.empty(1, 12).expand(8, 12), torch.empty(40).as_strided((8, 12), (2, 1))):
        with pytest.raises(GrowthError, match="share memory"):
            ops.tile_(out, weight, 2, 2)


@pytest.mark.parametrize("backend", [None, "eager"])
def test_bands_of_one_matrix_are_apart_and_meeting_ones_are_refused(backend: str | None) -> None:
    buffer = torch.full((4, 12), 7.0)
    buffer[:, 4:8] = W[:4, :4]
    ops.replicate_([buffer[:, :4], buffer[:, 8:]], [buffer[:, 4:8]], [0, 0], backend=backend)
    assert torch.equal(buffer, W[:4, :4].repeat(1, 3))
    kept = buffer.clone()
    bands = [buffer[:, :4], buffer[:, 3:7], buffer[1:, :4]]
    for first, second in itertools.permutations(bands, 2):
        with pytest.raises(GrowthError, match="two outputs overlap"):
            ops.replicate_([first, second], [W[: len(first), :4], W[: len(second), :4]], [0, 1], backend=backend)
    with pytest.raises(GrowthError, match="overlaps an input"):
        ops.replicate_([buffer[:, :4]], [buffer[:, 3:7]], [0], backend=backend)
    assert torch.equal(buffer, kept)


def test_an_output_that_is_an_input_of_another_rule_is_refused() -> None:
    memory = torch.ones(7, 24).unbind()
    memory = [m.view(4, 6) for m in memory]
    spec = Tile.identity((4, 6))
    for read in ([0, 1, 2], [2, 1, 0], [6, 3, 1]):
        sources = [memory[i] for i in read]
        for write in range(7):
            targets = [torch.empty(4, 6), memory[write], torch.empty(4, 6)]
            if write in read:
                with pytest.raises(GrowthError, match="overlaps an input"):
                    ops.tile_rules_(targets, sources, [spec] * 3)
            else:
                ops.tile_rules_(targets, sources, [spec] * 3)


WHOLE, GOOD = IndexVector.identity(4), Tile.identity((4, 6), 1)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (Tile.identity((5, 6)), "axis 0 of the rule .* does not fit a source axis of 4"),
        (
            Tile((WHOLE, IndexVector((Segment(3, 6),)))),
            "axis 1 of the rule .* up to 8, .* does not fit a source axis of 6",
        ),
        (Tile((WHOLE, IndexVector((Segment(0, 6, 2**62),)))), r"out has shape \(4, 6\); the rule writes"),
        (Tile.identity((4,)), "expected 1 axes each, as the rule has"),
        (Tile.identity((1, 4, 6)), "expected 3 axes each, as the rule has"),
        (Tile.copies((4, 6), (2, 1)), r"out has shape \(4, 6\); the rule writes \(8, 6\)"),
        (replace(GOOD, divisor=0.0), "divisor is 0.0"),
        (replace(GOOD, divisor=float("nan")), "divisor is nan"),
        (replace(GOOD, noise=Noise(std=-1.0)), "noise_std is -1.0"),
        (replace(GOOD, noise=Noise(10.0)), "no standard deviation"),
        (replace(GOOD, fill=(Fill(), Fill(), Fill(0.0, float("inf")))), "noise_std is inf"),
        (replace(GOOD, fill=(Fill.measured(), Fill(), Fill())), "not measured"),
        (replace(GOOD, key=1 << 64), "64 bits"),
        (replace(GOOD, key=-(1 << 63) - 1), "64 bits"),
    ],
)
@pytest.mark.parametrize("backend", [None, "eager", "emulated"])
def test_rules_are_checked_before_anything_is_written(rule: Tile, message: str, backend: str | None) -> None:
    """Also where the rule is the last of a list, and for tensors that no kernel sees."""
    outs = [torch.full((4, 6), 7.0) for _ in range(2)]
    with pytest.raises(GrowthError, match=message):
        ops.tile_rules_(outs, [W, W], [GOOD, rule], backend=backend)
    assert torch.equal(torch.stack(outs), torch.full((2, 4, 6), 7.0))
    for like in (torch.empty(0, device="meta"), FakeTensorMode().from_tensor(torch.empty(0))):
        with pytest.raises(GrowthError, match=message):
            ops.tile_rules_([like.new_empty(4, 6)], [like.new_empty(4, 6)], [rule])


@pytest.mark.parametrize(
    ("rows", "cols", "numbers", "message"),
    [
        ((0, 5, 1, 1), (0, 6, 1, 1), {}, "does not fit a source axis of 4"),
        ((0, 4, 1, 1), (3, 6, 1, 1), {}, "does not fit a source axis of 6"),
        ((0, 4, 0, 1), (0, 6, 1, 1), {}, "does not fit"),
        ((0, 4, 1, 3), (0, 6, 1, 1), {}, "does not fit"),
        ((-1, 4, 2, 1), (0, 6, 1, 1), {}, "does not fit"),
        ((-2, 4, 1, 1), (0, 6, 1, 1), {}, "does not fit"),
        ((0, 4, 1, 1), (0, 2, 1, 1, 2, 2, 2, 1), {"noise_std": 0.1}, "one number of column copies"),
        ((0, 4, 1, 1), (0, 2, 1, 1, 2, 2, 2, 1), {"diagonal": True}, "one number of column copies"),
    ],
)
@pytest.mark.parametrize("namespace", ["growkernels", "growkernels_eager", "growkernels_emulated"])
def test_packed_rules_are_checked_before_anything_is_written(
    rows: tuple, cols: tuple, numbers: dict, message: str, namespace: str
) -> None:
    """What no `Tile` packs to, but a call of the registered op may hold."""
    values = {"noise_std": 0.0, "diagonal": False, **numbers}
    layout = [len(rows) // 4, *rows, len(cols) // 4, *cols, int(values["diagonal"]), 0]
    out = torch.full((4, sum(length * copies for length, copies in zip(cols[1::4], cols[2::4], strict=True))), 7.0)
    scalars = [1.0, 0.0, values["noise_std"], *[0.0] * 6]
    with pytest.raises((GrowthError, RuntimeError), match=message):
        getattr(torch.ops, namespace).tile_rules_([out], [W], layout, scalars)
    assert torch.equal(out, torch.full_like(out, 7.0))


def test_a_rule_that_means_nothing_cannot_be_made() -> None:
    mixed = Tile((WHOLE, IndexVector((Segment(0, 2), Segment(2, 2, 2)))), 1)
    for changes, message in (
        ({"noise": Noise(std=0.1)}, r"one number of input copies, the segments have \[1, 2\]"),
        ({"diagonal": True}, "one number of input copies"),
        ({"sum_axis": None, "diagonal": True}, "give sum_axis"),
        ({"sum_axis": 2}, "sum_axis is 2; expected one of the 2 axes"),
        ({"output_axis": -1}, "output_axis is -1"),
        ({"output_axis": 1}, "output_axis and sum_axis are both 1"),
    ):
        with pytest.raises(GrowthError, match=message):
            replace(mixed, **changes)
    with pytest.raises(GrowthError, match="a mean and a std, or neither"):
        Fill(None, 0.1)


@pytest.mark.parametrize("backend", [None, "eager", "emulated"])
def test_tensors_are_checked_before_anything_is_written(backend: str | None) -> None:
    rule = Tile.identity((1, 6))
    for out, weight, message in (
        (torch.full((1, 6), 7.0), W[0], "(expected 2 axes each|out has shape)"),
        (torch.full((6,), 7.0), W[:1], "(expected 2 axes each|out has shape)"),
        (torch.full((1, 6), 7), W[:1], r"out has dtype torch\.int64"),
        (torch.full((1, 6), 7.0), W[:1].to(torch.int8), r"the source has dtype torch\.int8"),
        (torch.full((1, 6), 7.0), W[:1].to("meta"), "put them on one device"),
        (torch.full((1, 6), 7.0), W[:1].clone().requires_grad_(), "no_grad"),
        (torch.full((1, 1), 7.0).expand(1, 6), W[:1], "share memory"),
    ):
        first = torch.full((1, 6), 7.0)
        with pytest.raises(GrowthError, match=message):
            ops.tile_rules_([first, out], [W[:1], weight], [rule, rule], backend=backend)
        with pytest.raises(GrowthError, match=message):
            ops.replicate_([first, out], [W[:1], weight], [0, 1], backend=backend)
        assert (first == 7).all()
        assert (out == 7).all()


def test_ops_themselves_refuse_what_would_not_be_what_it_says() -> None:
    """Callers of torch.ops have no layer in Python before the kernels."""
    vector, matrix = W[0], W[:1]
    good = [1, 0, 1, 1, 1, 1, 0, 6, 1, 1, 0, 0]
    parts = [1, 0, 1, 1, 1, 2, 0, 2, 1, 1, 2, 2, 2, 1, 0, 0]
    for namespace in ("growkernels", "growkernels_emulated"):
        op, out = getattr(torch.ops, namespace).tile_rules_, torch.full((1, 6), 7.0)
        for weight, layout, scalars, message in (
            (vector, good, [1.0] + [0.0] * 8, "out has 2 axes, weight 1"),
            (matrix, good, [0.0] * 9, "divisor is 0"),
            (matrix, good, [float("nan")] + [0.0] * 8, "divisor is nan"),
            (matrix, good, [1.0, 0.0, -0.5] + [0.0] * 6, "standard deviation is -0.5"),
            (matrix, good, [1.0] + [0.0] * 7 + [float("inf")], "standard deviation is inf"),
            (matrix, parts, [1.0, 0.0, 0.5] + [0.0] * 6, "one number of column copies"),
            (matrix, good[:-1], [1.0] + [0.0] * 8, "ends in the middle"),
        ):
            with pytest.raises(RuntimeError, match=message):
                op([out], [weight], layout, scalars)
        assert (out == 7).all()


def test_more_axes_than_cuda_kernels_take_are_refused_before_anything_is_written() -> None:
    axes = 9
    block = torch.ones((3,) * axes)[(slice(0, 2),) * axes]
    out = torch.full((2,) * axes, 7.0)
    calls = (
        lambda: ops.replicate_([torch.empty(1), out], [W[0, :1], block], [0, 1], backend="emulated"),
        lambda: ops.replicate([block], [0], backend="emulated"),
        lambda: ops.mean_square([block], backend="emulated"),
        lambda: ops.normal_(block, 0, 0, backend="emulated"),
    )
    for call in calls:
        with pytest.raises(GrowthError, match=r"9 axes that do not follow one another .* take 8; make it contiguous"):
            call()
    assert (out == 7).all()
    assert (block == 1).all()
    # Axes that follow one another count as one.
    ops.replicate_([torch.empty((1, 2) * axes)], [torch.ones((1, 2) * axes)], [0], backend="emulated")


NEGATED = torch.complex(W, W).conj().imag
SPEC = Tile.identity((4, 6))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda out: ops.tile(None, 2, 2), "weight is None; expected a tensor"),
        (lambda out: ops.tile(W.tolist(), 2, 2), "weight is of type list; expected a tensor, as torch.tensor makes it"),
        (lambda out: ops.tile(W.numpy(), 2, 2), "weight is of type ndarray; .* as torch.from_numpy makes it"),
        (lambda out: ops.tile(W.to_sparse(), 2, 2), r"weight has layout torch.sparse_coo; .* call to_dense\(\)"),
        (lambda out: ops.tile(W, 2.0, 2), "n_out is 2.0; expected an integer"),
        (lambda out: ops.tile(W, 2, None), "n_in is None; expected an integer"),
        (lambda out: ops.tile(W, 2, 2, torch.float16), "unknown variant torch.float16"),
        (lambda out: ops.tile(W, 2, 2, []), r"unknown variant \[\]"),
        (lambda out: ops.tile(W, 2, 2, "symmetric", torch.float16), "noise_std is torch.float16; expected a number"),
        (lambda out: ops.tile(W, 2, 2, "symmetric", None, "10"), "snr_db is '10'; expected a number"),
        (lambda out: ops.tile(W, 2, 2, key=torch.Generator()), "key is <torch.*Generator.*; expected an integer"),
        (lambda out: ops.tile(W, 2, 2, key=1.5), "key is 1.5; expected an integer"),
        (lambda out: ops.tile(W, 2, 2, dtype="float16"), "dtype is 'float16'; expected a torch.dtype"),
        (lambda out: ops.tile_(None, W, 1, 1), "out is None; expected a tensor"),
        (lambda out: ops.tile_(out, None, 1, 1), "weight is None"),
        (lambda out: ops.tile_(out.to_sparse(), W, 1, 1), "out has layout torch.sparse_coo"),
        (lambda out: ops.tile_(NEGATED, W, 1, 1), "out is a negated view.* write into a tensor of its own"),
        (lambda out: ops.tile_rules_(out, W, SPEC), "outs is one tensor; expected a list .* unbind"),
        (lambda out: ops.tile_rules_([out], [None], [SPEC]), "one of weights is None"),
        (lambda out: ops.tile_rules_([out], [W], [(0, 4, 1, 1)]), "one of specs is not a Tile"),
        (lambda out: ops.tile_rules_([out], [W], SPEC), "specs is not a list"),
        (lambda out: ops.tile_rules_([out, NEGATED], [W, W], [SPEC, SPEC]), "out is a negated view"),
        (lambda out: ops.tile_rules_([out], [W.to_sparse()], [SPEC]), "the source has layout torch.sparse_coo"),
        (lambda out: ops.replicate(None, [0]), "blocks is None; expected a list of tensors"),
        (lambda out: ops.replicate(W, [0]), "blocks is one tensor; expected a list of tensors: .* unbind"),
        (lambda out: ops.replicate((w for w in W), [0]), "blocks is of type generator"),
        (lambda out: ops.replicate({"a": W}, [0]), "one of blocks is of type str"),
        (lambda out: ops.replicate([W.to_sparse()], [0]), "a block has layout torch.sparse_coo"),
        (lambda out: ops.replicate([W], None), "index is None; expected a list of integers"),
        (lambda out: ops.replicate([W], torch.tensor([0])), r"index is tensor\(\[0\]\); expected a list of integers"),
        (lambda out: ops.replicate([W], [0.0]), "an index is 0.0; expected an integer"),
        (lambda out: ops.replicate([W], [0], torch.ones(2)), r"scale is tensor\(.*expected one number, or a list"),
        (lambda out: ops.replicate([W], [0], "a"), "scale is 'a'; expected one number, or a list"),
        (lambda out: ops.replicate([W], [0], [None]), "a scale is None; expected a number"),
        (lambda out: ops.replicate([W], [0], None, "a"), "noise_alpha is 'a'; expected a number"),
        (lambda out: ops.replicate_(None, [W], [0]), "outs is None"),
        (lambda out: ops.replicate_([None], [W], [0]), "one of outs is None"),
        (lambda out: ops.replicate_([out], [W.to_sparse()], [0]), "the source has layout torch.sparse_coo"),
        (lambda out: ops.replicate_([out, NEGATED], [W], [0, 0]), "out is a negated view"),
        (lambda out: ops.normal_(None, 1, 0), "out is None"),
        (lambda out: ops.normal_([out], 1, 0), "out is of type list"),
        (lambda out: ops.normal_(out.to_sparse(), 1, 0), "out has layout torch.sparse_coo"),
        (lambda out: ops.normal_(NEGATED, 1, 0), "out is a negated view"),
        (lambda out: ops.normal_(out, torch.Generator(), 0), "key is <torch.*Generator"),
        (lambda out: ops.normal_(out, 1, "a"), "field is 'a'; expected an integer"),
        (lambda out: ops.normal_(out, 1, 2**63), "normal_: field does not fit int"),
        (lambda out: ops.normal_(out, 1, 0, 0.5), "start is 0.5; expected an integer"),
        (lambda out: ops.mean_square(W), "tensors is one tensor"),
        (lambda out: ops.mean_square([None]), "one of tensors is None"),
        (lambda out: ops.mean_square([W.to_sparse()]), "a tensor has layout torch.sparse_coo"),
        (lambda out: ops.mean_square([W], 2.0), "divisors is 2.0; expected a list"),
        (lambda out: ops.mean_square([W], [None]), "a divisor is None; expected a number"),
    ],
)
def test_arguments_of_other_kinds_are_named_before_anything_is_written(call: Callable, message: str) -> None:
    out, negated = torch.full((4, 6), 7.0), NEGATED.clone()
    with pytest.raises(GrowthError, match=message):
        call(out)
    assert (out == 7).all()
    assert torch.equal(NEGATED, negated)


def test_negated_sources_are_read_as_what_they_are() -> None:
    negated, plain = NEGATED, NEGATED.clone()
    assert torch.equal(ops.tile(negated, 2, 2), ops.tile(plain, 2, 2))
    assert torch.equal(ops.replicate([negated], [0])[0], plain)
    assert torch.equal(ops.mean_square([negated]), ops.mean_square([plain]))


def test_replicate_refuses() -> None:
    with pytest.raises(GrowthError, match="index 2 is outside the 1 blocks"):
        ops.replicate([W], [2])
    with pytest.raises(GrowthError, match="index -1"):
        ops.replicate([W], [-1])
    with pytest.raises(GrowthError, match="2 scales for 1 outputs"):
        ops.replicate([W], [0], [1.0, 2.0])
    with pytest.raises(GrowthError, match=r"noise_alpha is 1\.5"):
        ops.replicate([W], [0], None, 1.5, 0.1)
    with pytest.raises(GrowthError, match="needs noise_std"):
        ops.replicate([W], [0], None, 0.5)
    with pytest.raises(GrowthError, match="1 outs for 2 indices"):
        ops.replicate_([torch.empty(4, 6)], [W], [0, 0])
    with pytest.raises(GrowthError, match="out has shape"):
        ops.replicate_([torch.empty(4, 5)], [W], [0])


def test_what_does_not_fit_is_named_before_a_backend_that_cannot_run() -> None:
    out = torch.empty(8, 11)
    with pytest.raises(GrowthError, match="out has shape"):
        ops.tile_(out, W, 2, 2, backend="cuda")
    with pytest.raises(GrowthError, match="out has shape"):
        ops.tile_rules_([out], [W], [Tile.copies((4, 6), (2, 2), 1)], backend="cuda")
    with pytest.raises(GrowthError, match="out has shape"):
        ops.replicate_([out], [W], [0], backend="cuda")


def test_unknown_backend() -> None:
    with pytest.raises(GrowthError, match="unknown backend 'tpu'"):
        ops.tile(W, 2, 2, backend="tpu")


def test_nothing_to_do() -> None:
    ops.tile_rules_([], [], [])
    ops.replicate_([], [], [])
    ops.replicate_([], [W], [])
    assert ops.replicate([], []) == ops.replicate([W], []) == []
    assert ops.mean_square([]).shape == (0,)


@pytest.mark.parametrize("namespace", ["growkernels", "growkernels_eager", "growkernels_emulated"])
def test_some_tensors_without_memory_are_refused(namespace: str) -> None:
    """Torch would call the op's fake, which writes nothing."""
    out, w, nowhere = torch.full((6, 10), torch.nan), data((3, 5)), torch.empty(3, 5, device="meta")
    for call in (
        lambda: getattr(torch.ops, namespace).tile_(out, nowhere, 2, 2, False, 0.0, None, 0),
        lambda: getattr(torch.ops, namespace).mix_([out], [out.to("meta")], data((1, 1))),
        lambda: ops.tile_(out, nowhere, 2, 2),
        lambda: ops.tile_rules_([out, out.to("meta")], [w, w], [Tile.copies((3, 5), (2, 2))] * 2),
        lambda: ops.replicate_([out], [out.to("meta")], [0]),
    ):
        with pytest.raises(GrowthError, match=r"on (cpu|meta), (another|the source) on (meta|cpu)"):
            call()
    assert out.isnan().all()
