"""Tests of explanations over a data set, with the bundled model on a few scenes."""

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from faithfulness import measure
from PIL import Image

from lxmert.explain.methods import METHODS
from lxmert.explain.perturbation import SHARES
from lxmert.hub import find_model
from lxmert.lab.scenes.dataset import SceneSettings, make_dataset
from lxmert.pipeline import LxmertPipeline
from lxmert.workflows import explanation, questions
from lxmert.workflows.attention import draw_attention
from lxmert.workflows.explanation import Subject, evaluate_explanations
from lxmert.workflows.questions import MISPLACED, UNUSABLE

METHODS_TESTED = ("attention", "gradcam")
SEEDS = (1, 2)


def silent(done: int, total: int) -> None:
    """Tell nobody."""


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("explained") / "test"
    make_dataset(folder, SceneSettings(("qa",), "test", count=2, seed=8, rounds=1))
    return folder


def subject(scenes: Path, **changes: object) -> Subject:
    plain = Subject(
        str(find_model(None)), scenes / "questions.jsonl", scenes / "images",
        METHODS_TESTED, SEEDS, None,
    )  # fmt: skip
    return plain._replace(**changes)


@pytest.fixture(scope="module")
def report(scenes: Path) -> explanation.Report:
    return evaluate_explanations(subject(scenes), scenes / "whole", progress=silent)


@pytest.mark.long
def test_the_report_is_what_all_questions_in_one_batch_give(
    scenes: Path, report: explanation.Report
) -> None:
    asked, _, _ = questions.choose_questions(
        scenes / "questions.jsonl", scenes / "images", limit=None
    )
    pipeline = LxmertPipeline.from_pretrained()
    seen = {
        image_id: pipeline.regions(scenes / "images" / image_id)
        for image_id in {row.example.image_ids[0] for row in asked}
    }
    batch = [(row, seen[row.example.image_ids[0]]) for row in asked]
    trial = explanation._make_trial(pipeline, explanation.AnswerVocabulary(pipeline.answers), batch)
    assert pipeline.answering is not None
    methods = {name: METHODS[name] for name in METHODS_TESTED}
    expected = measure(pipeline.answering, [trial], methods, seeds=SEEDS)
    assert report["questions"] == expected.questions == len(asked) > 16
    assert report["pointed"] == expected.pointed < len(asked)
    assert list(report["methods"]) == [*METHODS_TESTED, "random"]
    for curve in expected.curves:
        found = report["methods"][curve.method][curve.modality][curve.direction]
        np.testing.assert_allclose(found["accuracies"], curve.accuracies, atol=1.01 / len(asked))
        assert found["mean"] == pytest.approx(np.mean(found["areas"]))
    for name, rate in expected.pointing.items():
        assert report["methods"][name]["pointing"] == pytest.approx(rate, abs=1e-6)


def test_results_are_written_as_json_and_as_a_plot(
    scenes: Path, report: explanation.Report
) -> None:
    files = sorted(path.name for path in (scenes / "whole").iterdir())
    assert files == ["curves.png", "faithfulness.json"]
    assert json.loads((scenes / "whole/faithfulness.json").read_text()) == report
    assert report["shares"] == list(SHARES)
    with Image.open(scenes / "whole/curves.png") as plot:
        assert plot.size[0] > 800


