"""Attribute swap: regions, words and answers stay consistent."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from transformers import BertTokenizer
from world import COLORS, HEADER, NOUNS, NUM_IMAGES, SMALL, make_regions, make_world

from lxmert.data.store import RegionStore
from lxmert.schema import IGNORE_INDEX, Regions
from lxmert.tasks.answering import AnsweringData, AnsweringSettings, AnsweringTask
from lxmert.tasks.attribute_swap import AttributeSwap
from lxmert.tasks.pairs import PairsData, PairsSettings, PairsTask
from lxmert.tasks.pretraining import PretrainingTask
from lxmert.tasks.pretraining_settings import (
    ObjectiveSettings,
    PretrainingData,
    PretrainingSettings,
)

IMAGES = [str(number) for number in range(NUM_IMAGES)]
SWAPPED = np.array([1, 0])


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def store(world: dict[str, str]) -> RegionStore:
    return RegionStore(world["regions"])


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> BertTokenizer:
    path = tmp_path_factory.mktemp("words") / "vocab.txt"
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *NOUNS, *COLORS]
    words += ["green", "large", "the", "is", "a", "and", "tea", "##l"]
    path.write_text("\n".join(words) + "\n")
    return BertTokenizer(str(path))


@pytest.fixture
def attribute_swap(store: RegionStore, tokenizer: BertTokenizer) -> AttributeSwap:
    return AttributeSwap(COLORS, store, IMAGES, tokenizer, ["yes", "blue", "red"])


@pytest.mark.parametrize("image", ["0", "7", "23"])
def test_swapped_regions_equal_those_of_a_world_with_other_colors(
    attribute_swap: AttributeSwap, image: str
) -> None:
    """Features in this world are the sum of what object and color add, which means tell apart."""
    regions = make_regions(image)
    swapped = attribute_swap.regions(regions, SWAPPED)
    expected = regions.features.copy()
    expected[:, 3:] = expected[:, [4, 3]]
    np.testing.assert_allclose(swapped.features, expected, atol=1e-6)
    np.testing.assert_array_equal(swapped.attribute_ids, 1 - regions.attribute_ids)
    np.testing.assert_array_equal(swapped.object_ids, regions.object_ids)
    assert (regions.features == make_regions(image).features).all(), "the given one is left alone"


class TwoGroups:
    """A store whose regions have a size and a color, or no color of interest."""

    folder = Path("two-groups")
    header = HEADER.replace(attribute_names=("large", "blue", "white", "red"))

    def __init__(self, images: dict[str, list[int]]) -> None:
        self.images = images

    def __getitem__(self, image: str) -> Regions:
        colors = np.array(self.images[image])
        return replace(
            make_regions("0"),
            boxes=np.zeros((len(colors), 4), np.float32),
            features=np.eye(len(colors), 5, dtype=np.float32),
            attribute_ids=np.stack([np.zeros_like(colors), colors], 1),
        )


def test_only_the_attribute_of_the_values_is_swapped(
    tokenizer: BertTokenizer, caplog: pytest.LogCaptureFixture
) -> None:
    """Other groups and unlisted values are unchanged; the latter are reported."""
    store = TwoGroups({"a": [1, 3, 2], "b": [3, 2, 1]})
    attribute_swap = AttributeSwap(COLORS, store, ["a"], tokenizer, ["red", "blue"])
    assert "33.3% of the regions have none of the values" in caplog.text
    given = store["b"]
    swapped = attribute_swap.regions(given, SWAPPED)
    assert swapped.attribute_ids.tolist() == [[0, 1], [0, 2], [0, 3]]
    # In "a", the mean of blue is the first unit vector, that of red the second.
    expected = given.features.copy()
    expected[0] += [1, -1, 0, 0, 0]
    expected[2] += [-1, 1, 0, 0, 0]
    np.testing.assert_allclose(swapped.features, expected)


def test_means_are_those_of_all_regions_of_a_value(tokenizer: BertTokenizer) -> None:
    """A value that few images show is found, wherever it is."""
    store = TwoGroups({str(i): [1, 1, 1] for i in range(900)} | {"rare": [1, 3, 1]})
    attribute_swap = AttributeSwap(COLORS, store, list(store.images), tokenizer, ["yes"])
    moved = attribute_swap.regions(store["rare"], SWAPPED).features - store["rare"].features
    regions = np.concatenate([store[image].features for image in store.images])
    ids = np.concatenate([store[image].attribute_ids[:, 1] for image in store.images])
    expected = regions[ids == 1].mean(0) - regions[ids == 3].mean(0)
    np.testing.assert_allclose(moved, [-expected, expected, -expected], atol=1e-6)


def test_values_of_two_attributes_are_refused(tokenizer: BertTokenizer) -> None:
    store = TwoGroups({"a": [1, 3]})
    values, answers = ["red", "blue", "large"], ["yes"]
    with pytest.raises(ValueError, match="a region of 'a' has two of these values"):
        AttributeSwap(values, store, ["a"], tokenizer, answers)


def test_regions_without_attributes_stay(attribute_swap: AttributeSwap) -> None:
    regions = replace(make_regions("1"), attribute_ids=np.zeros((2, 0), dtype=np.int64))
    assert (attribute_swap.regions(regions, SWAPPED).features == regions.features).all()


def test_a_piece_of_another_word_is_no_value(
    attribute_swap: AttributeSwap, tokenizer: BertTokenizer
) -> None:
    """What is read as red and ##l is no color."""
    given = tokenizer("the redl is a Red ball and blue")["input_ids"]
    expected = tokenizer("the redl is a Blue ball and red")["input_ids"]
    assert attribute_swap.words(np.array(given), SWAPPED).tolist() == expected


