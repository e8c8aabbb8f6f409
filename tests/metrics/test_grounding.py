"""GQA's grounding: worked by hand, and by counting the points of a fine raster."""

from pathlib import Path

import numpy as np
import pytest
from official_files import PLAIN, gqa_question, write_gqa, write_json

from lxmert.metrics.gqa_files import read_gqa_questions
from lxmert.metrics.grounding import (
    Box,
    gold_regions,
    grounding_score,
    read_attentions,
    read_scene_graphs,
)


def test_a_cell_counts_by_the_part_that_is_inside() -> None:
    attention = np.array([[0.5, 0.25], [0.125, 0.125]])
    assert grounding_score(attention, [(0.0, 0.0, 0.5, 0.5)]) == 0.5
    assert grounding_score(attention, [(0.0, 0.0, 0.25, 0.5)]) == 0.25
    assert grounding_score(attention, [(0.25, 0.25, 0.75, 0.75)]) == 0.25
    assert grounding_score(attention, [(0.0, 0.0, 1.0, 1.0)]) == 1.0


def test_the_first_index_counts_from_left_to_right() -> None:
    """The official script takes the first index for x, unlike images in memory."""
    attention = np.array([[0.0, 0.0], [7.0, 0.0]])
    assert grounding_score(attention, [(0.5, 0.0, 1.0, 0.5)]) == 7.0
    assert grounding_score(attention, [(0.0, 0.5, 0.5, 1.0)]) == 0.0


def test_regions_that_overlap_count_again() -> None:
    attention = np.full((7, 7), 1 / 49)
    whole: Box = (0.0, 0.0, 1.0, 1.0)
    assert grounding_score(attention, [whole, whole]) == pytest.approx(2)
    assert grounding_score(attention, []) == 0


def test_a_raster_of_points_gives_the_same() -> None:
    draw = np.random.default_rng(3)
    points = (np.arange(700) + 0.5) / 700
    for _ in range(20):
        attention = draw.dirichlet(np.ones(49)).reshape(7, 7)
        corners = np.sort(draw.integers(0, 101, size=(2, 2)) / 100, axis=0)
        (x1, y1), (x2, y2) = corners
        inside_x, inside_y = (points > x1) & (points < x2), (points > y1) & (points < y2)
        cells = np.arange(700) // 100
        fine = attention[cells][:, cells] / 100**2
        expected = fine[inside_x][:, inside_y].sum()
        assert grounding_score(attention, [(x1, y1, x2, y2)]) == pytest.approx(expected, abs=1e-9)


def test_gold_regions_are_the_named_objects() -> None:
    objects: dict[str, Box] = {"7": (0.1, 0.2, 0.3, 0.4), "8": (0.0, 0.0, 0.5, 0.5)}
    question = PLAIN._replace(object_ids=("8", "7", "8"))
    assert gold_regions(question, objects) == [objects["8"], objects["7"], objects["8"]]
    assert gold_regions(PLAIN._replace(object_ids=()), objects) == []
    with pytest.raises(ValueError, match="image 2354786 lacks the object '9'"):
        gold_regions(PLAIN._replace(object_ids=("9",)), objects)


@pytest.mark.parametrize(
    "step",
    [
        {"operation": "select", "argument": "scene", "dependencies": []},
        {"operation": "verify scene", "argument": "indoors", "dependencies": []},
    ],
)
def test_a_program_about_the_scene_adds_nothing(tmp_path: Path, step: dict[str, object]) -> None:
    """Bug: the full image was a gold region of programs about the scene; officially it never is.

    The official script looks for "scene" among the keys of a step. By hand: object 7 covers the
    left half of 2 x 2 cells and is named by question and answer, 2 x (0.5 + 0.25); with the whole
    image it would be 1 more.
    """
    record = gqa_question(semantic=[step])
    paths = write_gqa(tmp_path, {"5": record}, {"5": "red"})
    question = read_gqa_questions(paths["questions"])["5"]
    regions = gold_regions(question, {"7": (0.0, 0.0, 0.5, 1.0)})
    attention = np.array([[0.5, 0.25], [0.125, 0.125]])
    assert grounding_score(attention, regions) == 1.5


def test_boxes_become_fractions_of_the_image(tmp_path: Path) -> None:
    bag = {"name": "bag", "x": 50, "y": 20, "w": 100, "h": 30, "attributes": [], "relations": []}
    graph = {"width": 200, "height": 80, "objects": {"7": bag}}
    path = write_json(tmp_path / "graphs.json", {"2354786": graph})
    assert read_scene_graphs(path) == {"2354786": {"7": (0.25, 0.25, 0.75, 0.625)}}
    path = write_json(tmp_path / "graphs.json", {"2354786": {**graph, "height": 0}})
    with pytest.raises(
        ValueError, match=r"\['2354786'\]: 'width' and 'height' are .*, expected positive"
    ):
        read_scene_graphs(path)


@pytest.mark.parametrize(
    "change",
    [{"w": -1}, {"h": 1e300}, {"x": 10**17}, {"y": -1e308}, {"w": 1e308, "x": 1e308}],
)
def test_a_box_of_an_absurd_size_is_refused(tmp_path: Path, change: dict[str, float]) -> None:
    """Bug: a box of negative or huge size was a gold region, or became NaN."""
    bag = {"x": 50, "y": 20, "w": 100, "h": 30, **change}
    graph = {"width": 200, "height": 80, "objects": {"7": bag}}
    path = write_json(tmp_path / "graphs.json", {"2354786": graph})
    with pytest.raises(ValueError, match=r"\['2354786'\]: the box .* is not inside its image"):
        read_scene_graphs(path)


@pytest.mark.parametrize("number", ["NaN", "-Infinity", "1e999", "1" * 400, "[" * 99_999])
def test_attention_of_endless_numbers_or_lists_is_refused(tmp_path: Path, number: str) -> None:
    """Bug: integers of 400 digits and deep lists failed in numpy; NaN is not JSON."""
    path = tmp_path / "a.json"
    path.write_text(f'[{{"questionId": "5", "attention": [[{number}]]}}]')
    with pytest.raises(ValueError, match=r"a\.json .* at byte 1\b"):
        list(read_attentions(path))


@pytest.mark.parametrize(
    "attention",
    [
        [[1.0, 2.0]], [0.5], [[[1.0]]], [], [[]], [[1.0, 2.0], [3.0]], "high", None, [[None]],
        [[True]], [["0.5"]], [[1e308]], {"0": [1.0]},
    ],
)  # fmt: skip
def test_attention_that_is_no_square_grid_is_refused(tmp_path: Path, attention: object) -> None:
    """Bug: texts, true and huge numbers were accepted as weights; the score was infinite."""
    good = {"questionId": "5", "attention": [[0.5, 0.25], [0.125, 0]]}
    path = write_json(tmp_path / "a.json", [good, {"questionId": "8", "attention": attention}])
    maps = read_attentions(path)
    assert next(maps)[0] == "5"
    with pytest.raises(
        ValueError, match=r"\[1\]: 'attention' of question 8 is .*, expected a square grid"
    ):
        next(maps)
