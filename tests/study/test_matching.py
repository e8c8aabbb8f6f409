"""Captions against foils and Winoground's groups, compared with the pipeline's own match scores."""

import json
from pathlib import Path

import numpy as np
import published
import pytest
from conftest import ROOT, Command
from squares import write_lines

from lxmert import LxmertPipeline
from lxmert.cli.score_tables import show_matching
from lxmert.metrics.foils import score_foils, score_groups
from lxmert.study import matching
from lxmert.study.matching import (
    evaluate_foils,
    evaluate_groups,
    match_texts,
    read_foils,
)
from lxmert.tasks.metrics import rows_by_kind

IMAGES = ROOT / "src/lxmert/examples"
NAMES = ("scene.png", "scene-1.png", "scene-2.png")
TEXTS = ("a red ball on the table", "the mug", "how many books are there ?", "the ball")

pytestmark = pytest.mark.filterwarnings("ignore::lxmert.reading.InputWarning")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model with random weights and a matching head, in a complete folder."""
    from lxmert.workflows.conversion import ConversionOptions, convert

    folder = tmp_path_factory.mktemp("matching")
    base = published.write(folder / "base", published.build("LxmertForPreTraining"))
    answers = folder / "answers.json"
    answers.write_text(json.dumps(published.ANSWERS))
    extractor = ROOT / "src/lxmert/default/extractor"
    convert(base, folder / "model", ConversionOptions(extractor=extractor, answers=answers))
    return folder / "model"


def entries() -> list[dict[str, object]]:
    return [
        {
            "image": NAMES[number % 3],
            "caption": TEXTS[number % 4],
            "foil": TEXTS[(number + 1) % 4],
            "phenomenon": "color" if number % 2 else "number",
        }
        for number in range(9)
    ]


@pytest.mark.long
def test_foils_are_scored_with_the_match_scores_of_the_pipeline(
    model: Path, lxmert: Command, tmp_path: Path
) -> None:
    data = write_lines(tmp_path / "foils.jsonl", entries())
    pipeline = LxmertPipeline.from_pretrained(model)
    pairs = [
        pipeline.match(IMAGES / str(e["image"]), [str(e["caption"]), str(e["foil"])])
        for e in entries()
    ]
    expected = score_foils([p[0] for p in pairs], [p[1] for p in pairs])
    report = evaluate_foils(model, data, images=IMAGES)
    # Of 81 pairs of scores, one may differ in its last bits only, and swap with another batch.
    assert report["scores"]["overall"] == pytest.approx(expected, abs=0.02)
    assert report["count"] == {"overall": 9, "number": 5, "color": 4}
    assert report["intervals"]["overall"].keys() == expected.keys()
    for name, (low, high) in report["intervals"]["overall"].items():
        assert low <= report["scores"]["overall"][name] <= high  # type: ignore[literal-required]
    done = lxmert(
        "evaluate", model, "--metric", "foil", "--data", data, "--images", IMAGES, "--json"
    )
    assert json.loads(done.out)["scores"]["overall"] == pytest.approx(report["scores"]["overall"])
    shown = lxmert("evaluate", model, "--metric", "pairs", "--data", data, "--images", IMAGES)
    assert f"{report['scores']['overall']['auroc'] * 100:.1f}" in shown.out


def test_valse_files_are_read_and_unvalidated_pairs_left_out(tmp_path: Path) -> None:
    entry = {"image_file": "a.jpg", "linguistic_phenomena": "actions", "foil": "a man sleeps"}
    content = {
        "one": entry | {"caption": "a man runs", "mturk": {"caption": 2, "foil": 1}},
        "two": entry | {"caption": "a man runs", "mturk": {"caption": 1, "foil": 2}},
        "three": entry | {"caption": ["a man runs"], "mturk": {"caption": 3, "foil": 0}},
    }
    (tmp_path / "actions.json").write_text(json.dumps(content))
    pairs, left_out = read_foils(tmp_path / "actions.json")
    assert [pair.pair_id for pair in pairs] == ["one", "three"]
    assert {pair[1:] for pair in pairs} == {("a.jpg", "a man runs", "a man sleeps", "actions")}
    assert left_out == ["two"]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("f.json", '{"image": "a.png", "caption": "a"}', "f.json: image: expected an object with"),
        ("f.jsonl", '{"image": "a.png"', "line 1: it is not JSON"),
        ("f.jsonl", "", "the file is empty"),
    ],
)
def test_what_is_no_pair_is_one_sentence(
    tmp_path: Path, name: str, text: str, message: str
) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=message):
        read_foils(tmp_path / name)


def test_sure_matches_do_not_tie(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In single precision both are 1, and the caption counted as no better than the foil."""
    logits = np.array([[0, 19], [0, 18]], np.float32)
    monkeypatch.setattr(matching, "score", lambda *_: logits)
    caption, foil = match_texts(model, [(text, NAMES[0]) for text in TEXTS[:2]], images=IMAGES)
    assert 1 > caption > foil


