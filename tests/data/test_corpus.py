"""The flat corpus returns the same examples as the plain reader."""

import json
import pickle
import tracemalloc
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from lxmert.data.answers import AnswerVocabulary
from lxmert.data.columns import RaggedWriter, TextWriter
from lxmert.data.corpus import Corpus, Targets
from lxmert.data.encoding import cut
from lxmert.data.readers import read_questions
from lxmert.data.tokenizer import build_tokenizer
from lxmert.data.tokens import Tokens
from lxmert.schema import IGNORE_INDEX, Example
from lxmert.tasks.baselines import Baselines
from lxmert.tasks.metrics import accuracy_by_question_type

WORDS = ["mug", "Ball", "é", "漢字", "🦊", "what's", "a-b", "tab\there"]


def write_random(path: Path, seed: int, count: int = 60) -> Path:
    """Write questions of all forms with all kinds of text."""
    generator = np.random.default_rng(seed)

    def words(most: int) -> str:
        return " ".join(generator.choice(WORDS, size=generator.integers(1, most)).tolist())

    lines = []
    for number in range(count):
        line: dict[str, object] = {"question": words(12)}
        names = [f"{words(2)}/{generator.integers(9)}.png" for _ in range(2)]
        line |= {"image": names[0]} if generator.random() < 0.6 else {"images": names}
        form = generator.integers(4)
        if form == 0:
            line["answer"] = words(3)
        elif form == 1:
            line["answers"] = [words(2) for _ in range(generator.integers(1, 6))]
        elif form == 2:
            line["answers"] = {words(2): float(generator.random()) for _ in range(3)}
        if generator.random() < 0.5:
            line["question_id"] = f"Nr {number}é"
        if generator.random() < 0.5:
            line["question_type"] = words(2)
        if generator.random() < 0.7:
            line["split"] = str(generator.choice(["train", "val", "test"]))
        lines.append(json.dumps(line, ensure_ascii=bool(generator.integers(2))))
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


@pytest.mark.parametrize("seed", range(8))
def test_every_example_is_that_of_the_plain_reader(tmp_path: Path, seed: int) -> None:
    path = write_random(tmp_path / "q.jsonl", seed)
    expected, corpus = read_questions(path), Corpus.read([path])
    assert len(corpus) == len(expected) == 60
    assert list(corpus) == expected
    order = np.random.default_rng(seed).permutation(60)
    assert list(corpus.select(order)) == [expected[index] for index in order]
    assert list(corpus.select(order)[7:31:3]) == [expected[index] for index in order[7:31:3]]
    assert corpus[-8] == expected[-8]
    for index, example in enumerate(expected):
        assert corpus.text(index) == example.text
        assert corpus.answers(index) == example.answers
        assert list(corpus.answers(index)) == list(example.answers)  # ties go to the first
        assert corpus.image_ids(index) == example.image_ids
        names, scores = corpus.answer_ids(index)
        assert [corpus.answer_names[name] for name in names] == list(example.answers)
        assert scores.tolist() == list(example.answers.values())
    used = {name for example in expected for name in example.image_ids}
    assert sorted(used) == sorted(corpus.image_names)
    assert {corpus.image_names[image] for image in corpus.used_images} == used


@pytest.mark.parametrize("seed", range(5))
def test_targets_and_vocabulary_are_those_of_the_answer_list(tmp_path: Path, seed: int) -> None:
    path = write_random(tmp_path / "q.jsonl", seed)
    expected, corpus = read_questions(path), Corpus.read([path])
    every = AnswerVocabulary.build([e.answers for e in expected])
    assert corpus.vocabulary().answers == every.answers
    for vocabulary in (every, AnswerVocabulary(every.answers[::2])):
        half = np.arange(0, 60, 2)
        known = AnswerVocabulary.build([expected[index].answers for index in half])
        assert corpus.select(half).vocabulary().answers == known.answers
        targets = Targets(corpus, vocabulary)
        best = [targets.best_id(index) for index in range(60)]
        assert best == [vocabulary.best_id(example.answers) for example in expected]
        assert targets.count_unknown() == best.count(IGNORE_INDEX)
        for index, example in enumerate(expected):
            assert np.array_equal(targets.scores(index), vocabulary.scores(example.answers))


