"""Kinds of questions by their first words, and what each kind suggests."""

import numpy as np

from lxmert.data.question_kinds import QuestionKinds, answer_priors

TEXTS = ["What color is the ball?", "What color is it?", "what color are they", "How many?", "Why?"]


def test_a_kind_is_the_longest_beginning_that_recurs() -> None:
    kinds = QuestionKinds(TEXTS)
    assert kinds.names == ["", "what", "what color", "what color is"]
    found = [kinds.names[kinds.place(text)] for text in TEXTS]
    assert found == ["what color is", "what color is", "what color", "", ""]
    assert kinds.names[kinds.place("What is this?")] == "what"
    assert kinds.names[kinds.place("")] == ""


def test_rare_beginnings_are_left_out_of_many_questions() -> None:
    texts = ["Is it red?"] * 2_000 + ["Who is it?"] * 3
    assert "who" not in QuestionKinds(texts).names
    assert "is it red" in QuestionKinds(texts).names


def test_priors_are_mean_scores() -> None:
    scores = [np.array(row, np.float32) for row in ([1, 0], [0, 0.5], [0, 1])]
    priors = answer_priors(np.array([2, 2, 0]), scores, 3)
    np.testing.assert_allclose(priors, [[0, 1], [0, 0], [0.5, 0.25]])
