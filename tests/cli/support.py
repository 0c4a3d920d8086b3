"""Running commands in this process, and small checkpoints to run them on."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast
from typer.testing import CliRunner, Result

from growkernels.cli import app
from tests.families import make_model


def run(*arguments: object, columns: int = 80) -> Result:
    """A command, with stdout and stderr apart and a terminal of that many columns."""
    env = {"COLUMNS": str(columns), "TERM": "dumb", "NO_COLOR": "1"}
    return CliRunner().invoke(app, [str(argument) for argument in arguments], env=env)


def json_of(result: Result) -> dict[str, Any]:
    """Stdout, which must be one JSON object and nothing else; NaN is not JSON."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    data = json.loads(result.stdout, parse_constant=refuse)
    assert isinstance(data, dict)
    return data


def save_small(folder: Path, family: str = "llama", **variant: Any) -> Path:
    """A tiny random checkpoint with a tokenizer's file beside it."""
    _, model = make_model(family, **variant)
    model.save_pretrained(folder)
    (folder / "tokenizer_config.json").write_text("{}")
    return folder


def save_tokenizer(folder: Path) -> None:
    """A token for every printable character, and a mask."""
    vocab = {"?": 0, "[MASK]": 1, **{chr(code): code - 30 for code in range(32, 127) if chr(code) != "?"}}
    built = Tokenizer(models.WordLevel(vocab, unk_token="?"))
    built.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    PreTrainedTokenizerFast(tokenizer_object=built, unk_token="?", mask_token="[MASK]").save_pretrained(folder)


def snapshot(folder: Path) -> dict[str, str]:
    """Every file below a folder, hidden ones too, by its hash; folders are `/`."""
    return {
        str(path.relative_to(folder)): "/" if path.is_dir() else hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
    }
