"""`lxmert data build`, as a user runs it."""

import json
from pathlib import Path

import pytest
from conftest import Command
from downloads import VAL_42, write_all

from lxmert.datasets.builders import BUILDERS
from lxmert.datasets.sources import SOURCES


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_all(tmp_path / "downloads")


def test_counts_are_printed_beside_the_published_ones(
    lxmert: Command, source: Path, tmp_path: Path
) -> None:
    (tmp_path / "minival.txt").write_text(VAL_42)
    options = ("--from", source, "-o", tmp_path, "--minival", tmp_path / "minival.txt")
    result = lxmert("data", "build", "gqa", "vg-qa", *options)
    assert result.code == 0, result
    lines = [" ".join(line.split()) for line in result.out.splitlines()]
    assert lines[0] == str(tmp_path / "gqa")
    assert "train.jsonl 1 1" in lines
    assert "1 943,000 differs sentences in train (GQA, balanced)" in lines
    assert "4 1,440,000 differs sentences in train + valid (LXMERT, table 1)" in lines
    assert "1 empty answer: the question is kept as a sentence (first: 103)" in lines
    assert (tmp_path / "vg-qa/manifest.json").is_file()


def test_json_is_what_the_manifest_says(lxmert: Command, source: Path, tmp_path: Path) -> None:
    result = lxmert("data", "build", "nlvr2", "--from", source, "-o", tmp_path, "--json")
    made = json.loads(result.out)
    manifest = json.loads((tmp_path / "nlvr2/manifest.json").read_text())
    assert made["files"] == manifest["outputs"]
    assert made["checks"] == manifest["checks"]
    assert made["folder"] == str(tmp_path / "nlvr2")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["vqa", "gpa"], "no data set 'gpa': did you mean 'gqa'? choose one of vqa, gqa,"),
        (["vqa", "--num-answers", "0"], "--num-answers is 0: expected at least 1"),
        (["vqa", "--allow-missing"], "--allow-missing needs --regions"),
        (["vqa", "--minival", "nowhere"], "there is no file nowhere with the images to hold out"),
        (["vqa", "--answers", "nowhere"], "there is no answer list nowhere"),
        # Bug: GQA was built with the answer list of VQA that stood beside it in the command.
        (
            ["vqa", "gqa", "--answers", "a.json"],
            "of one data set, but 2 data sets are named (vqa and gqa)",
        ),
        (["vqa", "--regions", "nowhere"], "nowhere is no finished region store"),
    ],
)
def test_a_mistake_is_one_sentence_and_nothing_is_made(
    lxmert: Command, source: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    result = lxmert("data", "build", *arguments, "--from", source, "-o", tmp_path / "made")
    assert (result.code, result.out, len(result.err.splitlines())) == (2, "", 1)
    assert message in result.err
    assert not (tmp_path / "made").exists()


def test_the_help_names_all_that_there_is(lxmert: Command) -> None:
    """Both lists are literals in the CLI, since --help must not import the packages."""
    for command, known in ((("data", "build"), BUILDERS), (("fetch",), SOURCES)):
        text = " ".join(lxmert(*command, "--help").out.replace("│", " ").split())
        for name in known:
            assert name in text.replace("- ", "-"), name


def test_what_a_builder_lacks_can_be_fetched() -> None:
    """Errors name downloads that exist, or for some sets a web page.

    The original NLVR2 files are generated.
    """
    pages = {"vqa-ce", "vqa-rephrasings", "gqa-ood", "ok-vqa", "vizwiz", "snli-ve"}
    for name in BUILDERS:
        if name not in ("gqa-submission", "original-nlvr2", *pages):
            assert name in SOURCES
