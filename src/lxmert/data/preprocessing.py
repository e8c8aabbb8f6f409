"""How text and pixels were prepared for a model: a small file that travels with its weights."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from lxmert.files import write_json
from lxmert.records import Record

FILE_NAME = "preprocessor_config.json"
EXTRACTOR_FOLDER = "extractor"
"""Where a model folder keeps the extractor that it was trained on."""


class PreprocessorConfig(Record):
    """What an input must be like for the model beside it.

    Attributes:
        fingerprint: fingerprint of the region extractor, as in the header of a region store.
        max_text_length: longest text in tokens, `[CLS]` and `[SEP]` included.
        box_form: `normalized_xyxy`: corners divided by width and height of the image.
    """

    fingerprint: str
    max_text_length: Annotated[int, Field(ge=3, le=100_000)] = 20
    box_form: Literal["normalized_xyxy"] = "normalized_xyxy"

    def save(self, folder: str | Path) -> None:
        """Write the file into a model folder."""
        write_json(Path(folder) / FILE_NAME, self.to_dict())

    @classmethod
    def load(cls, folder: str | Path) -> "PreprocessorConfig":
        """Read the file of a model folder.

        Raises:
            FileNotFoundError: if the folder has none.
            ValueError: if it holds anything else.
        """
        path = Path(folder) / FILE_NAME
        if not path.is_file():
            raise FileNotFoundError(
                f"model folder {folder} has no {FILE_NAME}, so it is unknown which regions the "
                "model expects: train it with `lxmert train`, which writes the file, or name the "
                "eyes that it was trained with (--extractor, in Python extractor=...)"
            )
        return cls.from_file(path)
