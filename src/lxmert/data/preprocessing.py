"""The preprocessing configuration of a model: a small file that is saved with its weights."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from lxmert.files import write_json
from lxmert.records import LATER, Items, Record

FILE_NAME = "preprocessor_config.json"
EXTRACTOR_FOLDER = "extractor"
"""Subfolder of a model folder with the extractor that the model was trained with."""


class PreprocessorConfig(Record):
    """Requirements on the inputs of the model in the same folder.

    Attributes:
        fingerprint: fingerprint of the region extractor, as in the header of a region store.
        max_text_length: maximum number of tokens of a text, including `[CLS]` and `[SEP]`.
        box_form: `normalized_xyxy`: corners divided by the width and height of the image.
        also: fingerprints of other regions that the model takes: those that it was trained on, if
            another program extracted them.
        precision: numeric precision of the extractor, if it is a detector.
    """

    fingerprint: str
    max_text_length: Annotated[int, Field(ge=3, le=100_000)] = 20
    box_form: Literal["normalized_xyxy"] = "normalized_xyxy"
    also: Annotated[Items[str], LATER] = ()
    precision: Annotated[Literal["fp32", "bf16"], LATER] = "fp32"

    def accepts(self, fingerprint: str) -> bool:
        """Return whether the model takes the regions of an extractor."""
        return fingerprint in (self.fingerprint, *self.also)

    def save(self, folder: str | Path) -> None:
        """Write the file into a model folder."""
        write_json(Path(folder) / FILE_NAME, self.to_dict())

    @classmethod
    def load(cls, folder: str | Path) -> "PreprocessorConfig":
        """Read the file of a model folder.

        Raises:
            FileNotFoundError: if the folder has none.
            ValueError: if it is invalid.
        """
        path = Path(folder) / FILE_NAME
        if not path.is_file():
            raise FileNotFoundError(
                f"model folder {folder} has no {FILE_NAME}, so its regions are unknown: train it "
                "with `lxmert train`, which writes the file, or name the region extractor that "
                "it was trained with (--extractor, in Python extractor=...)"
            )
        return cls.from_file(path)
