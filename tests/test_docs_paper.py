"""The chain of docs/paper.md on small official files: build, pretrain, fine-tune, submit, score."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import downloads as world
import numpy as np
import pytest
import torch
from conftest import ROOT, Command
from downloads import TRAIN_9, TRAIN_25, VAL_42, VAL_73
from official_files import write_json
from safetensors.torch import load_file

from docs import check_links, commands, table_below
from lxmert.cluster import prediction
from lxmert.data.store import RegionStore, StoreHeader
from lxmert.metrics.nlvr2 import read_nlvr2_predictions
from lxmert.metrics.vqa import read_vqa_results
from lxmert.schema import Regions
from lxmert.tasks.pretraining_settings import PRESETS
from lxmert.tasks.registry import TASKS
from lxmert.train.recipes import flatten, make_recipe, recipe_table

pytestmark = pytest.mark.long  # the tests use the folder that the first one fills

PAGE = (ROOT / "docs/paper.md").read_text(encoding="utf-8")
COMMANDS = commands(PAGE)
IMAGES = [
    TRAIN_9, TRAIN_25, VAL_42, VAL_73, "COCO_test2015_000000000008", "1", "2", "3", "4", "n161313",
    *(f"{split}-10-{pair}-img{side}" for split in ("train", "dev", "test1")
      for pair in range(2) for side in range(2)),
]  # fmt: skip
WORDS = "is it ? really what which how many who where on a mug . both of train dev are red test ##1"
TINY = [
    "model.hidden_size=16", "model.num_attention_heads=2", "model.intermediate_size=24",
    "model.l_layers=1", "model.x_layers=1", "model.r_layers=1",
    "optim.epochs=", "optim.steps=6", "optim.batch_size=4", "optim.lr=1e-3",
    "loop.log_every=3", "loop.evaluate_every=3", "loop.evaluate_limit=99",
]  # fmt: skip
"""Settings with which a published recipe runs in a second."""


def write_regions(folder: Path) -> None:
    """Write a region store of the published width, with different regions for each image."""
    names = tuple(map(str, range(9)))
    header = StoreHeader(
        fingerprint="fingerprint",
        feature_dim=2048,
        dtype="float32",
        precision="fp32",
        object_names=names,
        attribute_names=names,
    )

    def extract(remaining: Sequence[str]) -> Iterator[tuple[str, Regions]]:
        for image_id in remaining:
            generator = np.random.default_rng(list(image_id.encode()))
            yield (
                image_id,
                Regions(
                    boxes=np.array([[2, 3, 20, 30], [8, 9, 60, 50]], np.float32),
                    features=generator.random((2, 2048), dtype=np.float32),
                    image_size=(60, 80),
                    object_ids=generator.integers(9, size=2),
                    object_scores=np.array([0.75, 0.5], np.float32),
                    attribute_ids=generator.integers(9, size=(2, 1)),
                    attribute_scores=np.array([[0.5], [0.25]], np.float32),
                ),
            )

    RegionStore.write(folder, IMAGES, extract, header)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the page's commands, with the files that it presupposes."""
    folder = tmp_path_factory.mktemp("paper")
    world.write_all(folder / "downloads")
    write_regions(folder / "regions")
    (folder / "minival.txt").write_text(f"{VAL_42}\n{VAL_73}\n")
    (folder / "bert-base-uncased").mkdir()
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS.split()]
    (folder / "bert-base-uncased/vocab.txt").write_text("\n".join(words) + "\n")
    return folder


def run_data(lxmert: Command) -> None:
    """Build the data as docs/datasets.md does."""
    build = ["data", "build", "pretraining", "vqa", "gqa", "nlvr2"]
    result = lxmert(*build, "--from", "downloads", "--regions", "regions", "-o", "data",
                    "--minival", "minival.txt")  # fmt: skip
    assert result.code == 0, result
    listed = Path("downloads/original/lxmert/all_ans.json")
    listed.parent.mkdir(parents=True)
    shutil.copy("data/pretraining/answers.json", listed)


