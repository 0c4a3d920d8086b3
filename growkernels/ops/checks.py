"""Argument checks shared by the ops: each names what was given, what was expected and what to do."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from math import inf
from operator import itemgetter
from typing import Any, NoReturn

import torch
from torch import Tensor

from growkernels.errors import GrowthError
from growkernels.ops.tile.numbers import RuleNumbers
from growkernels.ops.tile.packing import signed
from growkernels.rules.tile import Tile

DTYPES = frozenset((torch.float32, torch.bfloat16, torch.float16, torch.float64))
#: What the compiled kernels' messages begin with where they refuse arguments.
REFUSED = "refused: "
#: What torch says of an argument that does not fit a schema, before it lists all of the schema.
_MISFIT = re.compile(r"\w+::(\w+)\(\) Expected a value of type '([^']*)' for argument '(\w+)'")
_PLAIN = frozenset((Tensor, torch.nn.Parameter))
_START = itemgetter(0)


def seen_by_kernels(outs: Sequence[Tensor], sources: Sequence[Tensor]) -> bool:
    """Whether a kernel gets these very tensors, and so refuses what does not fit before it writes.

    Not while a graph is traced, nor for fake tensors and those without memory; a list that has only some without goes to the
    op's fake, which refuses it. In a list of 300 small tensors the checks here took 8 of 12 us a tensor; kernels check the same
    things in passing.
    """
    if torch.compiler.is_compiling() or not outs or outs[0].is_meta:
        return False
    return _PLAIN.issuperset(map(type, (*outs, *sources)))


def refuse(error: Exception) -> NoReturn:
    """What a kernel refused as the error of this package; any other error as it is."""
    message = str(error)
    if message.startswith(REFUSED):
        raise GrowthError(message.removeprefix(REFUSED)) from None
    if found := _MISFIT.match(message):
        op, kind, argument = found.groups()
        raise GrowthError(f"{op}: {argument} does not fit {kind}; expected one whose numbers have 64 bits") from None
    raise error


def check_tensor(what: str, value: object) -> None:
    """A dense tensor."""
    if not isinstance(value, Tensor):
        raise GrowthError(f"{what} {_is(value)}; expected a tensor{_REMEDIES.get(type(value).__name__, '')}")
    if value.layout is not torch.strided:
        raise GrowthError(f"{what} has layout {value.layout}; expected a dense tensor: call to_dense() on it")
    if value.is_nested:
        raise GrowthError(f"{what} is a nested tensor; expected a dense one: make a call for each item of its unbind()")


def check_tensors(what: str, values: Any) -> None:
    """A list of tensors. Whether they are dense is looked at where a kernel does not take them."""
    if isinstance(values, Tensor):
        raise GrowthError(f"{what} is one tensor; expected a list of tensors: put it in one, or unbind() it")
    if not hasattr(values, "__len__") or not hasattr(values, "__getitem__"):
        raise GrowthError(f"{what} {_is(values)}; expected a list of tensors")
    for value in values:
        if not isinstance(value, Tensor):
            check_tensor(f"one of {what}", value)


def _is(value: object) -> str:
    return "is None" if value is None else f"is of type {type(value).__name__}"


#: What to do about what is given in place of a tensor, by the name of its type.
_REMEDIES = {"ndarray": ", as torch.from_numpy makes it", "list": ", as torch.tensor makes it", "str": ", not a name"}


def check_gradients(outs: Sequence[Tensor], sources: Sequence[Tensor]) -> None:
    """In-place ops have none to follow."""
    if torch.is_grad_enabled() and True in [tensor.requires_grad for tensor in (*outs, *sources)]:
        raise GrowthError(
            "in-place ops do not record gradients, and out or the source requires grad; "
            "call them under torch.no_grad(), or use the functional form"
        )


def unrecorded() -> AbstractContextManager[None]:
    """For calls of ops whose tensors are known to require no grad: they look at every one of a list while gradients are
    recorded, which takes 0.2 of 1.2 us for a small tensor."""
    return nullcontext() if torch.compiler.is_compiling() else torch.no_grad()


def check_dtype(what: str, dtype: torch.dtype) -> None:
    """Only floating-point dtypes that can be grown."""
    if not isinstance(dtype, torch.dtype):
        raise GrowthError(f"{what} is {dtype!r}; expected a torch.dtype, such as torch.float32")
    if dtype not in DTYPES:
        has = "is" if what == "dtype" else "has dtype"
        raise GrowthError(f"{what} {has} {dtype}; expected float32, bfloat16, float16 or float64")


def check_integer(what: str, value: object) -> None:
    """An integer of Python or of another library."""
    if not isinstance(value, int) and not hasattr(value, "__index__"):
        raise GrowthError(f"{what} is {value!r}; expected an integer")


def check_number(what: str, value: object) -> None:
    """A number of Python or of another library."""
    if not isinstance(value, (int, float)) and not hasattr(value, "__float__"):
        raise GrowthError(f"{what} is {value!r}; expected a number")


def is_nan(number: float) -> bool:
    """As `math.isnan`, also of a number that `torch.compile` has made a symbol of because it changes between calls."""
    return not -inf <= number <= inf


def check_key(key: int) -> int:
    """The key in the signed form that ops carry."""
    if not isinstance(key, int):
        check_integer("key", key)
    if not -(2**63) <= key < 2**64:
        raise GrowthError(f"key {key} does not fit 64 bits; make one with noise_key(seed, name)")
    return signed(key)


def check_std(noise_std: float | None, snr_db: float | None = None) -> float:
    """The noise level as a float, 0 for none."""
    if snr_db is not None:
        check_number("snr_db", snr_db)
    if noise_std is None:
        if snr_db is not None and is_nan(snr_db):
            raise GrowthError("snr_db is NaN; expected decibels")
        return 0.0
    check_number("noise_std", noise_std)
    if snr_db is not None:
        raise GrowthError(f"noise_std={noise_std} and snr_db={snr_db} are both given; give one of them")
    if not 0 <= noise_std < inf:
        raise GrowthError(f"noise_std is {noise_std}; expected a finite number >= 0")
    return noise_std


def check_target(out: Tensor, source: Tensor, shape: tuple[int, ...], rule: str) -> None:
    """`out` must have the shape, a supported dtype, the source's device, memory to write, and no gradient to follow."""
    check_tensor("out", out)
    check_tensor("the source", source)
    if out.shape != shape:
        raise GrowthError(f"out has shape {tuple(out.shape)}; {rule} writes {tuple(shape)}")
    if out.dtype not in DTYPES or source.dtype not in DTYPES:
        check_dtype("out", out.dtype)
        check_dtype("the source", source.dtype)
    if out.device != source.device:
        raise GrowthError(f"out is on {out.device}, the source on {source.device}; put them on one device")
    check_signs(out)
    check_inference((out,))
    check_gradients((out,), (source,))


