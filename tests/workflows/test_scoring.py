"""Files of results -> official scores, in Python and at the command line."""

import json
import logging
import re
from pathlib import Path
from typing import Any

import pytest
from conftest import Command
from official_files import (
    gqa_question,
    vqa_annotation,
    write_gqa,
    write_json,
    write_nlvr2,
    write_vqa,
)

from lxmert.metrics.gqa import GqaScores
from lxmert.metrics.nlvr2 import Nlvr2Scores
from lxmert.metrics.vqa import VqaScores
from lxmert.workflows.scoring import METRICS, score_files


@pytest.fixture
def vqa(tmp_path: Path) -> dict[str, Path]:
    annotations = [
        vqa_annotation(9, ["2"] * 5 + ["two"] * 5, question_type="how many", answer_type="number"),
        vqa_annotation(4, ["red"] + ["blue"] * 9),
        vqa_annotation(5, ["red"] * 10),
    ]
    return write_vqa(tmp_path, annotations, {4: "Red", 5: "Red", 9: "two"})


@pytest.fixture
def gqa(tmp_path: Path) -> dict[str, Path]:
    questions = {
        "07": gqa_question("red", entailed=["8", "9"]),
        "8": gqa_question("yes", structural="verify", isBalanced=False),
        "9": gqa_question("no", structural="verify", isBalanced=False),
        "10": gqa_question("left", structural="choose", semantic_type="rel"),
    }
    files = write_gqa(tmp_path, questions, {"07": "red", "8": "yes", "9": "yes", "10": "right"})
    sensible = {"valid": ["red", "right"], "plausible": ["red"]}
    bag = {"name": "bag", "x": 0, "y": 0, "w": 50, "h": 40, "attributes": [], "relations": []}
    graphs = {"2354786": {"width": 100, "height": 80, "objects": {"7": bag}}}
    maps = [
        {"questionId": "07", "attention": [[0.5, 0.25], [0.125, 0.125]]},
        {"questionId": "10", "attention": [[0.25, 0.25], [0.25, 0.25]]},
    ]
    return {
        **files,
        "choices": write_json(tmp_path / "choices.json", {"07": sensible, "10": sensible}),
        "scene_graphs": write_json(tmp_path / "graphs.json", graphs),
        "attentions": write_json(tmp_path / "attentions.json", maps),
    }


@pytest.fixture
def nlvr2(tmp_path: Path) -> dict[str, Path]:
    labels = {"dev-1-0-0": True, "dev-1-1-0": False, "dev-2-0-0": True, "dev-2-0-1": True}
    return write_nlvr2(
        tmp_path, labels, "dev-1-0-0,True\ndev-1-1-0,True\ndev-2-0-0,True\ndev-2-0-1,true\n"
    )


def options(paths: dict[str, Path]) -> list[object]:
    return [part for name, path in paths.items() for part in ("--" + name.replace("_", "-"), path)]


def test_vqa_at_the_command_line(lxmert: Command, vqa: dict[str, Path]) -> None:
    result = lxmert("score", "--metric", "vqa", *options(vqa), "--json")
    assert (result.code, result.err) == (0, "")
    # 0.3 for "Red", cleaned; 0 for "Red" where all say "red"; 1 for "two" among "2" and "two".
    assert json.loads(result.out) == {
        "overall": 43.33,
        "per_answer_type": {"number": 100.0, "other": 15.0},
        "per_question_type": {"how many": 100.0, "what is": 15.0},
    }
    assert set(json.loads(result.out)) == set(VqaScores.__annotations__)


def test_gqa_at_the_command_line(lxmert: Command, gqa: dict[str, Path]) -> None:
    result = lxmert("score", "--metric", "gqa", *options(gqa), "--json")
    assert (result.code, result.err) == (0, "")
    scores = json.loads(result.out)
    assert set(scores) == set(GqaScores.__annotations__)
    assert scores == {
        "accuracy": 50.0,
        "binary": 0.0,
        "open": 100.0,
        "consistency": 50.0,
        "validity": 100.0,
        "plausibility": 50.0,
        # The bag covers the first cell, and is named by the question and by its answer.
        "grounding": pytest.approx(100 * (2 * 0.5 + 2 * 0.25) / 2),
        # One group of two gold answers, one of them missed.
        "distribution": pytest.approx(0.01),
        "per_structural_type": {"choose": 0.0, "query": 100.0},
        "per_semantic_type": {"attr": 100.0, "rel": 0.0},
        "per_steps": {"2": 50.0},
        "per_length": {"5": 50.0},
    }


