"""The table of pretraining answers, against counting by hand."""

import json
import random
from collections import Counter

import pytest

from lxmert.data.answer_lists import read_answers
from lxmert.datasets.answer_table import AnswerCounts
from lxmert.model.answers import normalize_answer

WORDS = ["Red", "red.", "the mug", "mug", "one", "1", "grey", "gray", "yes", "no", "the .", "?"]


@pytest.mark.parametrize("seed", range(12))
def test_answers_are_counted_once_for_a_question_that_accepts_them(seed, tmp_path):
    generator = random.Random(seed)
    questions = [
        (source, dict.fromkeys(generator.sample(WORDS, generator.randrange(1, 4)), 0.3))
        for source in generator.choices(["vqa", "gqa"], k=60)
    ]
    counts, sources = Counter(), {}
    accepted = []
    for source, answers in questions:
        forms = {normalize_answer(answer) for answer in answers} - {""}
        accepted.append(forms)
        counts.update(forms)
        for form in forms:
            sources.setdefault(form, set()).add(source)
    found = AnswerCounts(normalize_answer)
    for source, answers in questions:
        found.add(source, answers)
    for number in (1, 3, 99):
        ranked = sorted(counts, key=lambda form: (-counts[form], form))[:number]
        table = found.most_frequent(number)
        assert table == sorted(ranked)
        share = sum(bool(forms & set(ranked)) for forms in accepted) / len(accepted)
        assert found.coverage(table) == pytest.approx(share)
        assert json.loads(found.table(table)) == [
            {"ans": form, "dsets": sorted(sources[form])} for form in table
        ]
    (tmp_path / "answers.json").write_text(found.table(table))
    assert read_answers(tmp_path / "answers.json").answers == tuple(table)


def test_answers_that_no_question_has_cover_nothing():
    found = AnswerCounts(normalize_answer)
    assert found.coverage(["mug"]) == 0
    found.add("vqa", {"mug": 1.0})
    assert found.coverage(["cup", "Mug"]) == 0
    assert found.coverage(["cup", "mug"]) == 1
    assert json.loads(found.table(["cup"])) == [{"ans": "cup", "dsets": []}]
