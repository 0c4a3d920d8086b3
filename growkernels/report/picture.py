"""A picture of a plan: the blocks of one grown layer's matrices, and the source layer of each target layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from growkernels.errors import GrowthError
from growkernels.plans import MEAN, NEW, IndexVector, Plan, Rule, Tile
from growkernels.plans.summary import Row, row_name, summarize

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.patches import Patch

_TIMES = " \N{MULTIPLICATION SIGN} "
_INK, _FAINT, _LINE = "#1f2933", "#6b7785", "#8fa3b8"
_ZERO, _PLUS, _MINUS = "#f3f4f6", "#b4441c", "#0b6e63"
#: Tints of the parts of a fused matrix, in order.
_PARTS = ("#d6e6f7", "#e3dcf5", "#fbe8c8", "#dcefdc")
_COLUMNS, _MOST_PANELS, _MOST_LABELS, _MOST_ROWS, _MOST_BLOCKS = 4, 12, 12, 14, 100_000


#: Labels of bands that are no copies.
_COPY: dict[int, str] = {NEW: "new", MEAN: "mean"}


class _Matrix(NamedTuple):
    """A matrix to be drawn, as [output, input]."""

    rule: Rule
    tile: Tile
    output: IndexVector
    input: IndexVector


class _Band(NamedTuple):
    """A range of an axis that is one copy of one part: its bounds (0 to 1), and which."""

    start: float
    size: float
    part: int
    copy: int


def draw_plan(plan: Plan, path: str | Path) -> None:
    """Write a PNG of `plan` to `path`.

    Matrices are drawn as [output, input], also where they are stored transposed. Raises GrowthError for learned growth, which
    has no copies to show, without matplotlib, and if the file cannot be written.
    """
    if plan.is_learned:
        raise GrowthError(
            "a picture shows which block is a copy of which, and learned growth has no copies; leave it out."
        )
    if find_spec("matplotlib") is None:
        raise GrowthError(
            "a picture needs matplotlib; install it (`pip install matplotlib`), or leave the picture out."
        )
    from matplotlib.figure import Figure

    matrices = _matrices_of_one_layer(plan)
    shown = matrices[:_MOST_PANELS]
    for matrix in shown:
        if (blocks := _blocks(matrix.output) * _blocks(matrix.input)) > _MOST_BLOCKS:
            raise GrowthError(
                f"{matrix.rule.target} has {blocks:,} blocks, which no picture shows (at most {_MOST_BLOCKS:,}); draw a growth "
                f"of fewer copies."
            )
    rest = _other_rows(plan, shown)
    lines = max(1, -(-len(shown) // _COLUMNS))
    table = 0.26 * (min(len(rest), _MOST_ROWS + 1) + 3)
    height = 2.1 + 3.7 * lines + table
    figure = Figure(figsize=(16, height), dpi=120, facecolor="white")
    left, right, top, bottom = 0.045, 0.80, 1 - 1.95 / height, (table + 0.2) / height
    _title(figure, plan, height)
    if shown:
        grid = figure.add_gridspec(
            lines, _COLUMNS, left=left, right=right, top=top, bottom=bottom, wspace=0.34, hspace=0.42
        )
        for number, matrix in enumerate(shown):
            _draw_matrix(figure.add_subplot(grid[divmod(number, _COLUMNS)]), matrix)
    _draw_layers(figure.add_axes((0.845, bottom, 0.14, top - bottom)), plan)
    _draw_rest(
        figure.add_axes((left, 0.1 / height, 1 - 2 * left, (table - 0.2) / height)), rest, _legend(shown), table - 0.2
    )
    try:
        figure.savefig(path, format="png")
    except OSError as error:
        raise GrowthError(
            f"cannot write the picture to {path}: {error.strerror}. Name a file in a writable folder."
        ) from error


def _matrices_of_one_layer(plan: Plan) -> list[_Matrix]:
    first = min((rule.layer for rule in plan.rules if rule.layer is not None), default=None)
    found: dict[tuple[str, Tile], _Matrix] = {}
    for rule in plan.rules:
        tile = rule.how
        if first is None or rule.layer != first or not isinstance(tile, Tile) or len(tile.axes) != 2:
            continue
        if tile.sum_axis is not None and tile.output is not None:
            # Of experts that are made alike, the first.
            matrix = _Matrix(rule, tile, tile.axes[tile.output], tile.axes[tile.sum_axis])
            found.setdefault((row_name(rule), replace(tile, key=0)), matrix)
    return list(found.values())


def _other_rows(plan: Plan, shown: Sequence[_Matrix]) -> list[Row]:
    drawn = {row_name(matrix.rule) for matrix in shown}
    return [row for row in summarize(plan).rows if row.name not in drawn]


def _title(figure: Any, plan: Plan, height: float) -> None:
    summary = summarize(plan)
    source, target = summary.source, summary.target
    figure.text(0.045, 1 - 0.42 / height, "How one layer grows", size=19, weight="bold", color=_INK, va="center")
    claims = "; ".join(f"{claim.part}: {claim.holds}" for claim in plan.claims)
    facts = (
        f"{_count(source.parameters)} → {_count(target.parameters)} parameters   ·   "
        f"{source.layers} → {target.layers} layers   ·   function preserved? {claims}"
    )
    figure.text(0.045, 1 - 0.78 / height, facts, size=11.5, color=_FAINT, va="center")


def _count(number: int) -> str:
    for unit, size in (("B", 10**9), ("M", 10**6), ("k", 10**3)):
        if number >= size:
            return f"{number / size:.3g}{unit}"
    return str(number)


def _blocks(axis: IndexVector) -> int:
    return sum(segment.groups * segment.copies for segment in axis.segments)


def _bands(axis: IndexVector) -> list[_Band]:
    bands, start = [], 0.0
    for part, segment in enumerate(axis.segments):
        size = segment.size / axis.size / (segment.copies * segment.groups)
        for _ in range(segment.groups):
            for copy in range(segment.copies):
                bands.append(_Band(start, size, part, min(segment.start, copy)))
                start += size
    return bands


def _draw_matrix(ax: Axes, matrix: _Matrix) -> None:
    from matplotlib.collections import PatchCollection
    from matplotlib.patches import Polygon, Rectangle

    tile = matrix.tile
    rows, columns = _bands(matrix.output), _bands(matrix.input)
    width, height = _proportions(matrix.input.size, matrix.output.size)
    most = max(len(rows), len(columns))
    blocks: list[tuple[Patch, str]] = []
    corners: list[tuple[Patch, str]] = []
    size = 13 if most <= 2 else 10 if most <= 4 else 7.5
    for row in rows:
        for column in columns:
            x, y, w, h = column.start * width, row.start * height, column.size * width, row.size * height
            sourced = row.copy >= 0 and column.copy >= 0
            signal = sourced and (not tile.diagonal or column.copy == row.copy % tile.n_in)
            tint = _PARTS[max(row.part, column.part) % len(_PARTS)] if signal else _ZERO
            blocks.append((Rectangle((x, y), w, h), tint))
            noise, color = _noise(matrix, row, column)
            if noise:
                corner = 0.16 * min(w, h)
                corners.append((Polygon([(x, y), (x + corner, y), (x, y + corner)]), color))
            if most <= _MOST_LABELS:
                middle = y + h * (0.36 if noise else 0.5)
                value = _signal(_divisor(matrix, row, column)) if signal else _unsourced(tile, row, column)
                ax.text(x + w / 2, middle, value, size=size, ha="center", va="center", color=_INK if signal else _FAINT)
                if noise:
                    ax.text(x + w / 2, y + h * 0.70, noise, size=size - 1, ha="center", va="center", color=color)
    for patches, edge in ((blocks, 1.5), (corners, 0.0)):
        colors = [color for _, color in patches]
        drawn = [patch for patch, _ in patches]
        ax.add_collection(PatchCollection(drawn, facecolors=colors, edgecolors="white", linewidths=edge), autolim=False)
    ax.add_patch(Rectangle((0, 0), width, height, facecolor="none", edgecolor=_LINE, linewidth=1.2))
    ax.set_xlim(0, width)
    ax.set_ylim(height, 0)
    ax.set_aspect("equal")
    ax.set_anchor("NW")
    _label_copies(ax, rows, columns, width, height)
    _head(ax, matrix)


def _head(ax: Axes, matrix: _Matrix) -> None:
    name = matrix.rule.group.rpartition("{}.")[2].removesuffix(".weight")
    old = f"{matrix.output.source_size}{_TIMES}{matrix.input.source_size}"
    new = f"{matrix.output.size}{_TIMES}{matrix.input.size}"
    stored = "  (transposed)" if matrix.tile.sum_axis == 0 else ""
    ax.annotate(name, (0, 1), (0, 50), "axes fraction", "offset points", size=12, weight="bold", color=_INK)
    ax.annotate(f"{old}  →  {new}{stored}", (0, 1), (0, 34), "axes fraction", "offset points", size=9.5, color=_FAINT)


def _proportions(columns: int, rows: int) -> tuple[float, float]:
    """Width and height of a panel, the longer one 1: true to shape, but never thinner than it can be read."""
    longest = max(columns, rows)
    return max(columns / longest, 0.5), max(rows / longest, 0.5)


def _signal(divisor: float) -> str:
    if divisor == 1:
        return "$W$"
    return rf"$W/{divisor:g}$" if divisor == round(divisor) else rf"$W/{divisor:.3g}$"


def _divisor(matrix: _Matrix, row: _Band, column: _Band) -> float:
    """What a block is divided by, its segments' own divisors among it."""
    divisor, tile = matrix.tile.divisor, matrix.tile
    for axis, band in ((tile.output, row), (tile.sum_axis, column)):
        own = tile.divisors[axis] if tile.divisors and axis is not None else ()
        divisor *= own[band.part] if own else 1.0
    return divisor


