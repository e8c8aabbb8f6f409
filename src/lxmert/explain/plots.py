"""Matplotlib figures for papers: explanations, perturbation curves, attention patterns."""

import io
import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from lxmert.explain.cells import are_cells
from lxmert.explain.pointing import centers_inside
from lxmert.explain.text import percent, printable
from lxmert.files import write_bytes
from lxmert.names import count
from lxmert.schema import Answer, FloatArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.text import Text
    from matplotlib.transforms import BboxBase

_FOR, _AGAINST = "#ff9d00", "#2f7df6"
_SOFT = "#596069"
_LEAST = 0.25
"""Fraction of the highest relevance from which a region is named."""

_MOST_NAMED = 3

_TINT, _MOST_LAYERS = 0.22, 3
"""Opacity of full relevance, and the number of overlapping layers above which it is reduced."""

_WIDTH, _LINE, _GAP = 4.0, 0.26, 0.08
"""Height of a line of words and gap between words in a plotted explanation, in inches."""

_FONT = 7
"""Font size of a region's name."""

_TAG, _TAG_EDGE = 0.16, 0.025
"""Height of a region's name and of its border, in inches."""


_NO_GLYPH = r"Glyph (\d+) .*missing from"
"""Pattern of matplotlib's warnings for missing glyphs, which it repeats many times."""


def check_plot(path: Path) -> None:
    """Check that a plot can be saved before anything is computed for it.

    Raises:
        ValueError: if the suffix is not a figure format.
        ModuleNotFoundError: without matplotlib.
    """
    known = new_figure(1, 1).canvas.get_supported_filetypes()
    if path.suffix.lower().removeprefix(".") not in known:
        raise ValueError(f"{path} has no figure suffix: use {path.stem or 'out'}.pdf, .png or .svg")


def save_plot(figure: "Figure", path: Path) -> None:
    """Save a plot atomically in the format of its suffix."""
    kind = path.suffix.lower().removeprefix(".")
    from matplotlib import rc_context

    buffer = io.BytesIO()
    with (
        rc_context({"pdf.fonttype": 42, "svg.fonttype": "none"}),  # keep text as text
        warnings.catch_warnings(record=True) as caught,
    ):
        warnings.filterwarnings("always", _NO_GLYPH)
        figure.savefig(buffer, format=kind, dpi=150, bbox_inches="tight")
    write_bytes(path, buffer.getvalue())
    _warn_once(caught)


def _warn_once(caught: Sequence[warnings.WarningMessage]) -> None:
    """Warn once about all missing glyphs, and pass other warnings on."""
    found = [(re.match(_NO_GLYPH, str(each.message)), each) for each in caught]
    signs = list(dict.fromkeys(chr(int(match[1])) for match, _ in found if match))
    if signs:
        warnings.warn(
            f"the figure font lacks {count(len(signs), 'character')}, such as {signs[0]!r}: boxes "
            "are drawn instead",
            stacklevel=3,
        )
    for match, each in found:
        if match is None:
            warnings.warn_explicit(each.message, each.category, each.filename, each.lineno)


def plot_explanation(
    pixels: npt.NDArray[np.uint8],
    *,
    words: Sequence[str],
    word_relevance: Sequence[float],
    boxes: FloatArray,
    labels: Sequence[str],
    region_relevance: Sequence[float],
    answer: Answer,
    method: str,
) -> "Figure":
    """Plot an image with shaded regions below its question with shaded words.

    Args:
        pixels: `[height, width, 3]` uint8 RGB.
        words: word pieces.
        word_relevance: score of each word piece; scaled by the highest magnitude, negative scores
            in blue.
        boxes: `[regions, 4]` in pixels of the image.
        labels: name of each region; those of the most relevant are written.
        region_relevance: score of each region, shown in the same way.
        answer: the explained answer.
        method: the relevance method.
    """
    height, width = pixels.shape[:2]
    inches = min(2 * _WIDTH, max(0.3, _WIDTH * height / width))
    figure = new_figure(_WIDTH, inches)
    image = figure.add_axes((0, 0, 1, 1))
    image.imshow(pixels, extent=(0, width, height, 0), aspect="auto")
    image.set(xlim=(0, width), ylim=(height, 0))
    image.axis("off")
    reported = f"{printable(answer.answer)} ({percent(answer.score)}), {method.replace('_', ' ')}"
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", _NO_GLYPH)  # `save_plot` warns
        names = [printable(label) for label in labels]
        _plot_regions(image, boxes, names, _scale(region_relevance))
        lines = _write_words(figure, [printable(word) for word in words], _scale(word_relevance))
    # Above the image: the margins grow with the content when the figure is saved.
    figure.text(0, 1 + 0.08 / inches, reported, color=_SOFT, fontsize=9, va="bottom")
    for number, line in enumerate(reversed(lines)):
        for text in line:
            text.set_y(1 + (0.38 + _LINE * number) / inches)
    return figure


