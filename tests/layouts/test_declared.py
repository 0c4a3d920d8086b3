"""Layouts of classes that are not of transformers, and families that are added."""

from __future__ import annotations

import json
from dataclasses import asdict
from importlib.metadata import EntryPoint

import pytest
import torch
from safetensors.torch import load_file, save_file

from growkernels import grow_checkpoint, grow_model
from growkernels.errors import GrowthError
from growkernels.layouts import Family, ModelLayout, declare_layout, discover, families, grow_config, register_family
from growkernels.rules.tensor import TensorSpec
from tests.layouts.plain import Decoder, Sizes, make_decoder
from tests.layouts.test_function import clone

CONFIG = {"model_type": "decoder", "architectures": ["Decoder"]}


@pytest.fixture
def table():
    """The table of families, as it was once the test is over."""
    before = dict(families.FAMILIES)
    yield families.FAMILIES
    families.FAMILIES.clear()
    families.FAMILIES.update(before)


@pytest.fixture
def declared(table):
    return declare_layout(
        Decoder,
        lambda config: Decoder(Sizes(**config)),
        layers="n_layer",
        head="lm_head",
        outputs={"attn.c_attn": 3},
    )


def layout_of(model: Decoder) -> ModelLayout:
    state = {name: value for name, value in model.state_dict().items() if name != "lm_head.weight"}
    specs = {name: TensorSpec(tuple(value.shape), "float64") for name, value in state.items()}
    return discover({**CONFIG, **asdict(model.config)}, specs)


@pytest.mark.parametrize("n", [2, 3])
def test_a_clone_made_from_the_declaration_computes_the_same(declared, n):
    model = make_decoder()
    layout = layout_of(model)
    ratios = {"hidden": n, "heads": n, "kv_heads": n, "ffn": n}
    config = grow_config(layout, ratios, range(layout.num_layers), untie=False, dtype=None)
    sizes = {key: value for key, value in config.items() if key in asdict(model.config)}
    target = Decoder(Sizes(**sizes)).double().eval()
    state = model.state_dict()
    with torch.no_grad():
        for parameter in target.parameters():
            parameter.fill_(torch.nan)
        parameters = dict(target.named_parameters()) | dict(target.named_buffers())
        for tensor in layout.tensors.values():
            parameters[tensor.parameter].copy_(clone(layout, tensor, state[tensor.parameter], ratios))
        ids = torch.arange(14).reshape(2, 7)
        wanted, got = model(ids), target(ids)
    # Sums over at most 3 * 48 terms, in float64.
    assert (got - wanted).abs().max() <= 144 * 2**-52 * wanted.abs().max()
    assert layout.head_norm == ("ln_f.weight", "ln_f.bias") and layout.tied_head
    assert str(layout.tensors["h.0.attn.c_attn.weight"].axes[0]) == "hidden | hidden | hidden"
    assert layout.tensors["h.2.attn.bias"].layer == 2


@pytest.mark.parametrize("options", [{"width": 2}, {"width": 3, "depth": 2}, {"depth": 2}])
def test_a_live_model_grows_in_place_and_its_checkpoint_alike(declared, options, tmp_path):
    """The live model and the checkpoint become the same bits; width keeps the function of what depth gives."""
    model = make_decoder()
    (tmp_path / "source").mkdir()
    state = {name: value for name, value in model.state_dict().items() if name != "lm_head.weight"}
    save_file(state, tmp_path / "source" / "model.safetensors")
    (tmp_path / "source" / "config.json").write_text(json.dumps({**CONFIG, **asdict(model.config)}))
    grow_checkpoint(tmp_path / "source", tmp_path / "grown", no_verify=True, **options)
    ids = torch.arange(14).reshape(2, 7)
    deep = grow_model(make_decoder(), depth=2) if "depth" in options else model
    with torch.no_grad():
        wanted = deep(ids)
        grown = grow_model(model, **options)
        got = grown(ids)
    assert grown is model and grown.config.n_embd == 12 * options.get("width", 1)
    # Noise has the size of the weights and cancels; sums over at most 6 * 48 terms in float64, two layers deep.
    assert (got - wanted).abs().max() <= 6 * 288 * 2**-52 * wanted.abs().max()
    stored = load_file(tmp_path / "grown" / "model.safetensors")
    held = grown.state_dict()
    assert all(torch.equal(value, held[name]) for name, value in stored.items())
    assert grown.lm_head.weight is grown.wte.weight


def test_what_was_not_declared_is_told(table):
    with pytest.raises(GrowthError, match=r"'decoder' is not supported.*register_family.*declare_layout"):
        layout_of(make_decoder())
    with pytest.raises(GrowthError, match=r"Sizes is no nn\.Module"):
        declare_layout(Sizes, Decoder, layers="n_layer")
    with pytest.raises(GrowthError, match="heads_are: unknown"):
        declare_layout(Decoder, Decoder, layers="n_layer", heads_are="fine")


def test_a_build_that_fails_is_told(table):
    declare_layout(Decoder, lambda config: Decoder(Sizes(width=config["n_embd"])), layers="n_layer")
    with pytest.raises(GrowthError, match="its own function cannot build Decoder"):
        layout_of(make_decoder())


def test_families_of_other_packages_are_found(table, monkeypatch):
    row = Family("other_decoder", outputs={"attn.qkv": 3})
    point = EntryPoint("mine", "tests.layouts.test_declared:ROW", families.ENTRY_POINTS)
    monkeypatch.setattr(families, "entry_points", lambda group: [point] if group == families.ENTRY_POINTS else [])
    monkeypatch.setitem(globals(), "ROW", row)
    assert families.find("other_decoder") is row
    monkeypatch.setitem(globals(), "ROW", "no family")
    with pytest.raises(GrowthError, match=r"entry point 'mine'.*expected a Family"):
        families.find("another")


def test_registering_what_is_no_family_is_refused(table):
    with pytest.raises(GrowthError, match="'llama' is no family"):
        register_family("llama")


@pytest.mark.parametrize("writers", [(), ("c_proj.weight",)], ids=["unsaid", "declared"])
def test_new_layers_change_nothing_where_the_declaration_names_what_writes_the_stream(table, writers):
    declare_layout(
        Decoder,
        lambda config: Decoder(Sizes(**config)),
        layers="n_layer",
        head="lm_head",
        outputs={"attn.c_attn": 3},
        writers=writers,
    )
    model, ids = make_decoder(), torch.arange(14).reshape(2, 7)
    wanted = model(ids)
    if not writers:
        with pytest.raises(GrowthError, match=r"not shown which parameters of decoder put out.*Name them as writers"):
            grow_model(model, depth=2, depth_operator="llama_pro")
        return
    grown = grow_model(model, depth=2, depth_operator="llama_pro")
    assert len(grown.h) == 6 and not grown.h[1].attn.c_proj.bias.any() and grown.h[1].c_fc.weight.any()
    assert torch.equal(grown(ids), wanted)
