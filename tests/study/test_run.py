"""`lxmert study` on the bundled model and its example questions."""

import json
from pathlib import Path

import pytest
from conftest import ROOT, Command

from lxmert.exported import MANIFEST
from lxmert.study import run as run_module
from lxmert.study.answers import open_questions
from lxmert.study.trust import COMPARED

EXAMPLES = ROOT / "src/lxmert/examples"


def run(lxmert: Command, output: Path, *options: object):  # type: ignore[no-untyped-def]
    return lxmert(
        "study", ROOT / "src/lxmert/default", "--data", EXAMPLES / "questions.jsonl",
        "--images", EXAMPLES, "-o", output, *options,
    )  # fmt: skip


@pytest.mark.long
def test_a_study_writes_a_page_and_its_numbers(lxmert: Command, tmp_path: Path) -> None:
    done = run(lxmert, tmp_path / "out", "--explained", 2, "--samples", 200)
    assert done.code == 0, done.err
    report = json.loads((tmp_path / "out" / "study.json").read_text())
    assert report["count"] == 24
    assert report["accuracy"]["overall"] >= 22 / 24
    robust = report["robustness"]
    assert robust["image exchanged"]["accuracy"] < report["accuracy"]["overall"]
    assert 0 < report["modality"]["text_share"]["mean"] < 1
    assert report["modality"]["count"] == 2
    trusted = report["explanations"]
    assert list(trusted) == [*COMPARED, "random"]
    assert trusted["occlusion"]["AOPC"]["mean"] > trusted["random"]["AOPC"]["mean"]
    assert trusted["occlusion"]["wrong sign, regions"]["mean"] == 0
    assert trusted["attnlrp"]["Ins@15"]["count"] == 2
    for method in COMPARED:
        assert 0 <= trusted[method]["regions removed"]["mean"] <= 100
    # Raw attention does not know which answer it explains; occlusion does.
    assert trusted["attention"]["words, another answer"]["mean"] == 1
    assert trusted["occlusion"]["words, another answer"]["mean"] < 1
    assert "words, another answer" not in trusted["random"]
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
        "In short",
        "Sanity checks",
        "Accuracy after removal",
        "They were run on 2 questions",
    ):
        assert text in page
    assert f"{report['accuracy']['overall']:.1%}" in done.out
    again = run(lxmert, tmp_path / "out")
    assert (again.code, again.err.count("\n")) == (2, 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--limit", 1), "--limit is 1"),
        (("--explained", -1), "--explained is -1"),
        (("--samples", 0), "--samples is 0"),
    ],
)
def test_impossible_options_are_one_sentence(
    lxmert: Command, tmp_path: Path, options: tuple[object, ...], message: str
) -> None:
    done = run(lxmert, tmp_path / "out", *options)
    assert (done.code, done.out) == (2, "")
    assert message in done.err
    assert not (tmp_path / "out").exists()


@pytest.mark.long
def test_an_interrupted_study_goes_on_where_it_was(
    lxmert: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ("--explained", 2, "--limit", 2, "--samples", 100)
    assert run(lxmert, tmp_path / "whole", *options).code == 0
    original, explained = run_module.measure_question, []

    def interrupted(*given: object, index: int, **others: object) -> object:
        explained.append(index)
        if explained == [0, 1]:
            raise KeyboardInterrupt
        return original(*given, index=index, **others)

    monkeypatch.setattr(run_module, "measure_question", interrupted)
    run(lxmert, tmp_path / "out", *options)
    assert not (tmp_path / "out" / "study.json").exists()
    other = run(lxmert, tmp_path / "out", *options[:-1], 300)
    assert (other.code, other.err.count("\n")) == (2, 1)
    assert "samples 100, not 300" in other.err
    done = run(lxmert, tmp_path / "out", *options, "--json")
    assert done.code == 0
    assert explained == [0, 1, 1]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "study.html",
        "study.json",
    ]
    first, second = (tmp_path / name / "study.json" for name in ("whole", "out"))
    assert first.read_text() == second.read_text()
    assert json.loads(done.out) == json.loads(first.read_text())


def test_questions_are_explained_on_the_device_of_the_model() -> None:
    """On a GPU, the inputs stayed in the memory of the CPU, and the study failed."""
    predictor, corpus, read = open_questions(
        ROOT / "src/lxmert/default", EXAMPLES / "questions.jsonl", images=EXAMPLES, limit=2
    )
    run_module._answering(predictor).to("meta")
    (question,) = run_module._explainable(predictor, corpus, read, 1, 0)
    assert {value.device.type for value in question.inputs.values()} == {"meta"}


