"""Values of an attribute exchanged for one another, such as colors: in regions, words and answers.

A training set shows few of all pairs of an object and a color. Where no bowl is white, white is a
hint that a thing is no bowl, in its words as in its features, and a model takes it. If all that is
white were blue, and all that is blue white, questions and answers would change in these words
alone: so an example with exchanged colors is nearly as good as the one that it was made from, and
the hint is gone. The idea is that of counterfactual examples (Chen et al., CVPR 2020,
arXiv:2003.06576), here in the space of features.

A region's features are moved from the mean of one value to that of the other. That is an estimate:
means also differ by the objects that have the values. Articles stay as they are ("an red bowl").
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import overload

import numpy as np
import numpy.typing as npt
from transformers import BertTokenizer

from lxmert.data.stores import RegionSource
from lxmert.names import count
from lxmert.schema import FloatArray, IntArray, Regions
from lxmert.tasks.texts import TextCorpus

_ENOUGH = 1000
"""Regions of each value from which its mean is known well enough."""

_SHARE = 0.5
"""Of the examples whose values are permuted; the others keep the model at home in the true ones."""

_logger = logging.getLogger(__name__)


class AttributeSwap:
    """What it takes to exchange the values of one attribute."""

    def __init__(
        self,
        values: Sequence[str],
        store: RegionSource,
        images: Sequence[str],
        tokenizer: BertTokenizer,
        answers: Sequence[str] = (),
    ) -> None:
        """Find the values among attributes, words and answers, and measure what regions show.

        Args:
            values: of one attribute, such as `("red", "green")`; words with no other meaning.
            store: regions with attributes.
            images: the training images, some of which are measured.
            tokenizer: of the texts.
            answers: those that the model chooses from, in the order of its classes; empty where it
                chooses none. All values are among them, or none; the same holds for words.

        Raises:
            ValueError: if there are fewer than two values, or one is there twice, is no attribute
                of the store, is of another attribute than the others, is shown by no region, is no
                single word of the tokenizer or is part of an answer; if the texts or the answers
                have only some of the values; or if the tokenizer tells capitals apart.
        """
        self._names = tuple(values)
        if len(set(values)) < len(values) or len(values) < 2:
            raise ValueError(
                f"data.attribute_swap is {list(values)}; expected two or more different values of an "
                'attribute, such as ["red", "green"]'
            )
        self._attributes = self._find_attributes(store)
        self._words, self._continues = self._find_words(tokenizer)
        self._classes = self._find_classes(answers)
        self._place = np.full(len(store.header.attribute_names), -1)
        self._place[self._attributes] = np.arange(len(values))
        self._means = self._measure(store, images)

    def draw(self, generator: np.random.Generator) -> IntArray:
        """Draw the value that takes the place of each, `[values]`; in half of the cases itself."""
        same = np.arange(len(self._names))
        return generator.permutation(same) if generator.random() < _SHARE else same

    def regions(self, regions: Regions, permutation: IntArray) -> Regions:
        """Return regions as if each value had been the one that takes its place."""
        places = self._place[regions.attribute_ids]
        rows, groups = np.nonzero(places >= 0)
        old = places[rows, groups]
        new = permutation[old]
        features, attribute_ids = regions.features.copy(), regions.attribute_ids.copy()
        features[rows] += self._means[new] - self._means[old]
        attribute_ids[rows, groups] = self._attributes[new]
        return replace(regions, features=features, attribute_ids=attribute_ids)

    def words(self, input_ids: IntArray, permutation: IntArray) -> IntArray:
        """Return token ids, `[length]`, with the words of the values exchanged."""
        renamed = _rename(input_ids, self._words, permutation)
        # The first piece of a longer word is another word: blue ##bird.
        return np.where(np.append(self._continues[input_ids[1:]], False), input_ids, renamed)

    @overload
    def answer(self, target: int, permutation: IntArray) -> int: ...
    @overload
    def answer(self, target: FloatArray, permutation: IntArray) -> FloatArray: ...
    def answer(self, target: int | FloatArray, permutation: IntArray) -> int | FloatArray:
        """Return the class id, or the score of each answer, with the values exchanged."""
        if isinstance(target, np.ndarray):
            scores = target.copy()
            if len(self._classes):
                scores[self._classes[permutation]] = target[self._classes]
            return scores
        return int(_rename(np.array([target]), self._classes, permutation)[0])

    def _measure(self, store: RegionSource, images: Sequence[str]) -> FloatArray:
        """Return the mean features of the regions of each value, `[values, feature_dim]`."""
        sums = np.zeros((len(self._names), store.header.feature_dim))
        counts = np.zeros(len(self._names), dtype=np.int64)
        num_regions = num_without = 0
        for index in np.random.default_rng(0).permutation(len(images)):
            regions = store[images[index]]
            rows, groups = np.nonzero(self._place[regions.attribute_ids] >= 0)
            seen = self._place[regions.attribute_ids[rows, groups]]
            if len(set(rows.tolist())) < len(rows):
                raise ValueError(
                    f"data.attribute_swap is {list(self._names)}, but a region of {images[index]!r} has "
                    "two of these values: name those of one attribute only, such as the colors"
                )
            np.add.at(sums, seen, regions.features[rows])
            counts += np.bincount(seen, minlength=len(counts))
            num_regions += len(regions)
            num_without += len(regions) - len(rows)
            if counts.min() >= _ENOUGH:
                break
        if not counts.all():
            raise ValueError(
                f"data.attribute_swap has {self._names[int(counts.argmin())]!r}, but no region of "
                f"{count(len(images), 'training image')} shows it: leave it out"
            )
        if num_without:
            _logger.warning(
                "%.1f %% of the regions show none of the values of data.attribute_swap: what is said of "
                "them is exchanged, their features are not",
                100 * num_without / num_regions,
            )
        means: FloatArray = (sums / counts[:, None]).astype(np.float32)
        return means

    def _find_attributes(self, store: RegionSource) -> IntArray:
        known = store.header.attribute_names
        for name in self._names:
            if name not in known:
                raise ValueError(
                    f"data.attribute_swap has {name!r}, which is no attribute of the region store "
                    f"{store.folder}; expected some of {', '.join(known) or 'none: it has none'}"
                )
        return np.array([known.index(name) for name in self._names])

    def _find_words(self, tokenizer: BertTokenizer) -> tuple[IntArray, npt.NDArray[np.bool_]]:
        """Return the token of each value, and which tokens go on with the word before them."""
        if tokenizer.tokenize("A") != tokenizer.tokenize("a"):
            raise ValueError(
                "data.attribute_swap needs a tokenizer that does not tell capitals apart: leave "
                "data.attribute_swap out, or use an uncased one"
            )
        words = {}
        for name in self._names:
            tokens = tokenizer.tokenize(name)
            if len(tokens) != 1:
                raise ValueError(
                    f"data.attribute_swap has {name!r}, which the tokenizer reads as {tokens}; expected "
                    "a word of one token: leave it out, or use a tokenizer that has it"
                )
            if tokens[0] != tokenizer.unk_token:
                words[name] = int(tokenizer.encode(name, add_special_tokens=False)[0])
        pieces = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
        continues = np.array([piece.startswith("##") for piece in pieces])
        return self._all_or_none(words, "no word of the tokenizer", "its vocab.txt"), continues

    def _find_classes(self, answers: Sequence[str]) -> IntArray:
        for answer in answers:
            if answer not in self._names and set(answer.lower().split()) & set(self._names):
                raise ValueError(
                    f"data.attribute_swap is {list(self._names)}, but {answer!r} is an answer, in which "
                    "they cannot be exchanged: leave them out, or the answer (data.answers)"
                )
        classes = {answer: index for index, answer in enumerate(answers)}
        return self._all_or_none(classes, "no answer of the model", "data.answers")

    def _all_or_none(self, known: Mapping[str, int], lack: str, where: str) -> IntArray:
        """Return the number of each value; none where texts or answers are about other things."""
        missing = [name for name in self._names if name not in known]
        if missing and len(missing) < len(self._names):
            raise ValueError(
                f"data.attribute_swap has {missing[0]!r}, which is {lack} although others of the values "
                f"are: leave it out, or add it to {where}"
            )
        return np.array([] if missing else [known[name] for name in self._names], dtype=np.int64)


def _rename(ids: IntArray, values: IntArray, permutation: IntArray) -> IntArray:
    """Return ids with each one that is a value's replaced by that of the value in its place."""
    renamed = ids.copy()
    if len(values):
        for old, new in zip(values, values[permutation], strict=True):
            renamed[ids == old] = new
    return renamed


def make_attribute_swap(
    values: Sequence[str],
    corpus: TextCorpus,
    tokenizer: BertTokenizer,
    answers: Sequence[str] = (),
) -> AttributeSwap | None:
    """Measure a training corpus; None where no value is named. Errors are those of `AttributeSwap`."""
    if not values:
        return None
    names = corpus.examples.image_names
    images = [names[image] for image in corpus.examples.used_images]
    return AttributeSwap(values, corpus.store, images, tokenizer, answers)
