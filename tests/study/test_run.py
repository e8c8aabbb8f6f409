"""`lxmert study` on the bundled model and its example questions."""

import json
from pathlib import Path

import pytest
from conftest import ROOT, Command

from lxmert.study.trust import COMPARED

EXAMPLES = ROOT / "src/lxmert/examples"


def run(lxmert: Command, output: Path, *options: object):  # type: ignore[no-untyped-def]
    return lxmert(
        "study", ROOT / "src/lxmert/default", "--data", EXAMPLES / "questions.jsonl",
        "--images", EXAMPLES, "-o", output, *options,
    )  # fmt: skip


def test_a_study_writes_a_page_and_its_numbers(lxmert: Command, tmp_path: Path) -> None:
    done = run(lxmert, tmp_path / "out", "--explained", 3)
    assert done.code == 0, done.err
    report = json.loads((tmp_path / "out" / "study.json").read_text())
    assert report["count"] == 24
    assert report["accuracy"]["overall"] >= 22 / 24
    robust = report["robustness"]
    assert robust["image exchanged"]["accuracy"] < report["accuracy"]["overall"]
    assert 0 < report["modality"]["text_share"]["mean"] < 1
    assert report["modality"]["count"] == 3
    trusted = report["explanations"]
    assert list(trusted) == [*COMPARED, "random"]
    assert trusted["occlusion"]["AOPC"]["mean"] > trusted["random"]["AOPC"]["mean"]
    assert trusted["occlusion"]["wrong sign, regions"]["mean"] == 0
    assert trusted["attnlrp"]["Ins@15"]["count"] == 3
    page = (tmp_path / "out" / "study.html").read_text()
    assert "src=" not in page
    assert 'href="http' not in page
    for text in (
        "Accuracy by question",
        "does it use the image",
        "Calibration and risk",
        "<svg",
        "T-SHAP",
        "which to trust",
    ):
        assert text in page
    assert f"{report['accuracy']['overall']:.1%}" in done.out
    again = run(lxmert, tmp_path / "out")
    assert (again.code, again.err.count("\n")) == (2, 1)
    other = run(lxmert, tmp_path / "other", "--explained", 3, "--json")
    assert json.loads(other.out) == report


@pytest.mark.parametrize(
    ("options", "message"),
    [(("--limit", 1), "--limit is 1"), (("--explained", -1), "--explained is -1")],
)
def test_impossible_options_are_one_sentence(
    lxmert: Command, tmp_path: Path, options: tuple[object, ...], message: str
) -> None:
    done = run(lxmert, tmp_path / "out", *options)
    assert (done.code, done.out) == (2, "")
    assert message in done.err
    assert not (tmp_path / "out").exists()
