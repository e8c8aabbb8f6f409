"""The interactive report of an explanation: one page that holds all of its data.

The page is `report.html` with the style of `report.css` and the behaviour of `report.js`; what it
shows is one JSON object, whose keys `Explanation.to_html` writes and `report.js` reads.
"""

import base64
import html
import json
from collections.abc import Mapping, Sequence
from importlib.resources import files

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from lxmert.explain.figures import encode_image
from lxmert.explain.maps import AttentionMaps
from lxmert.explain.relevance import Relevance
from lxmert.explain.text import printable

_MOST_PIXELS = 2_000_000
_MOST_BYTES = 1_000_000
"""Of an image without loss; a larger one is stored as JPEG."""

_STEPS = 65535
"""Steps in which an attention of 0 to 1 is stored."""

_FRAME_HEIGHT = 820
_INSTEAD = "lxmert-instead"

ABOUT = {
    "propagation": (
        "Relevance propagation",
        "Attention of every layer, weighted by what it does for this answer, carried from the "
        "inputs to the answer.",
    ),
    "attention": (
        "Raw attention",
        "What the last cross layer reads, the mean of its heads. This is attention, not "
        "importance: it is the same for every answer and cannot tell for from against.",
    ),
    "rollout": (
        "Attention rollout",
        "Attention multiplied through all layers. The same for every answer.",
    ),
    "gradcam": (
        "Attention GradCAM",
        "The last cross layer, each head weighted by its mean gradient. Often nothing at all "
        "where the model is sure.",
    ),
    "integrated_gradients": (
        "Integrated gradients",
        "What each input adds to the score of this answer, on the way from a blank one. Blue "
        "speaks against the answer.",
    ),
    "occlusion": (
        "Leaving out",
        "How much less probable this answer is without the region, or without the word. Blue "
        "speaks against the answer.",
    ),
}
"""Title and meaning of each method; a method that is not here goes by its name."""

_MAP_TITLES = {
    "language": ("Language: words read words", "words", "words"),
    "relationship": ("Relationship: regions read regions", "regions", "regions"),
    "text_over_regions": ("Cross: words read regions", "words", "regions"),
    "regions_over_text": ("Cross: regions read words", "regions", "words"),
    "text_over_text": ("Cross layers: words read words", "words", "words"),
    "regions_over_regions": ("Cross layers: regions read regions", "regions", "regions"),
}
"""Title, rows and columns of each kind of map."""


def fill_page(data: Mapping[str, object]) -> str:
    """Return the page with its data, which no text in them can end early.

    Halves of surrogate pairs, which no file can hold, are escaped as JSON does.
    """
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    text = text.encode("utf-8", "backslashreplace").decode()
    for sign in "<>&":  # inside of strings only, where an escape means the same
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    head, rest = _read("report.html").split("/* style */")
    body, rest = rest.split("/* data */")
    between, end = rest.split("/* behaviour */")
    parts = (head, _read("report.css"), body, text, between, _read("report.js"), end)
    return "".join(parts)


def frame_page(page: str, instead: str) -> str:
    """Return a page in a frame, so that its style and a notebook's do not meet.

    Args:
        page: HTML.
        instead: HTML without scripts, which is hidden by a style. A notebook that is not trusted
            shows neither frames nor styles, so that this is left.
    """
    return (
        f"<style>.{_INSTEAD} {{ display: none }}</style>"
        f'<div class="{_INSTEAD}">{instead}</div>'
        f'<iframe srcdoc="{html.escape(page)}" title="Explanation" sandbox="allow-scripts" '
        f'style="width:100%;height:{_FRAME_HEIGHT}px;border:0"></iframe>'
    )


def pack_image(pixels: npt.NDArray[np.uint8]) -> dict[str, object]:
    """Return an image as a data address, with the size in which its boxes are given.

    Args:
        pixels: `[height, width, 3]` RGB; a larger one than the page can show is made smaller.

    Returns:
        `source`, and `width` and `height` of the original.
    """
    height, width = pixels.shape[:2]
    image = Image.fromarray(pixels)
    scale = (_MOST_PIXELS / (height * width)) ** 0.5
    if scale < 1:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        image = image.resize(size, Image.Resampling.LANCZOS)
    encoded, kind = encode_image(image, ".png", optimize=True), "png"
    if len(encoded) > _MOST_BYTES:
        encoded, kind = encode_image(image, ".jpg", quality=92), "jpeg"
    return {"source": _data_address(encoded, kind), "width": width, "height": height}


def static_page(image: Image.Image, title: str, rows: Sequence[Sequence[str]]) -> str:
    """Return an image and a table as HTML that needs neither scripts nor styles.

    Args:
        image: is stored as JPEG.
        title: describes the image.
        rows: of the table, whose first are the names of the columns.
    """
    source = _data_address(encode_image(image, ".jpg", quality=88), "jpeg")
    head, *body = (
        "".join(f"<{cell}>{html.escape(printable(text))}</{cell}>" for text in row)
        for cell, row in zip(["th", *["td"] * len(rows[1:])], rows, strict=True)
    )
    lines = "".join(f"<tr>{row}</tr>" for row in (head, *body))
    return f'<img src="{source}" alt="{html.escape(printable(title))}"><table>{lines}</table>'


def pack_methods(by_method: Mapping[str, Relevance]) -> list[dict[str, object]]:
    """Return each method with its scores, and how it is called.

    Returns:
        `name`, `title`, `about`, `words` and `regions`, each a list of scores for each answer, or
        for all answers together where they are alike.
    """
    packed: list[dict[str, object]] = []
    for name, relevance in by_method.items():
        title, about = ABOUT.get(name, (name, ""))
        packed.append(
            {
                "name": name,
                "title": title,
                "about": about,
                "words": _pack_scores(relevance.words),
                "regions": _pack_scores(relevance.regions),
            }
        )
    return packed


def pack_maps(maps: AttentionMaps) -> list[dict[str, object]]:
    """Return the maps of a single question by kind.

    Returns:
        `name`, `title`, `rows` and `columns` (`words` or `regions`), `layers`, `heads`, and
        `values`: `[layers, heads, rows, columns]` in steps of 1/65535, little-endian, in base64.
        Kinds without a layer are left out.
    """
    packed: list[dict[str, object]] = []
    for name, layers in maps.kinds().items():
        if not layers:
            continue
        values = torch.cat(layers).float().cpu().numpy()  # [layers, heads, rows, columns]
        steps = np.rint(values.clip(0, 1) * _STEPS).astype("<u2")
        title, rows, columns = _MAP_TITLES[name]
        packed.append(
            {
                "name": name,
                "title": title,
                "rows": rows,
                "columns": columns,
                "layers": values.shape[0],
                "heads": values.shape[1],
                "values": base64.b64encode(steps.tobytes()).decode(),
            }
        )
    return packed


def _pack_scores(scores: Tensor) -> list[list[float]]:
    """Return scores to five digits, `[answers, length]` or `[1, length]`."""
    rows = scores[:1] if bool((scores == scores[:1]).all()) else scores
    return [[float(f"{score:.5g}") for score in row] for row in rows.tolist()]


def _data_address(encoded: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(encoded).decode()}"


def _read(name: str) -> str:
    """Return a file of the package."""
    return files("lxmert.explain").joinpath(name).read_text(encoding="utf-8")