def test_answers_of_a_view_are_counted_as_often_as_it_shows_them(tmp_path: Path) -> None:
    expected = read_questions(write_random(tmp_path / "q.jsonl", 6))
    order = np.random.default_rng(6).integers(60, size=90)
    corpus = Corpus.of(expected).select(order)
    counts = Counter(answer for index in order for answer in expected[index].answers)
    assert dict(zip(corpus.answer_names, corpus.answer_counts().tolist(), strict=True)) == {
        name: counts[name] for name in corpus.answer_names
    }


def test_answers_that_fall_together_are_one_class() -> None:
    answers = {"The Mug": 0.3, "cup": 0.5, "mug": 0.125, "gone": 1.0, "MUG": 0.25}
    corpus = Corpus.of([Example("7", "What?", ("a",), answers), Example("8", "?", ("a",))])
    vocabulary = AnswerVocabulary(["ball", "cup", "mug"])

    def normalize(answer: str) -> str:
        return answer.lower().removeprefix("the ")

    found = {}
    for rule in ("max", "last"):
        targets = Targets(corpus, vocabulary, normalize=normalize, collisions=rule)
        found[rule] = [values.tolist() for values in targets.known(0)]
        assert targets.best_id(0) == 1
        assert [len(values) for values in targets.known(1)] == [0, 0]
        assert targets.count_unknown() == 1
    assert found == {"max": [[2, 1], [0.3, 0.5]], "last": [[2, 1], [0.25, 0.5]]}
    assert Targets(corpus, vocabulary).scores(0).tolist() == [0, 0.5, 0.125]


def test_an_example_names_the_file_that_it_is_from(tmp_path: Path) -> None:
    path = write_random(tmp_path / "gqa-train.jsonl", 1, count=3)
    captions = tmp_path / "coco.jsonl"
    captions.write_text('{"image": "a", "caption": "A mug."}\n')
    corpus = Corpus.read([path, path], captions=[captions])
    sources = [corpus.source(index) for index in range(7)]
    assert sources == [*["gqa-train"] * 6, "coco"]
    assert corpus.select(np.array([6, 2])).source(0) == "coco"


def test_a_strict_reading_names_the_first_line_that_cannot_be_used(tmp_path: Path) -> None:
    path = tmp_path / "q.jsonl"
    path.write_text('{"image": "a", "question": "1?"}\n{"image": "a"}\n')
    with pytest.raises(ValueError, match=r"q.jsonl line 2: 'question' must be a string"):
        Corpus.read([path], strict=True)
    assert Corpus.read([path]).left_out == {"no_question": 1}


def test_baselines_work_from_it(tmp_path: Path) -> None:
    path = write_random(tmp_path / "q.jsonl", 3)
    expected, corpus = read_questions(path), Corpus.read([path])
    baselines = Baselines.learn(expected[:40])
    assert Baselines.learn(corpus[:40]) == baselines
    assert baselines.scores(corpus[40:]) == baselines.scores(expected[40:])
    scores_by_baseline = [example.text for example in expected[40:]]
    assert accuracy_by_question_type(corpus[40:], scores_by_baseline) == accuracy_by_question_type(
        expected[40:], scores_by_baseline
    )


def test_captions_follow_the_questions_and_a_file_may_count_twice(tmp_path: Path) -> None:
    path = write_random(tmp_path / "q.jsonl", 1, count=4)
    captions = tmp_path / "c.jsonl"
    captions.write_text('{"image": "a", "caption": "A mug."}\n')
    corpus = Corpus.read([path, path], captions=[captions])
    assert list(corpus)[:-1] == 2 * read_questions(path)
    assert list(corpus)[-1] == Example("c-1", "A mug.", ("a",))
    assert list(Corpus.of(read_questions(path))) == read_questions(path)


def test_what_is_left_out_is_counted_by_its_reason(tmp_path: Path) -> None:
    path = tmp_path / "q.jsonl"
    path.write_text(
        '{"image": "a", "question": "1?"}\n'
        "nonsense\n"
        '{"image": "gone", "question": "3?"}\n'
        '{"images": ["a", "gone"], "question": "4?"}\n'
        '{"image": "B", "question": "5?", "answer": null}\n'
        '{"image": "B", "question": "6?"}\n'
    )
    names = {"a": "a", "B": "sub/b"}
    corpus = Corpus.read([path], resolve=names.get)
    assert [example.text for example in corpus] == ["1?", "6?"]
    assert corpus.image_ids(1) == ("sub/b",)
    assert corpus.left_out == {"not_json": 1, "missing_image": 2, "wrong_answer": 1}