@pytest.mark.long
def test_an_interrupted_test_ends_with_the_same_results(
    scenes: Path, report: explanation.Report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(done: int, total: int) -> None:
        if done >= 16:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate_explanations(subject(scenes), tmp_path / "out", progress=stop)
    progress = tmp_path / "out" / "progress.jsonl"
    progress.write_text(progress.read_text() + '{"questions": 16, "corr')
    with pytest.raises(ValueError, match=r"was started with .* name another folder"):
        evaluate_explanations(subject(scenes, seeds=(3,)), tmp_path / "out", progress=silent)
    computed: list[int] = []
    metrics = explanation.measure_batch

    def count(model, trial, methods, *, seeds, start):  # type: ignore[no-untyped-def]
        computed.append(start)
        return metrics(model, trial, methods, seeds=seeds, start=start)

    monkeypatch.setattr(explanation, "measure_batch", count)
    again = evaluate_explanations(subject(scenes), tmp_path / "out", progress=silent)
    assert computed[0] == 16
    assert again == report
    with pytest.raises(FileExistsError, match="exists already: name another folder"):
        evaluate_explanations(subject(scenes), tmp_path / "out", progress=silent)


def rewrite(scenes: Path, path: Path, **changes: object) -> Path:
    """Copy the questions, each with some keys replaced, or removed where None."""

    def lines() -> Iterator[str]:
        for line in (scenes / "questions.jsonl").read_text().splitlines():
            record = json.loads(line) | changes
            yield json.dumps({key: value for key, value in record.items() if value is not None})

    path.write_text("\n".join(lines()) + "\n")
    return path


@pytest.mark.long
def test_without_boxes_there_is_no_pointing_game(scenes: Path, tmp_path: Path) -> None:
    data = rewrite(scenes, tmp_path / "q.jsonl", boxes=None)
    chosen = subject(scenes, data=data, limit=3, methods=("attention",))
    found = evaluate_explanations(chosen, tmp_path / "out", progress=silent)
    assert (found["questions"], found["pointed"]) == (3, 0)
    assert [method["pointing"] for method in found["methods"].values()] == [None, None]


def test_questions_about_one_image_stay_together(scenes: Path) -> None:
    asked, left_out, findings = questions.choose_questions(
        scenes / "questions.jsonl", scenes / "images", limit=12
    )
    images = [row.example.image_ids[0] for row in asked]
    assert (len(images), left_out, findings) == (12, 0, {})
    changes = sum(one != other for one, other in zip(images[1:], images, strict=False))
    assert changes == len(set(images)) - 1


@pytest.mark.long
def test_images_are_found_by_the_names_that_training_understands(
    scenes: Path, report: explanation.Report, tmp_path: Path
) -> None:
    """Names in another case, or without ending, were refused, though `evaluate` takes them."""
    folder = tmp_path / "photos" / "deep"
    shutil.copytree(scenes / "images", folder)
    untidy = ("C:\\data\\{}", "{}", "./{}", "elsewhere/{}")
    lines = []
    for number, line in enumerate((scenes / "questions.jsonl").read_text().splitlines()):
        record = json.loads(line)
        name = untidy[number % 4].format(record["image"])
        lines.append(json.dumps(record | {"image": name.upper() if number % 2 else name[:-4]}))
    data = tmp_path / "q.jsonl"
    data.write_text("\n".join(lines) + "\n")
    chosen = subject(scenes, data=data, images=folder.parent)
    found = evaluate_explanations(chosen, tmp_path / "out", progress=silent)
    assert found == report | {"data": str(data)}
    heads = tmp_path / "heads.png"
    shares, findings = draw_attention(
        chosen.model, data, folder.parent, heads, limit=2, progress=silent
    )
    assert (len(shares) > 5, findings) == (True, {})


@pytest.mark.long
def test_questions_whose_image_or_boxes_cannot_be_used_are_counted_and_named(
    scenes: Path, tmp_path: Path
) -> None:
    """One missing image refused them all, and one damaged image ended the test half way.

    Boxes outside of the image counted as if the method had pointed at something else.
    """
    folder = tmp_path / "images"
    shutil.copytree(scenes / "images", folder)
    (folder / "damaged.png").write_bytes(b"no image")
    (folder / "half.png").write_bytes(next(folder.glob("*.png")).read_bytes()[:900])
    records = [json.loads(line) for line in (scenes / "questions.jsonl").read_text().splitlines()]
    records = [record for record in records if record.get("boxes")][:6]
    for record, changes in zip(
        records,
        [
            {"image": "gone.png"},
            {"image": "damaged.png"},
            {"image": "half.png"},
            {"boxes": [[9000, 9000, 9001, 9001]]},
            {"answer": "zebra"},
        ],
        strict=False,
    ):
        record |= changes
    data = tmp_path / "q.jsonl"
    data.write_text("".join(json.dumps(record) + "\n" for record in records))
    chosen = subject(scenes, data=data, images=folder, methods=("attention",))
    found = evaluate_explanations(chosen, tmp_path / "out", progress=silent)
    assert (found["questions"], found["pointed"], found["unknown"]) == (3, 2, 1)
    unusable, misplaced = found["findings"][UNUSABLE], found["findings"][MISPLACED]
    assert (unusable["count"], misplaced["count"]) == (3, 1)
    for name, case in zip(("gone", "damaged", "half"), unusable["first"], strict=True):
        assert f"{name}.png" in case


def test_an_image_that_is_not_there_is_named_before_anything_is_asked(
    scenes: Path, tmp_path: Path
) -> None:
    data = rewrite(scenes, tmp_path / "q.jsonl", image="none.png")
    with pytest.raises(ValueError, match=r"'none.png' is not below .* correct the names"):
        evaluate_explanations(subject(scenes, data=data), tmp_path / "out", progress=silent)
    with pytest.raises(FileNotFoundError, match="there is no image folder"):
        evaluate_explanations(
            subject(scenes, images=tmp_path / "none"), tmp_path / "out", progress=silent
        )
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_tested_is_refused(scenes: Path, tmp_path: Path) -> None:
    data = rewrite(scenes, tmp_path / "q.jsonl", answer=None)
    with pytest.raises(ValueError, match="no question with an answer"):
        evaluate_explanations(subject(scenes, data=data), tmp_path / "out", progress=silent)
    data = rewrite(scenes, tmp_path / "p.jsonl", image=None, images=["a.png", "b.png"], boxes=None)
    with pytest.raises(ValueError, match="is about two images, expected one"):
        evaluate_explanations(subject(scenes, data=data), tmp_path / "out", progress=silent)
    with pytest.raises(ValueError, match="no method 'lime'"):
        evaluate_explanations(subject(scenes, methods=("lime",)), tmp_path / "out", progress=silent)
    with pytest.raises(NotADirectoryError, match=r"p\.jsonl is a file: name a folder"):
        evaluate_explanations(subject(scenes), tmp_path / "p.jsonl", progress=silent)
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_plotted_is_not_tested_either(
    scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without matplotlib all questions were asked, and then nothing was written."""
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install matplotlib"):
        evaluate_explanations(subject(scenes), tmp_path / "out", progress=silent)
    assert not (tmp_path / "out").exists()


@pytest.mark.long
@pytest.mark.parametrize("protocol", ["aopc", "sign", "sanity"])
def test_other_protocols_report_means_with_intervals(
    scenes: Path, tmp_path: Path, protocol: str
) -> None:
    chosen = subject(scenes, protocol=protocol, limit=4, seeds=(1,))
    report = evaluate_explanations(chosen, tmp_path / "out", progress=silent)
    assert (report["protocol"], report["questions"]) == (protocol, 4)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["faithfulness.json"]
    names = METHODS_TESTED if protocol == "sanity" else (*METHODS_TESTED, "random")
    assert tuple(report["methods"]) == names
    for found in report["methods"].values():
        assert list(found) == report["measures"]
        for numbers in filter(None, found.values()):
            assert numbers["low"] <= numbers["mean"] <= numbers["high"]
            assert 1 <= numbers["count"] <= 4


@pytest.mark.long
def test_another_model_is_compared_with_sanity_only(scenes: Path, tmp_path: Path) -> None:
    itself = str(find_model(None))
    chosen = subject(scenes, protocol="sanity", limit=4, seeds=(1,), against=itself)
    report = evaluate_explanations(chosen, tmp_path / "out", progress=silent)
    assert report["against"] == itself
    for found in report["methods"].values():
        for side in ("words", "regions"):
            same = found[f"another model: {side}, Spearman"]
            assert same is None or same["mean"] == pytest.approx(1)
    with pytest.raises(ValueError, match="--against is for --protocol sanity"):
        evaluate_explanations(subject(scenes, against=itself), tmp_path / "areas", progress=silent)
    drawings = str(Path(itself).parent / "drawings")
    with pytest.raises(ValueError, match=r"--against: .*drawings has other answers than"):
        evaluate_explanations(
            chosen._replace(against=drawings), tmp_path / "other", progress=silent
        )
    assert not (tmp_path / "other").exists()
