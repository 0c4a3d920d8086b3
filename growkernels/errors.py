"""The exceptions that requests end with, and text that is fit for a terminal whatever names it quotes."""

from __future__ import annotations

#: Longer messages lose their middle: what is wrong stands at the start, what to do at the end.
_LONGEST, _HEAD = 2000, 1400


class GrowthError(ValueError):
    """A request that cannot be carried out; the message names what was given, what was expected and what to do.

    Names in the message come from files: control characters are shown as escapes, and its length is bounded.
    """

    # Not at construction: torch.compile cannot trace an exception that has an `__init__` of its own.
    def __str__(self) -> str:
        return shorten(printable(super().__str__()))


class VerificationFailed(RuntimeError):
    """A grown checkpoint is not what its plan says; the message names what was found. Nothing was put in place."""

    def __str__(self) -> str:
        return shorten(printable(super().__str__()))


class PeerFailed(GrowthError):
    """Another process of a growth that several share failed; the first process tells the user."""


def printable(text: str) -> str:
    """The text with everything that a terminal would act on, or that no encoding can print, as `\\x1b` or `\\u202e`.

    Line breaks stay.
    """
    if text.isprintable():
        return text
    return "".join(c if c == "\n" or c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def shorten(text: str, limit: int = _LONGEST) -> str:
    """The text, or its start and end with a count of what is left out between them."""
    if len(text) <= limit:
        return text
    head = limit * _HEAD // _LONGEST
    return f"{text[:head]} ... ({len(text) - limit:,} characters left out) ... {text[head - limit :]}"
