"""Growth to sizes in absolute numbers computes what the source computes, by every operator, as stock code reloads it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import growkernels
from growkernels.errors import GrowthError
from growkernels.layouts.streams import STREAMS as STREAM_FAMILIES
from growkernels.verification.logits import load_model
from tests.end_to_end.sizes import BOUND, OTHERS, error, logits_of, make_other
from tests.end_to_end.support import grown, load, saved, tokens
from tests.families import make_variant
from tests.live.support import assert_same_model

COPIES = {
    "kv heads": {"num_kv_heads": 4},
    "heads in groups": {"num_heads": 8},
    "heads and kv heads, groups twice as large": {"num_heads": 16, "num_kv_heads": 4},
    "heads and kv heads, groups half as large": {"num_heads": 8, "num_kv_heads": 8},
    "heads, diagonal": {"num_heads": 16, "num_kv_heads": 4, "variant": "diagonal"},
    "hidden": {"hidden_size": 64},
    "ffn and tokens": {"intermediate_size": 80, "vocab_size": 120},
}
UNEVEN = {
    "ffn": {"intermediate_size": 57},
    "heads in groups, hidden twice": {"num_heads": 6, "hidden_size": 64, "intermediate_size": 90},
    "groups": {"num_heads": 6, "num_kv_heads": 3},
    "groups and in groups": {"num_heads": 9, "num_kv_heads": 3, "intermediate_size": 41},
}
#: Families that keep the size of a head apart from hidden and heads, but for llama, which wants one to divide the other.
FREE = (("qwen3", "plain"), ("qwen3", "tied"), ("gemma", "plain"))


@pytest.mark.parametrize("sizes", COPIES)
@pytest.mark.parametrize(("family", "variant"), [("llama", "plain"), ("llama", "tied"), *FREE[1:]])
def test_whole_copies_of_one_axis(family: str, variant: str, sizes: str, sources: Path, tmp_path: Path) -> None:
    source = saved(sources, family, variant, torch.float64)
    assert error(source, grown(source, tmp_path / "target", **COPIES[sizes])) <= BOUND


@pytest.mark.parametrize("count", [2, 4])
def test_multi_query_attention_becomes_grouped(count: int, sources: Path, tmp_path: Path) -> None:
    for family in ("llama", "gemma"):
        source = saved(sources, family, "mqa", torch.float64)
        assert error(source, grown(source, tmp_path / family, num_kv_heads=count)) == 0.0


@pytest.mark.parametrize("operator", ["net2net", "zero"])
@pytest.mark.parametrize("sizes", UNEVEN)
@pytest.mark.parametrize(("family", "variant"), FREE[:2])
def test_any_ratio(family: str, variant: str, sizes: str, operator: str, sources: Path, tmp_path: Path) -> None:
    options = {**UNEVEN[sizes], "width_operator": operator}
    if operator == "zero":
        options.pop("hidden_size", None)
    source = saved(sources, family, variant, torch.float64)
    assert error(source, grown(source, tmp_path / "target", **options)) <= BOUND


#: The feed-forward network alone, at a ratio that is not whole.
FFN = {"llama": "biases", "gpt_neox": "plain", "gpt2": "inner", "gemma": "plain", "bert": "plain"}


@pytest.mark.parametrize("operator", ["net2net", "zero", "random"])
@pytest.mark.parametrize("family", FFN)
def test_feed_forward_networks_of_every_family(family: str, operator: str, sources: Path, tmp_path: Path) -> None:
    source = saved(sources, family, FFN[family], torch.float64)
    options = {"intermediate_size": 57, "vocab_size": 101, "width_operator": operator}
    found = error(source, grown(source, tmp_path / "target", **options))
    if operator == "random":
        assert 1e-5 < found < 0.5
    else:
        assert found <= BOUND


def test_new_tokens_have_the_mean_of_all(sources: Path, tmp_path: Path) -> None:
    source = saved(sources, "gpt_neox", "plain", torch.float64)
    ids, wanted = logits_of(source)
    _, found = logits_of(grown(source, tmp_path / "target", vocab_size=100), ids)
    assert torch.equal(found[..., :97], wanted)
    mean = wanted.mean(-1, keepdim=True)
    assert (found[..., 97:] - mean).abs().max() <= 1e-13 * wanted.abs().max()


#: Heads of these families are as large as hidden over heads says.
STREAM = {
    "one and a half": {"hidden_size": 48, "num_heads": 6},
    "two and a quarter, more units": {"hidden_size": 72, "num_heads": 9, "intermediate_size": 150, "vocab_size": 101},
}
STREAMS = [
    ("llama", "plain"),
    ("llama", "tied"),
    ("gpt_neox", "plain"),
    ("gpt_neox", "tied"),
    ("gpt2", "inner"),
    ("gpt2", "untied"),
    ("qwen3", "tied"),
    ("gemma", "plain"),
]


@pytest.mark.parametrize("operator", ["lemon", "zero", "net2net"])
@pytest.mark.parametrize("sizes", STREAM)
@pytest.mark.parametrize(("family", "variant"), STREAMS)
def test_a_stream_of_any_width(
    family: str, variant: str, sizes: str, operator: str, sources: Path, tmp_path: Path
) -> None:
    grouped = {"num_kv_heads": 3} if family in ("llama", "qwen3", "gemma") else {}
    options = {**STREAM[sizes], **grouped, "width_operator": operator}
    source = saved(sources, family, variant, torch.float64)
    if operator == "net2net" and family in ("gpt_neox", "gpt2", "gemma"):
        with pytest.raises(GrowthError, match="give width_operator lemon"):
            grown(source, tmp_path / "target", **options)
        return
    assert error(source, grown(source, tmp_path / "target", **options)) <= BOUND


@pytest.mark.parametrize("family", OTHERS)
def test_the_stream_of_other_families(family: str, tmp_path: Path) -> None:
    make_other(family, tmp_path / "source")
    grouped = {} if family == "opt" else {"num_kv_heads": 3}
    options = {"hidden_size": 72, "num_heads": 9, **grouped, "intermediate_size": 90, "width_operator": "lemon"}
    target = grown(tmp_path / "source", tmp_path / "target", **options)
    assert error(tmp_path / "source", target) <= BOUND


def test_every_family_whose_stream_is_known_is_tested() -> None:
    assert STREAM_FAMILIES.keys() == {*OTHERS, *(family for family, _ in STREAMS)}


#: Families and operators whose growths must count eps as their source does; net2net leaves streams alone that are centered.
SMALL = [
    (family, variant, operator)
    for family, variant in (
        *(("llama", "plain"), ("llama", "tied"), ("gpt_neox", "plain"), ("gpt2", "inner")),
        *(("qwen3", "tied"), ("gemma", "plain"), ("gemma2", "other")),
    )
    for operator in ("hypercloning", "lemon", "zero", *(["net2net"] if family in ("llama", "qwen3") else []))
]


@pytest.mark.parametrize(("family", "variant", "operator"), SMALL)
def test_eps_counts_as_much_as_it_did(family: str, variant: str, operator: str, tmp_path: Path) -> None:
    """Of activations as small as these, eps is most of what norms divide by."""
    source = tmp_path / "source"
    if variant == "other":
        make_other(family, source)
    else:
        make_variant(family, variant)[1].double().save_pretrained(source)
    file = source / "model.safetensors"
    tensors = {n: t * 1e-4 if re.search(r"embed|wte|wpe", n) else t for n, t in load_file(file).items()}
    save_file(tensors, file, {"format": "pt"})
    options: dict[str, Any] = {"width": 2, "noise_snr_db": None}
    if operator != "hypercloning":
        config = json.loads((source / "config.json").read_text())
        heads = config.get("num_attention_heads") or config["n_head"]
        kv_heads = config.get("num_key_value_heads", heads)
        grouped = {} if kv_heads in (1, heads) else {"num_kv_heads": kv_heads * 3 // 2}
        hidden = config.get("hidden_size") or config["n_embd"]
        options = {"hidden_size": hidden * 3 // 2, "num_heads": heads * 3 // 2, **grouped, "width_operator": operator}
    assert error(source, grown(source, tmp_path / "target", **options)) <= BOUND


ALIVE: list[tuple[str, str, dict[str, Any]]] = [
    ("llama", "plain", {"head_dim": 16}),
    ("qwen3", "plain", {"head_dim": 32}),
    ("gpt_neox", "plain", {"head_dim": 16, "hidden_size": 64}),
    ("llama", "biases", {"hidden_size": 48, "num_heads": 6, "intermediate_size": 57, "width_operator": "zero"}),
    ("gpt2", "inner", {"hidden_size": 72, "num_heads": 9, "intermediate_size": 57, "width_operator": "lemon"}),
    ("gemma", "plain", {"num_heads": 6, "num_kv_heads": 3, "intermediate_size": 57, "width_operator": "zero"}),
]


@pytest.mark.parametrize(("family", "variant", "options"), ALIVE)
def test_every_weight_trains(family: str, variant: str, options: dict[str, Any], sources: Path, tmp_path: Path) -> None:
    model = load(grown(saved(sources, family, variant, torch.float64), tmp_path / "target", **options), torch.float64)
    model.train()
    ids = tokens(model, 4, 24)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    moved = {
        name: torch.zeros_like(value) for name, value in model.named_parameters() if ".layers." in name or "h." in name
    }
    for _ in range(4):
        optimizer.zero_grad()
        model(input_ids=ids, labels=ids).loss.backward()
        for name, parameter in model.named_parameters():
            if name in moved:
                moved[name] += parameter.grad.abs()
        optimizer.step()
    # Biases of keys shift all scores of a query alike, and have no gradient in any model.
    still = {name: int((value == 0).sum()) for name, value in moved.items() if not (value > 0).all()}
    assert not {name: count for name, count in still.items() if "k_proj.bias" not in name}


LIVE: dict[str, tuple[str, str, dict[str, Any]]] = {
    "copies": ("llama", "tied", {"num_heads": 8, "num_kv_heads": 4, "vocab_size": 120}),
    "net2net": ("qwen3", "plain", {"num_heads": 9, "num_kv_heads": 3, "intermediate_size": 57, "depth": 2}),
    "zero": ("gpt2", "inner", {"intermediate_size": 57, "vocab_size": 99}),
    "lemon": ("gpt_neox", "tied", {"hidden_size": 72, "num_heads": 9, "depth": 2}),
}


@pytest.mark.parametrize("case", LIVE)
def test_a_live_model_is_the_checkpoints(case: str, sources: Path, tmp_path: Path) -> None:
    family, variant, options = LIVE[case]
    if case != "copies":
        options = {**options, "width_operator": case}
    source = saved(sources, family, variant)
    wanted = load_model(grown(source, tmp_path / "grown", **options), torch.float32)[0]
    assert_same_model(growkernels.grow_model(load_model(source, torch.float32)[0], **options), wanted)


def test_verification_compares_the_sources_tokens_and_sums(sources: Path, tmp_path: Path) -> None:
    source = saved(sources, "qwen3", "tied")
    options = {"num_heads": 9, "num_kv_heads": 3, "intermediate_size": 57, "vocab_size": 120}
    report = growkernels.grow_checkpoint(source, tmp_path / "target", width_operator="net2net", **options)
    assert report.verification is not None
    assert report.verification.passed
    assert report.verification.logits is not None


@pytest.mark.parametrize(
    ("family", "options"),
    [
        ("llama", {"depth": 4}),
        ("gpt2", {"width": 2, "depth": 2}),
        ("qwen3", {"num_heads": 6, "width_operator": "net2net"}),
    ],
)
def test_noise_after_has_the_papers_variances(
    family: str, options: dict[str, Any], sources: Path, tmp_path: Path
) -> None:
    """`W' - (1 - a) W = a e`, with e of variance 1/(d l^2) in writers of the stream and 2/(5 d) in all other matrices."""
    source = saved(sources, family)
    plain = grown(source, tmp_path / "plain", **options)
    report = growkernels.grow_checkpoint(source, tmp_path / "noisy", noise_after=0.25, **options)
    assert report.verification is not None
    assert report.verification.passed
    assert not report.plan.preserves_function
    first, second = (load_file(folder / "model.safetensors") for folder in (plain, tmp_path / "noisy"))
    width, layers = (64 if "width" in options else 32), 2 * options.get("depth", 1)
    writers = ("o_proj", "down_proj", "attn.c_proj", "mlp.c_proj")
    found: dict[bool, list[torch.Tensor]] = {True: [], False: []}
    for name, value in first.items():
        if value.ndim < 2:
            assert torch.equal(value, second[name]), name
        else:
            noise = (second[name].double() - 0.75 * value.double()).flatten() / 0.25
            found[any(f"{writer}." in name for writer in writers)].append(noise)
    for writes, variance in ((True, 1 / (width * layers**2)), (False, 2 / (5 * width))):
        noise = torch.cat(found[writes])
        # The variance of n normals has a relative deviation of sqrt(2 / n): five of them.
        assert abs(float(noise.var()) / variance - 1) < 5 * (2 / noise.numel()) ** 0.5
        assert noise.unique().numel() > 0.99 * noise.numel()


def test_plans_say_what_stands_where(sources: Path) -> None:
    source = saved(sources, "gpt2", "inner")
    plan = growkernels.plan(source, hidden_size=72, num_heads=9, intermediate_size=57, width_operator="lemon")
    words = {rule.target.rpartition("h.0.")[2]: rule.describe() for rule in plan.rules}
    assert words["mlp.c_proj.weight"] == "tile [1 new]x[2 mean], /0.942809, new zero"
    assert words["mlp.c_fc.weight"] == "tile [2 new]x[1 new], /2, new normal 0.02"
    assert [text for text in plan.warnings if "lemon takes no noise: train with dropout" in text]
    uneven = growkernels.plan(source, intermediate_size=57, width_operator="net2net")
    words = {rule.target.rpartition("h.0.")[2]: rule.describe() for rule in uneven.rules}
    assert words["mlp.c_proj.weight"] == "tile [2 1]x1, /[2 1], noise 10 dB"
    assert words["attn.c_proj.weight"] == "copy"
    assert not [text for text in uneven.warnings if "Symmetry" in text]
    larger = growkernels.plan(saved(sources, "llama"), head_dim=16)
    assert {rule.describe() for rule in larger.rules if "k_proj" in rule.target} == {
        "tile [1 new ..]x1, /0.707107, new zero"
    }


@pytest.mark.parametrize(
    "options",
    [
        {"hidden_size": 48, "num_heads": 6, "num_kv_heads": 3, "width_operator": "net2net"},
        {"hidden_size": 72, "num_heads": 9, "num_kv_heads": 3, "width_operator": "lemon"},
        {"hidden_size": 64, "width_operator": "zero"},
        {"hidden_size": 64, "vocab_size": 194},
    ],
)
@pytest.mark.parametrize("variant", ["base", "tied", "classifier"])
def test_verification_finds_the_features_of_the_source(
    variant: str, options: dict[str, Any], sources: Path, tmp_path: Path
) -> None:
    untied = {"untie": True} if variant == "tied" else {}
    report = growkernels.grow_checkpoint(
        saved(sources, "llama", variant), tmp_path / "target", verify_logits=True, **options, **untied
    )
    assert report.verification is not None
    assert report.verification.passed, report.verification.lines()
    assert all(found.error < 1e-5 for found in report.verification.logits.comparisons)


REFUSED = [
    ("gemma", {"intermediate_size": 57, "width_operator": "hypercloning"}, "give a whole multiple of the source's 40"),
    ("gpt2", {"num_heads": 8}, "such as to 4 heads, or to a hidden size of 64"),
    ("gpt2", {"hidden_size": 64}, "such as to 8 heads, or to a hidden size of 32, or head_dim to 16"),
    ("gpt2", {"num_kv_heads": 8}, "gpt2 has no size of its own for it"),
    ("llama", {"num_heads": 6, "width_operator": "net2net"}, "not a multiple of the number of attention heads"),
    ("llama", {"intermediate_size": 39}, "the source has 40: a growth does not shrink"),
    ("llama", {"intermediate_size": 57}, "give a whole multiple of the source's 40"),
    ("llama", {"intermediate_size": 40}, "nothing to grow: sizes {'intermediate_size': 40}"),
    ("llama", {"hidden_size": 40}, "give a whole multiple of the source's 32"),
    ("llama", {"hidden_size": 42, "width_operator": "lemon"}, "not a multiple of the number of attention heads"),
    ("bert", {"hidden_size": 48, "num_heads": 6, "width_operator": "lemon"}, "a norm after the sum, as in BERT"),
    ("llama", {"width": 2, "hidden_size": 64}, "width 2 and hidden_size 64 both size one axis"),
    ("llama", {"ffn": 2, "intermediate_size": 80}, "ffn 2 and intermediate_size 80 both size one axis"),
    ("llama", {"depth": 2, "noise_after": 1.5}, "expected a share above 0 and up to 1"),
    ("llama", {"depth": 2, "depth_operator": "average", "noise_after": 0.2}, "noise_after is for copies of weights"),
    ("llama", {"vocab_size": 0}, "expected a whole number of at least 1"),
    ("llama", {"vocab_size": 120, "width_operator": "ligo"}, "ligo has no matrix for tokens"),
    ("qwen3", {"num_heads": 7, "width_operator": "zero"}, "7 heads cannot share 2 kv heads evenly"),
    ("llama", {"head_dim": 12}, "head_dim grows by whole numbers"),
    ("llama", {"head_dim": 16, "num_heads": 8}, "grow heads in another step"),
    ("llama", {"head_dim": 16, "width_operator": "ligo"}, "nor for the inside of heads"),
    ("gpt2", {"head_dim": 16}, "or to a hidden size of 64"),
    ("qwen3", {"num_heads": 9, "num_kv_heads": 9, "width_operator": "zero"}, None),
    ("qwen3", {"num_heads": 6, "num_kv_heads": 6, "width_operator": "net2net"}, None),
]


@pytest.mark.parametrize(("family", "options", "message"), REFUSED)
def test_what_cannot_be(
    family: str, options: dict[str, Any], message: str | None, sources: Path, tmp_path: Path
) -> None:
    source = saved(sources, family, dtype=torch.float64)
    if message is None:
        assert error(source, grown(source, tmp_path / "target", **options)) <= BOUND
        return
    with pytest.raises(GrowthError) as raised:
        grown(source, tmp_path / "target", **options)
    assert message in str(raised.value)