def _unsourced(tile: Tile, row: _Band, column: _Band) -> str:
    """What stands in a block without a source, or away from the diagonal."""
    if NEW not in (row.copy, column.copy):
        return "mean" if MEAN in (row.copy, column.copy) else "0"
    fill = tile.fill[0 if row.copy != NEW else 1 if column.copy != NEW else 2]
    return "rand" if fill.std != 0 else f"{fill.mean:g}"


def _noise(matrix: _Matrix, row: _Band, column: _Band) -> tuple[str, str]:
    """The noise of a block as a formula, and its color; empty where there is none."""
    tile, n_in, copy = matrix.tile, matrix.tile.n_in, column.copy
    if tile.noise is not None and tile.noise.share is not None:
        # The copies are matrices of their own.
        copy, n_in = tile.noise.share[0] or 0, tile.noise.share[1]
    if tile.noise is None or n_in < 2 or min(row.copy, column.copy) < 0:
        return "", _INK
    pairs, pair = n_in // 2, copy // 2
    name = str(row.copy + 1) if tile.n_out > 1 else ""
    if n_in % 2 and copy >= n_in - 3:
        return rf"$+\,t_{{{name}{'abc'[copy - n_in + 3]}}}$", _PLUS
    index = f"{name}{'abcdefgh'[pair % 8]}" if pairs > 1 else name
    sign, color = ("+", _PLUS) if copy % 2 == 0 else ("-", _MINUS)
    return rf"${sign}\,e_{{{index}}}$", color


