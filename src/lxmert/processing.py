"""Images and texts -> the keyword arguments of forward, with a warning for what is lost."""

import os
import sys
import warnings
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

import torch
from torch import Tensor
from transformers import BatchFeature, BertTokenizer

from lxmert.data.collate import collate_regions, collate_text, normalize_boxes
from lxmert.data.preprocessing import EXTRACTOR_FOLDER, FILE_NAME, PreprocessorConfig
from lxmert.data.store import RegionStore
from lxmert.data.tokenizer import Encoded, encode, load_tokenizer
from lxmert.devices import check_device
from lxmert.hub import Parts, find_model, find_parts, missing_parts, remember_parts
from lxmert.names import count
from lxmert.regions.extractor import RegionExtractor, load_extractor
from lxmert.regions.preprocess import ImageInput, is_image
from lxmert.schema import IntArray, Regions

CONFIDENT = 0.5
"""Object score from which a region counts as recognised."""

ImageInputs = ImageInput | Sequence[ImageInput] | Sequence[Sequence[ImageInput]]
"""One image for all texts, one for each text, or several for each text."""

_MANY_NAMES = 200
_PASSED_BY_AUTO_PROCESSOR = {"_from_auto", "trust_remote_code"}
"""Words up to which a vocabulary is so small that an example of it is of use."""

_HANDFUL = 5

_INSIDE = tuple(f"{Path(file).parent}{os.sep}" for file in (__file__, torch.__file__))
"""Folders whose lines a user has not written."""


class InputWarning(UserWarning):
    """The input is answered, but it is not like what the model was trained on."""


def check_text(text: object) -> None:
    """Refuse what is no text that can be read.

    Raises:
        TypeError: if it is no text.
        ValueError: if it is empty or has half a surrogate pair in it.
    """
    if not isinstance(text, str):
        raise TypeError(f"the text is {text!r}: write a question, such as 'What is this?'")
    if not text.strip():
        raise ValueError("the text is empty: write a question, such as 'What is this?'")
    if any("\ud800" <= sign <= "\udfff" for sign in text):
        raise ValueError(f"the text {text!r} is not valid Unicode: pass it as UTF-8")


