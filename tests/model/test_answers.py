"""Rows of an answer head carried over by the words of the answers; answers in the configuration."""

import json
import random

import pytest
import torch
from conftest import ASSETS
from torch.testing import assert_close

from lxmert.model.answers import (
    answers_of,
    carry_answers,
    map_answers,
    name_answers,
    normalize_answer,
)

from . import tiny


def read(name):
    return json.loads((ASSETS / name).read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("", ""),
        ("Red.", "red"),
        ("a.m..", "a.m."),
        ("A Man", "man"),
        ("an apple", "apple"),
        ("a an the dog", "dog"),
        ("the a an dog", "a an dog"),
        ("the", "the"),
        ("another", "another"),
        ("Ten", "10"),
        ("a one", "1"),
        ("eleven", "eleven"),
        ("Grey", "gray"),
        ("one man", "one man"),
    ],
)
def test_answers_are_normalized_as_in_the_original_code(answer, expected):
    assert normalize_answer(answer) == expected


def test_the_published_answers_are_fixed_points():
    answers = read("lxmert_all_ans_texts.json")
    assert len(answers) == 9500
    assert [normalize_answer(answer) for answer in answers] == answers


@pytest.mark.parametrize(
    ("name", "found", "count"),
    [("vqa_trainval_label2ans.json", 3124, 3129), ("gqa_trainval_label2ans.json", 1736, 1842)],
)
def test_as_many_answers_are_carried_over_as_in_the_original_code(name, found, count):
    old, new = read("lxmert_all_ans_texts.json"), read(name)
    weight = torch.arange(len(old) * 2.0).reshape(-1, 2)
    carried = map_answers(weight, weight[:, 0], old, new)
    assert (carried.found, len(carried.bias), len(carried.missing)) == (found, count, count - found)
    if count == 3129:
        assert set(carried.missing) == {"", "visilab", "5 star", "1 4", "1 world"}
    row = new.index("no")
    assert torch.equal(carried.weight[row], weight[5291])
    row = new.index(carried.missing[0])
    assert carried.weight[row].tolist() == [0, 0]
    assert carried.bias[row] == 0


def test_rows_follow_their_answers_for_any_two_lists():
    """Against a search by hand through both lists."""
    generator = random.Random(3)
    words = ["red", "Red", "a red", "the dog", "dog.", "one", "1", "grey", "gray", "yes", "no", ""]
    for _ in range(200):
        old = generator.sample(words, generator.randrange(1, len(words)))
        new = generator.sample(words, generator.randrange(1, len(words)))
        weight = torch.tensor([[3.25 + row, -row] for row in range(len(old))])
        carried = map_answers(weight, weight[:, 0], old, new)
        missing = []
        for index, answer in enumerate(new):
            equal = [row for row, other in enumerate(old) if other == answer] or [
                row
                for row, other in enumerate(old)
                if normalize_answer(other) == normalize_answer(answer)
            ]
            expected = weight[equal[0]] if equal else torch.zeros(2)
            assert torch.equal(carried.weight[index], expected), (old, new, answer)
            assert carried.bias[index] == expected[0]
            missing += [] if equal else [answer]
        assert carried.missing == tuple(missing)
        assert carried.found == len(new) - len(missing)


def test_answers_can_be_compared_in_another_way():
    weight = torch.tensor([[3.25], [-8.0]])
    options = {"old": ["red", "blue"], "new": ["RED", "bleu"]}
    carried = map_answers(weight, weight[:, 0], **options, normalize=sorted_letters)
    assert carried.bias.tolist() == [3.25, -8.0]


def sorted_letters(answer):
    return "".join(sorted(answer.lower()))


def test_a_list_of_another_length_than_the_rows_is_refused():
    with pytest.raises(ValueError, match="got 1 answers for 2 rows"):
        map_answers(torch.zeros(2, 3), torch.zeros(2), ["a"], ["a"])


@pytest.mark.parametrize("name", ["LxmertForPreTraining", "LxmertForQuestionAnswering"])
def test_a_model_keeps_its_scores_for_answers_in_another_list(name):
    """Loading with another number of answers was an error, or a head of random weights (B13)."""
    model = tiny.build(name)
    old = [f"answer {index}" for index in range(13)]
    given = tiny.inputs()
    before = model(**given).question_answering_score
    name_answers(model.config, old)
    new = ["the Answer 7", "zebra", "answer 0", *[f"word {index}" for index in range(14)]]
    carried = carry_answers(model, new)
    assert (carried.found, carried.missing[0]) == (2, "zebra")
    after = model(**given).question_answering_score
    assert after.shape == (3, 17)
    assert_close(after[:, [0, 2]], before[:, [7, 0]])
    assert after[:, 1].abs().max() == 0
    assert answers_of(model.config) == tuple(new)
    assert (model.config.num_qa_labels, model.num_qa_labels) == (17, 17)


def test_carried_answers_travel_with_the_model(tmp_path):
    model = tiny.build("LxmertForQuestionAnswering")
    carry_answers(model, ["no", "b"], old_answers=[*"abcdefghijklm"])
    model.save_pretrained(tmp_path)
    loaded = type(model).from_pretrained(tmp_path)
    assert answers_of(loaded.config) == ("no", "b")
    assert loaded.config.label2id == {"no": 0, "b": 1}
    assert_close(
        loaded(**tiny.inputs()).question_answering_score,
        model(**tiny.inputs()).question_answering_score,
    )


def test_answers_that_cannot_be_carried_are_refused():
    model = tiny.build("LxmertForQuestionAnswering")
    with pytest.raises(ValueError, match=r"does not name the 13 answers .* old_answers"):
        carry_answers(model, ["yes"])
    with pytest.raises(ValueError, match="got 2 answers for 13 rows"):
        carry_answers(model, ["yes"], old_answers=["yes", "no"])
    old = [*"abcdefghijklm"]
    with pytest.raises(ValueError, match="answer 'yes' is in the list more than once"):
        carry_answers(model, ["no", "yes", "yes"], old_answers=old)
    with pytest.raises(ValueError, match="the list of answers is empty"):
        carry_answers(model, [], old_answers=old)
    with pytest.raises(ValueError, match="no answer head"):
        carry_answers(tiny.build("LxmertForPreTraining", task_qa=False), old, old_answers=old)
    assert model.config.num_qa_labels == 13


def test_only_named_answers_count_as_named():
    config = tiny.config(num_qa_labels=2)
    assert config.id2label == {0: "LABEL_0", 1: "LABEL_1"}
    assert answers_of(config) is None
    assert answers_of(tiny.config()) is None
    name_answers(config, ["no", "yes"])
    assert answers_of(config) == ("no", "yes")
    with pytest.raises(ValueError, match="got 1 answers for a model with 2"):
        name_answers(config, ["no"])
