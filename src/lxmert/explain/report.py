"""The interactive report of an explanation: one page with all of its data.

The page is `report.html` with the style of `report.css` and the behavior of `report_states.js` and
`report.js`. Its data are one JSON object with keys written by `Explanation.to_html` and read by
`report.js`.
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
from lxmert.explain.projection import Projection
from lxmert.explain.relevance import Relevance
from lxmert.explain.text import printable

_MOST_PIXELS = 2_000_000
_MOST_BYTES = 1_000_000
"""Size limit of a lossless image in bytes; a larger one is stored as JPEG."""

_STEPS = 65535
"""Number of steps into which attention from 0 to 1 is quantized."""

_FRAME_HEIGHT = 820
_INSTEAD = "lxmert-instead"

ABOUT = {
    "propagation": (
        "Relevance propagation",
        "Attention of all layers, weighted by its gradient for this answer and propagated to the "
        "input.",
    ),
    "attention": (
        "Raw attention",
        "Attention of [CLS] in the last cross layer, averaged over heads. This is not importance: "
        "it is the same for every answer and does not show evidence against an answer.",
    ),
    "rollout": (
        "Attention rollout",
        "Attention multiplied through all layers. The same for every answer.",
    ),
    "gradcam": (
        "Attention GradCAM",
        "Attention in the last cross layer, each head weighted by its mean gradient. Often zero if "
        "the model is confident.",
    ),
    "attnlrp": (
        "AttnLRP",
        "The score of this answer, distributed backwards over all layers to the input. Blue: "
        "evidence against the answer.",
    ),
    "value_zeroing": (
        "Value zeroing",
        "How much the state that is read for the answer changes, layer by layer, if a position "
        "cannot be read. The same for every answer.",
    ),
    "integrated_gradients": (
        "Integrated gradients",
        "Contribution of each input to the score of this answer, integrated from a blank input. "
        "Blue: evidence against the answer.",
    ),
    "occlusion": (
        "Occlusion",
        "Decrease in the probability of this answer without the region or word. Blue: evidence "
        "against the answer.",
    ),
    "shapley": (
        "Shapley values",
        "Mean contribution of each region and word to the probability of this answer, over all "
        "sets of the others. Blue: evidence against the answer.",
    ),
}
"""Title and description of each method; other methods are shown by name."""

_MAP_TITLES = {
    "language": ("Language: words attend to words", "words", "words"),
    "relationship": ("Relationship: regions attend to regions", "regions", "regions"),
    "text_over_regions": ("Cross: words attend to regions", "words", "regions"),
    "regions_over_text": ("Cross: regions attend to words", "regions", "words"),
    "text_over_text": ("Cross layers: words attend to words", "words", "words"),
    "regions_over_regions": ("Cross layers: regions attend to regions", "regions", "regions"),
}
"""Title, rows and columns of each kind of map."""


SCRIPTS = ("report_states.js", "report.js")
"""The behavior of the page, in order."""


def fill_page(data: Mapping[str, object]) -> str:
    """Insert data into the page so that no text in them can break out of it.

    Unpaired surrogates, which files cannot store, are escaped as in JSON.
    """
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    text = text.encode("utf-8", "backslashreplace").decode()
    for sign in "<>&":  # these only occur in strings, where an escape means the same
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    head, rest = _read("report.html").split("/* style */")
    body, rest = rest.split("/* data */")
    between, end = rest.split("/* behavior */")
    parts = (head, _read("report.css"), body, text, between, *map(_read, SCRIPTS), end)
    return "".join(parts)


def frame_page(page: str, instead: str) -> str:
    """Return a page in a frame, so that its style does not affect the notebook.

    Args:
        page: HTML.
        instead: HTML without scripts, which a style hides. A notebook that is not trusted shows
            neither frames nor styles, so it shows this instead.
    """
    return (
        f"<style>.{_INSTEAD} {{ display: none }}</style>"
        f'<div class="{_INSTEAD}">{instead}</div>'
        f'<iframe srcdoc="{html.escape(page)}" title="Explanation" sandbox="allow-scripts" '
        f'style="width:100%;height:{_FRAME_HEIGHT}px;border:0"></iframe>'
    )


def pack_image(pixels: npt.NDArray[np.uint8]) -> dict[str, object]:
    """Return an image as a data URL with the original size, to which its boxes refer.

    Args:
        pixels: `[height, width, 3]` RGB; scaled down if larger than the page can show.

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
    """Return an image and a table as HTML without scripts and styles.

    Args:
        image: stored as JPEG.
        title: alternative text of the image.
        rows: table rows; the first one has the column names.
    """
    source = _data_address(encode_image(image, ".jpg", quality=88), "jpeg")
    head, *body = (
        "".join(f"<{cell}>{html.escape(printable(text))}</{cell}>" for text in row)
        for cell, row in zip(["th", *["td"] * len(rows[1:])], rows, strict=True)
    )
    lines = "".join(f"<tr>{row}</tr>" for row in (head, *body))
    return f'<img src="{source}" alt="{html.escape(printable(title))}"><table>{lines}</table>'


def pack_methods(by_method: Mapping[str, Relevance]) -> list[dict[str, object]]:
    """Return each method with its scores and descriptions.

    Returns:
        `name`, `title`, `about`, `words` and `regions`; the last two have a list of scores for
        each answer, or a single one if the scores do not depend on the answer.
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
        Kinds without layers are omitted.
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


def pack_states(states: Sequence[Projection]) -> list[dict[str, object]]:
    """Return `title`, `words` and `regions` (`[length, 2]`), and `shown` of each projection."""
    return [
        {
            "title": each.title,
            "words": each.words.round(3).astype(float).tolist(),
            "regions": each.regions.round(3).astype(float).tolist(),
            "shown": round(each.shown, 3),
        }
        for each in states
    ]


def _pack_scores(scores: Tensor) -> list[list[float]]:
    """Return scores rounded to five digits, `[answers, length]` or `[1, length]`."""
    rows = scores[:1] if bool((scores == scores[:1]).all()) else scores
    return [[float(f"{score:.5g}") for score in row] for row in rows.tolist()]


def _data_address(encoded: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(encoded).decode()}"


def _read(name: str) -> str:
    """Return a file of the package."""
    return files("lxmert.explain").joinpath(name).read_text(encoding="utf-8")
