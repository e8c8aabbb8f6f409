"""Values of an attribute exchanged for one another, such as colors: in regions, words and answers.

A training set shows few of all pairs of an object and a color. What was never red there is then
never called red: neither words nor regions tell a model that the one says nothing of the other. If
all red things were blue and the blue ones red, answers would only change in these words; so an
example with exchanged values is as good as the one that it was made from.

A region's features are moved from the mean of one value to that of the other, which takes along
what is common to all objects of a color and leaves what is not. The idea is that of counterfactual
examples (Chen et al., CVPR 2020, arXiv:2003.06576), in the space of features.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import overload

import numpy as np
from transformers import BertTokenizer

from lxmert.data.answers import AnswerVocabulary
from lxmert.data.stores import RegionSource
from lxmert.schema import FloatArray, IntArray, Regions
from lxmert.tasks.texts import TextCorpus

_MOST_IMAGES = 4000
"""Enough for means: of rare values among 1,600 objects, too."""

_SHARE = 0.5
"""Of the examples with exchanged values; the others keep the model at home in the true ones."""


class Exchange:
    """What it takes to exchange the values of one attribute."""

    def __init__(
        self,
        values: Sequence[str],
        store: RegionSource,
        images: Sequence[str],
        tokenizer: BertTokenizer,
        answers: AnswerVocabulary,
    ) -> None:
        """Find the values among attributes, words and answers, and measure what regions show.

        Args:
            values: of one attribute, such as `("red", "green")`.
            store: regions with attributes.
            images: the training images, some of which are measured.
            tokenizer: of the texts.
            answers: the model's. All values are among them, or none; the same holds for words.

        Raises:
            ValueError: if the store does not know a value or no region shows it, or the texts or
                the answers have only some of them.
        """
        self._names = tuple(values)
        if len(set(values)) < len(values) or len(values) < 2:
            raise ValueError(
                f"data.exchange is {list(values)}; expected two or more different values of an "
                'attribute, such as ["red", "green"]'
            )
        self._attributes = self._find_attributes(store)
        self._words = self._find_words(tokenizer)
        self._classes = self._find_classes(answers)
        self._place = np.full(len(store.header.attribute_names), -1)
        self._place[self._attributes] = np.arange(len(values))
        self._means = self._measure(store, images)

    def draw(self, generator: np.random.Generator) -> IntArray:
        """Draw which value takes the place of each, `[values]`: in half of the cases itself."""
        order = np.arange(len(self._names))
        return generator.permutation(order) if generator.random() < _SHARE else order

    def regions(self, regions: Regions, order: IntArray) -> Regions:
        """Return regions as if each value had been the one that takes its place."""
        seen = self._seen(regions)
        rows = np.flatnonzero(seen >= 0)
        features, attribute_ids = regions.features.copy(), regions.attribute_ids.copy()
        old, new = seen[rows], order[seen[rows]]
        features[rows] += self._means[new] - self._means[old]
        group = (self._place[attribute_ids[rows]] >= 0).argmax(1)
        attribute_ids[rows, group] = self._attributes[new]
        return replace(regions, features=features, attribute_ids=attribute_ids)

    def words(self, input_ids: IntArray, order: IntArray) -> IntArray:
        """Return token ids, `[length]`, with the words of the values exchanged."""
        return _renamed(input_ids, self._words, order)

    @overload
    def answer(self, target: int, order: IntArray) -> int: ...
    @overload
    def answer(self, target: FloatArray, order: IntArray) -> FloatArray: ...
    def answer(self, target: int | FloatArray, order: IntArray) -> int | FloatArray:
        """Return the class id, or the score of each answer, with the values exchanged."""
        if isinstance(target, np.ndarray):
            scores = target.copy()
            if len(self._classes):
                scores[self._classes[order]] = target[self._classes]
            return scores
        return int(_renamed(np.array([target]), self._classes, order)[0])

    def _seen(self, regions: Regions) -> IntArray:
        """Return the value of each region, `[regions]`; -1 where it has none of them."""
        if not regions.attribute_ids.size:
            return np.full(len(regions), -1)
        seen: IntArray = self._place[regions.attribute_ids].max(1)
        return seen

    def _measure(self, store: RegionSource, images: Sequence[str]) -> FloatArray:
        """Return the mean features of the regions of each value, `[values, feature_dim]`."""
        drawn = np.random.default_rng(0).permutation(len(images))[:_MOST_IMAGES]
        sums = np.zeros((len(self._names), store.header.feature_dim))
        counts = np.zeros(len(self._names))
        for index in drawn:
            regions = store[images[index]]
            seen = self._seen(regions)
            np.add.at(sums, seen[seen >= 0], regions.features[seen >= 0])
            counts += np.bincount(seen[seen >= 0], minlength=len(counts))
        if not counts.all():
            raise ValueError(
                f"data.exchange has {self._names[int(counts.argmin())]!r}, but no region of "
                f"{len(drawn)} training images shows it: leave it out"
            )
        means: FloatArray = (sums / counts[:, None]).astype(np.float32)
        return means

    def _find_attributes(self, store: RegionSource) -> IntArray:
        known = store.header.attribute_names
        for name in self._names:
            if name not in known:
                raise ValueError(
                    f"data.exchange has {name!r}, which is no attribute of the region store "
                    f"{store.folder}; expected some of {', '.join(known) or 'none: it has none'}"
                )
        return np.array([known.index(name) for name in self._names])

    def _find_words(self, tokenizer: BertTokenizer) -> IntArray:
        words = {}
        for name in self._names:
            tokens = tokenizer.tokenize(name)
            if len(tokens) != 1:
                raise ValueError(
                    f"data.exchange has {name!r}, which the tokenizer reads as {tokens}; expected "
                    "a word of one token: leave it out, or use a tokenizer that has it"
                )
            if tokens[0] != tokenizer.unk_token:
                words[name] = tokenizer.get_vocab()[tokens[0]]
        return self._all_or_none(words, "no word of the tokenizer", "model.tokenizer")

    def _find_classes(self, answers: AnswerVocabulary) -> IntArray:
        classes = {answer: index for index, answer in enumerate(answers.answers)}
        return self._all_or_none(classes, "no answer of the model", "data.answers")

    def _all_or_none(self, known: Mapping[str, int], lack: str, where: str) -> IntArray:
        """Return the number of each value; none where texts or answers are about other things."""
        missing = [name for name in self._names if name not in known]
        if missing and len(missing) < len(self._names):
            raise ValueError(
                f"data.exchange has {missing[0]!r}, which is {lack} although others of the values "
                f"are: leave it out, or add it to {where}"
            )
        return np.array([] if missing else [known[name] for name in self._names], dtype=np.int64)


def _renamed(ids: IntArray, values: IntArray, order: IntArray) -> IntArray:
    """Return ids with each one that is a value's replaced by that of the value in its place."""
    renamed = ids.copy()
    if len(values):
        for old, new in zip(values, values[order], strict=True):
            renamed[ids == old] = new
    return renamed


def make_exchange(
    values: Sequence[str],
    corpus: TextCorpus,
    tokenizer: BertTokenizer,
    answers: AnswerVocabulary,
) -> Exchange | None:
    """Measure a training corpus; None where no value is named. Errors are those of `Exchange`."""
    if not values:
        return None
    names = corpus.examples.image_names
    images = [names[image] for image in corpus.examples.used_images]
    return Exchange(values, corpus.store, images, tokenizer, answers)
