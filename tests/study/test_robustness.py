"""Models whose use of image and question is known."""

import numpy as np
import pytest

from lxmert.data.corpus import Corpus
from lxmert.predict import Predictor
from lxmert.study.robustness import (
    CHANGES,
    RobustnessRow,
    add_noise,
    drop_regions,
    measure_robustness,
    no_regions,
    one_modality,
)
from study.worlds import Reader, corpus, predictor, regions_of


def measure(model: Predictor, questions: Corpus, *, seed: int = 0) -> dict[str, RobustnessRow]:
    answers = [found.answer for found in model.predict(questions, Reader())]
    return measure_robustness(model, questions, Reader(), answers, seed=seed)


def test_a_model_that_uses_both_falls_with_either() -> None:
    model = predictor(lambda asks_color, seen: seen % 6 if asks_color else 4)
    found = measure(model, corpus())
    assert list(found) == ["original", *CHANGES]
    assert found["original"]["accuracy"] == found["original"]["same_answer"] == 1.0
    swapped = found["image exchanged"]
    assert swapped["accuracy"] is not None
    assert 0.5 < swapped["accuracy"] < 0.8  # numbers are all 2, and a fourth of the colors agree
    assert swapped["accuracy"] == swapped["same_answer"]
    assert swapped["low"] <= swapped["accuracy"] <= swapped["high"]  # type: ignore[operator]
    assert found["question exchanged"]["accuracy"] is None
    assert found["question exchanged"]["same_answer"] < 0.7
    assert found["features zero"]["accuracy"] == 0.5


def test_a_model_that_ignores_the_image_is_seen() -> None:
    model = predictor(lambda asks_color, _: 0 if asks_color else 4)
    found = measure(model, corpus())
    for name in ("image exchanged", "features zero", "half of the regions", "noisy features"):
        assert found[name]["same_answer"] == 1.0
        assert found[name]["accuracy"] == found["original"]["accuracy"]
    assert found["question exchanged"]["same_answer"] < 0.7


def test_a_model_that_ignores_the_question_is_seen() -> None:
    model = predictor(lambda _, seen: seen % 6)
    found = measure(model, corpus())
    assert found["question exchanged"]["same_answer"] == 1.0
    assert found["image exchanged"]["same_answer"] < 0.5


def test_a_seed_repeats_the_changes() -> None:
    model = predictor(lambda asks_color, seen: seen % 6 if asks_color else 4)
    first, again, other = (measure(model, corpus(), seed=s) for s in (1, 1, 2))
    assert first == again
    assert first != other


def test_one_image_cannot_be_exchanged() -> None:
    model = predictor(lambda *_: 0)
    with pytest.raises(ValueError, match=r"all 4 questions are about '0-0'"):
        measure(model, Corpus.of(list(corpus())[:4]))


def test_regions_are_dropped_together_with_their_names() -> None:
    regions = regions_of(2)
    generator = np.random.default_rng(3)
    fewer = drop_regions(regions, generator)
    assert len(fewer) == len(fewer.features) == len(fewer.object_ids) == 2
    assert len(drop_regions(drop_regions(fewer, generator), generator)) == 1
    noisy = add_noise(regions, generator)
    assert noisy.features.dtype == np.float32
    assert noisy.features.shape == regions.features.shape


def test_one_modality_hides_the_other() -> None:
    questions, reader = corpus(8), Reader()
    texts, images = one_modality(questions, reader, "image")
    assert list(texts.texts()) == [""] * 8
    assert [e.image_ids for e in texts] == [e.image_ids for e in questions]
    assert images is reader
    texts, images = one_modality(questions, reader, "text")
    assert texts is questions
    (found,) = images(["0-1"])
    assert (len(found), found.features.shape, found.object_ids.shape) == (0, (0, 8), (0,))
    assert len(no_regions(regions_of(1), np.random.default_rng(0))) == 0
    assert one_modality(questions, reader, "both") == (questions, reader)
