"""An explanation as a value: its packed data, its figure, and its errors."""

import base64
import json
import re
import sys
import warnings
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from explanations import BOXES, make_explanation
from PIL import Image

from lxmert.explain.explanation import Word
from lxmert.explain.plots import check_plot, save_plot
from lxmert.explain.relevance import Relevance
from lxmert.explain.report import fill_page, pack_image, pack_methods
from lxmert.regions.cells import cell_boxes, cell_labels

EXPLANATION = make_explanation()


def data(page: str) -> dict:  # type: ignore[type-arg]
    (text,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)
    found: dict = json.loads(text)  # type: ignore[type-arg]
    return found


def test_the_page_holds_exactly_what_was_found() -> None:
    found = data(EXPLANATION.to_html())
    assert found["question"] == EXPLANATION.question
    assert [region["box"] for region in found["regions"]] == BOXES
    assert [answer["text"] for answer in found["answers"]] == ["black", "red", "mug"]
    for method in found["methods"]:
        relevance = EXPLANATION.by_method[method["name"]]
        for side in ("words", "regions"):
            expected = getattr(relevance, side).numpy()
            shown = np.broadcast_to(method[side], expected.shape)
            np.testing.assert_allclose(shown, expected, rtol=1e-4, atol=1e-12)
    for packed in found["maps"]:
        layers = torch.cat(EXPLANATION.maps.kinds()[packed["name"]]).numpy()
        steps = np.frombuffer(base64.b64decode(packed["values"]), "<u2").reshape(layers.shape)
        np.testing.assert_allclose(steps / 65535, layers, atol=1e-5)
        assert (packed["layers"], packed["heads"]) == layers.shape[:2]


def test_scores_that_are_alike_for_all_answers_are_stored_once() -> None:
    packed = {method["name"]: method for method in pack_methods(EXPLANATION.by_method)}
    assert len(packed["attention"]["regions"]) == 1
    assert len(packed["propagation"]["regions"]) == 3


def test_a_method_of_ones_own_goes_by_its_name() -> None:
    (packed,) = pack_methods({"mine": Relevance(torch.ones(1, 2), torch.ones(1, 3))})
    assert (packed["title"], packed["about"]) == ("mine", "")


def test_no_text_can_end_the_data_or_fill_another_place() -> None:
    texts = ["</script>", "<!--", "]]>", "/* behavior */", "/* style */", "\u2028", '"\\', "&lt;"]
    page = fill_page({"texts": texts})
    assert data(page) == {"texts": texts}
    assert page.count("</script>") == fill_page({}).count("</script>")
    with pytest.raises(ValueError, match="JSON"):
        fill_page({"score": float("nan")})


HOSTILE = [
    "</script><b>'\"&",
    "\x1b[31mred\x07",
    "lone \udc80 half",
    "nul\x00",
    "a\nb\tc",
    "\u202eabc",
]


@pytest.mark.long
@pytest.mark.parametrize("text", HOSTILE)
def test_texts_of_any_kind_are_kept_in_the_page_and_written_in_figures(
    text: str, tmp_path: Path
) -> None:
    """Bug: unpaired surrogates could not be written; an SVG with ESC could not be read."""
    hostile = make_explanation(words=text, answers=(text, "no"), label=text)
    page = hostile.to_html()
    assert "\x1b" not in page
    (tmp_path / "r.html").write_text(page, encoding="utf-8")
    found = data(page)
    assert (found["question"], found["answers"][0]["text"]) == (text, text)
    assert found["regions"][0]["label"] == f"{text} 1"
    hostile.draw()
    save_plot(hostile.plot(), tmp_path / "f.svg")
    ElementTree.parse(tmp_path / "f.svg")
    shown = hostile._repr_html_()
    assert shown.encode("utf-8")
    assert shown.count("</script>") == 0


def test_where_frames_and_styles_are_not_shown_an_image_and_a_table_are() -> None:
    """Bug: in an untrusted notebook, the explanation was an empty cell."""
    shown = replace(EXPLANATION, question="<i>Why?</i>")._repr_html_()
    left = re.sub(r"<style>.*?</style>|<iframe.*?</iframe>", "", shown, flags=re.S)
    assert "<script" not in left
    (source,) = re.findall(r'<img src="data:image/jpeg;base64,([^"]+)" alt="&lt;i', left)
    with Image.open(BytesIO(base64.b64decode(source))) as image:
        assert image.size == EXPLANATION.draw().size
    assert re.findall(r"<tr><td>(.*?)</td><td>(.*?)</td>", left) == [
        ("black", "60.0%"), ("red", "30.0%"), ("mug", "20.0%"),
    ]  # fmt: skip
    assert len(left) < 200_000


