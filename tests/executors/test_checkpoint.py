"""Growing checkpoints: the reference's bits, files that stock loaders read, small memory, failures without a trace."""

from __future__ import annotations

import json
import resource
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from growkernels.errors import GrowthError
from growkernels.executors import (
    check_duplicates,
    execute,
    open_source,
    parse_size,
    plan_shards,
    read_manifest,
    staged,
)
from growkernels.executors.files import shards
from growkernels.ops.noise.reference import mean_square, noise_std
from growkernels.ops.tile.reference import tile_rule_slice
from growkernels.plans import IndexVector, Noise, Plan, Rule, TensorSpec, Tile
from tests.executors import support
from tests.executors.support import CONFIG, grow, plan, rule, snapshot, write_config, write_sharded, write_source
from tests.families import make_model

DTYPES = ["float32", "bfloat16", "float16", "float64"]


def load(folder: Path) -> dict[str, torch.Tensor]:
    """All tensors by the library's own loader."""
    return {name: value for file in sorted(folder.glob("*.safetensors")) for name, value in load_file(file).items()}


def same_bits(a: torch.Tensor, b: torch.Tensor) -> bool:
    bits = {2: torch.int16, 4: torch.int32, 8: torch.int64}[a.dtype.itemsize]
    return a.dtype == b.dtype and a.shape == b.shape and torch.equal(a.view(bits), b.view(bits))


def by_reference(grown: Rule, weight: torch.Tensor) -> torch.Tensor:
    """The target by the eager definition, turned by hand where the input comes first."""
    tile, dtype = grown.how, getattr(torch, grown.spec.dtype)
    assert isinstance(tile, Tile)
    flip = tile.sum_axis == 0 and len(tile.axes) == 2
    if flip:
        weight, tile = weight.t(), replace(tile, axes=tile.axes[::-1], sum_axis=1)
    height, width = tile.shape if len(tile.axes) == 2 else (1, *tile.shape)
    value = tile_rule_slice(weight, tile, tile.shape, range(height), range(width), dtype)
    return value.t() if flip else value.reshape(tile.shape)


@pytest.mark.parametrize("target", DTYPES)
@pytest.mark.parametrize("stored", DTYPES)
@pytest.mark.parametrize("snr_db", [None, 10.0])
def test_bits_are_those_of_the_reference(tmp_path: Path, stored: str, target: str, snr_db: float | None) -> None:
    values = support.tensors(getattr(torch, stored))
    wanted = plan(target, snr_db)
    done = grow(write_source(tmp_path / "src", values), tmp_path / "dst", wanted)
    grown = load(tmp_path / "dst")
    assert [r.target for r in done.rules] == [r.target for r in wanted.rules]
    assert set(grown) == {r.target for r in wanted.rules}
    for executed in done.rules:
        assert same_bits(grown[executed.target], by_reference(executed, values[executed.source]))


@pytest.mark.parametrize("diagonal", [False, True])
def test_noise_is_measured_over_the_block_that_carries_signal(tmp_path: Path, diagonal: bool) -> None:
    values = support.tensors()
    divisor = 1.0 if diagonal else 2.0
    numbers = {"noise": Noise(10.0), "key": 5, "diagonal": diagonal, "divisor": divisor}
    noisy = rule("layers.0.proj.weight", (64, 48), "float32", 1, **numbers)
    done = grow(write_source(tmp_path / "src", values), tmp_path / "dst", replace(plan(), rules=(noisy,)))
    square = float(mean_square([values[noisy.source]], [divisor])[0])
    assert done.rules[0].how.noise == Noise(10.0, noise_std(square, 10.0))
    signal = values[noisy.source].double() / divisor
    expected = float(np.float32(signal.square().mean().sqrt() * 10**-0.5))
    assert done.rules[0].how.noise.std == pytest.approx(expected, rel=1e-6)
    grown = load(tmp_path / "dst")[noisy.target]
    assert same_bits(grown, by_reference(done.rules[0], values[noisy.source]))


def test_a_given_std_is_kept(tmp_path: Path) -> None:
    noisy = rule("layers.0.proj.weight", (64, 48), "float32", 1, noise=Noise(None, 0.25), key=5)
    done = grow(write_source(tmp_path / "src"), tmp_path / "dst", replace(plan(), rules=(noisy,)))
    assert done.rules == (noisy,)


