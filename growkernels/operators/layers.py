"""The text that says which source layer each target layer is a copy of."""

from __future__ import annotations

from growkernels.errors import GrowthError

#: More layers than this are taken for a slip of the keyboard.
MAX_LAYERS = 10_000
_MAX_NESTING = 32

_FORMS = "3, 0-5, (0-5)*4, joined by commas; or paper:12-345*7-6"
_PAPER = "paper:"


def parse_layers(spec: str, num_layers: int) -> tuple[int, ...]:
    """The source layer of every target layer.

    `spec` holds comma-separated items, counted from 0: a layer `3`, a range `0-5` (both ends in), or a group repeated
    `(0-2,5)*4`. `paper:12-345*7-6` is the notation of the Gstack paper: one digit a layer, counted from 1; parts joined by
    `-`, each repeated where `*` says so. Spaces are ignored. Raises GrowthError that points at the place.
    """
    reader = _Reader(spec, num_layers)
    if spec.strip().startswith(_PAPER):
        reader.at = spec.index(_PAPER) + len(_PAPER)
        return tuple(reader.paper())
    layers = reader.items()
    if reader.peek():
        reader.fail("expected a comma or the end")
    return tuple(layers)


class _Reader:
    """Recursive descent over the text; `at` is the place of the next character."""

    def __init__(self, text: str, num_layers: int) -> None:
        self.text, self.num_layers, self.at, self.nesting = text, num_layers, 0, 0

    def peek(self) -> str:
        while self.at < len(self.text) and self.text[self.at].isspace():
            self.at += 1
        return self.text[self.at : self.at + 1]

    def take(self, character: str) -> bool:
        found = self.peek() == character
        self.at += found
        return found

    def fail(self, problem: str, at: int | None = None) -> None:
        place = self.at if at is None else at
        raise GrowthError(
            f"layers: {problem} at character {place + 1}; a spec is {_FORMS}\n  {self.text}\n  {' ' * place}^"
        )

    def number(self, what: str) -> int:
        self.peek()
        start = self.at
        while self.at < len(self.text) and self.text[self.at] in "0123456789":
            self.at += 1
        if start == self.at:
            self.fail(f"expected {what}")
        if self.at - start > 9:
            self.fail(f"expected {what} of at most 9 digits", start)
        return int(self.text[start : self.at])

    def layer(self) -> int:
        self.peek()
        start = self.at
        layer = self.number("a layer number or (")
        self.check(layer, 0, start)
        return layer

    def check(self, layer: int, first: int, at: int) -> None:
        last = self.num_layers - 1 + first
        if not first <= layer <= last:
            self.fail(f"layer {layer} is not in the source, which has layers {first} to {last},", at)

    def times(self, layers: list[int]) -> list[int]:
        self.peek()
        start = self.at
        count = self.number("a number of repeats")
        if not count:
            self.fail("repeated 0 times; expected at least once", start)
        if count * len(layers) > MAX_LAYERS:
            self.fail(f"more than {MAX_LAYERS} layers asked for", start)
        return layers * count

    def items(self) -> list[int]:
        layers = self.item()
        while self.take(","):
            layers += self.item()
            if len(layers) > MAX_LAYERS:
                self.fail(f"more than {MAX_LAYERS} layers asked for")
        return layers

    def item(self) -> list[int]:
        if self.take("("):
            self.nesting += 1
            if self.nesting > _MAX_NESTING:
                self.fail(f"groups nested more than {_MAX_NESTING} deep")
            layers = self.items()
            self.nesting -= 1
            if not self.take(")"):
                self.fail("expected a comma or )")
            if not self.take("*"):
                self.fail("expected * and a number of repeats")
            return self.times(layers)
        start = self.layer()
        if not self.take("-"):
            return [start]
        self.peek()
        at = self.at
        stop = self.layer()
        if stop < start:
            self.fail(f"the range {start}-{stop} runs backward; expected the smaller layer first", at)
        return list(range(start, stop + 1))

    def paper(self) -> list[int]:
        layers: list[int] = []
        while True:
            part = []
            while self.peek() and self.peek() in "0123456789":
                digit = int(self.text[self.at])
                self.check(digit, 1, self.at)
                part.append(digit - 1)
                self.at += 1
            if not part:
                self.fail("expected a digit (a layer, counted from 1)")
            layers += self.times(part) if self.take("*") else part
            if len(layers) > MAX_LAYERS:
                self.fail(f"more than {MAX_LAYERS} layers asked for")
            if not self.peek():
                return layers
            if not self.take("-"):
                self.fail("expected a digit, *, - or the end")
