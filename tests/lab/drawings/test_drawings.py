"""Drawings: answers are right, words are found, losses are as published, and a start is trained."""

import re
from collections import Counter
from itertools import count

import numpy as np
import pytest
import torch
from torch.nn import functional

from lxmert.data.tokenizer import load_tokenizer
from lxmert.hub import DRAWINGS
from lxmert.lab.drawings.drawing import arrange, render
from lxmert.lab.drawings.grounding import (
    find_mentions,
    match_words,
    matching_count,
    matching_loss,
)
from lxmert.lab.drawings.phrases import pluralize
from lxmert.lab.drawings.questions import QUESTION_TYPES, TRUTHS, ask_about
from lxmert.lab.drawings.shapes import COLORS, SHAPES, SYNONYMS
from lxmert.lab.drawings.task import train_on_drawings
from lxmert.tasks.custom_start import has_grid
from lxmert.workflows.verification import verify

TINY = (
    "data.groups=3", "data.drawings=3", "data.valid_groups=1", "data.word_drawings=50",
    "model.hidden_size=16",
    "model.num_attention_heads=4", "model.intermediate_size=16", "optim.steps=2",
    "optim.warmup_steps=1", "loop.precision=fp32", "loop.evaluate_every=",
)  # fmt: skip
NAMES = {
    form: name
    for name in (*COLORS, *SHAPES)
    for word in SYNONYMS.get(name, (name,))
    for form in (word, pluralize(word))
}


@pytest.fixture(scope="module")
def asked():
    generator = np.random.default_rng(5)
    pairs = []
    for number in range(400):
        drawing = arrange(generator, 96, 128)
        made = ask_about(drawing, generator, 12, statements=number % 2 == 1)
        pairs += [(drawing, each) for each in made]
    return pairs


def test_every_question_type_is_asked_and_truths_are_balanced(asked):
    question_types = Counter(each.question_type for _, each in asked)
    assert set(question_types) == set(QUESTION_TYPES)
    answers = Counter(each.answer for _, each in asked)
    assert all(answers[truth] > 100 for truth in TRUTHS)
    assert 0.8 < answers["yes"] / answers["no"] < 1.25
    assert 0.8 < answers["true"] / answers["false"] < 1.25


def meant(words: str, drawing) -> list:
    """Return the things that some words describe, read word by word."""
    names = {NAMES[word] for word in words.split() if word in NAMES}
    if drawing.layout in ("bars", "towers"):
        names -= {"rectangle", "square"}
    return [thing for thing in drawing.things if names <= {thing.color, thing.shape}]


def test_counts_and_existence_are_those_of_the_drawing(asked):
    checked = count()
    sizes = re.compile(r"small|little|tiny|medium|large|big|sized|round shape")
    for drawing, each in asked:
        many = re.match(
            r"(?:how many|count the|what is the number of) (.*?)( are .*)?\??$", each.text
        )
        one = re.match(r"(?:is there|do you see|can you find|there is) an? (.*?)[?.]?$", each.text)
        if sizes.search(each.text):
            continue
        if each.question_type == "how many" and many:
            assert each.answer == str(len(meant(many[1], drawing))), each
            next(checked)
        if each.question_type == "exists" and one:
            assert (each.answer in ("yes", "true")) == bool(meant(one[1], drawing)), each
            next(checked)
    assert next(checked) > 300


def test_cells_are_those_of_the_centers_and_drawings_are_rendered_again():
    drawing = arrange(np.random.default_rng(8), 64, 192)
    colors, shapes = drawing.cells(16)
    assert colors.shape == shapes.shape == (4, 12)
    for thing in drawing.things:
        assert colors[int(thing.y // 16), int(thing.x // 16)] > 0
    pixels = render(np.random.default_rng(3), drawing)
    assert (pixels.shape, pixels.dtype) == ((64, 192, 3), np.uint8)
    assert (pixels == render(np.random.default_rng(3), drawing)).all()


def test_mentions_name_the_cells_of_their_things():
    red, blue = (list(COLORS).index(name) + 1 for name in ("red", "blue"))
    circle, star = (SHAPES.index(name) + 1 for name in ("circle", "star"))
    colors, shapes = np.array([[red, 0, blue, red]]), np.array([[circle, 0, star, star]])
    words = [
        "[CLS]",
        "is",
        "the",
        "red",
        "disc",
        "left",
        "of",
        "a",
        "large",
        "blue",
        "thing",
        "or",
        "crosses",
        "[SEP]",
    ]
    found = [(words[m.position], m.cells[0].tolist()) for m in find_mentions(words, colors, shapes)]
    assert found == [
        ("red", [True, False, False, True]),
        ("disc", [True, False, False, False]),
        ("blue", [False, False, True, False]),
        ("thing", [False, False, True, False]),
    ]


def test_cells_are_matched_with_words_or_nothing():
    generator = torch.Generator().manual_seed(2)
    cells = torch.randn(2, 3, 8, generator=generator)
    words, nothing = torch.randn(4, 8, generator=generator), torch.randn(8, generator=generator)
    scores, targets = match_words(cells, words, nothing), torch.tensor([[0, 3, 0], [4, 0, 1]])
    assert scores[1, 0, 4].item() == pytest.approx((cells[1, 0] @ words[3]).item(), rel=1e-5)
    assert scores[1, 0, 0].item() == pytest.approx((cells[1, 0] @ nothing).item(), rel=1e-5)
    single = functional.cross_entropy(scores.flatten(0, 1), targets.flatten(), reduction="none")
    weights = torch.tensor([0.15, 1, 0.15, 1, 0.15, 1])
    assert matching_loss(scores, targets).item() == pytest.approx((single * weights).sum().item())
    assert matching_count(targets) == pytest.approx(3.45)


def test_the_command_trains_a_start_and_the_same_command_changes_nothing(tmp_path, lxmert):
    options = [option for pair in TINY for option in ("--set", pair)]
    done = lxmert("lab", "drawings", "train", "-o", tmp_path / "run", *options)
    assert done.code == 0, done.err
    assert has_grid(tmp_path / "run")
    metrics = train_on_drawings(tmp_path / "run", TINY)
    assert 0 <= metrics["overall"] < 1
    with pytest.raises(ValueError, match="expected one: set optim"):
        train_on_drawings(tmp_path / "other", [*TINY, "optim.batch_size=2"])


def test_a_sheet_is_drawn(tmp_path, lxmert):
    path = tmp_path / "sheet.png"
    assert lxmert("lab", "drawings", "show", "-o", path).code == 0
    assert path.stat().st_size > 50_000


def test_the_bundled_start_is_whole_and_knows_the_words():
    assert verify(DRAWINGS).problems == verify(DRAWINGS / "extractor").problems == ()
    known = load_tokenizer(DRAWINGS).get_vocab()
    assert {*COLORS, *SHAPES, "left", "nearest", "how", "many"} <= known.keys()