def test_a_phenomenon_named_overall_does_not_count_twice() -> None:
    assert rows_by_kind(["overall", "color"]) == {"overall": [0, 1], "color": [1]}


def test_groups_are_scored(model: Path, tmp_path: Path) -> None:
    lines = [
        {
            "id": number,
            "image_0": NAMES[number],
            "image_1": NAMES[(number + 1) % 3],
            "caption_0": TEXTS[number],
            "caption_1": TEXTS[number + 1],
            "collapsed_tag": "Object",
        }
        for number in range(3)
    ]
    pipeline = LxmertPipeline.from_pretrained(model)
    expected = []
    for line in lines:
        by_image = [
            pipeline.match(
                IMAGES / str(line[name]), [str(line["caption_0"]), str(line["caption_1"])]
            )
            for name in ("image_0", "image_1")
        ]
        expected.append([[scores[text] for scores in by_image] for text in (0, 1)])
    report = evaluate_groups(model, write_lines(tmp_path / "w.jsonl", lines), images=IMAGES)
    assert report["scores"]["overall"] == report["scores"]["Object"]
    assert report["scores"]["overall"] == pytest.approx(score_groups(expected))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"foil": ""}, r"line 1: expected an object with a text as 'foil', got ''"),
        ({"image": "none.png"}, r"lacks 1 of 4 images, the first: 'none.png'"),
        ({"caption": 7}, r"line 1: expected an object with a text as 'caption', got 7"),
    ],
)
def test_an_entry_that_cannot_be_scored_is_named(
    model: Path, tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    lines = entries()
    data = write_lines(tmp_path / "foils.jsonl", [lines[0] | changes, *lines[1:]])
    with pytest.raises(ValueError, match=message):
        evaluate_foils(model, data, images=IMAGES)


def test_what_does_not_fit_is_one_sentence(lxmert: Command, tmp_path: Path) -> None:
    data = write_lines(tmp_path / "foils.jsonl", entries())
    answering = ROOT / "src/lxmert/default"
    for options, message in (
        (("--metric", "foils"), "--metric: foils is unknown"),
        (("--metric", "foil", "--limit", 3), "--metric scores all entries"),
    ):
        done = lxmert("evaluate", answering, *options, "--data", data, "--images", IMAGES)
        assert (done.code, done.out, done.err.count("\n")) == (2, "", 1), done
        assert message in done.err


def test_intervals_of_five_scores_fit_into_a_line(capsys, monkeypatch):
    """Bug: in 80 columns, `100.0-100.0` was cut."""
    monkeypatch.setenv("COLUMNS", "80")
    names = ("accuracy", "precision_of_pairs", "caption_score", "image_score", "group_score")
    show_matching(
        {
            "scores": {"overall": dict.fromkeys(names, 1.0)},
            "intervals": {"overall": dict.fromkeys(names, (0.995, 1.0))},
            "count": {"overall": 1500},
            "warnings": (),
        }
    )
    assert capsys.readouterr().out.count("99.5-100") == 5
