"""From files to a run: what is reported, what stops it, with which exit code, by which rank."""

import json
import logging
import random
import sys
import time
from contextlib import closing
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
import torch
from conftest import ROOT, Command
from ranks import finish, kill, start_ranks, wait_for
from safetensors.torch import load_file
from squares import read_lines, settings, write_lines, write_squares
from torch.nn.modules.module import register_module_forward_hook

from lxmert.locks import FolderLock
from lxmert.model.layers import LxmertIntermediate
from lxmert.workflows.training import read_with_options, train_recipe

RECIPE = ROOT / "src/lxmert/recipes/custom.toml"

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are forked")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_squares(tmp_path_factory.mktemp("world"))


def options(world: Path, *more: str, train: str = "train.jsonl") -> list[str]:
    files = f"data.train={world / train}", f"data.images={world / 'images'}"
    return settings(*files, *more)


def reported(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]


# What the check finds


@pytest.mark.long
def test_the_report_comes_first_and_its_summary_again_at_the_end(
    world: Path, tmp_path: Path, lxmert: Command, caplog: pytest.LogCaptureFixture
) -> None:
    lines = read_lines(world / "train.jsonl")
    write_lines(world / "odd.jsonl", [lines[0] | {"colour": 3}, *lines[1:]])
    with caplog.at_level(logging.INFO):
        done = lxmert("train", RECIPE, "-o", tmp_path / "run", *options(world, train="odd.jsonl"))
    assert done.code == 0, done.err
    summary = "train: 90 questions about 30 images, 6 answers, the most frequent is '1' (33.3%)"
    lines = reported(caplog)
    finding = "note: unknown keys: 1; ignored"
    assert lines.index(summary) < lines.index("findings: 1 note") < lines.index(finding)
    again = len(lines) - lines[::-1].index(summary)
    assert lines[again] == "findings: 1 note"
    assert "learned nothing" in lines[again + 1]  # in six steps
    assert lines[again + 2].startswith("overall: ")  # then the report by question type
    assert lines.count(finding) == 1