def check_signs(out: Tensor) -> None:
    """What is written must be what is read back."""
    if not torch.compiler.is_compiling() and out.is_neg():
        raise GrowthError(
            "out is a negated view, such as the imaginary part of a conjugate; expected memory that holds its values: write "
            "into a tensor of its own"
        )


def check_inference(outs: Sequence[Tensor]) -> None:
    """Tensors of inference mode have no version counter, so torch lets nothing write them in place outside of it."""
    if torch.compiler.is_compiling() or torch.is_inference_mode_enabled():
        return
    if True in [out.is_inference() for out in outs]:
        raise GrowthError(
            "out was made under torch.inference_mode() and is written outside of it; clone() it first, or make the call under "
            "torch.inference_mode() too"
        )


def check_rule(out: Tensor, weight: Tensor, spec: RuleNumbers) -> None:
    """The packed rule must fit both matrices or vectors, and its numbers must be ones to compute with."""
    check_tensor("out", out)
    check_tensor("the source", weight)
    if weight.ndim not in (1, 2) or out.ndim != weight.ndim:
        raise GrowthError(
            f"out has shape {tuple(out.shape)}, weight {tuple(weight.shape)}; expected two matrices or two vectors"
        )
    rows, cols = (1, weight.shape[0]) if weight.ndim == 1 else weight.shape
    for name, flat, size in (("rows", spec.rows, rows), ("cols", spec.cols, cols)):
        for segment in zip(*[iter(flat)] * 4, strict=True):
            start, length, copies, groups = segment
            inside = (start == -1 and copies == groups == 1) or (start >= 0 and start + length <= size)
            if length < 0 or copies < 1 or groups < 1 or length % groups or not inside:
                raise GrowthError(
                    f"{name} segment {segment} does not fit a source axis of {size}; expected (start, length, copies, groups) "
                    f"inside it with length a multiple of groups, or (-1, length, 1, 1) for new entries"
                )
    shape: tuple[int, ...] = spec.shape
    if weight.ndim == 1:
        if shape[0] != 1:
            raise GrowthError(f"a vector is one row, but rows give {shape[0]}; use rows=(0, 1, 1, 1)")
        shape = shape[1:]
    check_target(out, weight, shape, "the rule")
    if not spec.divisor or is_nan(spec.divisor):
        raise GrowthError(f"divisor is {spec.divisor}; expected a number other than zero")
    for std in (spec.noise_std, *(std for _, std in spec.fill)):
        check_std(std)
    check_key(spec.key)
    _ = spec.n_in  # raises if the column copies disagree


