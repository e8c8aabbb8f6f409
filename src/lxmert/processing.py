"""Images and texts -> the keyword arguments of forward, with a warning for what is lost."""

import warnings
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor
from transformers import BertTokenizer

from lxmert import boxes
from lxmert.data.collate import collate_inputs
from lxmert.data.preprocessing import EYES_FOLDER, PreprocessorConfig
from lxmert.data.tokenizer import LxmertTokenizer, encode
from lxmert.schema import IntArray, Regions
from lxmert.vision.extract import RegionExtractor
from lxmert.vision.preprocess import ImageInput

CONFIDENT = 0.5
"""Object score from which a region counts as recognised."""


class InputWarning(UserWarning):
    """The input is answered, but it is not like what the model was trained on."""


class LxmertProcessor:
    """The image side and the text side of a model, as they were when it was trained."""

    def __init__(
        self, extractor: RegionExtractor, tokenizer: BertTokenizer, config: PreprocessorConfig
    ) -> None:
        """Join the two sides.

        Raises:
            ValueError: if the model was trained on the regions of another extractor.
        """
        if extractor.fingerprint != config.extractor:
            raise ValueError(
                f"these eyes are extractor {extractor.fingerprint}, but the model was trained on "
                f"regions of extractor {config.extractor}: use the eyes that came with the model"
            )
        self.extractor = extractor
        self.tokenizer = tokenizer
        self.config = config

    @classmethod
    def from_pretrained(cls, folder: str | Path, *, device: str = "cpu") -> "LxmertProcessor":
        """Load both sides from a model folder.

        Raises:
            FileNotFoundError: naming the file that the folder lacks.
            ValueError: if its files do not belong together.
        """
        folder = Path(folder)
        config = PreprocessorConfig.load(folder)
        if not (folder / "tokenizer.json").is_file():
            raise FileNotFoundError(
                f"model folder {folder} has no tokenizer.json: copy it from where the model was "
                "trained, or train again with `lxmert train`"
            )
        if not (folder / EYES_FOLDER).is_dir():
            raise FileNotFoundError(
                f"model folder {folder} has no folder {EYES_FOLDER}: name the detector as "
                "data.eyes in the recipe, so that it is saved with the model"
            )
        extractor = RegionExtractor.from_pretrained(folder / EYES_FOLDER, device=device)
        try:
            tokenizer = LxmertTokenizer.from_pretrained(folder)
        except Exception as error:  # the library has no type of its own for a damaged file
            raise ValueError(
                f"{folder / 'tokenizer.json'} is damaged ({error}): copy it again from where the "
                "model was trained"
            ) from error
        return cls(extractor, tokenizer, config)

    def __call__(self, images: Sequence[ImageInput], texts: Sequence[str]) -> dict[str, Tensor]:
        """Prepare one text for each image.

        Returns:
            `input_ids`, `attention_mask`, `token_type_ids`, `visual_feats`, `visual_pos` and
            `visual_attention_mask`, padded to the longest text and the most regions.

        Warns:
            InputWarning: if a text is cut, a word is unknown, or nothing was recognised.

        Raises:
            ValueError: if their numbers differ, a text is empty, or an image cannot be read.
        """
        if len(images) != len(texts):
            raise ValueError(f"{len(images)} images and {len(texts)} texts: one text an image")
        return self.inputs(self.extractor(images), texts)

    def inputs(self, regions: Sequence[Regions], texts: Sequence[str]) -> dict[str, Tensor]:
        """Prepare texts for images whose regions are known; else as `__call__`."""
        for found in regions:
            self._check_regions(found)
        token_ids = [self._tokenize(text) for text in texts]
        normalized = [boxes.normalize(found.boxes, found.image_size) for found in regions]
        features = [found.features for found in regions]
        pad_id = self.tokenizer.pad_token_id
        return collate_inputs(token_ids, features, normalized, pad_id=pad_id)

    def _check_regions(self, regions: Regions) -> None:
        """Warn if the picture is unlike anything that the extractor knows."""
        if regions.found and regions.object_scores.max() >= CONFIDENT:
            return
        names = ", ".join(self.extractor.object_names)
        warnings.warn(
            "nothing in this picture was recognised with confidence, so the answer is a guess: "
            f"the eyes know {names}",
            InputWarning,
            stacklevel=4,
        )

    def _tokenize(self, text: str) -> IntArray:
        """Tokenise one text; warn of unknown words and of what is cut."""
        if not text.strip():
            raise ValueError("the question is empty: ask something, such as 'What is this?'")
        encoded = encode(self.tokenizer, text, longest=self.config.max_text_length)
        if encoded.unknown:
            warnings.warn(self._unknown_message(encoded.unknown), InputWarning, stacklevel=4)
        if encoded.lost:
            lost = sum(any(map(str.isalnum, word)) for word in encoded.lost.split())
            warnings.warn(
                f"the question is longer than the model reads: its last {lost} words were cut, "
                f"what was read is '{encoded.kept}'",
                InputWarning,
                stacklevel=4,
            )
        return encoded.token_ids

    def _unknown_message(self, unknown: Sequence[str]) -> str:
        """Say which words the model cannot read, and which it can."""
        vocabulary = self.tokenizer.get_vocab()
        known = sorted(word for word in vocabulary if word.isalpha() and len(word) > 2)
        words = ", ".join(repr(word) for word in unknown)
        message = f"the model has never read {words}, so the answer is a guess"
        if len(known) <= 200:
            message += f"; the words it knows are {' '.join(known)}"
        return message
