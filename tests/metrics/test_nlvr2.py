"""NLVR2's accuracy and consistency."""

import random
from pathlib import Path

import pytest
from official_files import write_nlvr2

from lxmert.metrics.nlvr2 import (
    read_nlvr2_labels,
    read_nlvr2_predictions,
    score_nlvr2,
    sentence_key,
)


def test_a_sentence_counts_when_all_of_its_pairs_are_right() -> None:
    labels = {
        "dev-850-0-0": True,
        "dev-850-1-0": False,
        "dev-850-0-1": True,
        "dev-851-0-0": True,
        "test1-850-0-0": False,
    }
    predictions = {**labels, "dev-850-1-0": True, "dev-999-0-0": True}
    # Sentences: dev-850's 0 (one of two right), dev-850's 1, dev-851's 0, test1-850's 0.
    assert score_nlvr2(labels, predictions) == {"accuracy": 4 / 5, "consistency": 3 / 4}


def test_the_pair_is_the_third_part() -> None:
    assert sentence_key("dev-850-3-1") == sentence_key("dev-850-0-1")
    assert len({sentence_key(key) for key in ("dev-1-0-0", "dev-1-0-1", "dev-0-0-0")}) == 3
    with pytest.raises(ValueError, match="'dev-850-0', expected split-set"):
        sentence_key("dev-850-0")


def test_random_splits_agree_with_sets_of_sentences() -> None:
    draw = random.Random(9)
    for _ in range(200):
        keys = {
            f"dev{draw.randrange(2)}-{draw.randrange(3)}-{draw.randrange(4)}-{draw.randrange(2)}"
            for _ in range(draw.randrange(1, 30))
        }
        labels = {key: draw.random() < 0.5 for key in sorted(keys)}
        predictions = {key: draw.random() < 0.5 for key in labels}
        wrong = {key for key in labels if labels[key] != predictions[key]}
        sentences = {tuple(key.split("-")[i] for i in (0, 1, 3)) for key in labels}
        broken = {tuple(key.split("-")[i] for i in (0, 1, 3)) for key in wrong}
        assert score_nlvr2(labels, predictions) == {
            "accuracy": pytest.approx(1 - len(wrong) / len(labels)),
            "consistency": pytest.approx(1 - len(broken) / len(sentences)),
        }


def test_official_files_are_read(tmp_path: Path) -> None:
    paths = write_nlvr2(
        tmp_path,
        {"dev-850-0-0": True, "dev-850-1-0": False},
        "dev-850-1-0,false\r\n\ndev-850-0-0,True",
    )
    assert read_nlvr2_labels(paths["examples"]) == {"dev-850-0-0": True, "dev-850-1-0": False}
    assert read_nlvr2_predictions(paths["predictions"]) == {
        "dev-850-1-0": False,
        "dev-850-0-0": True,
    }


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("dev-850-1-0,1", "line 2: got '1', expected True or False"),
        ("identifier,prediction", "line 2: got 'prediction'"),
        ("dev-850-1-0", "line 2 is 'dev-850-1-0', expected identifier,True"),
        ("dev-850-1-0,True,0.9", "line 2 is"),
        ("dev-850-0-0,False", "'dev-850-0-0' more than once"),
    ],
)
def test_a_wrong_prediction_is_named(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "predictions.csv"
    path.write_text(f"dev-850-0-0,True\n{line}\n")
    with pytest.raises(ValueError, match=message):
        read_nlvr2_predictions(path)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            '{"identifier": "dev-850-0-0", "label": "Tr',
            "line 1 is not valid JSON .Unterminated string",
        ),
        ('{"identifier": "dev-850-0-0", "label": true}', "line 1: 'label' is .*, expected a text"),
        ('{"identifier": "dev-850-0", "label": "True"}', "line 1: the identifier is 'dev-850-0'"),
        ("[]", "line 1 is .*, expected an object"),
    ],
)
def test_a_wrong_example_is_named(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "dev.json"
    path.write_text(line + "\n")
    with pytest.raises(ValueError, match=message):
        read_nlvr2_labels(path)