def test_an_attribute_swap_can_be_undone(
    attribute_swap: AttributeSwap, tokenizer: BertTokenizer
) -> None:
    generator = np.random.default_rng(3)
    for _ in range(50):
        order = generator.permutation(2)
        back = np.argsort(order)
        ids = generator.integers(len(tokenizer), size=generator.integers(1, 12))
        assert (attribute_swap.words(attribute_swap.words(ids, order), back) == ids).all()
        target = int(generator.choice([IGNORE_INDEX, 0, 1, 2]))
        assert attribute_swap.answer(attribute_swap.answer(target, order), back) == target
        scores = generator.random(3).astype(np.float32)
        assert (attribute_swap.answer(attribute_swap.answer(scores, order), back) == scores).all()
        # Both kinds of targets agree.
        best = attribute_swap.answer(scores, order).argmax()
        assert best == attribute_swap.answer(int(scores.argmax()), order)


def test_half_of_the_examples_are_not_swapped(store: RegionStore, tokenizer: BertTokenizer) -> None:
    attribute_swap = AttributeSwap(COLORS, store, IMAGES, tokenizer, ["red", "blue"])
    generator = np.random.default_rng(4)
    drawn = np.array([attribute_swap.draw(generator) for _ in range(4000)])
    assert (np.sort(drawn) == [0, 1]).all()
    # Of two values, half of the permutations leave them where they are, too.
    assert (drawn == [0, 1]).all(1).mean() == pytest.approx(0.75, abs=0.02)


@pytest.mark.parametrize("targets", ["single", "soft"])
def test_answers_stay_right(world: dict[str, str], targets: str) -> None:
    """In every epoch, the answer is the color that the swapped regions have."""
    questions, regions = world["questions"], world["regions"]
    data = AnsweringData(
        train=questions,
        valid=questions,
        regions=regions,
        valid_regions=regions,
        targets=targets,
        attribute_swap=COLORS,
    )
    task = AnsweringTask(AnsweringSettings(data=data, model=SMALL), seed=5)
    answers = set()
    for index in range(len(task)):
        noun = task.training.examples[index].text.rstrip("?").split()[-1]
        for epoch in range(4):
            item = task.example(index, epoch)
            features = item.features
            color = COLORS[features[features[:, NOUNS.index(noun)] > 0.5, 3:].argmax()]
            target = item.target if targets == "single" else int(item.target.argmax())
            assert task.answers.answers[target] == color
            again = task.example(index, epoch)
            assert (again.features == features).all()
            answers.add((index, color))
    assert len(answers) > 1.5 * len(task), "most questions get both answers"
    plain = AnsweringTask(
        AnsweringSettings(data=data.replace(attribute_swap=()), model=SMALL), seed=5
    )
    plain.model.load_state_dict(task.model.state_dict())
    assert plain.evaluate(device="cpu") == task.evaluate(device="cpu"), "validation is untouched"


def test_captions_and_labels_stay_right(world: dict[str, str]) -> None:
    """In pretraining, words of captions and target attributes are those of the swapped regions."""
    questions, captions = (world["questions"],), (world["captions"],)
    data = PretrainingData(
        questions=questions,
        regions=world["regions"],
        valid_questions=questions,
        valid_regions=world["regions"],
        captions=captions,
        valid_captions=captions,
        attribute_swap=COLORS,
    )  # fmt: skip
    objectives = ObjectiveSettings(word_mask_rate=0.0, region_mask_rate=0.0, mismatch_rate=0.0)
    task = PretrainingTask(
        PretrainingSettings(data=data, model=SMALL, objectives=objectives), seed=5
    )
    seen = set()
    for index in range(len(task)):
        item = task.example(index, 0)
        colors = [COLORS[place] for place in item.features[:, 3:].argmax(1)]
        assert colors == [COLORS[place] for place in item.attribute_ids[:, 0]]
        text = task.tokenizer.decode(item.input_ids, skip_special_tokens=True).split()
        if task.training.examples[index].answers:
            noun = task.training.examples[index].text.rstrip("?").split()[-1]
            row = item.features[:, NOUNS.index(noun)].argmax()
            assert task.answers.answers[item.answer] == colors[row]
        else:
            assert text[::2] == colors
        true_ids = task.training.regions(index)[0].attribute_ids
        seen.add(bool((item.attribute_ids == true_ids).all()))
    assert seen == {True, False}
    for seed in range(8):  # some of which would swap
        validation = task._mask(task.validation, 0, np.random.default_rng(seed))
        assert (validation.attribute_ids == task.validation.regions(0)[0].attribute_ids).all()