def test_reasons_name_only_what_speaks_for_an_answer() -> None:
    words = torch.zeros(3, len(EXPLANATION.words))
    words[0, 2] = 0.5
    regions = -torch.ones(3, len(BOXES))
    regions[1, 3] = 0.1
    page = replace(EXPLANATION, by_method={"occlusion": Relevance(words, regions)})
    assert [named for _, *named in page.reasons()] == [
        [None, "color"], ["small black metal ball 4", None], [None, None],
    ]  # fmt: skip


@pytest.mark.parametrize("shape", [(1, 1), (30, 5000), (120, 160)])
def test_small_images_are_stored_without_loss(shape: tuple[int, int]) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (*shape, 3)).astype(np.uint8)
    packed = pack_image(pixels)
    kind, _, encoded = str(packed["source"]).partition(";base64,")
    stored = np.asarray(Image.open(BytesIO(base64.b64decode(encoded))))
    assert kind == "data:image/png"
    assert np.array_equal(stored, pixels)
    assert (packed["height"], packed["width"]) == shape


def test_large_images_are_stored_smaller_with_the_size_of_their_boxes() -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (3000, 4000, 3)).astype(np.uint8)
    packed = pack_image(pixels)
    assert (packed["height"], packed["width"]) == (3000, 4000)
    assert str(packed["source"]).startswith("data:image/jpeg")
    assert len(str(packed["source"])) < 3e6


@pytest.mark.parametrize("ending", ["png", "pdf", "svg"])
def test_the_figure_is_written_in_formats_of_papers(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"figure.{ending}"
    check_plot(path)
    save_plot(EXPLANATION.plot("occlusion"), path)
    start = {"png": b"\x89PNG", "pdf": b"%PDF", "svg": b"<?xml"}[ending]
    assert path.read_bytes().startswith(start)
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]
    if ending == "svg":  # text stays text
        written = path.read_text()
        assert "What" in written
        assert "black (60.0%), occlusion" in written


def test_the_figure_shades_the_most_relevant_region_at_its_place() -> None:
    image = np.full((120, 160, 3), 90, dtype=np.uint8)
    regions = torch.zeros(3, len(BOXES))
    regions[:, 1] = 0.7
    one = Relevance(EXPLANATION.by_method["attention"].words, regions)
    figure = replace(EXPLANATION, image=image, by_method={"attention": one}).plot()
    figure.canvas.draw()
    pixels = np.asarray(figure.canvas.buffer_rgba())[..., :3].astype(float)
    height, width = pixels.shape[:2]

    def at(x: float, y: float) -> list[float]:
        return list(pixels[round(height * y / 120), round(width * x / 160)])

    assert at(120, 40) == pytest.approx(0.78 * 90 + 0.22 * np.array([255, 157, 0]), abs=3)
    assert at(40, 55) == pytest.approx([90] * 3, abs=2)
    assert at(140, 55) == pytest.approx([255, 157, 0], abs=40)


def test_many_regions_on_each_other_let_the_image_be_seen_in_the_figure() -> None:
    """Bug: the shades of 36 equally relevant regions added up and hid the image."""
    image = np.zeros((120, 160, 3), dtype=np.uint8)
    image[:, 80:] = 255
    boxes = [[2.0 + i, 2.0 + i, 120 + i, 84 + i] for i in range(36)]
    alike = Relevance(EXPLANATION.by_method["attention"].words, torch.ones(3, 36))
    many = make_explanation(boxes=boxes, label="")
    figure = replace(many, image=image, by_method={"attention": alike}).plot()
    figure.canvas.draw()
    pixels = np.asarray(figure.canvas.buffer_rgba())[..., :3].astype(float)
    row = pixels[round(len(pixels) * 0.6)]
    dark, bright = (row[round(len(row) * x / 160)] for x in (78, 82))
    assert (bright - dark).min() > 0.4 * 255


@pytest.mark.long
@pytest.mark.parametrize("shape", [(1, 1), (30, 5000), (5000, 30)])
def test_a_figure_of_any_image_and_signs_of_formulas(
    shape: tuple[int, int], tmp_path: Path
) -> None:
    words = "what costs $5 and $6_x^2? " * 6
    odd = make_explanation(shape=shape, boxes=[[0, 0, shape[1], shape[0]]], words=words, label="$")
    save_plot(odd.plot(), tmp_path / "f.png")
    with Image.open(tmp_path / "f.png") as drawn:
        assert max(drawn.size) < 3000