def test_what_cannot_be_computed_is_null(lxmert: Command, gqa: dict[str, Path]) -> None:
    """The official script prints 0 for validity where there are no choices."""
    paths = {name: gqa[name] for name in ("questions", "predictions")}
    arguments = ("score", "--metric", "gqa", *options(paths))
    scores = json.loads(lxmert(*arguments, "--json").out)
    assert [name for name, value in scores.items() if value is None] == [
        "validity",
        "plausibility",
        "grounding",
    ]
    shown = lxmert(*arguments).out
    assert "questions.json with predictions.json" in shown
    assert shown.count("not computed") == 3
    assert "per_structural_type: query" in shown


def test_nlvr2_at_the_command_line(lxmert: Command, nlvr2: dict[str, Path], tmp_path: Path) -> None:
    saved = tmp_path / "scores.json"
    result = lxmert("score", "--metric", "nlvr2", *options(nlvr2), "--json", "-o", saved)
    assert (result.code, result.err) == (0, "")
    assert json.loads(result.out) == {"accuracy": 0.75, "consistency": pytest.approx(2 / 3)}
    assert set(json.loads(result.out)) == set(Nlvr2Scores.__annotations__)
    assert json.loads(saved.read_text()) == json.loads(result.out)


def test_consistency_is_null_where_predictions_are_for_balanced_questions_only(
    gqa: dict[str, Path], caplog: pytest.LogCaptureFixture
) -> None:
    write_json(
        gqa["predictions"],
        [{"questionId": "07", "prediction": "red"}, {"questionId": "10", "prediction": "left"}],
    )
    scores: Any = score_files("gqa", questions=gqa["questions"], predictions=gqa["predictions"])
    assert scores["consistency"] is None
    assert scores["accuracy"] == 100
    assert "not there: 2 (first: '8', '9')" in caplog.text


def test_predictions_for_other_questions_are_passed_over_and_counted(
    gqa: dict[str, Path], nlvr2: dict[str, Path], caplog: pytest.LogCaptureFixture
) -> None:
    entries = json.loads(gqa["predictions"].read_text())
    entries += [{"questionId": "77", "prediction": "red"}]
    extended = gqa["predictions"].with_name("more.json")
    before = score_files("gqa", **gqa)
    assert score_files("gqa", **{**gqa, "predictions": write_json(extended, entries)}) == before
    assert "more.json: passed over" in caplog.text
    assert "1 (first: '77')" in caplog.text
    before = score_files("nlvr2", **nlvr2)
    with nlvr2["predictions"].open("a") as file:
        file.write("test1-7-0-0,True\n")
    assert score_files("nlvr2", **nlvr2) == before
    assert "1 (first: 'test1-7-0-0')" in caplog.text
    assert {record.levelno for record in caplog.records} == {logging.WARNING}


def test_vqa_wants_the_whole_split_and_nothing_else(vqa: dict[str, Path]) -> None:
    entries = json.loads(vqa["results"].read_text())
    write_json(vqa["results"], [*entries[1:], {"question_id": 77, "answer": "red"}])
    with pytest.raises(
        ValueError, match=r"results\.json must have each of the 3 ids .* lacks"
    ) as error:
        score_files("vqa", **vqa)
    assert "lacks 1 (first: 4) and has 1 (first: 77) unknown ids" in str(error.value)


def test_annotations_and_questions_of_different_splits_are_refused(vqa: dict[str, Path]) -> None:
    write_json(vqa["questions"], {"questions": [{"question_id": 5}, {"question_id": 6}]})
    answers = [{"question_id": 5, "answer": "red"}, {"question_id": 6, "answer": "red"}]
    write_json(vqa["results"], answers)
    with pytest.raises(ValueError, match=r"annotations\.json must have each of the 2 ids") as error:
        score_files("vqa", **vqa)
    assert "lacks 1 (first: 6) and has 2 (first: 9, 4)" in str(error.value)