def _label_copies(ax: Axes, rows: list[_Band], columns: list[_Band], width: float, height: float) -> None:
    for axis, bands, length in ((ax.xaxis, columns, width), (ax.yaxis, rows, height)):
        axis.set_ticks([(band.start + band.size / 2) * length for band in bands])
        fused = any(band.part for band in bands)
        names = [f"{'abcdefgh'[band.part % 8] if fused else ''}{_COPY.get(band.copy, band.copy + 1)}" for band in bands]
        axis.set_ticklabels(names if len(bands) <= _MOST_LABELS else [""] * len(bands))
    ax.tick_params(length=0, labelsize=9, labelcolor=_FAINT, top=True, labeltop=True, bottom=False, labelbottom=False)
    ax.set_ylabel("output copy", size=9, color=_FAINT, labelpad=2)
    ax.set_xlabel("input copy", size=9, color=_FAINT, labelpad=2)
    ax.xaxis.set_label_position("top")
    for spine in ax.spines.values():
        spine.set_visible(False)


def _draw_layers(ax: Axes, plan: Plan) -> None:
    from matplotlib import colormaps
    from matplotlib.patches import FancyBboxPatch

    source, index = plan.source_totals.layers or max(plan.layer_index, default=0) + 1, plan.layer_index
    colors = colormaps["viridis"]
    tallest = max(source, len(index))
    ax.set_xlim(0, 10)
    ax.set_ylim(-0.06, 1.0)
    ax.axis("off")

    size = min(1 / tallest, 0.08)
    floor = 1 - tallest * size
    rank = [number / max(1, source - 1) for number in range(source)]

    def shade(number: int) -> tuple[float, ...]:
        return colors(0.12 + 0.76 * rank[number])

    def box(x: float, layer: int, count: int, number: int) -> float:
        middle = floor + (layer + 0.5) * size + (tallest - count) * size / 2
        style = f"round,pad=0,rounding_size={min(0.008, size / 4)}"
        ax.add_patch(
            FancyBboxPatch(
                (x, middle - 0.42 * size), 3, 0.84 * size, boxstyle=style, facecolor=shade(number), edgecolor="none"
            )
        )
        if tallest <= 48:
            ink = "white" if rank[number] < 0.65 else _INK
            ax.text(x + 1.5, middle, str(number), size=min(10, 300 / tallest), color=ink, ha="center", va="center")
        return middle

    left = [box(0, layer, source, layer) for layer in range(source)]
    for layer, number in enumerate(index):
        right = box(7, layer, len(index), number)
        ax.plot(
            [3.1, 4.4, 5.6, 6.9],
            [left[number], left[number], right, right],
            color=shade(number),
            linewidth=1,
            alpha=0.7,
        )
    ax.text(1.5, floor - 0.03, "source", size=10, color=_FAINT, ha="center", va="center")
    ax.text(8.5, floor - 0.03, "target", size=10, color=_FAINT, ha="center", va="center")
    rate = summarize(plan).connection_rate
    kept = "" if rate is None else f"{rate:.0%} of neighbors kept"
    for text, up, size, weight, color in (("layers", 50, 12, "bold", _INK), (kept, 34, 9.5, "normal", _FAINT)):
        ax.annotate(text, (0, 1), (0, up), "axes fraction", "offset points", size=size, weight=weight, color=color)


