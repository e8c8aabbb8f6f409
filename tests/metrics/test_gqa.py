"""GQA's scores: worked by hand, and against sums written out with loops."""

import random
from pathlib import Path

import pytest
from official_files import PLAIN, gqa_question, write_gqa, write_json

from lxmert.metrics.gqa import (
    GqaChoices,
    GqaQuestion,
    choice_scores,
    consistency,
    consistency_gap,
    distribution,
    score_gqa,
)
from lxmert.metrics.gqa_files import read_gqa_choices, read_gqa_predictions, read_gqa_questions


def test_scores_of_a_small_split() -> None:
    questions = {
        "1": PLAIN,
        "2": PLAIN._replace(answer="yes", structural="verify", num_words=9, semantic="rel"),
        "3": PLAIN._replace(answer="no", structural="logical", num_steps=5, group=None),
        "4": PLAIN._replace(answer="no", structural="logical", num_steps=5, group=None),
        "5": PLAIN._replace(balanced=False),
    }
    predictions = {"1": "red", "2": "no", "3": "no", "4": "No", "5": "blue"}
    assert score_gqa(questions, predictions) == {
        "accuracy": 50.0,
        "binary": pytest.approx(100 / 3),
        "open": 100.0,
        "consistency": None,
        "validity": None,
        "plausibility": None,
        "grounding": None,
        # One group with red once, found, and yes once, missed: chi-square 1.
        "distribution": pytest.approx(0.01),
        "per_structural_type": {"logical": 50.0, "query": 100.0, "verify": 0.0},
        "per_semantic_type": {"attr": pytest.approx(200 / 3), "rel": 0.0},
        "per_steps": {2: 50.0, 5: 50.0},
        "per_length": {5: pytest.approx(200 / 3), 9: 0.0},
    }


def test_answers_are_compared_exactly() -> None:
    for prediction in ("Red", " red", "red.", "the red"):
        assert score_gqa({"1": PLAIN}, {"1": prediction})["accuracy"] == 0


def test_consistency_is_the_mean_share_of_entailed_questions() -> None:
    questions = {
        "1": PLAIN._replace(entailed=("1", "3", "4")),
        "2": PLAIN._replace(entailed=("3",)),
        "3": PLAIN._replace(answer="yes", balanced=False, entailed=("4",)),
        "4": PLAIN._replace(answer="no", balanced=False),
        "5": PLAIN._replace(entailed=("3", "3", "4", "1")),
        "6": PLAIN._replace(entailed=("6",)),
    }
    # 2 is wrong, 3 is unbalanced, 6 entails itself only: 1 gives 1/2, 5 gives 3/4.
    predictions = {"1": "red", "2": "blue", "3": "yes", "4": "yes", "5": "red", "6": "red"}
    assert consistency_gap(questions, predictions) == []
    assert consistency(questions, predictions) == pytest.approx(100 * (1 / 2 + 3 / 4) / 2)


def test_consistency_needs_all_questions_and_predictions() -> None:
    questions = {"1": PLAIN._replace(entailed=("2",)), "2": PLAIN._replace(balanced=False)}
    assert consistency_gap(questions, {"1": "red"}) == ["2"]
    assert consistency(questions, {"1": "red"}) is None
    assert consistency_gap({"1": questions["1"]}, {"1": "red"}) == ["2"]
    assert consistency({"1": questions["1"]}, {"1": "red"}) is None
    # A wrong answer entails nothing, so that its entailed question need not be there.
    assert consistency_gap({"1": questions["1"]}, {"1": "blue"}) == []


def test_choices() -> None:
    questions = {"1": PLAIN, "2": PLAIN, "3": PLAIN._replace(common=True)}
    choices = [
        ("1", GqaChoices(["red", "blue"], ["red"])),
        ("2", GqaChoices(["red", "blue"], ["red"])),
        ("3", GqaChoices(["red"], ["red"])),
        ("77", GqaChoices(["red"], ["red"])),
    ]
    predictions = {"1": "blue", "2": "car", "3": "material"}
    assert choice_scores(questions, predictions, choices) == pytest.approx((200 / 3, 100 / 3))
    predictions["3"] = "red"
    assert choice_scores(questions, predictions, choices) == pytest.approx((100 / 3, 0))
    assert choice_scores(questions, predictions, []) == (None, None)


def test_distribution_by_hand() -> None:
    answers = [("color", "red", "red")] * 2 + [("color", "red", "blue"), ("color", "blue", "green")]
    # red: (2 - 3)^2 / 3, blue: (1 - 1)^2 / 1, green is no gold answer.
    assert distribution(answers) == pytest.approx(1 / 3 / 100)
    answers += [("shape", "round", "square")]
    assert distribution(answers) == pytest.approx((4 * 1 / 3 + 1 * 1) / 5 / 100)
    assert distribution([]) is None
    assert distribution([("color", "red", "red")]) == 0


