"""The demo's data: Python's own standard library as text, and a tokenizer with one token per byte."""

from __future__ import annotations

import random
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

BOS, EOS, PAD = "<s>", "</s>", "<pad>"
VOCAB_SIZE = 256 + 3

#: Modules that the model never trains on; all of them exist in every Python from 3.11 on.
HELD_OUT = ("argparse.py", "csv.py", "fractions.py", "heapq.py", "json/decoder.py", "textwrap.py", "shlex.py")
#: Tests, tables and bundled data: not prose-like code.
EXCLUDED = {
    "site-packages",
    "dist-packages",
    "test",
    "tests",
    "idlelib",
    "lib2to3",
    "encodings",
    "pydoc_data",
    "turtledemo",
}


def standard_library() -> tuple[bytes, bytes]:
    """Training and held-out text: the standard library's modules end to end, in an order fixed by a seed."""
    root = Path(sysconfig.get_path("stdlib"))
    files = sorted(p for p in root.rglob("*.py") if not EXCLUDED & set(p.relative_to(root).parts))
    random.Random(0).shuffle(files)
    held = [p for p in files if p.relative_to(root).as_posix() in HELD_OUT]
    if len(held) < 4:
        raise SystemExit(f"{root} holds few of Python's standard modules; install the full standard library")
    train = [p for p in files if p not in held]
    return b"".join(p.read_bytes() for p in train), b"".join(p.read_bytes() for p in held)


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer whose token i is byte i, then begin, end and padding."""
    # GPT-2's table gives every byte a character: bytes that print stand for themselves, the others follow from 256 on.
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    character = {byte: chr(byte) for byte in printable} | {byte: chr(256 + i) for i, byte in enumerate(others)}
    tokenizer = Tokenizer(models.BPE(vocab={character[byte]: byte for byte in range(256)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in (BOS, EOS, PAD)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=BOS, eos_token=EOS, pad_token=PAD)


def as_tensor(text: bytes) -> torch.Tensor:
    """Bytes as token ids, uint8 [length]."""
    return torch.frombuffer(bytearray(text), dtype=torch.uint8)


def batches(text: torch.Tensor, length: int, size: int, seed: int) -> Iterator[torch.Tensor]:
    """Batches of random windows, int64 [size, length], without end; batch i depends on (seed, i) alone."""
    step = 0
    while True:
        generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
        starts = torch.randint(len(text) - length, (size,), generator=generator).tolist()
        yield torch.stack([text[start : start + length] for start in starts]).long()
        step += 1


def windows(text: torch.Tensor, length: int, count: int) -> torch.Tensor:
    """`count` windows evenly spread over the text, int64 [count, length]."""
    starts = torch.linspace(0, len(text) - length, count).long().tolist()
    return torch.stack([text[start : start + length] for start in starts]).long()
