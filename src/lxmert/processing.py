"""The processor: images and texts to model inputs, with warnings about unusual input."""

from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Literal, Self

import torch
from torch import Tensor
from transformers import BatchFeature, BertTokenizer, PretrainedConfig

from lxmert.data.collate import collate_images, collate_text, to_tensors
from lxmert.data.encoding import Encoded
from lxmert.data.preprocessing import EXTRACTOR_FOLDER, FILE_NAME, PreprocessorConfig
from lxmert.data.store import RegionStore
from lxmert.data.tokenizer import check_words, load_tokenizer
from lxmert.devices import check_device
from lxmert.exported import is_exported
from lxmert.hub import find_extractor, find_model, missing_parts
from lxmert.names import count
from lxmert.reading import TextReader, check_recognized
from lxmert.regions.cache import DiskCache
from lxmert.regions.extractor import RegionExtractor, load_extractor
from lxmert.regions.preprocess import ImageInput, is_image
from lxmert.schema import Regions

ImageInputs = ImageInput | Sequence[ImageInput] | Sequence[Sequence[ImageInput]]
"""One image for all texts, one for each text, or several for each text."""

_PASSED_BY_AUTO_PROCESSOR = {"_from_auto", "trust_remote_code"}


class LxmertProcessor:
    """Region extractor and tokenizer of a model, as in its training.

    Example:
        >>> from lxmert import LxmertProcessor
        >>> processor = LxmertProcessor.from_pretrained()  # of the bundled model
        >>> inputs = processor("examples/scene.png", ["What color is the ball?", "Is there a mug?"])
        >>> inputs["visual_feats"].shape == (2, inputs["visual_pos"].shape[1], 256)
        True
    """

    def __init__(
        self,
        extractor: RegionExtractor,
        tokenizer: BertTokenizer,
        config: PreprocessorConfig,
        *,
        cache: DiskCache | None = None,
    ) -> None:
        """Combine a region extractor and a tokenizer.

        Args:
            extractor: extractor of the model.
            tokenizer: tokenizer of the model.
            config: what the model requires of its inputs.
            cache: where the regions of images are kept; None: nowhere.

        Raises:
            ValueError: if the model was trained on the regions of another extractor.
        """
        if extractor.fingerprint != config.fingerprint:
            raise ValueError(
                f"the region extractor is {extractor.fingerprint}, but the model was trained on "
                f"regions of extractor {config.fingerprint}: use the extractor of the model"
            )
        self.extractor = extractor
        self.tokenizer = tokenizer
        self.config = config
        self.cache = cache
        self.reader = TextReader(tokenizer, longest=config.max_text_length)

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | Path | None = None,
        *,
        extractor: str | Path | None = None,
        device: str = "cpu",
        revision: str | None = None,
        **kwargs: object,
    ) -> "LxmertProcessor":
        """Load region extractor and tokenizer of a model.

        Args:
            name_or_path: model folder, name on the Hugging Face hub, or None for the bundled one.
            extractor: folder or published file of the region extractor, for a model that comes
                without one. None means the model's own.
            device: device of the region extractor.
            revision: branch, tag or commit of a hub model; None means the latest.
            **kwargs: only those that transformers' `AutoProcessor` adds itself.

        Raises:
            TypeError: if a keyword is unknown.
            FileNotFoundError: if the folder lacks a file.
            ValueError: if its files do not match, or the region extractor is missing.
        """
        unknown = kwargs.keys() - _PASSED_BY_AUTO_PROCESSOR
        if unknown:
            raise TypeError(f"LxmertProcessor.from_pretrained has no argument {min(unknown)!r}")
        check_device(device)
        folder = find_model(name_or_path, revision=revision, complete=extractor is None)
        return cls.from_folder(folder, extractor, device=device)

    @classmethod
    def from_folder(
        cls, folder: Path, extractor: str | Path | None = None, *, device: str = "cpu"
    ) -> "LxmertProcessor":
        """Like `from_pretrained`, for a local folder."""
        if is_exported(folder):
            raise ValueError(
                f"{folder} is an exported model, which needs no processor: use "
                "LxmertPipeline.from_pretrained"
            )
        if (folder / EXTRACTOR_FOLDER).is_dir():
            source = find_extractor(extractor or folder / EXTRACTOR_FOLDER)
        elif extractor is None:
            raise missing_parts(folder, extractor=True, num_answers=None)
        else:
            source = find_extractor(extractor)
        # Published models do not name their extractor; the given one is then trusted.
        unnamed = extractor is not None and not (folder / FILE_NAME).is_file()
        config = None if unnamed else PreprocessorConfig.load(folder)
        tokenizer = load_tokenizer(folder)
        precision = config.precision if config is not None and extractor is None else "fp32"
        loaded = load_extractor(source, device=device, precision=precision)
        return cls(loaded, tokenizer, config or PreprocessorConfig(fingerprint=loaded.fingerprint))

    def check_fit(self, config: PretrainedConfig, model: str | Path) -> None:
        """Check that tokenizer and extractor fit the sizes of a model.

        Args:
            config: configuration of the model.
            model: name of the model, for messages.

        Raises:
            ValueError: naming both sizes.
        """
        check_words(self.tokenizer, config.vocab_size, model)
        width, wanted = self.extractor.feature_dim, config.visual_feat_dim
        if width != wanted:
            raise ValueError(
                f"the region extractor returns features of width {width}, but the model expects "
                f"{wanted}: use the extractor that the model was trained with"
            )

    def save_pretrained(self, folder: str | Path) -> None:
        """Write tokenizer, region extractor and configuration into a model folder.

        The configuration is written last, so that an incomplete folder is not mistaken for a model.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self.tokenizer.save_pretrained(folder)
        self.extractor.save_pretrained(folder / EXTRACTOR_FOLDER)
        self.config.save(folder)

    def __call__(
        self,
        images: ImageInputs | None = None,
        text: str | Sequence[str] | None = None,
        *,
        return_tensors: Literal["pt", "np"] = "pt",
        padding: bool | Literal["longest", "max_length"] = True,
        truncation: bool = True,
        max_length: int | None = None,
    ) -> BatchFeature:
        """Prepare texts with their images.

        Args:
            images: one image for all texts; or a list with one image per text; or a list with a
                list of images per text, all of the same length, for
                `LxmertForImagesAndTextClassification`. An image is a path, a URL, bytes, a file
                opened in binary mode, a PIL image, or a uint8 RGB array or tensor. None: texts
                only.
            text: one text for all images, or a list. None: images only.
            return_tensors: `pt` for torch tensors, `np` for numpy arrays.
            padding: True or `longest` pads to the longest text; `max_length` to `max_length`; False
                accepts only texts of equal length.
            truncation: whether texts longer than `max_length` are truncated; otherwise they are an
                error.
            max_length: maximum number of tokens, with `[CLS]` and `[SEP]`; None: that of the model.

        Returns:
            `input_ids`, `attention_mask`, `token_type_ids`, `visual_feats`, `visual_pos` and
            `visual_attention_mask`, padded to the longest text and the most regions. With a list
            of images per text the last three are `[batch, images, regions, ...]`. They are the
            keyword arguments of a model; `.to(device)` moves them.

        Warns:
            InputWarning: if a text is truncated, a word is unknown, or nothing is recognized.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if their numbers differ, a text is empty, or an image cannot be read.
        """
        if return_tensors not in ("pt", "np"):
            raise ValueError(f"return_tensors is {return_tensors!r}; expected 'pt' or 'np'")
        if images is None and text is None:
            raise ValueError("got neither images nor text; expected at least one of them")
        rows = [] if images is None else [images] if is_image(images) else list(images)  # type: ignore[arg-type]
        sentences = [] if text is None else [text] if isinstance(text, str) else list(text)
        if images is not None and text is not None:
            sentences = _match_numbers(rows, sentences, images, text)
        elif not rows and not sentences:
            raise ValueError("got an empty list; expected at least one image or text")
        inputs: dict[str, Tensor] = {}
        if text is not None:
            inputs |= self._padded_text(sentences, padding, truncation, max_length)
        if not all(map(is_image, rows)):
            inputs |= self._several_images(rows)  # type: ignore[arg-type]
        elif rows:
            regions = self.regions(rows)
            if is_image(images) and text is not None:
                regions *= len(sentences)
            inputs |= self.image_inputs(regions)
        return BatchFeature(inputs, tensor_type=None if return_tensors == "pt" else "np")

    def _padded_text(
        self,
        sentences: Sequence[str],
        padding: bool | Literal["longest", "max_length"],
        truncation: bool,
        max_length: int | None,
    ) -> dict[str, Tensor]:
        """Return text inputs, padded and truncated as asked for."""
        if padding not in (True, False, "longest", "max_length"):
            raise ValueError(f"padding is {padding!r}; expected True, False or 'max_length'")
        longest = self.config.max_text_length if max_length is None else max_length
        if longest < 3:
            raise ValueError(f"max_length is {longest}; expected at least 3")
        token_ids = [
            self.reader.tokenize(each, longest, truncation=truncation) for each in sentences
        ]
        lengths = {len(row) for row in token_ids}
        if padding is False and len(lengths) > 1:
            raise ValueError(
                f"the texts have {min(lengths)} to {max(lengths)} tokens; expected equal lengths "
                "without padding: use padding=True"
            )
        return collate_text(
            token_ids,
            pad_id=self.tokenizer.pad_token_id,
            min_length=longest if padding == "max_length" else 0,
        )

    def regions(self, images: Sequence[ImageInput]) -> list[Regions]:
        """Return the regions of images, from the cache if there is one."""
        if self.cache is None:
            return self.extractor(images)
        return self.cache.extract(self.extractor, self.config.fingerprint, images)

    def to(self, device: str | torch.device) -> Self:
        """Move the region extractor to a device, and return the processor."""
        self.extractor.to(device)
        return self

    def __repr__(self) -> str:
        """Return one line."""
        return (
            f"LxmertProcessor({type(self.extractor).__name__} {self.config.fingerprint[:12]}, "
            f"{len(self.tokenizer):,} word pieces, texts of {self.config.max_text_length} tokens)"
        )

    def open_store(self, folder: str | Path) -> RegionStore:
        """Open a region store of the model's extractor.

        Raises:
            FileNotFoundError: if there is no such store.
            ValueError: if another extractor made it.
        """
        store = RegionStore(folder)
        if not self.config.accepts(store.header.fingerprint):
            raise ValueError(
                f"the region store {folder} was made by extractor {store.header.fingerprint}, but "
                f"the model was trained on regions of extractor {self.config.fingerprint}: extract "
                "the regions again with the extractor of the model"
            )
        return store

    def inputs(self, regions: Sequence[Regions], texts: Sequence[str]) -> dict[str, Tensor]:
        """Like `__call__`, for one text per image with known regions."""
        if len(regions) != len(texts):
            raise ValueError(
                f"got regions of {count(len(regions), 'image')} and {count(len(texts), 'text')}; "
                "expected one text per image"
            )
        return self.text_inputs(texts) | self.image_inputs(regions)

    def text_inputs(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """Like `__call__`, for texts only: the arguments of `LxmertModel.encode_text`."""
        return to_tensors(self.reader(texts))

    def image_inputs(self, regions: Sequence[Regions]) -> dict[str, Tensor]:
        """Like `__call__`, for known regions only: the arguments of `LxmertModel.encode_image`.

        Warns:
            InputWarning: if nothing is recognized in an image.

        Raises:
            ValueError: if a feature is not finite, or a box is inverted or outside the image.
        """
        for found in {id(found): found for found in regions}.values():
            check_recognized(self.extractor, found)
        return collate_images(regions)

    def _several_images(self, rows: Sequence[Sequence[ImageInput]]) -> dict[str, Tensor]:
        """Prepare several images per text; shapes as in `__call__`."""
        counts = [0 if is_image(row) else len(row) for row in rows]
        if min(counts) < 1 or min(counts) != max(counts):
            raise ValueError(
                f"the lists have {', '.join(map(str, counts))} images; expected lists of equal "
                "length, such as [[left, right], [left, right]]"
            )
        flat = self.image_inputs(self.regions(list(chain.from_iterable(rows))))
        return {
            name: values.reshape(-1, counts[0], *values.shape[1:]) for name, values in flat.items()
        }

    def read(self, text: str, max_length: int | None = None) -> Encoded:
        """Tokenize one text, and report which part of it the model reads."""
        return self.reader.read(text, max_length)


def _match_numbers(
    rows: Sequence[object], sentences: list[str], images: object, text: object
) -> list[str]:
    """Return one text per image, or all texts for a single image.

    Raises:
        ValueError: if there is none of either, or the lists have different lengths.
    """
    numbers = f"got {count(len(rows), 'image')} and {count(len(sentences), 'text')}"
    if isinstance(text, str):
        sentences = sentences * len(rows)
    elif not is_image(images) and len(rows) != len(sentences):
        raise ValueError(
            f"{numbers}; expected one image per text: give equally long lists, or one image "
            "without a list"
        )
    if not rows or not sentences:
        raise ValueError(f"{numbers}; expected at least one of each")
    return sentences
