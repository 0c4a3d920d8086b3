"""The whole road through the command line: grow, look at it, verify it, break it, verify again."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from growkernels import api
from tests.cli.support import json_of, run, save_small, snapshot

ROOT = Path(__file__).parents[2]


def test_grow_says_what_was_made_how_it_was_verified_and_what_comes_next(src: Path, tmp_path: Path) -> None:
    dst = tmp_path / "dst"
    result = run("grow", src, dst, "--width", 2, "--depth", 3)
    assert result.exit_code == 0, result.stderr
    text = " ".join(result.stdout.split())
    assert str(dst) in text.replace(" ", "")
    assert "2 -> 6: 0-1 0-1 0-1 (connection rate 60%)" in text
    assert "Verified" in text and "bit for bit" in text and "logits in float32" in text
    assert f'LlamaForCausalLM.from_pretrained("{dst}")' in text and "AutoTokenizer.from_pretrained" in text
    assert "fresh AdamW and a new warm-up" in text
    assert "Warning: The LM head stays tied" in result.stderr and "\x1b" not in result.stderr
    config = json.loads((dst / "config.json").read_text())
    assert (config["hidden_size"], config["num_hidden_layers"]) == (64, 6)
    assert {path.name for path in dst.iterdir()} == {
        "config.json", "generation_config.json", "growkernels.json", "model.safetensors", "tokenizer_config.json"
    }  # fmt: skip
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dst", "src"]


def test_grown_model_loads_and_computes_the_same(src: Path, tmp_path: Path) -> None:
    assert run("grow", src, tmp_path / "dst", "--width", 3, "--noise-snr-db", "20").exit_code == 0
    tokens = torch.arange(30).reshape(2, 15)
    with torch.inference_mode():
        small, big = (
            transformers.AutoModelForCausalLM.from_pretrained(tmp_path / name)(tokens).logits for name in ("src", "dst")
        )
    assert (big - small).abs().max() <= 1e-4 * small.abs().max()


def test_json_is_one_object_and_all_else_goes_to_stderr(src: Path, tmp_path: Path) -> None:
    result = run("grow", src, tmp_path / "dst", "--width", 2, "--noise-snr-db", "none", "--json")
    data = json_of(result)
    assert data["source"] == str(src) and data["target"] == str(tmp_path / "dst")
    assert data["verification"]["passed"] and data["verification"]["logits"]["passed"]
    assert data["bytes"] == 4 * data["summary"]["target"]["parameters"]
    assert 0 < data["writing_seconds"] < data["seconds"] and data["bytes_per_second"] > 0
    manifest = json.loads((tmp_path / "dst" / "growkernels.json").read_text())
    assert manifest["plan_digest"] == data["plan_digest"]
    assert "Symmetry lock" in result.stderr


def test_options_reach_the_plan(src: Path, tmp_path: Path) -> None:
    arguments = ["--layers", "0,(0-1)*2", "--ffn", 3, "--variant", "diagonal", "--noise-snr-db", "12.5", "--seed", 7]
    more = ["--dtype", "bfloat16", "--untie", "--max-shard-size", "20kB", "--no-verify"]
    result = run("grow", src, tmp_path / "dst", *arguments, *more)
    assert result.exit_code == 0, result.stderr
    assert "Not verified: switched off" in result.stdout
    manifest = json.loads((tmp_path / "dst" / "growkernels.json").read_text())
    options = manifest["plan"]["options"]
    wanted = {
        "layers": "0,(0-1)*2",
        "ffn": 3,
        "variant": "diagonal",
        "noise_snr_db": 12.5,
        "seed": 7,
        "dtype": "bfloat16",
    }
    assert {name: options[name] for name in wanted} == wanted
    assert manifest["verification"] is None and options["untie"] is True
    assert (tmp_path / "dst" / "model.safetensors.index.json").is_file()
    files = sorted((tmp_path / "dst").glob("model-*.safetensors"))
    assert len(files) > 1
    assert {t.dtype for file in files for t in load_file(file).values()} == {torch.bfloat16}
    assert any("lm_head.weight" in load_file(file) for file in files)


def test_same_seed_same_bits_other_seed_other_bits(src: Path, tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        assert run("grow", src, tmp_path / name, "--width", 2, "--seed", seed, "--no-verify").exit_code == 0
    a, b, c = ((tmp_path / name / "model.safetensors").read_bytes() for name in "abc")
    assert a == b != c


def test_overwrite_replaces_and_only_when_asked(src: Path, tmp_path: Path) -> None:
    dst = tmp_path / "dst"
    assert run("grow", src, dst, "--width", 2, "--no-verify").exit_code == 0
    before = snapshot(dst)
    refused = run("grow", src, dst, "--width", 3, "--no-verify")
    assert refused.exit_code == 2 and "--overwrite" in refused.stderr and snapshot(dst) == before
    assert run("grow", src, dst, "--width", 3, "--no-verify", "--overwrite").exit_code == 0
    assert json.loads((dst / "config.json").read_text())["hidden_size"] == 96


def test_plan_and_grow_make_the_same_plan(src: Path, tmp_path: Path) -> None:
    planned = json_of(run("plan", src, "--width", 2, "--json"))
    grown = json_of(run("grow", src, tmp_path / "dst", "--width", 2, "--json"))
    assert planned["summary"] == grown["summary"]


def test_plan_says_what_it_has_not_read(src: Path, tmp_path: Path) -> None:
    """A head that is stored apart though the config ties it: only who reads the weights knows whether it is the embedding."""
    weights = load_file(src / "model.safetensors")
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"] + 1
    save_file(weights, src / "model.safetensors", metadata={"format": "pt"})
    result = run("plan", src, "--width", 2, columns=200)
    assert result.exit_code == 0, result.stderr
    text = " ".join(result.stdout.split())
    assert "lm_head.weight: tied to model.embed_tokens.weight by the class; must equal it, which grow checks" in text
    assert "lm_head.weight equals" not in text and "lm_head.weight: equals" not in text
    unread = text.partition("Checked by grow, for no weight was read")[2]
    assert "weights are finite" in unread and "lm_head.weight: stored apart" in unread
    refused = run("grow", src, tmp_path / "dst", "--width", 2)
    assert refused.exit_code == 2 and "lm_head.weight and model.embed_tokens.weight differ" in refused.stderr


def test_plan_writes_nothing_but_the_picture(src: Path, tmp_path: Path) -> None:
    before = snapshot(tmp_path)
    result = run("plan", src, "--width", 2, "--depth", 2)
    assert result.exit_code == 0, result.stderr
    assert snapshot(tmp_path) == before
    text = " ".join(result.stdout.split())
    for part in ("self_attn.q_proj tile 2x2, /2, 10 dB 64 x 64", "hidden_size 32 -> 64", "another function (depth)",
                 "same function, up to rounding (width)", "Warnings", "connection rate 67%"):  # fmt: skip
        assert part in text
    assert run("plan", src, "--width", 2, "--picture", tmp_path / "p.png").exit_code == 0
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")
    assert snapshot(tmp_path).keys() - before.keys() == {"p.png"}


def test_verify_again_later_and_after_damage(src: Path, tmp_path: Path) -> None:
    dst = tmp_path / "dst"
    assert run("grow", src, dst, "--width", 2).exit_code == 0
    sound = run("verify", src, dst)
    assert sound.exit_code == 0 and "Verified" in sound.stdout
    assert json_of(run("verify", src, dst, "--json", "--no-verify-logits"))["logits"] is None

    weights = load_file(dst / "model.safetensors")
    weights["model.norm.weight"][3] += 1e-3
    save_file(weights, dst / "model.safetensors", metadata={"format": "pt"})
    damaged = run("verify", src, dst)
    assert (
        damaged.exit_code == 1 and "model.norm.weight" in damaged.stdout and "NOT what the plan says" in damaged.stdout
    )
    assert json_of(run("verify", src, dst, "--json"))["passed"] is False


def test_nan_in_json_is_null(tmp_path: Path) -> None:
    src = save_small(tmp_path / "src")
    weights = load_file(src / "model.safetensors")
    weights["model.norm.weight"][0] = torch.nan
    save_file(weights, src / "model.safetensors", metadata={"format": "pt"})
    result = run("grow", src, tmp_path / "dst", "--depth", 2, "--allow-nonfinite", "--json")
    assert result.exit_code == 0, result.stderr
    assert json_of(result)["verification"]["logits"]["comparisons"][0]["error"] is None


def test_a_growth_that_fails_its_verification_is_not_put_in_place(
    src: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = snapshot(tmp_path)
    execute = api.execute

    def wrong(source: object, plan: object, folder: Path, **options: object) -> object:
        done = execute(source, plan, folder, **options)
        weights = load_file(folder / "model.safetensors")
        weights["model.norm.weight"][0] *= 2
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
        return done

    monkeypatch.setattr(api, "execute", wrong)
    result = run("grow", src, tmp_path / "dst", "--width", 2, "--json")
    assert result.exit_code == 1
    assert json_of(result)["error"]["status"] == 1
    assert "Error: verification failed" in result.stderr and "model.norm.weight" in result.stderr
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize(("signal", "status"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)])
def test_signals_end_with_their_status_and_leave_nothing(src: Path, tmp_path: Path, signal: str, status: int) -> None:
    # The run signals itself in the middle of the writing, from within the progress report.
    code = f"""
