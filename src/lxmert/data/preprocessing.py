"""How text and pixels were prepared for a model: a small file that travels with its weights."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from lxmert.files import write_text

FILE_NAME = "preprocessor_config.json"
EYES_FOLDER = "eyes"
"""Where a model folder keeps the extractor that it was trained on."""


@dataclass(frozen=True)
class PreprocessorConfig:
    """What an input must be like for the model beside it.

    Attributes:
        extractor: fingerprint of the region extractor, as in the header of a region store.
        max_text_length: longest text in tokens, `[CLS]` and `[SEP]` included.
        box_form: `normalized_xyxy`: corners divided by width and height of the image.
    """

    extractor: str
    max_text_length: int = 20
    box_form: str = "normalized_xyxy"

    def save(self, folder: str | Path) -> None:
        """Write the file into a model folder."""
        text = json.dumps(asdict(self), indent=1) + "\n"
        write_text(Path(folder) / FILE_NAME, text)

    @classmethod
    def load(cls, folder: str | Path) -> "PreprocessorConfig":
        """Read the file of a model folder.

        Raises:
            FileNotFoundError: if the folder has none.
            ValueError: if it holds other keys than expected.
        """
        path = Path(folder) / FILE_NAME
        if not path.is_file():
            raise FileNotFoundError(
                f"model folder {folder} has no {FILE_NAME}, so it is unknown which regions the "
                "model expects: train it with `lxmert train`, which writes the file, or name the "
                "eyes that it was trained with (--eyes, in Python eyes=...)"
            )
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{path} is damaged ({error}): copy it again") from error
        if set(record) != set(asdict(cls(""))):
            raise ValueError(
                f"{path} has the keys {sorted(record)}, expected {sorted(asdict(cls('')))}"
            )
        config = cls(**record)
        if config.box_form != cls.box_form:
            raise ValueError(f"{path} has box_form {config.box_form!r}, expected {cls.box_form!r}")
        return config
