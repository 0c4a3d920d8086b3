"""Batches of a text file for language models: windows at places that depend on the seed and the step alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import count
from pathlib import Path
from typing import Any

import torch
import xxhash
from torch import Tensor

from growkernels.errors import GrowthError
from growkernels.learning.checks import file_path, whole_number

#: What is read of a file: enough for any fit, and little beside a model.
_MOST_BYTES = 64 << 20
_MASKED, _IGNORED = 0.15, -100


class TextBatches:
    """Endless batches of windows, with labels for the loss of a causal or a masked language model."""

    def __init__(
        self,
        file: str | Path,
        checkpoint: Path,
        config: Mapping[str, Any],
        size: int = 8,
        length: int = 256,
        seed: int = 0,
    ) -> None:
        """Reads up to 64 MiB of a UTF-8 text and turns them into tokens by the tokenizer beside the checkpoint.

        config: of the model, whose class decides on the labels; size: windows a batch; length: tokens a window, fewer where
        the model or the text has fewer. Raises GrowthError for a text or a model that cannot be used.
        """
        self.size, length = whole_number(size, "size", 1), whole_number(length, "length", 2)
        self.seed = whole_number(seed, "seed", 0, 2**64 - 1)
        file = file_path(file, "the text")
        if not isinstance(config, Mapping):
            raise GrowthError(
                f"config is {type(config).__name__}; expected the dictionary in config.json, which to_dict() gives too."
            )
        tokenizer = _tokenizer(file_path(checkpoint, "checkpoint"))
        self._mask_token = _mask_token(config, tokenizer)
        self._tokens = _tokens(file, tokenizer, config)
        positions = config.get("max_position_embeddings") or config.get("n_positions") or length
        if positions < 2:
            raise GrowthError(f"the model takes {positions} token; there is nothing to learn from fewer than 2.")
        self.length = min(length, len(self._tokens), positions)

    @property
    def tokens(self) -> int:
        """How many the text has."""
        return len(self._tokens)

    def digest(self) -> str:
        """Identity of the tokens, XXH3-128 in hexadecimal: equal for texts that give equal batches, whatever their names."""
        hasher = xxhash.xxh3_128(self._tokens.numpy().data)
        hasher.update(str(self._mask_token).encode())
        return hasher.hexdigest()

    def since(self, step: int) -> Iterator[dict[str, Tensor]]:
        """The batches of a step and all later ones: `input_ids` and `labels`, int64 [size, length]. Steps count from 0."""
        return map(self._batch, count(whole_number(step, "step", 0)))

    def _batch(self, step: int) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed((self.seed * 1_000_003 + step) % 2**63)
        try:
            starts = torch.randint(len(self._tokens) - self.length + 1, (self.size, 1), generator=generator)
            tokens = self._tokens[starts + torch.arange(self.length)].long()
        except RuntimeError as error:
            raise GrowthError(
                f"there is no memory for {self.size} windows of {self.length} tokens; ask for fewer or shorter ones."
            ) from error
        if self._mask_token is None:
            return {"input_ids": tokens, "labels": tokens}
        return self._mask(tokens, generator)

    def _mask(self, tokens: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        hidden = torch.rand(tokens.shape, generator=generator) < _MASKED
        # A window with nothing to guess would have no loss.
        hidden[:, 0] |= ~hidden.any(1)
        assert self._mask_token is not None
        return {
            "input_ids": tokens.masked_fill(hidden, self._mask_token),
            "labels": tokens.masked_fill(~hidden, _IGNORED),
        }


def _tokenizer(checkpoint: Path) -> Any:
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(checkpoint, local_files_only=True)
    except Exception as error:  # tokenizers raise many kinds
        reason = " ".join(str(error).split())[:200].rstrip(".")
        raise GrowthError(
            f"{checkpoint} has no tokenizer that transformers can load ({reason}); put its tokenizer.json beside the weights."
        ) from error


def _mask_token(config: Mapping[str, Any], tokenizer: Any) -> int | None:
    """The token that hides others from a masked language model; None for a causal one."""
    architecture = (config.get("architectures") or [""])[0]
    if architecture.endswith(("ForCausalLM", "LMHeadModel")):
        return None
    if not architecture.endswith("ForMaskedLM"):
        raise GrowthError(
            f"{architecture} is no causal or masked language model, so that a text gives it no loss; fit it in Python with "
            f"batches of its own: growkernels.LearnedGrowth(src).fit(batches)."
        )
    if tokenizer.mask_token_id is None:
        raise GrowthError(f"{architecture} learns from masked tokens, and its tokenizer has no mask token; add one.")
    return tokenizer.mask_token_id


def _tokens(file: Path, tokenizer: Any, config: Mapping[str, Any]) -> Tensor:
    try:
        with file.open("rb") as opened:
            text = opened.read(_MOST_BYTES).decode(errors="ignore" if file.stat().st_size > _MOST_BYTES else "strict")
    except OSError as error:
        raise GrowthError(f"the text {file} cannot be read: {error.strerror}. Name a file of plain text.") from error
    except UnicodeDecodeError as error:
        raise GrowthError(
            f"{file} is no UTF-8 text: {error.reason} at byte {error.start}. Name a file of plain text."
        ) from error
    tokens = torch.tensor(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"], dtype=torch.int32)
    if len(tokens) < 2:
        held = "no token" if not len(tokens) else "1 token"
        raise GrowthError(f"{file} holds {held}; a fit needs 2 at least, and better a hundred thousand.")
    vocabulary = config.get("vocab_size") or 0
    if int(tokens.max()) >= vocabulary:
        raise GrowthError(
            f"the tokenizer gives token {int(tokens.max())}, the model has {vocabulary}; take both from the same checkpoint."
        )
    return tokens
