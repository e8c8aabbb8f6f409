"""The answer vocabulary and its targets."""

import pytest

from lxmert.data.answers import AnswerVocabulary
from lxmert.schema import IGNORE_INDEX

TARGETS = [{"mug": 1.0}, {"ball": 0.3, "mug": 0.6}, {"ball": 1.0}, {"hat": 1.0}]


def test_answers_are_sorted() -> None:
    assert AnswerVocabulary.build(TARGETS).answers == ("ball", "hat", "mug")


def test_targets_are_the_best_known_answer_or_all_scores() -> None:
    vocabulary = AnswerVocabulary(["mug", "ball"])
    assert [vocabulary.best_id(target) for target in TARGETS] == [0, 0, 1, IGNORE_INDEX]
    assert vocabulary.scores({"ball": 0.3, "mug": 0.6, "hat": 1.0}).tolist() == pytest.approx(
        [0.6, 0.3]
    )


def test_labels_of_a_configuration_are_read_in_order_of_their_ids() -> None:
    """A JSON file has string keys, of which "10" would sort before "9"."""
    labels = {str(index): f"answer {index}" for index in reversed(range(12))}
    vocabulary = AnswerVocabulary.from_id2label(labels)
    assert vocabulary.answers == tuple(f"answer {index}" for index in range(12))


@pytest.mark.parametrize(
    ("answers", "message"), [([], "at least one"), (["a", "b", "a"], "'a' is in the vocabulary")]
)
def test_impossible_vocabularies_are_refused(answers: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AnswerVocabulary(answers)