import os, signal, sys
from growkernels import api, cli
execute = api.execute
def stopped(*arguments, progress, **options):
    def stop(done, total):
        progress(done, total)
        if done > total / 2:
            os.kill(os.getpid(), signal.{signal})
    return execute(*arguments, progress=stop, **options)
api.execute = stopped
sys.argv[1:] = ["grow", {str(src)!r}, {str(tmp_path / "dst")!r}, "--width", "2", "--json"]
cli.main()
"""
    before = snapshot(tmp_path)
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert process.returncode == status, process.stderr
    assert "Traceback" not in process.stderr
    assert snapshot(tmp_path) == before
    if signal == "SIGINT":
        assert json.loads(process.stdout)["error"]["kind"] == "interrupted"


def test_the_script_runs_as_a_module(src: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "growkernels", "plan", str(src), "--width", "2", "--json"]
    process = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    assert json.loads(process.stdout)["summary"]["target"]["layers"] == 2


def test_a_closed_pipe_is_no_error_message(src: Path) -> None:
    command = f"{sys.executable} -m growkernels plan {src} --width 2 --json | head -c 1"
    process = subprocess.run(command, shell=True, capture_output=True, text=True, check=False, cwd=ROOT)
    assert "Error" not in process.stderr and "Traceback" not in process.stderr