def shows(features: np.ndarray, color: str, noun: str) -> bool:
    """Tell whether a region has both, by its feature."""
    has_color = features[:, 3:].argmax(1) == COLORS.index(color)
    return bool((has_color & (features[:, NOUNS.index(noun)] > 0.5)).any())


def test_statements_about_two_images_stay_as_true_as_they_are(
    world: dict[str, str], tmp_path: Path
) -> None:
    """The colors of both images and of the words change together, in every epoch."""
    generator = np.random.default_rng(6)
    rows = []
    while len(rows) < 60:
        noun, color = generator.choice(NOUNS), generator.choice(COLORS)
        images = [str(number) for number in generator.integers(NUM_IMAGES, size=2)]
        answer = all(shows(make_regions(image).features, color, noun) for image in images)
        if answer != len(rows) % 2:  # true and false ones in turn
            continue
        text = f"Both show a {color} {noun}."
        rows.append({"images": images, "question": text, "answer": answer})
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    regions = world["regions"]
    task = PairsTask(
        PairsSettings(
            data=PairsData(
                train=str(path),
                valid=str(path),
                regions=regions,
                valid_regions=regions,
                attribute_swap=COLORS,
            ),
            model=SMALL,
        ),
        seed=5,
    )
    texts = set()
    for index, row in enumerate(rows):
        for epoch in range(4):
            item = task.example(index, epoch)
            text = task.tokenizer.decode(item.input_ids, skip_special_tokens=True)
            *_, color, noun = text.rstrip(" .").split()
            assert item.truth == row["answer"]
            assert item.truth == all(shows(features, color, noun) for features in item.features)
            texts.add((index, text))
        plain = task.validation_example(index)
        assert plain.input_ids.tolist() == task.training.token_ids[index].tolist()
        for features, image in zip(plain.features, row["images"], strict=True):
            assert (features == make_regions(image).features).all()
    assert len(texts) > 1.5 * len(rows), "most statements are about both colors"


@pytest.mark.parametrize(
    ("values", "answers", "message"),
    [
        (["red"], ["red"], r"is \['red'\]; expected two or more different values"),
        (["red", "red"], ["red"], "expected two or more different values"),
        (
            ["red", "gray"],
            ["red"],
            "'gray', which is not an attribute of the region store .*; expected some of red",
        ),
        (["red", "blue"], ["red", "yes"], "'blue', which is not an answer of the model, unlike"),
        (["red", "teal"], ["red", "teal"], r"the tokenizer splits into \['tea', '##l'\]"),
        (["red", "pink"], ["red", "pink"], "'pink', which is not a word of the tokenizer, unlike"),
        (
            ["red", "blue"],
            ["red and blue"],
            "but the answer 'red and blue' contains one of them",
        ),
        (["red", "green"], ["red", "green"], "'green', but no region of 24 training images"),
    ],
)
def test_values_that_cannot_be_swapped_are_refused(
    store: RegionStore,
    tokenizer: BertTokenizer,
    values: list[str],
    answers: list[str],
    message: str,
) -> None:
    class More:
        folder = store.folder
        header = store.header.replace(attribute_names=(*COLORS, "green", "teal", "pink"))
        __getitem__ = staticmethod(store.__getitem__)

    with pytest.raises(ValueError, match=message):
        AttributeSwap(values, More(), IMAGES, tokenizer, answers)


def test_answers_without_the_values_are_left_alone(
    store: RegionStore, tokenizer: BertTokenizer
) -> None:
    attribute_swap = AttributeSwap(COLORS, store, IMAGES, tokenizer, ["yes", "no"])
    assert attribute_swap.answer(1, SWAPPED) == 1
    scores = np.array([0.25, 1.0], dtype=np.float32)
    assert attribute_swap.answer(scores, SWAPPED).tolist() == [0.25, 1.0]
    assert attribute_swap.words(np.array([8, 9]), SWAPPED).tolist() == [9, 8]


def test_a_cased_tokenizer_is_refused(
    store: RegionStore, tokenizer: BertTokenizer, tmp_path: Path
) -> None:
    """It has a token for Red, which would stay what it is while the red thing becomes blue."""
    words = [*tokenizer.get_vocab(), "A", "Red"]
    (tmp_path / "vocab.txt").write_text("\n".join(words) + "\n")
    cased = BertTokenizer(str(tmp_path / "vocab.txt"), do_lower_case=False)
    with pytest.raises(ValueError, match="the tokenizer is cased"):
        AttributeSwap(COLORS, store, IMAGES, cased, ["red", "blue"])
