"""Custom data with an existing region extractor, and initialization from other models."""

import json
import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT, Command
from PIL import Image
from safetensors.torch import load_file, save_file
from squares import read_lines, settings, write_lines, write_squares

from lxmert import processing
from lxmert.data.store import RegionStore, describe_store
from lxmert.data.tokenizer import load_tokenizer
from lxmert.regions.grid import GridConfig, GridExtractor, GridNetwork
from lxmert.schema import Regions
from lxmert.workflows import custom_regions
from lxmert.workflows.training import read_with_options, train_recipe

RECIPE = ROOT / "src/lxmert/recipes/custom.toml"


def make_extractor(folder: Path, *, seed: int) -> Path:
    torch.manual_seed(seed)
    GridExtractor(GridNetwork(GridConfig(height=48, width=48))).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_squares(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def extractor(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_extractor(tmp_path_factory.mktemp("extractor") / "given", seed=8)


def pairs_of(world: Path, extractor: Path | None, *more: str) -> list[str]:
    files = [f"data.train={world / 'train.jsonl'}", f"data.images={world / 'images'}"]
    if extractor is not None:
        files.append(f"data.extractor={extractor}")
    return [option for option in settings(*files, *more) if option != "--set"]


def train(world: Path, extractor: Path | None, output: Path, *more: str) -> dict[str, float]:
    recipe = read_with_options(RECIPE, pairs_of(world, extractor, *more), {})
    return train_recipe(recipe, output, cpu=True)


@pytest.fixture(scope="module")
def model(world: Path, extractor: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("model") / "run"
    train(world, extractor, output)
    return output


def test_regions_are_extracted_and_a_model_learns_from_them(
    world: Path, extractor: Path, model: Path, lxmert: Command
) -> None:
    store = RegionStore(model / "regions")
    loaded = GridExtractor.from_pretrained(extractor)
    assert store.header.fingerprint == loaded.fingerprint
    assert sorted(store.image_ids) == sorted(f"{number}.png" for number in range(30))
    (seen,) = loaded([world / "images" / "7.png"])
    np.testing.assert_allclose(store["7.png"].features, seen.features, rtol=1e-3, atol=1e-3)
    asked = lxmert("ask", world / "images" / "3.png", "is it red?", "--model", model, "--json")
    assert asked.code == 0, asked.err
    assert len(json.loads(asked.out)["regions"]) == 9
    given = ["--data", world / "train.jsonl", "--images", world / "images", "--json"]
    report = json.loads(lxmert("evaluate", model, *given).out)
    assert (report["count"], report["question_only"]["overall"] > 0) == (90, True)


def test_questions_are_kept_as_they_were_understood(world: Path, model: Path) -> None:
    kept = [line for name in ("train", "valid")
            for line in read_lines(model / "questions" / f"{name}.jsonl")]  # fmt: skip
    assert len(kept) == 90
    given = {str(number + 1): line for number, line in enumerate(read_lines(world / "train.jsonl"))}
    for line in kept:
        original = given[str(line["question_id"])]
        assert line["images"] == [original["image"]]
        assert line["answers"] == {original["answer"]: 1.0}
        assert line.get("question_type") == original.get("question_type")


def test_an_interrupted_extraction_is_taken_up_again(
    world: Path, extractor: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[int] = []

    class Tired(GridExtractor):
        """An extractor that is stopped after some images."""

        most = 11

        def __call__(self, images):  # type: ignore[no-untyped-def]
            looked.append(len(images))
            if sum(looked) > self.most:
                raise KeyboardInterrupt
            return super().__call__(images)

    opened = Tired(GridExtractor.from_pretrained(extractor).network)
    monkeypatch.setattr(custom_regions, "load_extractor", lambda path, device: opened)
    with pytest.raises(KeyboardInterrupt):
        train(world, extractor, tmp_path / "run")
    assert sum(looked) > 11
    done = describe_store(tmp_path / "run/regions")["images"]
    looked.clear()
    opened.most = 1000
    train(world, extractor, tmp_path / "run")
    assert done
    assert sum(looked) < 30
    assert len(RegionStore(tmp_path / "run/regions")) == 30


def test_images_that_the_extractor_refuse_are_left_out_and_reported(
    world: Path, extractor: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    """The report of a finished run extracted those of validation again, and ended with an error."""

    class Picky(GridExtractor):
        """An extractor that refuses black images."""

        def __call__(self, images) -> list[Regions]:  # type: ignore[no-untyped-def]
            if any(not np.asarray(image).any() for image in images):
                raise ValueError("it is black")
            return super().__call__(images)

    lines = read_lines(write_squares(tmp_path / "world") / "train.jsonl")
    held_out = {"5.png", "6.png", "7.png"}
    kept = [line | {"split": "valid"} if line["image"] in held_out else line for line in lines]
    write_lines(tmp_path / "world" / "train.jsonl", kept)
    for name in ("5.png", "8.png"):
        Image.new("RGB", (64, 48)).save(tmp_path / "world" / "images" / name)
    opened = Picky(GridExtractor.from_pretrained(extractor).network)
    for module in (custom_regions, processing):
        monkeypatch.setattr(module, "load_extractor", lambda path, device: opened)
    train(tmp_path / "world", extractor, tmp_path / "run")
    left_out = (
        "left out: 3 of {} questions of {}; no regions of 1 image, the first: {}: it is black"
    )
    assert left_out.format(81, "train", "8.png") in caplog.text
    assert left_out.format(9, "valid", "5.png") in caplog.text
    assert len(read_lines(tmp_path / "run/questions/train.jsonl")) == 78
    assert json.loads((tmp_path / "run/report.json").read_text())["overall"]["questions"] == 6


# Starting from a model


def test_a_start_gives_extractor_tokenizer_sizes_and_the_answers_that_it_knows(
    world: Path, model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lines = [line for line in read_lines(world / "train.jsonl") if line["answer"] != "green"]
    for line in lines:
        if line["answer"] == "blue":
            line["answer"] = "mauve"
            line["question"] = "what shade is it?"
    (tmp_path / "world").mkdir()
    (tmp_path / "world" / "images").symlink_to(world / "images")
    write_lines(tmp_path / "world" / "train.jsonl", lines)
    more = (f"model.init_from={model}", "model.hidden_size=64", "optim.steps=2", "optim.lr=1e-9")
    with caplog.at_level(logging.INFO):
        train(tmp_path / "world", None, tmp_path / "run", *more, "optim.weight_decay=0")
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["hidden_size"] == 32  # as the start
    assert list(config["id2label"].values()) == ["1", "mauve", "no", "red", "yes"]
    told = f"{model}: 1 word added to the 13 that it knows, 4 of 5 answers keep their weights"
    assert told in caplog.text
    known, words = (load_tokenizer(path).get_vocab() for path in (model, tmp_path / "run"))
    assert words == known | {"shade": 13}
    old, new = (load_file(path / "model.safetensors") for path in (model, tmp_path / "run"))
    head = "answer_head.logit_fc.3.weight"
    olds = json.loads((model / "config.json").read_text())["label2id"]
    for place, answer in enumerate(["1", "mauve", "no", "red", "yes"]):
        if answer == "mauve":
            assert new[head][place].abs().max() < 1e-6
        else:
            torch.testing.assert_close(new[head][place], old[head][olds[answer]], rtol=0, atol=1e-6)


def test_a_start_of_another_extractor_is_refused_with_both_names(
    world: Path, model: Path, tmp_path: Path, lxmert: Command
) -> None:
    other = make_extractor(tmp_path / "other", seed=9)
    names = [
        GridExtractor.from_pretrained(path).fingerprint for path in (other, model / "extractor")
    ]
    options = [
        option
        for pair in pairs_of(world, other, f"model.init_from={model}")
        for option in ("--set", pair)
    ]
    refused = lxmert("train", RECIPE, "-o", tmp_path / "run", *options)
    assert refused.code == 2
    for text in (*names, str(other), str(model), "leave out data.extractor"):
        assert text in refused.err
    assert not (tmp_path / "run" / "regions").exists()


def test_a_start_without_extractor_says_how_to_name_them(
    world: Path, model: Path, tmp_path: Path
) -> None:
    shutil.copytree(
        model, tmp_path / "start", ignore=shutil.ignore_patterns("extractor", "regions")
    )
    with pytest.raises(
        FileNotFoundError, match=r"has no region extractor.*--set data\.extractor=FOLDER"
    ):
        train(world, None, tmp_path / "run", f"model.init_from={tmp_path / 'start'}")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("lacks a weight", r"tensors 1 missing: lxmert\.pooler\.dense\.bias"),
        ("model.reinit=['lxmert.pool']", "'lxmert.pool', which is not a module of the model"),
    ],
)
def test_a_start_that_does_not_fit_is_refused_before_the_extraction(
    world: Path, model: Path, tmp_path: Path, change: str, message: str
) -> None:
    """Bug: it was refused after the extraction."""
    start = shutil.copytree(model, tmp_path / "start", ignore=shutil.ignore_patterns("regions"))
    more = [change]
    if change == "lacks a weight":
        state = load_file(start / "model.safetensors")
        del state["lxmert.pooler.dense.bias"]
        save_file(state, start / "model.safetensors", metadata={"format": "pt"})
        more = []
    with pytest.raises(ValueError, match=message):
        train(world, start / "extractor", tmp_path / "run", f"model.init_from={start}", *more)
    assert not (tmp_path / "run/regions").exists()


# Two images


def statements(world: Path, *, mixed: bool = False) -> Path:
    """Write a set of statements about two images each, beside the images of another set."""
    folder = world.parent / ("mixed" if mixed else "statements")
    if not folder.exists():
        folder.mkdir()
        (folder / "images").symlink_to(world / "images")
        lines = [
            {
                "images": [f"{number}.png", f"{(number * 5 + 1) % 30}.png"],
                "question": "both have the same color",
                "answer": number % 3 == (number * 5 + 1) % 3,
            }
            for number in range(30)
        ]
        single = {"image": "3.png", "question": "is it red?", "answer": "no"}
        write_lines(folder / "train.jsonl", [*lines, *([single] if mixed else [])])
    return folder


def test_questions_about_two_images_make_a_model_of_pairs(
    world: Path, extractor: Path, tmp_path: Path
) -> None:
    pairs = statements(world)
    lines = read_lines(pairs / "train.jsonl")
    train_lines = [line | {"split": "val" if n % 5 == 0 else "train"}
                   for n, line in enumerate(lines)]  # fmt: skip
    write_lines(pairs / "train.jsonl", train_lines)
    metrics = train(pairs, extractor, tmp_path / "run")
    assert set(metrics) >= {"accuracy", "majority"}
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["architectures"] == ["LxmertForImagesAndTextClassification"]


def test_questions_of_both_kinds_are_refused(world: Path, extractor: Path, tmp_path: Path) -> None:
    mixed = statements(world, mixed=True)
    lines = read_lines(mixed / "train.jsonl")
    valid = write_lines(tmp_path / "valid.jsonl", lines[:3])
    with pytest.raises(ValueError, match="30 questions about two images and 1 about one"):
        train(mixed, extractor, tmp_path / "run", f"data.valid={valid}")
    assert not (tmp_path / "run/regions").exists()


def test_extractor_that_are_trained_along_refuse_two_images(world: Path, tmp_path: Path) -> None:
    pairs = statements(world)
    valid = write_lines(tmp_path / "valid.jsonl", read_lines(pairs / "train.jsonl")[:3])
    with pytest.raises(ValueError, match=r"about two images, .*--set data\.extractor=FOLDER"):
        train(pairs, None, tmp_path / "run", f"data.valid={valid}")
