"""`lxmert explain-eval --modalities` on the bundled model."""

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, Command

from lxmert.pipeline import LxmertPipeline
from lxmert.workflows.modalities import UNVALIDATED, _foils

EXAMPLES = ROOT / "src/lxmert/examples"
MODEL = ROOT / "src/lxmert/default"


def run(lxmert: Command, output: Path, *options: object):  # type: ignore[no-untyped-def]
    given = {"--data": EXAMPLES / "questions.jsonl", "--images": EXAMPLES, "-o": output}
    given |= dict(zip(options[::2], options[1::2], strict=True))
    flags = [part for name, value in given.items() for part in ([name, value] if value else [name])]
    return lxmert("explain-eval", MODEL, "--modalities", *flags)


@pytest.mark.long
def test_shares_are_those_of_single_explanations(lxmert: Command, tmp_path: Path) -> None:
    done = run(lxmert, tmp_path / "out", "--limit", 2)
    assert done.code == 0, done.err
    report = json.loads((tmp_path / "out" / "modalities.json").read_text())
    pipeline = LxmertPipeline.from_pretrained(MODEL)
    for found in report["examples"]:
        explained = pipeline.explain(
            EXAMPLES / found["image"], found["text"], top_k=1, methods=["shapley"]
        )
        words, regions = (part.abs().sum() for part in explained.by_method["shapley"])
        assert found["text_share"] == pytest.approx(float(words / (words + regions)), abs=1e-5)
    mean = report["text_share"]["overall"]
    shares = [found["text_share"] for found in report["examples"]]
    assert (mean["mean"], mean["count"]) == (pytest.approx(np.mean(shares)), 2)
    assert f"{mean['mean']:.1%}" in done.out
    assert f"{1 - mean['mean']:.1%}" in done.out
    again = run(lxmert, tmp_path / "out", "--limit", 2)
    assert (again.code, again.err.count("\n")) == (2, 1)


@pytest.mark.long
def test_captions_and_foils_have_shares_of_their_own(lxmert: Command, tmp_path: Path) -> None:
    foils = tmp_path / "foils.jsonl"
    pair = {"image": "scene.png", "caption": "there is a ball", "foil": "there is a hat"}
    foils.write_text(json.dumps(pair) + "\n")
    options = ("--match", None, "--data", foils, "--samples", 200)
    done = run(lxmert, tmp_path / "out", *options)
    assert done.code == 0, done.err
    report = json.loads((tmp_path / "out" / "modalities.json").read_text())
    assert {name: row["count"] for name, row in report["text_share"].items()} == {
        "overall": 2,
        "caption": 1,
        "foil": 1,
    }
    assert [found["text"] for found in report["examples"]] == [pair["caption"], pair["foil"]]
    assert not (tmp_path / "out" / "modalities-progress.jsonl").exists()
    foils.write_text(json.dumps(pair | {"image": "none.png"}) + "\n")
    missing = run(lxmert, tmp_path / "other", *options)
    assert (missing.code, missing.err.count("\n")) == (2, 1)
    assert "none.png" in missing.err


def test_pairs_that_annotators_did_not_validate_are_counted(tmp_path: Path) -> None:
    """All of them together counted as one."""
    pair = {"image_file": "scene.png", "caption": "a ball", "foil": "a hat"}
    votes = {name: {"caption": number} for number, name in enumerate("abcd")}
    content = {name: pair | {"mturk": given} for name, given in votes.items()}
    (tmp_path / "foils.json").write_text(json.dumps(content))
    texts = _foils(tmp_path / "foils.json", None)
    assert len(texts.examples) == 4
    assert texts.findings == {UNVALIDATED: {"count": 2, "first": ["a", "b"]}}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--methods", "occlusion"), "--modalities and --methods exclude each other"),
        (("--protocol", "aopc"), "--modalities and --protocol exclude each other"),
        (("--samples", -1), "--samples is -1"),
    ],
)
def test_impossible_options_are_one_sentence(
    lxmert: Command, tmp_path: Path, options: tuple[object, ...], message: str
) -> None:
    done = run(lxmert, tmp_path / "out", *options)
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert message in done.err
    assert not (tmp_path / "out").exists()


def test_matches_belong_to_modalities(lxmert: Command, tmp_path: Path) -> None:
    done = lxmert("explain-eval", MODEL, "--data", EXAMPLES / "questions.jsonl",
                  "--images", EXAMPLES, "-o", tmp_path / "out", "--match")  # fmt: skip
    assert done.code == 2
    assert "--match is for --modalities" in done.err