def spoil(path: Path, kind: str) -> None:
    """Make a tidy file untidy in one way."""
    lines = read_lines(path)
    text = path.read_text(encoding="utf-8")
    match kind:
        case "byte_order_mark":
            path.write_text(text, encoding="utf-8-sig")
        case "windows_line_end":
            path.write_bytes(text.replace("\n", "\r\n").encode())
        case "renamed_image":
            write_lines(path, [line | {"image": str(line["image"]).upper()} for line in lines])
        case "misspelled_key":
            first = {"anwser" if key == "answer" else key: lines[0][key] for key in lines[0]}
            write_lines(path, [first, *lines[1:]])
        case "mixed_types":
            write_lines(path, [line | {"answer": 1} if line["answer"] == "1" else line
                               for line in lines[:60]] + lines[60:])  # fmt: skip
        case "duplicate_id":
            write_lines(path, [line | {"question_id": number // 2}
                               for number, line in enumerate(lines)])  # fmt: skip
        case "empty_answer":
            write_lines(path, [lines[0] | {"answer": " "}, *lines[1:]])
        case "missing_image":
            write_lines(path, [lines[0] | {"image": "nowhere.png"}, *lines[1:]])
        case "shared_image":
            write_lines(path, [line | {"split": ["train", "val"][number % 2]}
                               for number, line in enumerate(lines)])  # fmt: skip
        case "csv":
            rows = [",".join(map(str, line.values())) for line in lines]
            path.write_text("\n".join(["image,question,answer,image", *rows]))
        case "one_class":
            write_lines(path, [line | {"answer": "yes"} for line in lines])
        case "no_answers":
            write_lines(path, [{"image": line["image"], "question": "?"} for line in lines])
        case "missing_file":
            path.unlink()


HARMLESS = ["byte_order_mark", "renamed_image", "missing_image", "shared_image"]
HARMLESS_AS_WELL = [
    "windows_line_end", "misspelled_key", "mixed_types", "duplicate_id", "empty_answer",
]  # fmt: skip


@pytest.mark.long
@pytest.mark.parametrize(
    "kind", [*HARMLESS, *(pytest.param(kind, marks=pytest.mark.slow) for kind in HARMLESS_AS_WELL)]
)
def test_untidy_data_are_trained_on_unless_they_are_to_be_strictly_tidy(
    world: Path, tmp_path: Path, lxmert: Command, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    path = tmp_path / "train.jsonl"
    path.write_bytes((world / "train.jsonl").read_bytes())
    spoil(path, kind)
    given = options(world, f"data.train={path}", "optim.steps=2", "loop.evaluate_every=")
    strict = lxmert("train", RECIPE, "-o", tmp_path / "run", *given, "--strict")
    assert strict.code == 1, strict.err
    assert "--strict stops at any" in strict.err
    assert not (tmp_path / "run" / "recipe.toml").exists()
    with caplog.at_level(logging.INFO):
        done = lxmert("train", RECIPE, "-o", tmp_path / "run", *given)
    assert done.code == 0, done.err
    report = json.loads((tmp_path / "run" / "data-report.json").read_text())
    finding = next(finding for finding in report["findings"] if finding["kind"] == kind)
    assert any(finding["text"] in line for line in reported(caplog))
    assert finding["cases"][0]["line"] > 0


@pytest.mark.parametrize("kind", ["csv", "one_class", "no_answers", "missing_file"])
def test_senseless_data_stop_with_exit_code_2(
    world: Path, tmp_path: Path, lxmert: Command, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    path = tmp_path / "train.jsonl"
    path.write_bytes((world / "train.jsonl").read_bytes())
    spoil(path, kind)
    with caplog.at_level(logging.INFO):
        given = options(world, f"data.train={path}")
        stopped = lxmert("train", RECIPE, "-o", tmp_path / "run", *given)
    assert (stopped.code, stopped.out) == (2, "")
    assert "the data cannot be used for training: fix the errors marked 'stop' above" in stopped.err
    report = json.loads((tmp_path / "run" / "data-report.json").read_text())
    assert kind in [finding["kind"] for finding in report["findings"]]
    assert any(line.startswith("stop: ") for line in reported(caplog))


def test_an_image_that_is_cut_short_is_left_out_before_training(
    world: Path, tmp_path: Path, lxmert: Command
) -> None:
    """Its header is whole, so that only decoding finds it; it stopped the run half way."""
    write_squares(tmp_path / "cut")
    image = tmp_path / "cut" / "images" / "4.png"
    image.write_bytes(image.read_bytes()[:-40])
    done = lxmert("train", RECIPE, "-o", tmp_path / "run", *options(tmp_path / "cut"))
    assert done.code == 0, done.err
    report = json.loads((tmp_path / "run" / "data-report.json").read_text())
    assert report["splits"]["train"]["left_out"] == {"broken_image": 3}


# Options


def test_options_are_settings(world: Path) -> None:
    files = [f"data.train={world / 'train.jsonl'}", f"data.images={world / 'images'}"]
    recipe = read_with_options(RECIPE, files, {"strict": True, "limit_images": 7})
    again = read_with_options(RECIPE, [*files, "data.strict=true", "data.limit_images=7"], {})
    assert recipe == again


@pytest.mark.parametrize("option", [["--strict"], ["--limit-images", 3]])
def test_options_for_custom_data_are_refused_for_other_tasks(
    tmp_path: Path, lxmert: Command, option: list[object]
) -> None:
    recipe = ROOT / "src/lxmert/recipes/lab/scenes-answering.toml"
    refused = lxmert("train", recipe, "-o", tmp_path, *option)
    assert refused.code == 2
    assert f"{option[0]} is for custom data" in refused.err
    assert "of the task answering, which has no such setting: leave it out" in refused.err


def test_fewer_images_than_one_are_refused(world: Path, tmp_path: Path, lxmert: Command) -> None:
    refused = lxmert("train", RECIPE, "-o", tmp_path, *options(world), "--limit-images", 0)
    assert refused.code == 2
    assert "data.limit_images: got 0, expected above 0" in refused.err


@pytest.mark.long
def test_another_recipe_is_refused_before_anything_is_prepared(
    world: Path, tmp_path: Path, lxmert: Command, caplog: pytest.LogCaptureFixture
) -> None:
    given = options(world)
    assert lxmert("train", RECIPE, "-o", tmp_path, *given).code == 0
    caplog.clear()
    with caplog.at_level(logging.INFO):
        refused = lxmert("train", RECIPE, "-o", tmp_path, *given, "--set", "optim.lr=0.5")
        finished = lxmert("train", RECIPE, "-o", tmp_path, *given, "--strict")
    assert (refused.code, finished.code) == (2, 0)
    assert "optim.lr is 0.5" in refused.err
    done = f"{tmp_path} is finished: nothing to do; other data need another folder"
    assert reported(caplog) == [done]


@pytest.mark.long
def test_layers_that_are_computed_again_learn_the_same(world: Path, tmp_path: Path) -> None:
    runs = []
    handle = register_module_forward_hook(
        lambda module, *_: runs.append(1) if isinstance(module, LxmertIntermediate) else None
    )
    counts = []
    for name, setting in (("plain", "false"), ("again", "true")):
        files = f"data.train={world / 'train.jsonl'}", f"data.images={world / 'images'}"
        pairs = [option for option in settings(*files) if option != "--set"]
        recipe = read_with_options(RECIPE, [*pairs, f"loop.gradient_checkpointing={setting}"], {})
        train_recipe(recipe, tmp_path / name, cpu=True)
        counts.append(len(runs))
        runs.clear()
    handle.remove()
    assert counts[1] >= counts[0] + 6 * 2  # of each step at least the layers of both sides
    plain, again = (load_file(tmp_path / n / "model.safetensors") for n in ("plain", "again"))
    for name, weights in plain.items():
        torch.testing.assert_close(again[name], weights, rtol=1e-4, atol=1e-5)


# Several processes


def start(world: Path, folder: Path, num_ranks: int, *more: str) -> list[BaseProcess]:
    """Train in processes of their own, each of which tells into a file."""
    folder.mkdir(exist_ok=True)
    pairs = [option for option in options(world, *more) if option != "--set"]

    def work(rank: int) -> None:
        logging.basicConfig(
            filename=folder / f"{rank}.txt", level=logging.INFO, format="%(message)s", force=True
        )
        train_recipe(read_with_options(RECIPE, pairs, {}), folder / "run", cpu=True)

    return start_ranks(work, num_ranks)


@pytest.mark.long
def test_two_ranks_tell_everything_once(world: Path, tmp_path: Path) -> None:
    """The report came from both, and both wrote its file."""
    finish(start(world, tmp_path / "two", 2))
    first, second = ((tmp_path / "two" / f"{rank}.txt").read_text() for rank in range(2))
    assert first.count("train: 90 questions about 30 images") == 2  # before and after
    assert first.count("is finished after 6 steps") == 1
    assert second == ""


def assert_killed_run_is_identical(world: Path, folder: Path, num_ranks: int, times: int) -> None:
    """Kill a run again and again, from its first file on, and compare it with one left alone."""
    more = (f"optim.steps={10 * times}", "loop.checkpoint_every=3", "loop.evaluate_every=7")
    finish(start(world, folder / "whole", num_ranks, *more))
    seed = random.randrange(2**32)
    print(f"seed of the instants: {seed}")
    instants = random.Random(seed)
    run = folder / "killed" / "run"
    for number in range(times):
        before = set(run.rglob("*"))
        processes = start(world, folder / "killed", num_ranks, *more)
        # First while images are prepared, then within training.
        wanted = "images/*" if number == 0 else "checkpoints/step-*"
        if wait_for(lambda: set(run.glob(wanted)) - before, processes[0]):  # noqa: B023
            time.sleep(instants.uniform(0, 0.1))
        kill(processes)
    assert not (run / "finished.json").exists()
    finish(start(world, folder / "killed", num_ranks, *more))
    for name in ("model.safetensors", "extractor/model.safetensors", "best/model.safetensors"):
        ours, theirs = (load_file(folder / which / "run" / name) for which in ("killed", "whole"))
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs), name


@pytest.mark.long
@pytest.mark.parametrize("num_ranks", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_killed_runs_end_bit_identical(world: Path, tmp_path: Path, num_ranks: int) -> None:
    assert_killed_run_is_identical(world, tmp_path, num_ranks, 2)


@pytest.mark.slow
@pytest.mark.parametrize("num_ranks", [1, 2])
def test_runs_that_are_killed_twenty_times_end_bit_identical(
    world: Path, tmp_path: Path, num_ranks: int
) -> None:
    assert_killed_run_is_identical(world, tmp_path, num_ranks, 20)


def test_a_second_command_in_the_folder_does_not_even_prepare(world: Path, tmp_path: Path) -> None:
    """It wrote its report and prepared images beside the first, until training began."""
    (tmp_path / "run").mkdir()
    recipe = read_with_options(RECIPE, [option for option in options(world) if "=" in option], {})
    with closing(FolderLock(tmp_path / "run")):
        with pytest.raises(ValueError, match="run is being written by another process"):
            train_recipe(recipe, tmp_path / "run", cpu=True)
        assert not any((tmp_path / "run").iterdir())