def test_names_in_the_figure_hide_neither_each_other_nor_what_stands_above() -> None:
    """Bug: the name of a region at the upper edge overlapped the answer, and names overlapped."""
    boxes = [[0.0, 0, 160, 120], [5, 3, 50, 50], [90, 2, 150, 60], [8, 60, 80, 100]]
    alike = Relevance(EXPLANATION.by_method["attention"].words, torch.ones(3, 4))
    figure = replace(make_explanation(boxes=boxes), by_method={"attention": alike}).plot()
    figure.canvas.draw()
    names = [text for text in figure.axes[0].texts if text.get_text()]
    assert 2 <= len(names) < 4
    edge = [text.get_bbox_patch().get_window_extent() for text in names]  # type: ignore[union-attr]
    others = [text.get_window_extent() for text in figure.texts]
    for number, place in enumerate(edge):
        assert not any(place.overlaps(other) for other in (*edge[:number], *others))


@pytest.mark.long
@pytest.mark.parametrize("grid", [(2, 3), (7, 7), (14, 14)])
def test_names_of_cells_stand_inside_of_them_in_the_figure(grid: tuple[int, int]) -> None:
    """Bug: `cell 2,1` was written above its cell, in row 1: rows seemed to be off by one."""
    boxes = cell_boxes(*grid) * np.array([160, 120, 160, 120], dtype=np.float32)
    scores = torch.zeros(3, len(boxes))
    scores[:, [0, grid[1] + 1, len(boxes) - 1]] = torch.tensor([0.9, 0.8, -0.7])
    one = Relevance(EXPLANATION.by_method["attention"].words, scores)
    many = make_explanation(boxes=boxes.tolist())
    figure = replace(many, labels=cell_labels(boxes), by_method={"attention": one}).plot()
    figure.canvas.draw()
    axes = figure.axes[0]
    names = {text.get_text().replace("\n", " "): text for text in axes.texts}
    assert set(names) == {"cell 1,1", "cell 2,2", f"cell {grid[0]},{grid[1]}"}
    for label, box in zip(cell_labels(boxes), boxes.tolist(), strict=True):
        if label in names:
            place = names[label].get_bbox_patch().get_window_extent()  # type: ignore[union-attr]
            (x1, y1), (x2, y2) = axes.transData.transform([(box[0], box[3]), (box[2], box[1])])
            assert x1 - 0.5 <= place.x0 < place.x1 <= x2 + 0.5
            assert y1 - 0.5 <= place.y0 < place.y1 <= y2 + 0.5


def test_a_long_name_in_the_figure_is_cut_at_its_end_and_stays_in_the_image() -> None:
    alike = Relevance(EXPLANATION.by_method["attention"].words, torch.ones(3, 1))
    long = make_explanation(boxes=[[100, 30, 150, 80]], label="large and red " * 12)
    figure = replace(long, by_method={"attention": alike}).plot()
    figure.canvas.draw()
    (name,) = figure.axes[0].texts
    place, frame = name.get_window_extent(), figure.axes[0].get_window_extent()
    assert name.get_text().startswith("large and red")
    assert name.get_text().endswith("...")
    assert frame.x0 - 1 <= place.x0 < place.x1 <= frame.x1 + 1


def test_what_cannot_be_plotted_is_said_with_what_can(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        ValueError, match="method 'lime' was not computed, expected one of propagation, attention"
    ):
        EXPLANATION.plot("lime")
    with pytest.raises(ValueError, match=r"out\.xyz has no figure suffix: use out\.pdf"):
        check_plot(Path("out.xyz"))
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install matplotlib"):
        EXPLANATION.plot()


@pytest.mark.parametrize("name", ["f.png", "f.pdf", "f.svg"])
def test_characters_without_a_glyph_are_one_warning(tmp_path: Path, name: str) -> None:
    """Bug: matplotlib warned about every character of a Chinese question, one line each."""
    words = [Word(sign, "word", joined=False) for sign in "这是什么"]
    strange = replace(EXPLANATION, words=[*words, *EXPLANATION.words[len(words) :]])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        save_plot(strange.plot(), tmp_path / name)
    assert [str(each.message) for each in caught] == [
        "the figure font lacks 4 characters, such as '这': boxes are drawn instead"
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        save_plot(EXPLANATION.plot(), tmp_path / name)