def test_any_source_format_and_any_sharding_give_the_same_tensors(tmp_path: Path) -> None:
    write_source(tmp_path / "one")
    write_sharded(tmp_path / "many")
    write_config(tmp_path / "bin")
    torch.save(support.tensors(), tmp_path / "bin" / "pytorch_model.bin")
    grow(tmp_path / "one", tmp_path / "first", plan(snr_db=10.0))
    first = load(tmp_path / "first")
    for number, (src, size) in enumerate([("many", 1), ("bin", 50_000), ("one", 70_000)]):
        grow(tmp_path / src, tmp_path / f"dst{number}", plan(snr_db=10.0), max_shard_size=size)
        other = load(tmp_path / f"dst{number}")
        assert len(list((tmp_path / f"dst{number}").glob("model-*-of-*.safetensors"))) > 1
        assert set(other) == set(first) and all(same_bits(other[name], first[name]) for name in first)


def test_the_folder_is_a_standard_checkpoint(tmp_path: Path) -> None:
    done = grow(write_source(tmp_path / "src"), tmp_path / "dst", max_shard_size=30_000)
    folder = tmp_path / "dst"
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    sizes = {r.target: r.spec for r in done.rules}
    assert index["metadata"] == {
        "total_parameters": sum(s.numel for s in sizes.values()),
        "total_size": sum(s.nbytes for s in sizes.values()),
    }
    assert list(index["weight_map"]) == sorted(sizes)
    for name, file in index["weight_map"].items():
        with safe_open(folder / file, "pt") as opened:
            assert opened.metadata() == {"format": "pt"}
            assert tuple(opened.get_slice(name).get_shape()) == sizes[name].shape
    assert json.loads((folder / "config.json").read_text()) == done.config
    for name in ("tokenizer.json", "generation_config.json"):
        assert (folder / name).read_bytes() == (tmp_path / "src" / name).read_bytes()
    assert read_manifest(folder).plan == done
    small = [
        "config.json",
        "generation_config.json",
        "growkernels.json",
        "model.safetensors.index.json",
        "tokenizer.json",
    ]
    assert sorted(snapshot(folder)) == sorted([*small, *set(index["weight_map"].values())])


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_stock_transformers_loads_shards(tmp_path: Path, family: str) -> None:
    _, model = make_model(family)
    model.save_pretrained(tmp_path / "src")
    source = open_source(tmp_path / "src")
    rules = tuple(Rule(name, (name,), spec, Tile.identity(spec.shape)) for name, spec in source.tensors.items())
    copied = Plan(rules, source.config, source.config, (0, 1), {}, 0, ())
    grow(tmp_path / "src", tmp_path / "dst", copied, max_shard_size=20_000)
    assert len(list((tmp_path / "dst").glob("*.safetensors"))) > 3
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "dst").state_dict()
    assert all(same_bits(loaded[name], value) for name, value in model.state_dict().items())


def test_odd_shapes(tmp_path: Path) -> None:
    """A scalar, an empty matrix, three axes copied, one element, and elements of three sizes in one file."""
    values = {
        "scalar": torch.tensor(1.5),
        "empty": torch.empty(0, 3),
        "cube": torch.randn(3, 5, 7),
        "one": torch.tensor([[2.5]], dtype=torch.float16),
        "wide": torch.randn(3, dtype=torch.float64),
    }
    rules = [
        Rule(name, (name,), TensorSpec(tuple(value.shape), str(value.dtype)[6:]), Tile.identity(value.shape))
        for name, value in values.items()
    ]
    grow(write_source(tmp_path / "src", values), tmp_path / "dst", replace(plan(), rules=tuple(rules)))
    grown = load(tmp_path / "dst")
    assert all(same_bits(grown[name], value) for name, value in values.items())


def test_new_rows_and_parts(tmp_path: Path) -> None:
    values = {"w": torch.randn(6, 4)}
    axes = (IndexVector.parts([(2, 3), (4, 1)]), IndexVector.extend(4, 2))
    grown = Rule("w", ("w",), TensorSpec((10, 6), "float32"), Tile(axes, 1, 3.0))
    done = grow(write_source(tmp_path / "src", values), tmp_path / "dst", replace(plan(), rules=(grown,)))
    expected = torch.zeros(10, 6)
    expected[:, :4] = torch.cat([values["w"][:2].repeat(3, 1), values["w"][2:]]) / 3
    assert same_bits(load(tmp_path / "dst")["w"], expected)
    assert done.rules == (grown,)