def plot_curves(
    shares: Sequence[float], curves: Mapping[tuple[str, str], Mapping[str, FloatArray]]
) -> "Figure":
    """Plot accuracy against the removed fraction.

    Args:
        shares: removed fractions in `[0, 1]`.
        curves: by modality and direction, then by method `[seeds, shares]` accuracies in
            `[0, 1]`; a band shows the range over seeds.
    """
    figure = new_figure(8.0, 6.4)
    for number, ((modality, direction), by_method) in enumerate(curves.items(), start=1):
        axes = figure.add_subplot(2, 2, number)
        for index, (method, accuracies) in enumerate(by_method.items()):
            chance = method == "random"
            color = "#1c1e22" if chance else f"C{index}"
            style: dict[str, Any] = {
                "color": color,
                "linestyle": "--" if chance else "-",
                "linewidth": 1.6,
            }
            axes.plot(shares, 100 * accuracies.mean(axis=0), label=method, **style)
            low, high = 100 * accuracies.min(axis=0), 100 * accuracies.max(axis=0)
            axes.fill_between(shares, low, high, color=color, alpha=0.15, linewidth=0)
        first = "most" if direction == "positive" else "least"
        better = "lower" if direction == "positive" else "higher"
        axes.set_title(f"{modality}: {first} relevant first ({better} is better)", fontsize=9)
        axes.spines[["top", "right"]].set_visible(False)
        axes.set(xlabel="share removed", ylabel="accuracy (%)", xlim=(0, 1), ylim=(0, 100))
    figure.axes[0].legend(frameon=False, fontsize=8)
    figure.set_layout_engine("constrained")
    return figure


def plot_heads(
    patterns: Mapping[str, npt.NDArray[np.float64]], titles: Mapping[str, str]
) -> "Figure":
    """Plot each head's attention share for each pattern, as grids of layers and heads.

    Args:
        patterns: `[layers, heads]` shares in `[0, 1]`, by name.
        titles: by the same names.
    """
    columns = 3
    rows = -(-len(patterns) // columns)
    figure = new_figure(9.0, 2.6 * rows)
    for number, (name, shares) in enumerate(patterns.items(), start=1):
        axes = figure.add_subplot(rows, columns, number)
        axes.imshow(100 * shares, cmap="BuGn", vmin=0, vmax=100, aspect="auto")
        axes.set_title(titles[name], fontsize=9)
        layers, heads = shares.shape
        axes.set_xticks(range(heads), [str(head + 1) for head in range(heads)])
        axes.set_yticks(range(layers), [str(layer + 1) for layer in range(layers)])
        axes.set(xlabel="head", ylabel="layer")
        for layer, head in np.ndindex(layers, heads):
            share = 100 * shares[layer, head]
            shade = "white" if share > 65 else "#1c1e22"
            axes.text(
                head, layer, f"{share:.0f}", ha="center", va="center", color=shade, fontsize=7
            )
    figure.suptitle("Share of each head's attention (%), averaged over queries", fontsize=11)
    figure.set_layout_engine("constrained")
    return figure


def _scale(relevance: Sequence[float]) -> list[float]:
    """Scale so that the highest magnitude is 1."""
    most = max((abs(score) for score in relevance), default=0.0) or 1.0
    return [score / most for score in relevance]


def _plot_regions(
    axes: "Axes", boxes: FloatArray, labels: Sequence[str], relevance: Sequence[float]
) -> None:
    """Draw all boxes and name the most relevant ones."""
    from matplotlib.patches import Rectangle

    # At full opacity, many overlapping regions would hide the image.
    layers = (centers_inside(boxes, boxes) @ np.abs(relevance)).max(initial=0)
    tint = _TINT * _MOST_LAYERS / max(_MOST_LAYERS, layers)
    order = sorted(range(len(labels)), key=lambda index: -abs(relevance[index]))
    for index in reversed(order):
        x1, y1, x2, y2 = boxes[index].tolist()
        color, share = _FOR if relevance[index] >= 0 else _AGAINST, abs(relevance[index])
        strong = share >= _LEAST
        for fill, alpha in ((True, tint * share), (False, 1.0 if strong else 0.6)):
            edge = {"edgecolor": color if strong else "white", "linewidth": 1.6 if strong else 0.6}
            paint: dict[str, Any] = (
                {"facecolor": color, "linewidth": 0} if fill else {"fill": False, **edge}
            )
            axes.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, alpha=alpha, **paint))
    named = [index for index in order[:_MOST_NAMED] if abs(relevance[index]) >= _LEAST]
    size = (round(axes.get_ylim()[0]), round(axes.get_xlim()[1]))
    name = _name_cells if are_cells(boxes, size) else _name_regions
    name(axes, boxes[named], [labels[index] for index in named])


