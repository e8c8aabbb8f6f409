"""Predictions from images and from stored regions: the same answers, whole files, or none."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Command
from PIL import Image
from torch import nn

from lxmert.cluster.prediction import (
    join_predictions,
    parts_folder,
    predict_file,
    prediction_job,
)
from lxmert.cluster.shards import run_share
from lxmert.data.corpus import Corpus
from lxmert.locks import FolderLock
from lxmert.metrics.nlvr2 import read_nlvr2_predictions
from lxmert.metrics.vqa import read_vqa_results
from lxmert.predict import Predictor
from lxmert.regions.grid import GridConfig, GridExtractor, GridNetwork
from lxmert.tasks.answering import AnsweringData, AnsweringSettings, AnsweringTask
from lxmert.tasks.pairs import PairsData, PairsSettings, PairsTask
from lxmert.tasks.texts import ModelSettings
from lxmert.workflows.prediction import Prediction, read_questions

SMALL = ModelSettings(
    hidden_size=32,
    num_attention_heads=2,
    intermediate_size=48,
    l_layers=1,
    x_layers=1,
    r_layers=1,
    dropout=0.0,
    initializer_range=0.3,
    max_text_length=9,
)
NAMES = [f"dev-{number // 2}-0-img{number % 2}" for number in range(8)]


def write_lines(path: Path, rows: list[dict[str, object]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images, their questions and statements, and random models with their extractor."""
    folder = tmp_path_factory.mktemp("submission")
    (folder / "images").mkdir()
    generator = np.random.default_rng(5)
    for name in NAMES:
        pixels = generator.integers(256, size=(24, 30, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "images" / f"{name}.png")
    torch.manual_seed(3)
    extractor = GridExtractor(
        GridNetwork(GridConfig(height=16, width=16, widths=(8,), feature_dim=4))
    )
    extractor.save_pretrained(folder / "extractor")
    questions: list[dict[str, object]] = [
        {"question_id": 70 + row, "image": f"{name}.png", "question": question, "answer": answer}
        for row, (name, question, answer) in enumerate(
            (name, question, answer)
            for name in NAMES
            for question, answer in (("what is it?", "mug"), ("is it red?", "yes"))
        )
    ]
    write_lines(folder / "questions.jsonl", questions)
    statements: list[dict[str, object]] = [
        {
            "question_id": f"dev-{pair}-0-{text}",
            "images": [f"{NAMES[2 * pair]}.png", f"{NAMES[2 * pair + 1]}.png"],
            "question": sentence,
            "answer": bool((pair + text) % 2),
        }
        for pair in range(4)
        for text, sentence in enumerate(("both are red.", "one is a mug.", "what is it?"))
    ]
    write_lines(folder / "statements.jsonl", statements)
    return folder


@pytest.fixture
def trained(folder: Path, lxmert: Command, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder, with stored regions and a model of each kind."""
    monkeypatch.chdir(folder)
    if not Path("pairs").is_dir():
        assert lxmert("extract", "images", "--extractor", "extractor", "-o", "regions").code == 0
        torch.manual_seed(6)
        questions, statements = "questions.jsonl", "statements.jsonl"
        stores = {"regions": "regions", "valid_regions": "regions", "extractor": "extractor"}
        answers = AnsweringData(train=questions, valid=questions, **stores)
        pairs = PairsData(train=statements, valid=statements, **stores)
        save(AnsweringTask(AnsweringSettings(data=answers, model=SMALL), seed=1), "answers")
        save(PairsTask(PairsSettings(data=pairs, model=SMALL), seed=1), "pairs")
    return folder


def save(task: AnsweringTask | PairsTask, folder: str) -> None:
    """Write a model that gives each of its two answers about as often."""
    task.model.eval()
    batch = task.collate([task.example(row, 0) for row in range(len(task))])
    with torch.no_grad():
        scores = task.model(**batch["inputs"], return_dict=False)[0]
        last = [module for module in task.model.modules() if isinstance(module, nn.Linear)][-1]
        last.bias -= scores.median(0).values
    task.save(Path(folder))


@pytest.mark.usefixtures("trained")
@pytest.mark.parametrize(
    ("model", "data", "form", "read"),
    [
        ("answers", "questions.jsonl", "vqa", read_vqa_results),
        ("pairs", "statements.jsonl", "nlvr2", read_nlvr2_predictions),
    ],
)
def test_images_and_stored_regions_give_the_same_file(
    lxmert: Command, model: str, data: str, form: str, read: Callable[[Path], dict[object, object]]
) -> None:
    options = ["predict", model, "--data", data, "--format", form, "-o"]
    seen = lxmert(*options, "seen", "--images", "images")
    assert seen.code == 0, seen
    assert lxmert(*options, "stored", "--regions", "regions").code == 0
    assert read(Path("seen")) == read(Path("stored"))
    assert len(set(read(Path("seen")).values())) == 2, "the predictions are not constant"
    assert len(read(Path("seen"))) == len(Path(data).read_text().splitlines())


@pytest.mark.usefixtures("trained")
@pytest.mark.parametrize("sight", [("--images", "images"), ("--regions", "regions")])
@pytest.mark.parametrize(
    ("model", "data"), [("answers", "questions.jsonl"), ("pairs", "statements.jsonl")]
)
def test_a_model_without_tokenizer_is_refused(
    lxmert: Command, model: str, data: str, sight: tuple[str, str], tmp_path: Path
) -> None:
    """Bug: with stored regions an empty tokenizer was made up, and all answers were one word."""
    shutil.copytree(model, tmp_path / "bare")
    (tmp_path / "bare" / "tokenizer.json").unlink()
    done = lxmert("predict", str(tmp_path / "bare"), "--data", data, *sight, "-o", "bare.jsonl")
    assert done.code == 2
    assert "bare has neither tokenizer.json nor vocab.txt" in " ".join(done.err.split())
    assert not Path("bare.jsonl").exists()


@pytest.mark.usefixtures("trained")
@pytest.mark.parametrize("form", ["jsonl", "vqa"])
def test_without_output_the_predictions_are_printed(lxmert: Command, form: str) -> None:
    options = ["--data", "questions.jsonl", "--regions", "regions", "--format", form]
    before = set(Path().iterdir())
    printed = lxmert("predict", "answers", *options)
    assert (printed.code, printed.err) == (0, "")
    assert set(Path().iterdir()) == before
    assert lxmert("predict", "answers", *options, "-o", "written").code == 0
    assert printed.out == Path("written").read_text()
    refused = lxmert("predict", "answers", *options, "--shard", "0/2")
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert "name their file with -o FILE" in refused.err


@pytest.mark.usefixtures("trained")
def test_the_number_of_questions_is_known_from_the_start() -> None:
    """Bug: the bar had no total until the first batch was answered."""
    data, shown = Path("questions.jsonl"), []
    prediction = Prediction("answers", data, Path("known.jsonl"), stores=(Path("regions"),))
    number = predict_file(
        prediction, device="cpu", progress=lambda done, total: shown.append((done, total))
    )
    assert number == len(data.read_text().splitlines())
    assert (shown[0], shown[-1]) == ((0, number), (number, number))


@pytest.mark.usefixtures("trained")
def test_a_file_that_another_process_writes_is_refused(tmp_path: Path) -> None:
    prediction = Prediction("answers", Path("questions.jsonl"), tmp_path / "o", Path("images"))
    prediction_job(prediction, read_questions(prediction))
    lock = FolderLock(parts_folder(prediction.output))
    with pytest.raises(ValueError, match="is being written by another process"):
        predict_file(prediction, device="cpu", progress=lambda done, total: None)
    lock.close()
    assert predict_file(prediction, device="cpu", progress=lambda done, total: None) == 16


@pytest.mark.usefixtures("trained")
def test_lines_of_pairs_name_both_images(lxmert: Command) -> None:
    options = ["--data", "statements.jsonl", "--images", "images", "-o", "pairs.jsonl"]
    assert lxmert("predict", "pairs", *options).code == 0
    rows = [json.loads(line) for line in Path("pairs.jsonl").read_text().splitlines()]
    assert rows[0].keys() == {"question_id", "images", "question", "answer", "score"}
    assert rows[0]["images"] == [f"{NAMES[0]}.png", f"{NAMES[1]}.png"]
    assert {row["answer"] for row in rows} == {"True", "False"}
    assert all(0.5 <= row["score"] <= 1 for row in rows)


@pytest.mark.usefixtures("trained")
def test_images_may_be_named_without_their_ending(lxmert: Command) -> None:
    """The official identifiers of NLVR2 have none."""
    plain = Path("statements.jsonl").read_text().replace(".png", "")
    Path("plain.jsonl").write_text(plain)
    options = ["predict", "pairs", "--images", "images", "--format", "nlvr2"]
    assert lxmert(*options, "--data", "plain.jsonl", "-o", "plain.csv").code == 0
    assert lxmert(*options, "--data", "statements.jsonl", "-o", "full.csv").code == 0
    assert Path("plain.csv").read_text() == Path("full.csv").read_text()


@pytest.mark.usefixtures("trained")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["pairs", "--data", "questions.jsonl"], "'70' is about 1 image, but the model reads 2"),
        (["answers", "--data", "statements.jsonl"], "is about 2 images, but the model reads 1"),
        (["pairs", "--data", "statements.jsonl", "--format", "gqa"],
         "judges statements about two images, which does not match --format gqa"),
        (["answers", "--data", "twice.jsonl", "--format", "vqa"], "twice.jsonl lines 1 and 2 have"),
        (["answers", "--data", "twice.jsonl"], "lines 1 and 2 have the same question_id '70'"),
        (["answers", "--data", "named.jsonl", "--format", "vqa"], "'q7' is no number"),
        (["answers", "--data", "empty.jsonl"], "empty"),
    ],
)  # fmt: skip
def test_what_cannot_be_predicted_is_one_sentence(
    lxmert: Command, arguments: list[str], message: str
) -> None:
    lines = Path("questions.jsonl").read_text().splitlines(keepends=True)
    Path("twice.jsonl").write_text(lines[0] + lines[0])
    Path("named.jsonl").write_text(lines[0].replace("70", '"q7"'))
    Path("empty.jsonl").write_text("")
    refused = lxmert("predict", *arguments, "--regions", "regions", "-o", "refused")
    assert refused.code == 2
    assert message in refused.err
    assert len(refused.err.splitlines()) == 1
    assert not Path("refused").exists()


@pytest.mark.usefixtures("trained")
def test_regions_of_another_extractor_are_refused(lxmert: Command, tmp_path: Path) -> None:
    """They have the right width, and would give answers that mean nothing."""
    torch.manual_seed(9)
    other = GridExtractor(GridNetwork(GridConfig(height=16, width=16, widths=(8,), feature_dim=4)))
    other.save_pretrained(tmp_path / "extractor")
    assert (
        lxmert(
            "extract", "images", "--extractor", tmp_path / "extractor", "-o", tmp_path / "r"
        ).code
        == 0
    )
    options = ["--data", "questions.jsonl", "--regions", tmp_path / "r", "-o", "refused"]
    refused = lxmert("predict", "answers", *options)
    assert refused.code == 2
    assert "was made by extractor" in refused.err


@pytest.mark.usefixtures("trained")
@pytest.mark.parametrize("sight", ["images", "regions"])
@pytest.mark.parametrize("ids", [["a", "b", "a"], [7, 8, "7"], [3, 4, None]])
def test_question_ids_that_are_there_twice_are_refused(
    lxmert: Command, sight: str, ids: list[object]
) -> None:
    """`predict` wrote files that `score --predictions` refused."""
    row = json.loads(Path("questions.jsonl").read_text().splitlines()[0])
    write_lines(Path("same.jsonl"), [row | {"question_id": given} for given in ids])
    refused = lxmert(
        "predict", "answers", "--data", "same.jsonl", f"--{sight}", sight, "-o", "same.out"
    )
    assert refused.code == 2
    assert "same.jsonl lines 1 and 3 have the same question_id" in refused.err
    assert len(refused.err.splitlines()) == 1
    assert not Path("same.out").exists()


@pytest.mark.usefixtures("trained")
@pytest.mark.parametrize("sight", ["images", "regions"])
def test_questions_without_ids_are_numbered_and_can_be_scored(lxmert: Command, sight: str) -> None:
    row = json.loads(Path("questions.jsonl").read_text().splitlines()[0])
    del row["question_id"]
    write_lines(Path("plain.jsonl"), [row, row, row])
    options = ("--data", "plain.jsonl", f"--{sight}", sight, "-o", f"{sight}.out")
    assert lxmert("predict", "answers", *options).code == 0
    done = lxmert("score", "--data", "plain.jsonl", "--predictions", f"{sight}.out")
    assert done.code == 0, done.err


SHARDS = ["predict", "answers", "--data", "questions.jsonl", "--shard-questions", "5"]


@pytest.mark.long
@pytest.mark.usefixtures("trained")
@pytest.mark.parametrize("sight", [("--images", "images"), ("--regions", "regions")])
def test_shards_of_several_jobs_are_the_file_of_one(
    lxmert: Command, sight: tuple[str, str]
) -> None:
    for form in ("jsonl", "vqa"):
        assert lxmert(*SHARDS, *sight, "--format", form, "-o", f"whole.{form}").code == 0
    options = [*SHARDS, *sight, "-o", "joined.jsonl"]
    assert lxmert(*options, "--shard", "1/2").code == 0
    early = lxmert(*options, "--join")
    assert early.code == 2
    assert "lacks 2 shards of 4 (0, 2): run `lxmert predict` with --shard" in early.err
    first = lxmert(*options, "--shard", "0/2")
    assert "shard 2: 5 questions, " in first.out
    assert lxmert(*options, "--join").code == 0
    assert Path("joined.jsonl").read_bytes() == Path("whole.jsonl").read_bytes()
    assert not Path("joined.jsonl.parts").exists()
    assert lxmert(*SHARDS, *sight, "-o", "joined.vqa", "--shard", "0/1").code == 0
    assert lxmert(*SHARDS, *sight, "-o", "joined.vqa", "--join", "--format", "vqa").code == 0
    assert Path("joined.vqa").read_bytes() == Path("whole.vqa").read_bytes()


@pytest.mark.usefixtures("trained")
def test_an_interrupted_prediction_resumes_and_checks_its_shards(
    lxmert: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = [*SHARDS, "--regions", "regions", "-o", "resumed.jsonl"]
    parts = Path("resumed.jsonl.parts")
    assert lxmert(*options, "--shard", "0/2").code == 0
    other = lxmert(*options, "--shard-questions", "6")
    assert other.code == 2
    assert "was started with shard_questions 5, not 6: remove the folder" in other.err
    with (parts / "rows-000002.jsonl").open("a") as file:
        file.write("{}")
    asked: list[int] = []

    def count_texts(predictor: Predictor, corpus: Corpus, *rest: object, **named: object) -> object:
        asked.append(len(corpus))
        return predict(predictor, corpus, *rest, **named)

    predict = Predictor.predict
    monkeypatch.setattr(Predictor, "predict", count_texts)
    damaged = lxmert(*options)
    assert damaged.code == 2
    assert "rows-000002.jsonl is damaged: shard 2, written by worker" in damaged.err
    (parts / "receipt-000002.json").unlink()
    assert lxmert(*options).code == 0
    assert asked == [5, 1, 5], "shards 1 and 3, then the damaged one"
    assert lxmert(*SHARDS, "--regions", "regions", "-o", "plain.jsonl").code == 0
    assert Path("resumed.jsonl").read_bytes() == Path("plain.jsonl").read_bytes()


@pytest.mark.parametrize("sight", [{"images": Path("images")}, {"stores": (Path("regions"),)}])
def test_workers_of_a_cluster_need_no_folder_of_their_own(
    trained: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, sight: dict[str, Any]
) -> None:
    """Bug: model and stores with relative paths were not found from another folder."""
    prediction = Prediction("answers", Path("questions.jsonl"), Path("far.jsonl"), **sight)
    corpus = read_questions(prediction)
    job = prediction_job(prediction, corpus)
    monkeypatch.chdir(tmp_path)
    run_share(job.load("cpu"), job, share=(0, 1), progress=lambda done, total: None)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.chdir(trained)
    assert join_predictions(prediction, corpus) == len(corpus)


@pytest.mark.usefixtures("trained")
@pytest.mark.parametrize("form", ["jsonl", "vqa"])
def test_shards_of_another_job_are_not_joined(lxmert: Command, form: str) -> None:
    """Bug: answers to other questions, or of another model, were joined without a word."""
    shutil.copytree("answers", "second", dirs_exist_ok=True)
    (Path("second") / "note.txt").write_text("another one")
    lines = Path("questions.jsonl").read_text().splitlines(keepends=True)
    Path("turned.jsonl").write_text("".join(reversed(lines)))
    output = f"jobs.{form}"
    options = [*SHARDS, "--regions", "regions", "--format", form, "-o", output]
    assert lxmert(*options, "--shard", "0/1").code == 0
    second = ["second" if option == "answers" else option for option in options]
    for other, name in ((second, "model"), ([*options, "--data", "turned.jsonl"], "data")):
        refused = lxmert(*other, "--join")
        assert refused.code == 2
        assert f"{output}.parts was started with {name} " in refused.err
        assert not Path(output).exists()
    assert lxmert(*options, "--join").code == 0


@pytest.mark.long
@pytest.mark.usefixtures("trained")
@pytest.mark.parametrize("form", ["jsonl", "vqa"])
@pytest.mark.parametrize("sign", ["\u2028", "\u2029", "\x85", "\x0b", "\x1c", "\r"])
def test_a_question_may_have_any_line_separator(lxmert: Command, form: str, sign: str) -> None:
    """Bug: rows of a leaderboard's format were also split at the separators of a question."""
    row = json.loads(Path("questions.jsonl").read_text().splitlines()[0])
    write_lines(Path("signs.jsonl"), [row | {"question": f"what is{sign}it?"}])
    options = ["--data", "signs.jsonl", "--regions", "regions", "--format", form]
    done = lxmert("predict", "answers", *options)
    assert done.code == 0, done.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--shard", "0/2", "--join"], "--shard and --join exclude each other"),
        (["--engine", "ray", "--join"], "--engine ray and --join exclude each other"),
        (["--actors", "2"], "--actors is for Ray: add --engine ray"),
        (["--engine", "ray", "--actors", "0"], "--actors is 0: expected at least 1"),
        (["--shard-questions", "0"], "--shard-questions is 0: expected 1 to"),
    ],
)
@pytest.mark.usefixtures("trained")
def test_options_that_do_not_fit_are_refused(
    lxmert: Command, options: list[str], message: str
) -> None:
    refused = lxmert(*SHARDS, "--regions", "regions", "-o", "refused", *options)
    assert refused.code == 2
    assert message in refused.err
