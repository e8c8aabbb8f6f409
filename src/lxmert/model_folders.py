"""Checks of model folders without PyTorch, so that a damaged one is refused at once."""

from pathlib import Path

from lxmert.data.preprocessing import EXTRACTOR_FOLDER, FILE_NAME, PreprocessorConfig
from lxmert.files import read_json_object
from lxmert.model.config_file import REMEDY, read_values
from lxmert.regions.configuration import CONFIG_NAME, MODEL_TYPE, DetectorConfig
from lxmert.weight_files import WEIGHT_FILES, check_weights, find_weights

_TOKENIZER = "tokenizer.json"


def check_model_folder(folder: Path) -> None:
    """Check the files of a PyTorch model that are there, as far as PyTorch is not needed.

    Raises:
        FileNotFoundError: if it has no configuration or no weights.
        ValueError: naming the file that is damaged, and what is wrong.
    """
    quantized = "quantization_config" in read_values(folder)
    if (folder / FILE_NAME).is_file():
        PreprocessorConfig.load(folder)
    if (folder / _TOKENIZER).is_file():
        read_json_object(folder / _TOKENIZER, remedy=REMEDY)
    for path in () if quantized else find_weights(folder):
        if path.is_file():
            check_weights(path, folder)
    check_extractor_folder(folder / EXTRACTOR_FOLDER)


def check_extractor_folder(folder: Path) -> None:
    """Check the configuration of a detector of ours, and the weights of an extractor of any kind.

    Raises:
        ValueError: naming the file that is damaged, and what is wrong.
    """
    path = folder / CONFIG_NAME
    if not path.is_file():
        return
    values = read_json_object(path, remedy=DetectorConfig.remedy)
    if values.get("model_type") == MODEL_TYPE:
        DetectorConfig.from_file(path)
    if (folder / WEIGHT_FILES[0]).is_file():
        check_weights(folder / WEIGHT_FILES[0], folder)