def test_random_splits_agree_with_loops() -> None:
    draw = random.Random(7)
    for _ in range(200):
        keys = [str(number) for number in range(draw.randrange(1, 25))]
        questions = {
            key: PLAIN._replace(
                answer=draw.choice("abc"),
                balanced=key == "0" or draw.random() < 0.7,
                structural=draw.choice(["query", "verify", "compare"]),
                num_steps=draw.randrange(4),
                group=draw.choice(["x", "y", None]),
                entailed=tuple(draw.choices(keys, k=draw.randrange(4))),
            )
            for key in keys
        }
        predictions = {key: draw.choice("abcd") for key in keys}
        scores = score_gqa(questions, predictions)
        total = hits = binary = binary_hits = 0
        shares = []
        for key in keys:
            if not questions[key].balanced:
                continue
            hit = predictions[key] == questions[key].answer
            total, hits = total + 1, hits + hit
            if questions[key].structural != "query":
                binary, binary_hits = binary + 1, binary_hits + hit
            others = [other for other in questions[key].entailed if other != key]
            if hit and others:
                good = [other for other in others if predictions[other] == questions[other].answer]
                shares.append(len(good) / len(others))
        assert scores["accuracy"] == pytest.approx(100 * hits / total)
        assert scores["binary"] == (pytest.approx(100 * binary_hits / binary) if binary else None)
        assert scores["consistency"] == (
            pytest.approx(100 * sum(shares) / len(shares)) if shares else None
        )
        assert scores["distribution"] == slow_distribution(questions, predictions)


def slow_distribution(questions: dict[str, GqaQuestion], predictions: dict[str, str]) -> object:
    """Each gold answer of a group adds its term as often as the group has questions."""
    rows = [
        (q.group, q.answer, predictions[key])
        for key, q in questions.items()
        if q.balanced and q.group is not None
    ]
    terms = 0.0
    for group, _, _ in rows:
        members = [row for row in rows if row[0] == group]
        for answer in {row[1] for row in members}:
            expected = sum(row[1] == answer for row in members)
            observed = sum(row[2] == answer for row in members)
            terms += (observed - expected) ** 2 / expected
    return pytest.approx(terms / len(rows) / 100) if rows else None


def test_official_questions_are_read(tmp_path: Path) -> None:
    steps = [
        {"operation": "select", "argument": "scene", "dependencies": []},
        {"operation": "exist", "argument": "?", "dependencies": [0]},
        {"operation": "query", "argument": "name", "dependencies": [0]},
        {"operation": "choose name", "argument": "cup|mug", "dependencies": [0]},
        {"operation": "verify color", "argument": "nonexistent", "dependencies": [0]},
        {"operation": "query", "argument": "material", "dependencies": [0]},
    ]
    record = gqa_question(
        "wood",
        question="What is  it made\tof?",
        detailed="twoCommon",
        semantic=steps,
        groups={"global": None, "local": "x"},
        entailed=["99", "5"],
        annotations={"question": {"0": "31", "2:4": "7"}, "answer": {}, "fullAnswer": {"1": "31"}},
    )
    paths = write_gqa(tmp_path, {"5": record}, {"5": "wood"})
    assert read_gqa_questions(paths["questions"]) == {
        "5": GqaQuestion(
            answer="wood",
            balanced=True,
            structural="query",
            semantic="attr",
            common=True,
            num_words=5,
            num_steps=2,
            group=None,
            entailed=("99", "5"),
            image_id="2354786",
            object_ids=("31", "7", "31"),
        )
    }
    assert read_gqa_predictions(paths["predictions"]) == {"5": "wood"}


def test_a_folder_of_parts_is_one_set_of_questions(tmp_path: Path) -> None:
    for part, key in enumerate(("5", "3")):
        write_json(tmp_path / f"train_all_questions_{part}.json", {key: gqa_question()})
    assert set(read_gqa_questions(tmp_path)) == {"3", "5"}
    write_json(tmp_path / "train_all_questions_2.json", {"3": gqa_question()})
    with pytest.raises(ValueError, match="'3' more than once"):
        read_gqa_questions(tmp_path)


def test_choices_are_read(tmp_path: Path) -> None:
    path = write_json(tmp_path / "c.json", {"5": {"valid": ["red", "blue"], "plausible": ["red"]}})
    assert dict(read_gqa_choices(path)) == {"5": (["red", "blue"], ["red"])}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"answer": None}, r"\['8'\]: 'answer' is null, expected a text"),
        ({"isBalanced": "yes"}, "'isBalanced' is \"yes\", expected true or false"),
        ({"semantic": "select: bag"}, "'semantic' is .*, expected a list of objects"),
        ({"groups": {"global": 7}}, "'global' in 'groups' is 7"),
        ({"entailed": [7]}, "'entailed' is .*, expected a list of texts"),
        ({"types": []}, "'types' is .*, expected an object"),
    ],
)
def test_a_wrong_question_is_named(tmp_path: Path, change: dict[str, object], message: str) -> None:
    path = write_json(tmp_path / "q.json", {"5": gqa_question(), "8": {**gqa_question(), **change}})
    with pytest.raises(ValueError, match=message):
        read_gqa_questions(path)