@pytest.mark.parametrize(
    "command",
    [("study",), ("states",), ("evaluate", "--metric", "foil"), ("compress", "--cross", 0.5)],
)
def test_an_exported_model_is_refused_in_one_sentence(
    lxmert: Command, tmp_path: Path, command: tuple[object, ...]
) -> None:
    """The study failed after its last answer; the others missed config.json."""
    exported = tmp_path / "exported"
    exported.mkdir()
    (exported / MANIFEST).write_text("{}")
    data = tmp_path / "foils.jsonl"
    data.write_text('{"image": "scene.png", "caption": "a ball", "foil": "a hat"}\n')
    given = ("--data", data, "--images", EXAMPLES)
    done = lxmert(*command, exported, *given, "-o", tmp_path / "out")
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1), done
    assert "is an exported model: expected one in PyTorch" in done.err


def test_unknown_words_are_told_once(
    lxmert: Command, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """They were told again with each change of the input."""
    lines = [
        {"image": f"scene{part}.png", "question": "What hue has the zyx?", "answer": "red"}
        for part in ("", "-1")
    ]
    questions = tmp_path / "questions.jsonl"
    questions.write_text("".join(json.dumps(line) + "\n" for line in lines))
    done = lxmert(
        "study", ROOT / "src/lxmert/default", "--data", questions, "--images", EXAMPLES,
        "-o", tmp_path / "out", "--explained", 0,
    )  # fmt: skip
    assert done.code == 0, done.err
    assert caplog.text.count("2 of 2 texts contain words") == 1


@pytest.mark.long
def test_the_robust_suite_has_the_numbers_of_the_study(lxmert: Command, tmp_path: Path) -> None:
    run(lxmert, tmp_path / "out", "--explained", 0)
    study = json.loads((tmp_path / "out" / "study.json").read_text())
    command = evaluate_robust(lxmert, "-o", tmp_path / "robust.json")
    assert command.code == 0, command.err
    report = json.loads((tmp_path / "robust.json").read_text())
    assert report == {name: study[name] for name in report}
    for text in ("question exchanged", f"{study['robustness']['noisy features']['accuracy']:.1%}"):
        assert text in command.out
    sure = study["confidence"]
    assert f"confidence of {sure['threshold']:.2f} or more, chosen for 5.0%" in command.out
    risky = json.loads(evaluate_robust(lxmert, "--risk", 0.5, "--json").out)["confidence"]
    assert risky["accepted_risk"] == 0.5
    assert risky["answered"] >= sure["answered"]


def evaluate_robust(lxmert: Command, *options: object):  # type: ignore[no-untyped-def]
    return lxmert(
        "evaluate", ROOT / "src/lxmert/default", "--data", EXAMPLES / "questions.jsonl",
        "--images", EXAMPLES, "--suite", "robust", *options,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--suite", "strong"), "--suite is 'strong': expected robust"),
        (("--risk", 2), "--risk is 2: expected 0 to 1, and --suite robust"),
        (("--modality", "text"), "--suite has its own scores: leave out"),
    ],
)
def test_impossible_options_of_the_suite_are_one_sentence(
    lxmert: Command, options: tuple[object, ...], message: str
) -> None:
    done = evaluate_robust(lxmert, *options)
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert message in done.err


@pytest.mark.long
def test_captions_against_foils_are_a_part_of_the_study(lxmert: Command, tmp_path: Path) -> None:
    foils = tmp_path / "foils.jsonl"
    colors = (("yellow ball", "purple ball"), ("purple mug", "green mug"))
    pairs = [
        {
            "image": "scene.png",
            "caption": f"there is a {true}",
            "foil": f"there is a {false}",
            "phenomenon": "<color>",
        }
        for true, false in colors
    ]
    foils.write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    done = run(lxmert, tmp_path / "out", "--explained", 0, "--limit", 8, "--foils", foils)
    assert done.code == 0, done.err
    report = json.loads((tmp_path / "out" / "study.json").read_text())
    assert report["foils"]["count"] == {"overall": 2, "<color>": 2}
    assert "than the same caption with one error in 100.0%" in done.out
    page = (tmp_path / "out" / "study.html").read_text()
    assert "<td>&lt;color&gt;</td><td>2</td><td>100.0%</td>" in page.replace("\n", "")
    assert "which to trust" not in page
