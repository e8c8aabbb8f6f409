"""Drawings show all regions and answers, wherever the boxes are."""

import numpy as np
import pytest

from lxmert.explain import figures
from lxmert.explain.figures import draw_answer
from lxmert.regions.cells import cell_boxes
from lxmert.schema import Answer

ANSWERS = [Answer("yellow", 0.9), Answer("no", 0.004)]


def draw(boxes: list[list[float]], relevance: list[float], shape: tuple[int, int] = (120, 160)):  # type: ignore[no-untyped-def]
    return np.asarray(
        draw_answer(
            np.full((*shape, 3), 90, dtype=np.uint8),
            question="What color is the rather long thing behind the mug?",
            answers=ANSWERS,
            boxes=np.array(boxes, dtype=np.float32),
            labels=["small green plastic bowl"] * len(boxes),
            relevance=relevance,
        )
    )


def test_boxes_are_drawn_at_their_place_and_relevant_ones_stand_out() -> None:
    image = draw([[20, 30, 60, 80], [100, 30, 140, 80]], [0.8, 0.0])
    scale = 720 / 160
    yellow = (image == (255, 196, 0)).all(axis=2)
    row, left = round(55 * scale), round(20 * scale)
    assert yellow[row, left : left + 4].any()
    assert not yellow[row, round(100 * scale) - 6 :].any()
    assert (image[row, round(60 * scale) - 20] == 90).all(), "the inside is hidden"


@pytest.mark.parametrize("shape", [(120, 160), (160, 120), (40, 400), (700, 30)])
def test_any_shape_with_boxes_at_its_borders_can_be_drawn(shape: tuple[int, int]) -> None:
    height, width = shape
    boxes = [[0, 0, width, height], [0, height - 3, 5, height], [width - 4, 0, width, 5]]
    image = draw(boxes, [0.2, -0.4, 0.1], shape)
    assert image.shape[0] >= 360
    assert image[:, -276:].std() > 5, "the panel is empty"


@pytest.mark.parametrize("grid", [(2, 3), (7, 7), (14, 14)])
def test_names_of_cells_stand_inside_of_them(grid: tuple[int, int]) -> None:
    """Bug: the name of `cell 2,1` was in the row above and covered another name."""
    boxes = cell_boxes(*grid) * np.array([160, 120, 160, 120], dtype=np.float32)
    rows, columns = grid
    relevance = [0.0] * len(boxes)
    relevance[columns + 1] = 0.8  # of row 2, column 2
    arguments = {"question": "Why?", "answers": ANSWERS, "boxes": boxes, "relevance": relevance}
    image = np.full((120, 160, 3), 90, dtype=np.uint8)
    named, nameless = (
        np.asarray(draw_answer(image, labels=labels, **arguments)).astype(int)
        for labels in (["cell 2,2"] * len(boxes), [""] * len(boxes))
    )
    y, x = np.nonzero((named != nameless).any(axis=2))
    width, height = 720 / columns, 540 / rows
    assert len(x) > 50
    assert width <= x.min() <= x.max() <= 2 * width
    assert height <= y.min() <= y.max() <= 2 * height


def test_a_name_wider_than_the_image_is_cut_at_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bug: it started left of the image, so its first words were cut off."""
    spots = []
    draw_tag = figures._draw_tag

    def watch(draw, text, font, spot, *rest):  # type: ignore[no-untyped-def]
        spots.append((text, spot, draw.im.size[0]))
        draw_tag(draw, text, font, spot, *rest)

    monkeypatch.setattr(figures, "_draw_tag", watch)
    draw_answer(
        np.full((300, 60, 3), 90, dtype=np.uint8),
        question="x" * 80,
        answers=[Answer("a very long answer " * 9, 0.9)],
        boxes=np.array([[30, 9, 55, 90]], dtype=np.float32),
        labels=["large red and rather long fire engine"],
        relevance=[0.5],
    )
    ((text, spot, width),) = spots
    assert text.startswith("large red")
    assert text.endswith("...")
    assert 0 <= spot[0] < spot[2] <= width


def test_nothing_relevant_and_nothing_at_all_can_be_drawn() -> None:
    assert draw([[3, 3, 9, 9]], [0.0]).shape[2] == 3


def test_many_overlapping_regions_have_their_own_colors_and_tags_that_hide_none() -> None:
    generator = np.random.default_rng(5)
    corners = generator.uniform(0, 300, (36, 2))
    boxes = np.concatenate([corners, corners + generator.uniform(20, 170, (36, 2))], axis=1)
    boxes = np.minimum(boxes, [639, 479, 639, 479]).astype(np.float32)
    tags: list[tuple[float, float, float, float]] = []
    for box in (boxes * 1200 / 640).tolist():
        tag = figures._find_edge((1200, 900), (90.0, 18.0), tuple(box), tags)
        assert 0 <= tag[0] <= tag[2] <= 1200
        assert 0 <= tag[1] <= tag[3] <= 900
        tags.append(tag)
    hidden = sum(
        figures._overlap(one, other) for i, one in enumerate(tags) for other in tags[i + 1 :]
    )
    assert hidden < 0.02 * sum(figures._area(tag) for tag in tags)
    colors = [figures._color(index) for index in range(36)]
    assert len(set(colors)) == 36
    drawn = figures.draw_regions(
        np.full((480, 640, 3), 90, np.uint8), boxes, labels=["old brown thing"] * 36
    )
    found = {color for _, color in drawn.getcolors(1 << 21)}
    assert set(colors) <= found


@pytest.mark.parametrize("shape", [(1, 1), (3, 900), (900, 3), (40, 50)])
def test_regions_of_any_image_can_be_drawn(shape: tuple[int, int]) -> None:
    from lxmert.explain.figures import draw_regions

    height, width = shape
    boxes = np.array([[0, 0, width, height], [0, 0, 1, 1]], np.float32)
    drawn = draw_regions(np.zeros((*shape, 3), np.uint8), boxes, labels=["a very long name", ""])
    assert max(drawn.size) == 1200
    assert draw_regions(np.zeros((*shape, 3), np.uint8), boxes[:0], labels=[]).size == drawn.size