def test_progress_counts_every_byte(tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    done = grow(write_source(tmp_path / "src"), tmp_path / "dst", progress=lambda *numbers: calls.append(numbers))
    total = sum(r.spec.nbytes for r in done.rules)
    assert [number for _, number in calls] == [total] * len(done.rules)
    assert [number for number, _ in calls] == sorted({number for number, _ in calls}) and calls[-1][0] == total


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("snr_db", [None, 10.0])
def test_nonfinite_weights_are_named(tmp_path: Path, bad: float, snr_db: float | None) -> None:
    values = support.tensors(torch.bfloat16)
    values["layers.0.proj.weight"][3, 5] = bad
    values["layers.0.proj.weight"][60, 1] = bad
    write_source(tmp_path / "src", values)
    before = snapshot(tmp_path)
    count = "2 NaN and 0 Inf" if bad != bad else "0 NaN and 2 Inf"
    with pytest.raises(
        GrowthError, match=rf"layers.0.proj.weight has {count} among 3072 values, the first at \[3, 5\]"
    ):
        grow(tmp_path / "src", tmp_path / "dst", plan(snr_db=snr_db))
    assert snapshot(tmp_path) == before
    done = grow(tmp_path / "src", tmp_path / "dst", plan("bfloat16", snr_db), allow_nonfinite=True)
    grown = load(tmp_path / "dst")
    for executed in done.rules:
        assert same_bits(
            grown[executed.target].nan_to_num(7.0), by_reference(executed, values[executed.source]).nan_to_num(7.0)
        )
    if snr_db is not None:
        stds = {executed.target: executed.how.noise.std for executed in done.rules if executed.how.noise}
        assert stds["layers.0.proj.weight"] == 0.0 < stds["layers.0.conv.weight"]


def test_weights_beyond_the_target_dtype_are_named(tmp_path: Path) -> None:
    values = support.tensors()
    values["embed.weight"][0, 0] = -70000.0
    write_source(tmp_path / "src", values)
    before = snapshot(tmp_path)
    with pytest.raises(
        GrowthError, match=r"embed\.weight reaches 70000 in the target, and torch\.float16 ends at 65504"
    ):
        grow(tmp_path / "src", tmp_path / "dst", plan("float16"))
    assert snapshot(tmp_path) == before
    grow(tmp_path / "src", tmp_path / "dst", plan("bfloat16"))
    values["layers.0.proj.weight"][0, 0] = -70000.0
    values["embed.weight"][0, 0] = 1.0
    write_source(tmp_path / "halved", values)
    grow(tmp_path / "halved", tmp_path / "half", plan("float16"))
    assert float(load(tmp_path / "half")["layers.0.proj.weight"].min()) == -35008.0


def misfits() -> dict[str, tuple[Plan, str]]:
    """Plans that do not fit the source."""
    base = plan()
    mask = Rule("layers.0.mask", ("layers.0.mask",), TensorSpec((5, 5), "float32"), Tile.identity((5, 5)))
    extended = Tile((IndexVector.identity(97), IndexVector.extend(49, 10)), 1)
    extended = Rule("embed.weight", ("embed.weight",), TensorSpec((97, 59), "float32"), extended)
    return {
        "missing": (replace(base, rules=(rule("ghost", (4,), "float32"),)), "grows from ghost, which .* does not have"),
        "too small": (
            replace(base, rules=(rule("embed.weight", (98, 48), "float32"),)),
            r"at least \[98, 48\]; it has \[97, 48\]",
        ),
        "other rank": (
            replace(base, rules=(rule("embed.weight", (97,), "float32"),)),
            r"at least \[97\]; it has \[97, 48\]",
        ),
        "mask": (replace(base, rules=(mask,)), "layers.0.mask is bool; weights are grown from and to float64"),
        "integers": (
            replace(base, rules=(rule("embed.weight", (97, 48), "int8"),)),
            "embed.weight is int8; weights are grown",
        ),
        "twice": (replace(base, rules=base.rules[:1] * 2), "names a target tensor twice"),
        "new entries": (replace(base, rules=(extended,)), r"at least \[97, 49\]; it has \[97, 48\]"),
        "noise": (
            replace(base, rules=(rule("embed.weight", (97, 48), "float32", 1, noise=Noise()),)),
            "neither a standard deviation nor a signal-to-noise ratio",
        ),
    }


@pytest.mark.parametrize("case", misfits())
def test_plans_that_do_not_fit_write_nothing(tmp_path: Path, case: str) -> None:
    wanted, message = misfits()[case]
    write_source(tmp_path / "src", {**support.tensors(), "cube": torch.randn(2, 2, 2)})
    before = snapshot(tmp_path)
    with pytest.raises(GrowthError, match=message):
        grow(tmp_path / "src", tmp_path / "dst", wanted)
    assert snapshot(tmp_path) == before


def test_no_room_is_found_out_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_source(tmp_path / "src")
    before = snapshot(tmp_path)
    usage = shards.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shards.shutil, "disk_usage", lambda path: usage._replace(free=1_000_000))
    made: list[Path] = []
    monkeypatch.setattr(shards.MappedShard, "__init__", lambda self, folder, shard: made.append(folder))
    with pytest.raises(GrowthError, match=r"needs 16,9\d\d,\d{3} bytes .* has 1,000,000 .* free; make room"):
        grow(tmp_path / "src", tmp_path / "dst")
    assert snapshot(tmp_path) == before and not made


