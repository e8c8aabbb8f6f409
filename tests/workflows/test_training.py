"""From files to a run: what is told, what stops it and with which exit code, and by which rank."""

import json
import logging
import multiprocessing
import os
import socket
import sys
from pathlib import Path

import pytest
import torch
from conftest import ROOT, Command
from squares import read_lines, settings, write_lines, write_squares

from lxmert.workflows.training import read_with_options, train_recipe

RECIPE = ROOT / "recipes/own-data.toml"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_squares(tmp_path_factory.mktemp("world"))


def options(world: Path, *more: str, train: str = "train.jsonl") -> list[str]:
    files = f"data.train={world / train}", f"data.images={world / 'images'}"
    return settings(*files, *more)


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]


# What the check finds


def test_the_report_comes_first_and_its_summary_again_at_the_end(
    world: Path, tmp_path: Path, lxmert: Command, caplog: pytest.LogCaptureFixture
) -> None:
    lines = read_lines(world / "train.jsonl")
    write_lines(world / "odd.jsonl", [lines[0] | {"colour": 3}, *lines[1:]])
    with caplog.at_level(logging.INFO):
        done = lxmert("train", RECIPE, "-o", tmp_path / "run", *options(world, train="odd.jsonl"))
    assert done.code == 0, done.err
    summary = "train: 90 questions about 30 images, 6 answers, the most frequent is '1' (33.3%)"
    lines = told(caplog)
    finding = "note: unknown keys: 1; not read"
    assert lines.index(summary) < lines.index("findings: 1 note") < lines.index(finding)
    assert lines[-3:-1] == [summary, "findings: 1 note"]
    assert "nothing was learned" in lines[-1]  # in six steps
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
        case "misspelt_key":
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
            path.write_text("\n".join(["image,question,answer,family", *rows]))
        case "one_class":
            write_lines(path, [line | {"answer": "yes"} for line in lines])
        case "no_answers":
            write_lines(path, [{"image": line["image"], "question": "?"} for line in lines])
        case "missing_file":
            path.unlink()


HARMLESS = [
    "byte_order_mark", "windows_line_end", "renamed_image", "misspelt_key", "mixed_types",
    "duplicate_id", "empty_answer", "missing_image", "shared_image",
]  # fmt: skip


@pytest.mark.parametrize("kind", HARMLESS)
def test_untidy_data_are_trained_on_unless_they_are_to_be_strictly_tidy(
    world: Path, tmp_path: Path, lxmert: Command, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    path = tmp_path / "train.jsonl"
    path.write_bytes((world / "train.jsonl").read_bytes())
    spoil(path, kind)
    given = options(world, f"data.train={path}", "optim.steps=2", "loop.evaluate_every=")
    strict = lxmert("train", RECIPE, "-o", tmp_path / "run", *given, "--strict")
    assert strict.code == 1, strict.err
    assert "--strict stops at anything" in strict.err
    assert not (tmp_path / "run" / "recipe.toml").exists()
    with caplog.at_level(logging.INFO):
        done = lxmert("train", RECIPE, "-o", tmp_path / "run", *given)
    assert done.code == 0, done.err
    report = json.loads((tmp_path / "run" / "data-report.json").read_text())
    finding = next(finding for finding in report["findings"] if finding["kind"] == kind)
    assert any(finding["text"] in line for line in told(caplog))
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
    assert "the data cannot be trained on: mend what is marked 'stop' above" in stopped.err
    report = json.loads((tmp_path / "run" / "data-report.json").read_text())
    assert kind in [finding["kind"] for finding in report["findings"]]
    assert any(line.startswith("stop: ") for line in told(caplog))


def test_a_picture_that_is_cut_short_is_left_out_before_training(
    world: Path, tmp_path: Path, lxmert: Command
) -> None:
    """Its header is whole, so that only decoding finds it; it stopped the run half way."""
    write_squares(tmp_path / "cut")
    picture = tmp_path / "cut" / "images" / "4.png"
    picture.write_bytes(picture.read_bytes()[:-40])
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
def test_options_for_own_data_are_refused_for_other_tasks(
    tmp_path: Path, lxmert: Command, option: list[object]
) -> None:
    recipe = ROOT / "recipes/scenes-answering.toml"
    refused = lxmert("train", recipe, "-o", tmp_path, *option)
    assert refused.code == 2
    assert f"{option[0]} is for own data" in refused.err
    assert "of the task answering, which has no such setting: leave it out" in refused.err


def test_fewer_images_than_one_are_refused(world: Path, tmp_path: Path, lxmert: Command) -> None:
    refused = lxmert("train", RECIPE, "-o", tmp_path, *options(world), "--limit-images", 0)
    assert refused.code == 2
    assert "data.limit_images is 0; expected at least 1" in refused.err


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
    assert told(caplog) == [f"{tmp_path} is finished: nothing to do"]


# Several processes


def train_ranks(world: Path, folder: Path, num_ranks: int, *more: str) -> list[str]:
    """Train in processes that are forked from the test; return what each of them told."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder.mkdir()

    def work(rank: int) -> None:
        torch.set_num_threads(1)
        os.environ |= {
            "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(num_ranks),
            "LOCAL_WORLD_SIZE": str(num_ranks), "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
        }  # fmt: skip
        logging.basicConfig(
            filename=folder / f"{rank}.txt", level=logging.INFO, format="%(message)s", force=True
        )
        pairs = [option for option in options(world, *more) if option != "--set"]
        train_recipe(read_with_options(RECIPE, pairs, {}), folder / "run", cpu=True)

    fork = multiprocessing.get_context("fork")
    processes = [fork.Process(target=work, args=(rank,)) for rank in range(num_ranks)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    return [(folder / f"{rank}.txt").read_text() for rank in range(num_ranks)]


@pytest.mark.skipif(sys.platform != "linux", reason="processes are forked")
def test_two_ranks_tell_everything_once(world: Path, tmp_path: Path) -> None:
    first, second = train_ranks(world, tmp_path / "two", 2)
    assert first.count("train: 90 questions about 30 images") == 2  # before and after
    assert first.count("is finished after 6 steps") == 1
    assert second == ""