@pytest.mark.parametrize(
    ("metric", "name", "content", "message"),
    [
        ("gqa", "predictions", [], r"2 ids that are scored in .* lacks 2 \(first: '07', '10'\)"),
        ("gqa", "questions", {}, "has no balanced question"),
        ("gqa", "choices", {"07": {"valid": [], "plausible": []}}, r"lacks 1 \(first: '10'\)"),
        ("gqa", "attentions", [], r"lacks 2 \(first: '07', '10'\)"),
        ("gqa", "scene_graphs", {}, r"lacks 1 \(first: '2354786'\)"),
        ("nlvr2", "predictions", None, "lacks 4"),
        ("nlvr2", "examples", None, "has no example"),
        ("vqa", "results", [], "lacks 3"),
    ],
)
def test_incomplete_files_are_refused(
    request: pytest.FixtureRequest, metric: str, name: str, content: object, message: str
) -> None:
    paths: dict[str, Path] = request.getfixturevalue(metric)
    paths[name].write_text("" if content is None else json.dumps(content))
    with pytest.raises(ValueError, match=message) as error:
        score_files(metric, **paths)
    assert str(paths[name]) in str(error.value)


def test_bare_lists_of_vqa_cp_are_scored(vqa: dict[str, Path]) -> None:
    """VQA-CP's questions and annotations are bare lists, which were "truncated or damaged"."""
    before = score_files("vqa", **vqa)
    for name in ("questions", "annotations"):
        write_json(vqa[name], json.loads(vqa[name].read_text())[name])
    assert score_files("vqa", **vqa) == before


@pytest.mark.parametrize("form", ["lines", "predicted", "object", "pretty"])
@pytest.mark.parametrize(
    ("metric", "file", "key", "answer"),
    [
        ("vqa", "results", "question_id", "answer"),
        ("gqa", "predictions", "questionId", "prediction"),
    ],
)
def test_results_in_other_forms_are_scored(
    request: pytest.FixtureRequest, metric: str, file: str, key: str, answer: str, form: str
) -> None:
    """Results as JSON lines or as an object of answers by id were "truncated or damaged"."""
    paths: dict[str, Path] = request.getfixturevalue(metric)
    before = score_files(metric, **paths)
    entries = json.loads(paths[file].read_text())
    if form in ("lines", "predicted"):  # `lxmert predict` writes ids as texts
        change = str if form == "predicted" else type(entries[0][key])
        lines = (json.dumps({"x": 1, **entry, key: change(entry[key])}) for entry in entries)
        paths[file].write_text("\n".join(lines))
    else:
        content = {str(entry[key]): entry[answer] for entry in entries}
        paths[file].write_text(json.dumps(content, indent=1 if form == "pretty" else None))
    assert score_files(metric, **paths) == before


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"info": {}, "annotations": []}', r"object of answers.*'question_id' is \"info\""),
        ('{"4": "red", "4": "blue"}', "has 4 more than once"),
        ('{"4": ["red"]}', r"'answer' is \[\"red\"\], expected a text"),
        ('{"' + "9" * 400 + '": "red"}', r"'question_id' is \"999"),
        (
            '{"question_id": "x", "answer": "red"}',
            "line 1: 'question_id' is .*, expected an integer",
        ),
        ('{"question_id": 4, "answer": "red"}\n{"question_', "damaged|line 2"),
        ('"red"', "has a text at byte 0, expected an object"),
        ("4,red\n", "has a number at byte 0"),
        ("red", "damaged at byte 0"),
        ("{}", r"lacks 3"),
    ],
)
def test_results_of_no_known_form_are_one_sentence(
    lxmert: Command, vqa: dict[str, Path], content: str, message: str
) -> None:
    """What is no file of results at all is named by what was found in it."""
    vqa["results"].write_text(content)
    result = lxmert("score", "--metric", "vqa", *options(vqa))
    assert (result.code, result.out, result.err.count("\n")) == (2, "", 1)
    assert re.search(r"results\.json.*" + message, result.err)