def _legend(shown: Sequence[_Matrix]) -> str:
    words = ["W: the source matrix."]
    tiles = [matrix.tile for matrix in shown]
    if any(tile.noise is not None and tile.noise.share is not None for tile in tiles):
        words.append("e, t: noise on the copies of an expert.")
    noisy = [tile for tile in tiles if tile.noise is not None and tile.n_in > 1]
    if any(tile.n_in != 3 for tile in noisy):
        words.append("e: noise, added to one copy of the input and taken from the next.")
    if any(tile.n_in % 2 for tile in noisy):
        words.append("t: noise on three copies of the input, with sum zero.")
    if noisy:
        words.append("Every output copy has noise of its own.")
    if any(len(axis.segments) > 1 for tile in tiles for axis in tile.axes):
        words.append("a, b, ...: the parts of a fused matrix.")
    if any(tile.sum_axis == 0 for tile in tiles):
        words.append(f"(transposed): stored as input{_TIMES}output.")
    return "  ".join(words)


def _draw_rest(ax: Axes, rows: Sequence[Row], legend: str, inches: float) -> None:
    ax.axis("off")
    ax.set_xlim(0, 1)
    ax.set_ylim(inches, 0)
    ax.text(0, 0.05, legend, size=9.5, color=_FAINT, va="center")
    ax.text(0, 0.42, "Everything else", size=12, weight="bold", color=_INK, va="center")
    for number, row in enumerate(rows[:_MOST_ROWS]):
        y = 0.72 + 0.26 * number
        shapes = f"{_TIMES.join(map(str, row.source_shape))}  →  {_TIMES.join(map(str, row.shape))}"
        times = f"{row.count}{_TIMES}" if row.count > 1 else ""
        for x, text, color in (
            (0, row.name, _INK),
            (0.43, times, _FAINT),
            (0.47, shapes, _FAINT),
            (0.68, row.rule, _INK),
        ):
            ax.text(x, y, text, size=9.5, color=color, va="center")
    if len(rows) > _MOST_ROWS:
        ax.text(
            0, 0.72 + 0.26 * _MOST_ROWS, f"and {len(rows) - _MOST_ROWS} more kinds", size=9.5, color=_FAINT, va="center"
        )