class LxmertProcessor:
    """The image side and the text side of a model, as they were when it was trained.

    Example:
        >>> from lxmert import LxmertProcessor
        >>> processor = LxmertProcessor.from_pretrained(None)  # of the bundled model
        >>> inputs = processor("examples/scene.png", ["What color is the ball?", "Is there a mug?"])
        >>> inputs["visual_feats"].shape == (2, inputs["visual_pos"].shape[1], 256)
        True
    """

    def __init__(
        self, extractor: RegionExtractor, tokenizer: BertTokenizer, config: PreprocessorConfig
    ) -> None:
        """Join the two sides.

        Raises:
            ValueError: if the model was trained on the regions of another extractor.
        """
        if extractor.fingerprint != config.fingerprint:
            raise ValueError(
                f"these eyes are extractor {extractor.fingerprint}, but the model was trained on "
                f"regions of extractor {config.fingerprint}: use the eyes that came with the model"
            )
        self.extractor = extractor
        self.tokenizer = tokenizer
        self.config = config

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | Path | None,
        *,
        extractor: str | Path | None = None,
        device: str = "cpu",
        memory: str | Path | None = None,
        revision: str | None = None,
        **kwargs: object,
    ) -> "LxmertProcessor":
        """Load both sides of a model.

        Args:
            name_or_path: model folder, name on the Hugging Face hub, or None for the bundled one.
            extractor: the detector that the model was trained with, for a model that comes without:
                its folder, or a file of the published detector. None means the model's own, or
                those that were named for it before.
            device: where the eyes compute.
            memory: file in which named eyes are remembered; None means that of the user.
            revision: branch, tag or commit of a model on the hub; None means its newest.
            **kwargs: only those that transformers' `AutoProcessor` adds by itself.

        Raises:
            TypeError: if a keyword is unknown.
            FileNotFoundError: naming the file that the folder lacks.
            ValueError: if its files do not belong together, or the eyes are missing.
        """
        unknown = kwargs.keys() - _PASSED_BY_AUTO_PROCESSOR
        if unknown:
            raise TypeError(f"LxmertProcessor.from_pretrained has no argument {min(unknown)!r}")
        check_device(device)
        folder = find_model(name_or_path, revision=revision)
        given = Parts(extractor=None if extractor is None else Path(extractor))
        own = (folder / EXTRACTOR_FOLDER).is_dir()
        found = given if own else find_parts(folder, given, needed=("extractor",), memory=memory)
        if found.extractor is None and not own:
            raise missing_parts(folder, extractor=True, num_answers=None)
        processor = cls.from_folder(folder, found.extractor, device=device)
        if not own:
            remember_parts(folder, given, memory=memory)
        return processor

    @classmethod
    def from_folder(
        cls, folder: Path, source: Path | None = None, *, device: str = "cpu"
    ) -> "LxmertProcessor":
        """Do as `from_pretrained` for a folder, with no look at what is remembered; nor is this."""
        # Published models do not say which eyes they need: those that the user names.
        unsaid = source is not None and not (folder / FILE_NAME).is_file()
        config = None if unsaid else PreprocessorConfig.load(folder)
        tokenizer = load_tokenizer(folder)
        extractor = load_extractor(source or folder / EXTRACTOR_FOLDER, device=device)
        return cls(
            extractor, tokenizer, config or PreprocessorConfig(fingerprint=extractor.fingerprint)
        )

    def save_pretrained(self, folder: str | Path) -> None:
        """Write what `from_pretrained` reads into a model folder: tokenizer, eyes, configuration.

        The configuration is last, so that an interrupted folder is not taken for a whole one.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self.tokenizer.save_pretrained(folder)
        self.extractor.save_pretrained(folder / EXTRACTOR_FOLDER)
        self.config.save(folder)

    def __call__(self, images: ImageInputs, text: str | Sequence[str]) -> BatchFeature:
        """Prepare texts with their images.

        Args:
            images: one image, which goes with every text; or a list with one image for each text;
                or a list with a list of images for each text, as many for every text, for
                `LxmertForImagesAndTextClassification`. An image is whatever
                `lxmert.regions.preprocess.load_image` reads: a path, a web address, bytes, a file
                opened in binary mode, a PIL image, or a uint8 RGB array or tensor.
            text: one text, which goes with every image; or a list.

        Returns:
            `input_ids`, `attention_mask`, `token_type_ids`, `visual_feats`, `visual_pos` and
            `visual_attention_mask`, padded to the longest text and the most regions. With a list
            of images for each text the last three are `[batch, images, regions, ...]`. They are
            the keyword arguments of a model, and move to its device with `.to(device)`.

        Warns:
            InputWarning: if a text is cut, a word is unknown, or nothing was recognised.

        Raises:
            FileNotFoundError: if a path names no file.
            ValueError: if their numbers differ, a text is empty, or an image cannot be read.
        """
        rows = [images] if is_image(images) else list(images)  # type: ignore[arg-type]
        sentences = [text] if isinstance(text, str) else list(text)
        if isinstance(text, str):
            sentences *= len(rows)
        elif not is_image(images) and len(rows) != len(sentences):
            raise ValueError(
                f"{count(len(rows), 'image')} and {count(len(sentences), 'text')}: give one text an image, or one "
                "image alone, outside of a list, for all texts"
            )
        if not rows or not sentences:
            raise ValueError(
                f"{count(len(rows), 'image')} and {count(len(sentences), 'text')}: give at least one"
            )
        words = self.text_inputs(sentences)
        if not all(map(is_image, rows)):
            return BatchFeature(words | self._several_images(rows))  # type: ignore[arg-type]
        regions = self.extractor(rows)
        if is_image(images):
            regions *= len(sentences)
        return BatchFeature(words | self.image_inputs(regions))

    def open_store(self, folder: str | Path) -> RegionStore:
        """Open a store whose regions the model knows.

        Raises:
            FileNotFoundError: if there is none.
            ValueError: if another extractor made it.
        """
        store = RegionStore(folder)
        if store.header.fingerprint != self.config.fingerprint:
            raise ValueError(
                f"the region store {folder} was made by extractor {store.header.fingerprint}, but "
                f"the model was trained on regions of extractor {self.config.fingerprint}: extract "
                "the regions again with the eyes of the model"
            )
        return store

    def inputs(self, regions: Sequence[Regions], texts: Sequence[str]) -> dict[str, Tensor]:
        """Prepare one text for each image whose regions are known; else as `__call__`."""
        if len(regions) != len(texts):
            raise ValueError(f"regions of {len(regions)} images and {len(texts)} texts: as many")
        return self.text_inputs(texts) | self.image_inputs(regions)

    def text_inputs(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """Prepare texts alone, as `LxmertModel.encode_text` reads them; else as `__call__`."""
        token_ids = list(map(self._tokenize, texts))
        return collate_text(token_ids, pad_id=self.tokenizer.pad_token_id)

    def image_inputs(self, regions: Sequence[Regions]) -> dict[str, Tensor]:
        """Prepare images whose regions are known, as `LxmertModel.encode_image` reads them.

        Warns:
            InputWarning: if nothing was recognised in an image.

        Raises:
            ValueError: if a feature is not finite, or a box turned inside out or outside.
        """
        for found in {id(found): found for found in regions}.values():
            self._check_recognised(found)
        boxes = [
            normalize_boxes(found, name=f"image {index}") for index, found in enumerate(regions)
        ]
        return collate_regions([found.features for found in regions], boxes)

    def _several_images(self, rows: Sequence[Sequence[ImageInput]]) -> dict[str, Tensor]:
        """Prepare several images for each text; shapes as in `__call__`."""
        counts = [0 if is_image(row) else len(row) for row in rows]
        if min(counts) < 1 or min(counts) != max(counts):
            raise ValueError(
                f"the texts have {', '.join(map(str, counts))} images in their lists; expected a "
                "list of as many for each, such as [[left, right], [left, right]]"
            )
        flat = self.image_inputs(self.extractor(list(chain.from_iterable(rows))))
        return {
            name: values.reshape(-1, counts[0], *values.shape[1:]) for name, values in flat.items()
        }

    def _check_recognised(self, regions: Regions) -> None:
        """Warn if the image is unlike anything that the extractor knows."""
        if not self.extractor.recognizes:
            return
        if regions.found and regions.object_scores.max() >= CONFIDENT:
            return
        names = self.extractor.object_names
        _warn(
            "nothing in this image was recognised with confidence, so the answer is a guess: "
            f"the eyes know {_name_some(names)}"
        )

    def read(self, text: str) -> Encoded:
        """Tokenise one text, and tell what of it the model reads."""
        return encode(self.tokenizer, text, longest=self.config.max_text_length)

    def _tokenize(self, text: str) -> IntArray:
        """Tokenise one text; warn of unknown words and of what is cut."""
        check_text(text)
        encoded = self.read(text)
        if encoded.unknown:
            _warn(self._unknown_message(encoded.unknown))
        if encoded.lost:
            lost = sum(any(map(str.isalnum, word)) for word in encoded.lost.split())
            _warn(
                f"the text is longer than the model reads: {count(lost, 'word')} at its end cut, "
                f"what was read is '{encoded.kept}'"
            )
        return encoded.token_ids

    def _unknown_message(self, unknown: Sequence[str]) -> str:
        """Say which words the model cannot read, and which it can."""
        vocabulary = self.tokenizer.get_vocab()
        known = sorted(word for word in vocabulary if word.isalpha() and len(word) > 2)
        words = _name_some([repr(word) for word in unknown])
        message = f"the model has never read {words}, so the answer is a guess"
        if len(known) <= _MANY_NAMES:
            some = known[:: max(1, len(known) // _HANDFUL)][:_HANDFUL]
            message += f"; it knows {len(known)} words, such as {', '.join(map(repr, some))}"
        return message


def _name_some(names: Sequence[str]) -> str:
    """List a handful of names, and count the others."""
    listed = ", ".join(names[:_HANDFUL])
    return listed if len(names) <= _HANDFUL else f"{listed} and {len(names) - _HANDFUL} more"


def _warn(message: str) -> None:
    """Warn of an input, at the line outside of this package and of torch that asked."""
    frame, level = sys._getframe(), 1
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_INSIDE):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, InputWarning, stacklevel=level)