@pytest.mark.parametrize(
    ("metric", "changes", "message"),
    [
        ("vqa", {"questions": "annotations"}, r"annotations\.json has no list 'questions'"),
        ("vqa", {"annotations": "questions"}, r"questions\.json has no list 'annotations'"),
        ("vqa", {"results": "questions"}, "'question_id' is .*, expected an integer"),
        ("gqa", {"questions": "predictions"}, "predictions.json has a list at byte 0"),
        ("gqa", {"predictions": "questions"}, "questions.json .an object of answers.: 'pred"),
        ("gqa", {"scene_graphs": "attentions"}, "attentions.json has a list at byte 0"),
        ("gqa", {"attentions": "scene_graphs"}, "graphs.json has an object at byte 0"),
        ("gqa", {"choices": "scene_graphs"}, r"graphs.json: \['2354786'\]: 'valid' is null"),
        (
            "gqa",
            {"questions": "choices"},
            r"choices.json: \['07'\]: 'types' is .*, expected an object",
        ),
        ("nlvr2", {"examples": "predictions"}, "predictions.csv line 1 is not valid JSON"),
        ("nlvr2", {"predictions": "examples"}, "dev.json line 1 is .*, expected identifier,True"),
    ],
)
def test_files_in_the_place_of_others_are_one_sentence(
    lxmert: Command,
    request: pytest.FixtureRequest,
    metric: str,
    changes: dict[str, str],
    message: str,
) -> None:
    """Options in the wrong order were reported as damage."""
    paths: dict[str, Path] = request.getfixturevalue(metric)
    wrong = {**paths, **{name: paths[other] for name, other in changes.items()}}
    result = lxmert("score", "--metric", metric, *options(wrong))
    assert (result.code, result.out, result.err.count("\n")) == (2, "", 1)
    assert re.search(message, result.err)


def test_scores_do_not_overwrite_what_they_are_made_from(
    lxmert: Command, vqa: dict[str, Path]
) -> None:
    """`-o results.json` replaced the results by their score."""
    for name, path in vqa.items():
        before = path.read_bytes()
        link = path.with_name(f"link to {name}")
        link.symlink_to(path)
        for output in (path, link):
            result = lxmert("score", "--metric", "vqa", *options(vqa), "-o", output)
            assert (result.code, result.out) == (2, "")
            assert "is also an input, which would be overwritten" in result.err
        assert path.read_bytes() == before


def test_control_characters_do_not_reach_the_terminal(
    lxmert: Command, vqa: dict[str, Path]
) -> None:
    """A question type with an ESC sequence could write anything on the screen."""
    content = json.loads(vqa["annotations"].read_text())
    content["annotations"][0]["question_type"] = "\x1b[2Jhow\ud800 many\r"
    write_json(vqa["annotations"], content)
    result = lxmert("score", "--metric", "vqa", *options(vqa))
    assert result.code == 0
    assert not {*"\x1b\r\ud800"} & {*result.out}


def test_choices_that_are_there_twice_are_refused(gqa: dict[str, Path]) -> None:
    entry = '"07": {"valid": [], "plausible": []}'
    gqa["choices"].write_text(f"{{{entry}, {entry}}}")
    with pytest.raises(ValueError, match="'07' more than once"):
        score_files("gqa", **gqa)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--metric", "bleu"), "the metric is 'bleu', expected one of vqa, gqa, nlvr2"),
        (("--metric", "vqa", "--questions", "q"), "also needs --annotations, --results"),
        (
            ("--metric", "gqa", "--questions", "q", "--predictions", "p", "--scene-graphs", "s"),
            "also needs --attentions",
        ),
        (
            ("--metric", "nlvr2", "--examples", "e", "--predictions", "p", "--choices", "c"),
            "nlvr2 does not take --choices",
        ),
        (("--metric", "nlvr2", "--examples", "no.json", "--predictions", "p"), "no file no.json"),
        (("--data", "d", "--metric", "vqa"), "leave out --data and --training"),
        (("--questions", "q"), "expected --metric vqa, gqa or nlvr2 with its files, or --data"),
        (("--data", "d", "--predictions", "p", "--choices", "c"), "expected --metric vqa, gqa or"),
        (("--data", "d"), "or --data with --predictions"),
    ],
)
def test_a_mistake_at_the_command_line_is_one_line(
    lxmert: Command, arguments: tuple[str, ...], message: str
) -> None:
    result = lxmert("score", *arguments)
    assert (result.code, result.out) == (2, "")
    assert message in result.err
    assert result.err.count("\n") == 1


def test_every_metric_is_tested() -> None:
    assert set(METRICS) == {"vqa", "gqa", "nlvr2"}
