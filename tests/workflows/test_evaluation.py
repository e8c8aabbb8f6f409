"""Evaluation of custom data: every question is scored, next to the baselines."""

import json
import shutil
from pathlib import Path

import pytest
from conftest import ROOT, Command
from squares import read_lines, settings, write_lines, write_squares

from lxmert.workflows.evaluation import evaluate_answers, evaluate_predictions

RECIPE = ROOT / "src/lxmert/recipes/custom.toml"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_squares(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def model(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that has seen next to nothing, away from its run and its training questions."""
    from lxmert.workflows.training import read_with_options, train_recipe

    folder = tmp_path_factory.mktemp("model")
    files = [f"data.train={world / 'train.jsonl'}", f"data.images={world / 'images'}"]
    pairs = [option for option in settings(*files) if option != "--set"]
    train_recipe(read_with_options(RECIPE, pairs, {}), folder / "run", cpu=True)
    (folder / "run").rename(folder / "moved")
    return folder / "moved"


def test_a_moved_model_is_evaluated_with_its_baselines(
    world: Path, model: Path, lxmert: Command, tmp_path: Path
) -> None:
    done = lxmert("evaluate", model, "--data", world / "train.jsonl",
                  "--images", world / "images", "-o", tmp_path / "r.json")  # fmt: skip
    assert done.code == 0, done.err
    report = json.loads((tmp_path / "r.json").read_text())
    assert list(report) == [
        "accuracy", "intervals", "question_only", "majority", "count", "warnings",
    ]  # fmt: skip
    for name, (low, high) in report["intervals"].items():
        assert 0 <= low <= report["accuracy"][name] <= high <= 1
    assert report["count"] == 90
    assert report["majority"]["overall"] == pytest.approx(1 / 3)  # '1', asked of every image
    assert report["question_only"]["overall"] == pytest.approx((10 + 20 + 30) / 90)
    assert report["question_only"]["color"] == pytest.approx(1 / 3)
    for text in (
        "question type",
        "question only",
        "majority",
        "66.7%",
        "scored: 90 questions",
    ):
        assert text in done.out
    again = lxmert("evaluate", model, "--data", world / "train.jsonl",
                   "--images", world / "images", "--json")  # fmt: skip
    assert json.loads(again.out) == report


def test_a_model_that_learned_nothing_is_warned_of(
    world: Path, model: Path, tmp_path: Path, lxmert: Command
) -> None:
    done = lxmert("evaluate", model, "--data", world / "train.jsonl", "--images", world / "images")
    assert "learned nothing" in " ".join(done.err.split())


def test_a_model_without_its_guesses_says_how_to_get_them(
    world: Path, model: Path, tmp_path: Path
) -> None:
    shutil.copytree(model, tmp_path / "model")
    (tmp_path / "model" / "baselines.json").unlink()
    data = world / "train.jsonl"
    report = evaluate_answers(tmp_path / "model", data, images=world / "images", limit=6)
    assert (report["question_only"], report["count"]) == ({}, 6)
    assert "--training" in report["warnings"][-1]
    reported = evaluate_answers(
        tmp_path / "model", data, images=world / "images", limit=6, training=data
    )
    assert reported["question_only"]["overall"] > 0


def test_questions_that_cannot_be_answered_right_count_and_are_reported(
    world: Path, model: Path, tmp_path: Path
) -> None:
    lines = read_lines(world / "train.jsonl")[:3]
    lines[0]["answer"] = "mauve"
    del lines[1]["answer"]
    data = write_lines(tmp_path / "q.jsonl", lines)
    report = evaluate_answers(model, data, images=world / "images")
    assert report["count"] == 2
    assert report["accuracy"]["color"] == 0
    unanswered, unknown = report["warnings"][:2]
    assert unanswered == f"1 of 3 questions of {data} without answer: not scored"
    assert unknown.startswith("1 of 2 questions (50.0%) without an answer that the model can give")
    assert "mauve" in unknown


def test_images_are_found_by_the_names_that_training_understands(
    world: Path, model: Path, tmp_path: Path, lxmert: Command
) -> None:
    lines = read_lines(world / "train.jsonl")
    names = [line | {"image": f"C:\\photos\\{line['image']}"} for line in lines]
    plain = lxmert("predict", model, "--data", world / "train.jsonl", "--images",
                   world / "images", "-o", tmp_path / "plain.jsonl")  # fmt: skip
    write_lines(tmp_path / "q.jsonl", names)
    other = lxmert("predict", model, "--data", tmp_path / "q.jsonl", "--images", world / "images",
                   "-o", tmp_path / "other.jsonl")  # fmt: skip
    assert (plain.code, other.code) == (0, 0)
    found, expected = (read_lines(tmp_path / f"{name}.jsonl") for name in ("other", "plain"))
    assert found == [row | {"image": f"C:\\photos\\{row['image']}"} for row in expected]


@pytest.mark.parametrize(
    ("line", "reported"),
    [
        (
            {"image": "nowhere.png", "question": "?", "answer": "1"},
            "lacks 1 of 31 images, the first",
        ),
        (
            {"images": ["0.png", "1.png"], "question": "?", "answer": "1"},
            "'91' is about 2 images, but the model reads 1 with each text",
        ),
        ({"image": "0.png"}, "line 91: 'question' must be a string"),
    ],
)
def test_a_question_that_cannot_be_asked_stops_it(
    world: Path,
    model: Path,
    tmp_path: Path,
    lxmert: Command,
    line: dict[str, object],
    reported: str,
) -> None:
    data = write_lines(tmp_path / "q.jsonl", [*read_lines(world / "train.jsonl"), line])
    for command in (["evaluate", model], ["predict", model, "-o", tmp_path / "p.jsonl"]):
        done = lxmert(*command, "--data", data, "--images", world / "images")
        assert done.code == 2
        assert reported in done.err
    assert not (tmp_path / "p.jsonl").exists()


# Predictions


def test_predictions_score_as_the_model_does(
    world: Path, model: Path, tmp_path: Path, lxmert: Command
) -> None:
    data, predictions = world / "train.jsonl", tmp_path / "p.jsonl"
    images = ["--images", world / "images"]
    assert lxmert("predict", model, "--data", data, *images, "-o", predictions).code == 0
    assert [line["question_id"] for line in read_lines(predictions)] == [
        str(number) for number in range(1, 91)
    ]
    direct = json.loads(lxmert("evaluate", model, "--data", data, *images, "--json").out)
    given = ["--data", data, "--predictions", predictions, "--training", data, "--json"]
    assert json.loads(lxmert("score", *given).out) == direct


def test_types_of_questions_without_question_type_go_by_the_answer(tmp_path: Path) -> None:
    answers = {"a": "yes", "b": "No", "c": "12", "d": "red"}
    line = {"image": "x.png", "question": "?"}
    data = write_lines(tmp_path / "q.jsonl", [line | {"question_id": i, "answer": a}
                                              for i, a in answers.items()])  # fmt: skip
    given = write_lines(tmp_path / "p.jsonl", [{"question_id": i, "answer": "yes"}
                                               for i in answers])  # fmt: skip
    assert evaluate_predictions(data, given)["accuracy"] == {
        "overall": 0.25, "yes/no": 0.5, "number": 0.0, "other": 0.0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("change", "reported"),
    [
        ({"3": None}, "lacks 1 of the 90 questions"),
        ({"91": "x"}, "answers 1 question that"),
        ({"3": 7}, "line 3: expected an object with 'question_id' and a text as 'answer'"),
    ],
)
def test_predictions_must_be_one_for_each_question(
    world: Path, tmp_path: Path, lxmert: Command, change: dict[str, object], reported: str
) -> None:
    answers = {str(number): "1" for number in range(1, 91)} | change
    rows = [{"question_id": i, "answer": a} for i, a in answers.items() if a is not None]
    given = write_lines(tmp_path / "p.jsonl", rows)
    done = lxmert("score", "--data", world / "train.jsonl", "--predictions", given)
    assert done.code == 2
    assert reported in done.err
    write_lines(given, [*rows, rows[0]])
    twice = lxmert("score", "--data", world / "train.jsonl", "--predictions", given)
    assert twice.code == 2


@pytest.mark.long
def test_one_modality_alone_is_evaluated(lxmert: Command) -> None:
    examples = ROOT / "src/lxmert/examples"
    command = ("evaluate", ROOT / "src/lxmert/default", "--data", examples / "questions.jsonl",
               "--images", examples, "--json")  # fmt: skip
    overall = {}
    for modality in ("both", "text", "image"):
        options = () if modality == "both" else ("--modality", modality)
        done = lxmert(*command, *options)
        assert done.code == 0, done.err
        overall[modality] = json.loads(done.out)["accuracy"]["overall"]
    assert overall["both"] > overall["text"] + 0.3
    assert overall["both"] > overall["image"] + 0.3
    refused = lxmert(*command, "--modality", "words")
    assert (refused.code, "--modality is 'words'" in refused.err) == (2, True)
    assert lxmert(*command, "--modality", "text", "--metric", "foil").code == 2