def test_a_disk_that_fills_up_is_an_error_and_not_a_crash(tmp_path: Path) -> None:
    write_source(tmp_path / "src")
    before = snapshot(tmp_path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    # A file may not grow beyond the limit: the operating system then refuses room as a full disk does.
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))
    try:
        with pytest.raises(GrowthError, match=r"no room for model.safetensors, \d+,\d{3} bytes"):
            grow(tmp_path / "src", tmp_path / "dst")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert snapshot(tmp_path) == before


def test_duplicates_are_compared_bit_for_bit(tmp_path: Path) -> None:
    values = support.tensors()
    values["head"] = values["embed.weight"].clone()
    values["zero"], values["minus_zero"] = torch.zeros(4), -torch.zeros(4)
    values["nan"], values["same_nan"] = torch.full((4,), float("nan")), torch.full((4,), float("nan"))
    values["short"] = values["embed.weight"][:50].clone()
    values["half"] = values["embed.weight"].to(torch.float16)
    source = open_source(write_source(tmp_path / "src", values))
    check_duplicates(source, {"head": "embed.weight", "nan": "same_nan"})
    for name, original in (("zero", "minus_zero"), ("short", "embed.weight"), ("half", "embed.weight")):
        with pytest.raises(GrowthError, match=f"{name} and {original} differ, but the config ties them"):
            check_duplicates(source, {name: original})


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("5GB", 5 * 10**9),
        (" 1.5 gb ", 1_500_000_000),
        ("512MiB", 512 << 20),
        ("4096", 4096),
        (7, 7),
        ("10B", 10),
        ("2kb", 2000),
    ],
)
def test_sizes(text: str | int, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "GB", "-5GB", "5 apples", "0", 0, "5XB", "0.1", "1e9", "5GB5"])
def test_sizes_that_are_none(text: str | int) -> None:
    with pytest.raises(GrowthError, match="is not understood; expected a number of bytes"):
        parse_size(text)


def test_shards_fill_in_order_and_are_aligned() -> None:
    specs = {
        "a": TensorSpec((3,), "bfloat16"),
        "b": TensorSpec((5,), "float64"),
        "c": TensorSpec((100,), "float32"),
        "d": TensorSpec((1,), "float32"),
    }
    files = plan_shards(specs, 50)
    assert [list(shard.entries) for shard in files] == [["b", "a"], ["c"], ["d"]]
    assert [shard.file for shard in files] == [f"model-0000{i}-of-00003.safetensors" for i in (1, 2, 3)]
    for shard in files:
        assert len(shard.header) % 64 == 0
        assert all(entry.start % entry.dtype.itemsize == 0 for entry in shard.entries.values())
        assert shard.nbytes == len(shard.header) + sum(specs[name].nbytes for name in shard.entries)
    assert [shard.file for shard in plan_shards(specs)] == ["model.safetensors"]


def test_memory_does_not_follow_the_size(tmp_path: Path) -> None:
    """128 MB grow into 512 MB; what a process holds of its own is watched in the meantime."""
    values = {f"w{i}": torch.randn(4096, 4096, dtype=torch.float32).bfloat16() for i in range(4)}
    rules = tuple(rule(name, (4096, 4096), "bfloat16", 1) for name in values)
    write_source(tmp_path / "src", values)
    del values
    peak, over = [0], threading.Event()

    def watch() -> None:
        while not over.wait(0.002):
            peak[0] = max(peak[0], _anonymous())

    source = open_source(tmp_path / "src")
    before = _anonymous()
    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        with staged(tmp_path / "dst") as folder:
            execute(source, replace(plan(), rules=rules, config=CONFIG), folder)
    finally:
        over.set()
        watcher.join()
    assert peak[0] - before < 128 << 20


def _anonymous() -> int:
    fields = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
    return int(fields["RssAnon"].split()[0]) << 10
