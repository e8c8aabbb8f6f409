"""The official NLVR2 scores: accuracy, and consistency over the image pairs of a sentence."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TypedDict

from lxmert.metrics.fields import Record, text_field
from lxmert.metrics.files import collect, read_json_lines, read_lines

TRUTHS = {"true": True, "false": False}
"""Lower-case labels and predictions; the official script ignores case."""


class Nlvr2Scores(TypedDict):
    """Fractions in `[0, 1]`.

    Attributes:
        accuracy: fraction of correct examples.
        consistency: fraction of sentences for which all examples are correct.
    """

    accuracy: float
    consistency: float


def read_nlvr2_labels(path: Path) -> dict[str, bool]:
    """Return the labels of an official JSON Lines file by identifier.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: naming the line with the error, or an identifier that occurs twice.
    """
    return collect(read_json_lines(path, _label), path)


def read_nlvr2_predictions(path: Path) -> dict[str, bool]:
    """Return predictions from lines of `identifier,True|False`; errors as for labels."""
    return collect(_predictions(path), path)


def score_nlvr2(labels: Mapping[str, bool], predictions: Mapping[str, bool]) -> Nlvr2Scores:
    """Compute accuracy and consistency.

    Args:
        labels: by identifier; at least one.
        predictions: one for each of them.

    Source: the NLVR2 script of lil-lab/nlvr.
    """
    right = {key: predictions[key] == label for key, label in labels.items()}
    sentences: dict[str, bool] = {}
    for key, hit in right.items():
        sentence = sentence_key(key)
        sentences[sentence] = sentences.get(sentence, True) and hit
    return {
        "accuracy": sum(right.values()) / len(right),
        "consistency": sum(sentences.values()) / len(sentences),
    }


def sentence_key(identifier: str) -> str:
    """Return the key shared by all examples of a sentence: the identifier without the pair number.

    Raises:
        ValueError: if the identifier does not have the form split-set-pair-sentence.
    """
    parts = identifier.split("-")
    if len(parts) != 4:
        raise ValueError(
            f"the identifier is {identifier[:60]!r}, expected split-set-pair-sentence, such as "
            "dev-850-0-1"
        )
    return "-".join((*parts[:2], "", parts[3]))


def _label(entry: Record) -> tuple[str, bool]:
    key = text_field(entry, "identifier")
    sentence_key(key)
    return key, _truth(text_field(entry, "label"))


def _predictions(path: Path) -> Iterator[tuple[str, bool]]:
    for number, line in read_lines(path):
        parts = line.split(",")
        if len(parts) != 2:
            raise ValueError(
                f"{path} line {number} is {line[:60]!r}, expected identifier,True or "
                "identifier,False"
            )
        try:
            yield parts[0], _truth(parts[1])
        except ValueError as error:
            raise ValueError(f"{path} line {number}: {error}") from error


def _truth(text: str) -> bool:
    if text.lower() not in TRUTHS:
        raise ValueError(f"got {text[:60]!r}, expected True or False")
    return TRUTHS[text.lower()]