def _tag(axes: "Axes", label: str, **style: object) -> "Text":
    """Create a name on a dark background, not yet positioned."""
    edge = {"facecolor": "#1c1e22", "edgecolor": "none", "pad": 72 * _TAG_EDGE}
    settings: dict[str, Any] = {"color": "white", "bbox": edge, "parse_math": False, **style}
    return axes.text(0, 0, label, **settings)


def _name_cells(axes: "Axes", boxes: FloatArray, labels: Sequence[str]) -> None:
    """Write names inside their cells, smaller or in several lines if necessary."""
    figure = axes.get_figure(root=True)
    assert figure is not None
    edge = _TAG_EDGE * figure.dpi
    for box, label in zip(boxes.tolist(), labels, strict=True):
        (x1, bottom), (x2, top) = axes.transData.transform([(box[0], box[3]), (box[2], box[1])])
        room = np.array([x2 - x1, top - bottom]) - 4 * edge
        sizes = {
            lines: min(1.0, *(room / _tag_size(axes, lines)))
            for lines in (label, label.replace(" ", "\n"))
        }
        lines = max(sizes, key=lambda each: sizes[each])
        if sizes[lines] > 0:
            text = _tag(axes, lines, fontsize=_FONT * sizes[lines], ha="left", va="top")
            x, y = axes.transData.inverted().transform((x1 + 2 * edge, top - 2 * edge)).tolist()
            text.set_position((x, y))


def _tag_size(axes: "Axes", label: str) -> npt.NDArray[np.float64]:
    """Return width and height of a name in pixels, without its border."""
    text = _tag(axes, label, fontsize=_FONT)
    place = text.get_window_extent()
    text.remove()
    return np.array([max(place.width, 1), max(place.height, 1)])


def _shorten(axes: "Axes", label: str) -> str:
    """Truncate a name to the width of the image."""
    room = axes.get_window_extent().width - 8
    shown, length = label, len(label)
    while length and _tag_size(axes, shown)[0] > room:
        length -= 1
        shown = f"{label[:length].rstrip()}..."
    return shown


def _name_regions(axes: "Axes", boxes: FloatArray, labels: Sequence[str]) -> None:
    """Write the names of boxes, the most relevant first, where they overlap no other name."""
    figure = axes.get_figure(root=True)
    assert figure is not None
    width, height = axes.get_xlim()[1], axes.get_ylim()[0]
    inch = height / figure.get_figheight()
    taken: list[BboxBase] = []
    for (x1, y1, x2, _), label in zip(boxes.tolist(), labels, strict=True):
        side, x = ("right", x2) if x1 > 0.6 * width else ("left", x1)
        above = y1 > _TAG * inch  # otherwise it would overlap the text above the image
        y, end = (y1, "bottom") if above else (y1 + _TAG_EDGE * inch, "top")
        text = _tag(axes, _shorten(axes, label), fontsize=_FONT, ha=side, va=end)
        text.set_position((x, y))
        frame, extent = axes.get_window_extent(), text.get_window_extent()
        shift = max(frame.x0 - extent.x0, 0) + min(frame.x1 - extent.x1, 0)
        text.set_x(x + shift * width / frame.width)
        place = text.get_window_extent().padded(_TAG_EDGE * figure.dpi)
        if any(place.overlaps(other) for other in taken):
            text.remove()
        else:
            taken.append(place)


def _write_words(
    figure: "Figure", words: Sequence[str], relevance: Sequence[float]
) -> list[list["Text"]]:
    """Write shaded words in lines; return the lines, which are not yet placed vertically."""
    from matplotlib.colors import to_rgba

    lines: list[list[Text]] = [[]]
    x = _GAP
    for word, score in zip(words, relevance, strict=True):
        shade = to_rgba(_FOR if score >= 0 else _AGAINST, 0.75 * abs(score))
        box = {"facecolor": shade, "edgecolor": "none", "pad": 2.2}
        size = 7 if word in ("[CLS]", "[SEP]") else 11
        text = figure.text(0, 1, word, fontsize=size, bbox=box, parse_math=False)
        inches = text.get_window_extent().width / figure.dpi
        if x + inches > _WIDTH and lines[-1]:
            lines.append([])
            x = _GAP
        text.set_x(x / _WIDTH)
        lines[-1].append(text)
        x += inches + _GAP
    return lines


def new_figure(width: float, height: float) -> "Figure":
    """Return an empty figure of a size in inches, without a window."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "plots need matplotlib, which is not installed: run pip install matplotlib"
        ) from error
    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    return figure