def run_command(lxmert: Command, command: Sequence[str]) -> None:
    """Run a command of the page; training runs become tiny."""
    arguments = list(command[command.index("lxmert") + 1 :])
    if arguments[0] == "train":
        if "model.init_from=model_LXRT.pth" in arguments:
            assert lxmert("convert", "runs/pretraining", "model_LXRT.pth").code == 0
        arguments += [part for change in TINY for part in ("--set", change)]
    result = lxmert(*arguments)
    assert result.code == 0, f"{arguments}\n{result}"


def test_the_chain_runs_from_downloads_to_submissions(
    lxmert: Command, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Build, pretrain, fine-tune three tasks, predict, score."""
    monkeypatch.chdir(folder)
    run_data(lxmert)
    assert len(COMMANDS) == 14
    for command in COMMANDS:
        run_command(lxmert, command)
    for run in ("pretraining", "vqa", "gqa", "nlvr2", "retrieval", "published"):
        finished = json.loads(Path(f"runs/{run}/finished.json").read_text())
        assert finished["steps"] == 6, run
    assert read_vqa_results(Path("vqa-test.json")).keys() == {8001}
    (answer,) = json.loads(Path("gqa-test.json").read_text())
    assert answer["questionId"] == "20168"
    assert answer["prediction"] in json.loads(Path("data/gqa/answers.json").read_text())
    assert read_nlvr2_predictions(Path("nlvr2-test.csv")).keys() == {
        "test1-10-0-1", "test1-10-1-1",
    }  # fmt: skip
    check_scores(lxmert)


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["pretraining", "nlvr2"])
def test_two_processes_make_the_same_model_as_one(
    lxmert: Command, folder: Path, monkeypatch: pytest.MonkeyPatch, recipe: str
) -> None:
    monkeypatch.chdir(folder)
    if not Path("data").is_dir():
        run_data(lxmert)
    changes = [*TINY, "model.dropout=0.0", "loop.evaluate_every="]
    changes += ["model.init_from="] if recipe == "nlvr2" else []
    options = [part for change in changes for part in ("--set", change)]
    train = ["train", recipe, *options, "-o"]
    two, one = Path(f"runs/{recipe}-two"), Path(f"runs/{recipe}-one")
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run(
        [*launch, "-m", "lxmert", *train, str(two)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr
    assert lxmert(*train, one).code == 0
    weights = [load_file(run / "model.safetensors") for run in (one, two)]
    assert weights[0].keys() == weights[1].keys()
    for name, value in weights[0].items():
        torch.testing.assert_close(value, weights[1][name], rtol=1e-3, atol=1e-5)


def check_scores(lxmert: Command) -> None:
    """Compare the validation scores of the runs with the official evaluators on the same split."""
    wanted = ["--metric", "gqa", "--questions", "downloads/gqa/testdev_balanced_questions.json"]
    gqa = lxmert("score", *wanted, "--predictions", "gqa-testdev.json", "--json")
    assert json.loads(gqa.out)["accuracy"] == 100 * metrics("gqa")["overall"]
    wanted = ["--metric", "nlvr2", "--examples", "downloads/nlvr2/dev.json"]
    nlvr2 = lxmert("score", *wanted, "--predictions", "nlvr2-dev.csv", "--json")
    scores = {name: metrics("nlvr2")[name] for name in ("accuracy", "consistency")}
    assert json.loads(nlvr2.out) == scores
    data = ["--data", "data/vqa/valid.jsonl", "--regions", "regions", "-o", "vqa-valid.json"]
    assert lxmert("predict", "runs/vqa", *data, "--format", "vqa").code == 0
    files = ["--questions", "downloads/vqa/v2_OpenEnded_mscoco_val2014_questions.json",
             "--annotations", "downloads/vqa/v2_mscoco_val2014_annotations.json"]  # fmt: skip
    vqa = lxmert("score", "--metric", "vqa", *files, "--results", "vqa-valid.json", "--json")
    overall = 100 * metrics("vqa")["overall"]
    assert json.loads(vqa.out)["overall"] == pytest.approx(overall, abs=0.01)


def metrics(run: str) -> dict[str, float]:
    found: dict[str, float] = json.loads(Path(f"runs/{run}/finished.json").read_text())["metrics"]
    return found


def test_commands_that_need_the_web_exist(lxmert: Command) -> None:
    listed = commands(PAGE, "text")
    assert len(listed) == 3
    for program, command, *arguments in listed:
        assert program in ("hf", "lxmert")
        if program == "lxmert":
            known = lxmert(command, "--help").out
            assert all(a in known for a in arguments if a.startswith("--"))


def test_the_table_of_presets_is_that_of_the_code() -> None:
    rows = table_below(PAGE, "| setting | `default` | `released` | `paper` |")
    assert len(rows) == 22
    minimal = {
        "task": "pretraining",
        "data": {"questions": [], "regions": "", "valid_questions": [], "valid_regions": ""},
        "optim": {"lr": 1e-4, "batch_size": 256, "epochs": 20},
    }
    for column, preset in enumerate(PRESETS, start=1):
        resolved = flatten(recipe_table(make_recipe(minimal | {"preset": preset}, TASKS)))
        for row in rows:
            assert row[column] == written(resolved.get(row[0].strip("`"))), (row[0], preset)
    reported = {row[0].strip("`") for row in rows} | {"objectives.weights.attr"}
    reported |= {f"objectives.weights.{name}" for name in ("feat", "mask_lm", "matched")}
    assert {key for preset in PRESETS.values() for key in flatten(preset)} <= reported


def written(value: object) -> str:
    """Format a setting as the page does."""
    if value is None:
        return ""
    if isinstance(value, list):
        return ", ".join(map(written, value))
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def test_links_lead_somewhere() -> None:
    check_links(PAGE, ROOT / "docs")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--format", "nlvr2"], "answers questions, which does not match --format nlvr2"),
        (["--format", "vqa"], "no.jsonl line 1 has no 'question_id'"),
        (["--official", "q.json"], "needs --format vqa, gqa or nlvr2"),
        (["--images", "."], "expected either --images FOLDER or --regions STORE"),
    ],
)
def test_a_file_that_no_leaderboard_takes_is_not_written(
    lxmert: Command,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(folder)
    write_json(Path("q.json"), {"questions": [{"question_id": 7, "image_id": 9, "question": "?"}]})
    Path("no.jsonl").write_text(json.dumps({"image": TRAIN_9, "question": "What?"}) + "\n")
    data = ["--data", "no.jsonl", "--regions", "regions", "-o", "out.json", *arguments]
    refused = lxmert("predict", "runs/vqa", *data)
    assert refused.code == 2
    assert message in refused.err
    assert not Path("out.json").exists()


def test_ids_that_no_leaderboard_wants_are_reported_before_anything_is_computed(
    lxmert: Command, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bug: a wrong or missing official file was reported when all questions had been answered."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(prediction, "Predictor", None)
    official = write_json(Path("two.json"), {"questions": [
        {"question_id": number, "image_id": 8, "question": "?"} for number in (8001, 8002)
    ]})  # fmt: skip
    test = Path("data/vqa/test.jsonl")
    Path("twice.jsonl").write_text(test.read_text() * 2)
    Path("named.jsonl").write_text(test.read_text().replace("8001", '"a"'))
    for data, form, named, message in (
        (test, "vqa", official, f"{test} must have each of the 2 ids of two.json once"),
        (test, "vqa", official, "lacks 1 (first: 8002)"),
        (test, "vqa", "none.json", "none.json"),
        (test, "nlvr2", official, "'8001', expected split-set-pair-sentence"),
        ("twice.jsonl", "vqa", official, "twice.jsonl lines 1 and 2"),
        ("named.jsonl", "vqa", official, "'a'"),
        (test, "jsonl", official, "--official"),
    ):
        model = "runs/nlvr2" if form == "nlvr2" else "runs/vqa"
        arguments = ["--data", data, "--regions", "regions", "--format", form, "-o", "few.json"]
        refused = lxmert("predict", model, *arguments, "--official", named)
        assert refused.code == 2, (data, form)
        assert message in refused.err
        assert not Path("few.json").exists()


def test_an_image_without_regions_is_named(
    lxmert: Command, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    Path("far.jsonl").write_text(json.dumps({"image": "far", "question": "What?"}) + "\n")
    data = ["--data", "far.jsonl", "--regions", "regions", "-o", "far.json"]
    refused = lxmert("predict", "runs/vqa", *data)
    assert refused.code == 2
    assert "the region store regions lacks 1 of 1 image, the first: 'far' is not in" in refused.err