def test_splits_of_the_lines_are_kept_and_others_are_training(tmp_path: Path) -> None:
    lines = [{"image": "a", "question": "?"} | split for split in
             ({"split": "val"}, {}, {"split": "train"}, {"split": "dev"})]  # fmt: skip
    path = tmp_path / "q.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    rows = Corpus.read([path]).split_rows()
    assert {name: found.tolist() for name, found in rows.items()} == {
        "train": [1, 2], "valid": [0, 3],
    }  # fmt: skip


def test_a_corpus_may_be_empty(tmp_path: Path) -> None:
    corpus = Corpus.of([])
    assert (len(corpus), list(corpus), corpus.split_rows()) == (0, [], {})


def test_a_worker_gets_the_same_values_by_pickling(tmp_path: Path) -> None:
    corpus = Corpus.read([write_random(tmp_path / "q.jsonl", 2)])
    view = corpus.select(np.array([9, 3, 31]))
    assert list(pickle.loads(pickle.dumps(view))) == list(view)
    assert list(pickle.loads(pickle.dumps(corpus))) == list(corpus)


@pytest.mark.parametrize("longest", [5, 20])
def test_tokens_are_those_of_the_tokenizer(tmp_path: Path, longest: int) -> None:
    corpus = Corpus.read([write_random(tmp_path / "q.jsonl", 4)])
    tokenizer = build_tokenizer(corpus[:30].texts())
    tokenizer("x", truncation=True, max_length=3, padding="max_length")  # leaves its mark behind
    tokens = Tokens(corpus.texts(), tokenizer, longest=longest)
    expected = tokenizer([example.text for example in corpus], verbose=False)["input_ids"]
    assert len(tokens) == len(expected) == 60
    for index, ids in enumerate(expected):
        assert np.array_equal(tokens[index], cut(ids, longest))
    assert tokens[0].dtype == np.int64
    assert tokens.num_cut == sum(len(ids) > longest for ids in expected) > 0
    assert tokens.num_unknown == sum(tokenizer.unk_token_id in ids for ids in expected)


def test_the_memory_of_python_does_not_grow_with_the_examples(tmp_path: Path) -> None:
    """As Python objects, 6,000 more questions would take 6 MB."""
    peaks = []
    for count in (2_000, 8_000):
        path = tmp_path / f"{count}.jsonl"
        with path.open("w") as file:
            for row in range(count):
                text = f"what is number {row} of all of these?"
                line = {"image": f"{row % 99}.png", "question": text, "answer": str(row % 7)}
                file.write(json.dumps(line) + "\n")
        tracemalloc.start()
        corpus = Corpus.read([path])
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert len(corpus) == count
        assert corpus.nbytes / count < 100
    assert peaks[1] < 1.1 * peaks[0] + 100_000


@pytest.mark.parametrize("seed", range(3))
def test_ragged_rows_and_texts_come_back(seed: int) -> None:
    generator = np.random.default_rng(seed)
    rows = [generator.integers(-9, 99, size=generator.integers(5)).tolist() for _ in range(50)]
    writer = RaggedWriter(np.int32)
    for start in range(0, 50, 7):
        writer.add(rows[start : start + 7])
    ragged = writer.finish()
    assert [ragged.row(index).tolist() for index in range(50)] == rows
    texts = ["".join(generator.choice(WORDS, size=len(row)).tolist()) for row in rows]
    names = TextWriter()
    names.add(texts[:20])
    names.add(texts[20:])
    found = names.finish()
    assert list(found) == found[:] == texts
    assert [found[-1], found[3]] == [texts[-1], texts[3]]
    with pytest.raises(IndexError, match="text 50 of 50"):
        found[50]


def test_answers_are_counted_by_example_in_the_order_of_a_view(tmp_path):
    lines = [
        {"image": "a.png", "question": "what?", "answer": "mug"},
        {"image": "b.png", "question": "what?"},
        {"image": "c.png", "question": "what?", "answers": {"mug": 1, "cup": 0.3, "hat": 0.6}},
    ]
    path = tmp_path / "questions.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    corpus = Corpus.read([path])
    assert corpus.num_answers().tolist() == [1, 0, 3]
    assert corpus.select(np.array([2, 0])).num_answers().tolist() == [3, 1]
    assert corpus[1:].num_answers().tolist() == [0, 3]
