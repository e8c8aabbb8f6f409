"""Attribute-swap augmentation: swaps values of an attribute in regions, words and answers.

A training set contains few of all combinations of objects and colors. If no bowl is white, a model
learns that white things are not bowls, from words and from features. If everything white were blue
and vice versa, questions and answers would differ in these words only. An example with swapped
colors is therefore nearly as good as the original, and the spurious correlation is gone. The idea
is that of counterfactual examples (Chen et al., CVPR 2020, arXiv:2003.06576), applied to features.

The features of a region are shifted by the difference of the mean features of both values. This is
an estimate: the means also differ by the objects that have the values. Articles are not adapted
("an red bowl").
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
"""Number of regions per value that suffices to estimate its mean."""

_SHARE = 0.5
"""Share of the examples that are swapped; the rest stay unchanged."""

_logger = logging.getLogger(__name__)


class AttributeSwap:
    """Swaps the values of one attribute in regions, token ids and answers."""

    def __init__(
        self,
        values: Sequence[str],
        store: RegionSource,
        images: Sequence[str],
        tokenizer: BertTokenizer,
        answers: Sequence[str] = (),
    ) -> None:
        """Look the values up among attributes, words and answers; measure their mean features.

        Args:
            values: values of one attribute, such as `("red", "green")`; unambiguous words.
            store: regions with attributes.
            images: the training images; a random sample of them is measured.
            tokenizer: tokenizer of the texts.
            answers: answers of the model by class id; empty without an answer head. Either all
                values are answers or none; the same holds for words of the tokenizer.

        Raises:
            ValueError: if there are fewer than two different values; if one is not an attribute
                of the store, belongs to another attribute than the others, has no region, is not
                a single token or is part of an answer; if words or answers contain only some of
                the values; or if the tokenizer is cased.
        """
        self._names = tuple(values)
        if len(set(values)) < len(values) or len(values) < 2:
            raise ValueError(
                f"data.attribute_swap is {list(values)}; expected two or more different values of "
                'an attribute, such as ["red", "green"]'
            )
        self._attributes = self._find_attributes(store)
        self._words, self._continues = self._find_words(tokenizer)
        self._classes = self._find_classes(answers)
        self._place = np.full(len(store.header.attribute_names), -1)
        self._place[self._attributes] = np.arange(len(values))
        self._means = self._measure(store, images)

    def draw(self, generator: np.random.Generator) -> IntArray:
        """Draw a permutation of the values, `[values]`; in half of the cases the identity."""
        same = np.arange(len(self._names))
        return generator.permutation(same) if generator.random() < _SHARE else same

    def regions(self, regions: Regions, permutation: IntArray) -> Regions:
        """Return regions with swapped attributes and shifted features."""
        places = self._place[regions.attribute_ids]
        rows, groups = np.nonzero(places >= 0)
        old = places[rows, groups]
        new = permutation[old]
        features, attribute_ids = regions.features.copy(), regions.attribute_ids.copy()
        features[rows] += self._means[new] - self._means[old]
        attribute_ids[rows, groups] = self._attributes[new]
        return replace(regions, features=features, attribute_ids=attribute_ids)

    def words(self, input_ids: IntArray, permutation: IntArray) -> IntArray:
        """Return token ids, `[length]`, with the words of the values swapped."""
        renamed = _rename(input_ids, self._words, permutation)
        # Do not rename the first piece of a longer word, such as blue ##bird.
        return np.where(np.append(self._continues[input_ids[1:]], False), input_ids, renamed)

    @overload
    def answer(self, target: int, permutation: IntArray) -> int: ...
    @overload
    def answer(self, target: FloatArray, permutation: IntArray) -> FloatArray: ...
    def answer(self, target: int | FloatArray, permutation: IntArray) -> int | FloatArray:
        """Return the class id, or the score of each answer, with the values swapped."""
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
            found = self._place[regions.attribute_ids[rows, groups]]
            if len(set(rows.tolist())) < len(rows):
                raise ValueError(
                    f"data.attribute_swap is {list(self._names)}, but a region of "
                    f"{images[index]!r} has two of these values; expected values of one attribute, "
                    "such as the colors"
                )
            np.add.at(sums, found, regions.features[rows])
            counts += np.bincount(found, minlength=len(counts))
            num_regions += len(regions)
            num_without += len(regions) - len(rows)
            if counts.min() >= _ENOUGH:
                break
        if not counts.all():
            raise ValueError(
                f"data.attribute_swap has {self._names[int(counts.argmin())]!r}, but no region of "
                f"{count(len(images), 'training image')} has this value: leave it out"
            )
        if num_without:
            _logger.warning(
                "%.1f%% of the regions have none of the values of data.attribute_swap: the words "
                "about them are swapped, but their features are not",
                100 * num_without / num_regions,
            )
        means: FloatArray = (sums / counts[:, None]).astype(np.float32)
        return means

    def _find_attributes(self, store: RegionSource) -> IntArray:
        known = store.header.attribute_names
        for name in self._names:
            if name not in known:
                raise ValueError(
                    f"data.attribute_swap has {name!r}, which is not an attribute of the region "
                    f"store {store.folder}; expected some of {', '.join(known) or 'no values'}"
                )
        return np.array([known.index(name) for name in self._names])

    def _find_words(self, tokenizer: BertTokenizer) -> tuple[IntArray, npt.NDArray[np.bool_]]:
        """Return the token of each value, and which tokens continue a word (`##`)."""
        if tokenizer.tokenize("A") != tokenizer.tokenize("a"):
            raise ValueError(
                "data.attribute_swap is set, but the tokenizer is cased; expected an uncased one: "
                "leave out data.attribute_swap, or change model.tokenizer"
            )
        words = {}
        for name in self._names:
            tokens = tokenizer.tokenize(name)
            if len(tokens) != 1:
                raise ValueError(
                    f"data.attribute_swap has {name!r}, which the tokenizer splits into {tokens}; "
                    "expected a single token: leave it out, or change model.tokenizer"
                )
            if tokens[0] != tokenizer.unk_token:
                words[name] = int(tokenizer.encode(name, add_special_tokens=False)[0])
        pieces = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
        continues = np.array([piece.startswith("##") for piece in pieces])
        return self._all_or_none(words, "not a word of the tokenizer", "its vocab.txt"), continues

    def _find_classes(self, answers: Sequence[str]) -> IntArray:
        for answer in answers:
            if answer not in self._names and set(answer.lower().split()) & set(self._names):
                raise ValueError(
                    f"data.attribute_swap is {list(self._names)}, but the answer "
                    f"{answer!r} contains one of them and cannot be swapped: leave out "
                    "data.attribute_swap, or remove the answer from data.answers"
                )
        classes = {answer: index for index, answer in enumerate(answers)}
        return self._all_or_none(classes, "not an answer of the model", "data.answers")

    def _all_or_none(self, known: Mapping[str, int], lack: str, where: str) -> IntArray:
        """Return the id of each value; empty if none is known."""
        missing = [name for name in self._names if name not in known]
        if missing and len(missing) < len(self._names):
            raise ValueError(
                f"data.attribute_swap has {missing[0]!r}, which is {lack}, unlike other values: "
                f"leave it out, or add it to {where}"
            )
        return np.array([] if missing else [known[name] for name in self._names], dtype=np.int64)


def _rename(ids: IntArray, values: IntArray, permutation: IntArray) -> IntArray:
    """Replace the id of each value by that of its permuted value."""
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
    """Make the swap of a training corpus; None without values. Raises as `AttributeSwap`."""
    if not values:
        return None
    names = corpus.examples.image_names
    images = [names[image] for image in corpus.examples.used_images]
    return AttributeSwap(values, corpus.store, images, tokenizer, answers)