def check_tile(out: Tensor, weight: Tensor, tile: Tile) -> None:
    """The rule must fit both shapes, and its numbers must be ones to compute with."""
    check_tensor("out", out)
    check_tensor("the source", weight)
    count = len(tile.axes)
    if out.ndim != count or weight.ndim != count:
        raise GrowthError(
            f"out has shape {tuple(out.shape)}, weight {tuple(weight.shape)}; expected {count} axes each, as the rule has"
        )
    for number, (axis, size) in enumerate(zip(tile.axes, weight.shape, strict=True)):
        if axis.source_size > size:
            raise GrowthError(
                f"axis {number} of the rule draws on source indices up to {axis.source_size - 1}, which does not fit a source "
                f"axis of {size}; give the whole weight, or an index vector inside it"
            )
    check_target(out, weight, tile.shape, "the rule")
    if not tile.divisor or is_nan(tile.divisor):
        raise GrowthError(f"divisor is {tile.divisor}; expected a number other than zero")
    if tile.noise is not None:
        check_std(tile.noise.std)
    for fill in tile.fill:
        check_std(fill.std)
    check_key(tile.key)


def check_devices(tensors: Sequence[Tensor]) -> None:
    """All tensors of a call must be on one device: that is where its kernel runs."""
    for tensor in tensors:
        if tensor.device != tensors[0].device:
            raise GrowthError(
                f"one tensor is on {tensors[0].device}, another on {tensor.device}; put them on one device, or make a call "
                f"for each"
            )


def check_memory(outs: Sequence[Tensor], sources: Sequence[Tensor]) -> None:
    """All on one device, and no memory shared by entries of one `out`, by two outputs, or by an output and a source.

    Told exactly for disjoint address ranges and for column bands of one matrix; other interleaved tensors count as sharing.
    Memory is not looked at for tensors without memory of their own: fake ones, or those of a traced graph.
    """
    check_devices([*outs, *sources])
    if torch.compiler.is_compiling():
        return
    spans = []
    for writes, tensors in ((True, outs), (False, sources)):
        for tensor in tensors:
            if type(tensor) not in _PLAIN or tensor.is_meta:
                return
            if tensor.is_contiguous():
                start, size = tensor.data_ptr(), tensor.nbytes
            else:
                if writes:
                    _check_strides(tensor)
                start, size = tensor.data_ptr(), _reach(tensor)
            if size:
                spans.append((start, start + size, writes, tensor))
    spans.sort(key=_START)
    open_spans: list[tuple[int, int, bool, Tensor]] = []
    for span in spans:
        open_spans = [other for other in open_spans if other[1] > span[0]]
        for other in open_spans:
            if (span[2] or other[2]) and not _separate_bands(other[3], span[3]):
                what = "two outputs overlap" if span[2] and other[2] else "out overlaps an input"
                raise GrowthError(f"{what} in memory; write into a tensor of its own")
        open_spans.append(span)


def _reach(tensor: Tensor) -> int:
    """Bytes from the first element to the end of the last; 0 for an empty tensor."""
    if not tensor.numel():
        return 0
    last = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return (last + 1) * tensor.element_size()


def _separate_bands(low: Tensor, high: Tensor) -> bool:
    """Whether two tensors whose address ranges meet are bands of columns of one matrix, side by side; `low` starts first."""
    first, second = _band(low), _band(high)
    if first is None or second is None:
        return False
    (period, low_width), (other_period, high_width) = first, second
    shift = (high.data_ptr() - low.data_ptr()) % period
    return period == other_period and low_width <= shift and shift + high_width <= period


def _band(tensor: Tensor) -> tuple[int, int] | None:
    """Bytes from one row to the next, and of a row, of a tensor that lies as a matrix, whatever the order of its axes."""
    axes: list[tuple[int, int]] = []
    for stride, size in sorted(zip(tensor.stride(), tensor.shape, strict=True), reverse=True):
        if axes and axes[-1][0] == size * stride:
            axes[-1] = stride, axes[-1][1] * size
        elif size > 1:
            axes.append((stride, size))
    if len(axes) == 1 and axes[0][0] > 1:
        # Elements that are apart are rows of one.
        axes.append((1, 1))
    if len(axes) != 2 or not axes[0][0]:
        return None
    (period, _), (step, columns) = axes
    return period * tensor.element_size(), ((columns - 1) * step + 1) * tensor.element_size()


def _check_strides(out: Tensor) -> None:
    reach = 0
    for stride, size in sorted((s, n) for s, n in zip(out.stride(), out.shape, strict=True) if n > 1):
        if stride <= reach:
            raise GrowthError(
                f"entries of out share memory (shape {tuple(out.shape)}, strides {out.stride()}); copy it"
            )
        reach += stride * (size - 1)
