"""Checks of local input files before PyTorch is imported, which takes seconds."""

from pathlib import Path


def check_model(model: str | None) -> str | None:
    """Return a MODEL; raise an error if it is a folder with damaged files."""
    if model is None or not (Path(model) / "config.json").is_file():
        return model
    from lxmert.exported import is_exported
    from lxmert.model_folders import check_extractor_folder, check_model_folder

    if _is_detector(model):
        check_extractor_folder(Path(model))
    elif not is_exported(Path(model)):
        check_model_folder(Path(model))
    return model


def check_extractor(path: Path | None) -> Path | None:
    """Return a region extractor; raise an error if it is a folder with damaged files."""
    if path is not None and path.is_dir():
        from lxmert.model_folders import check_extractor_folder

        check_extractor_folder(path)
    return path


def check_answers(path: Path | None) -> Path | None:
    """Return an answer list; raise an error if it is a damaged file."""
    if path is not None and path.is_file():
        from lxmert.data.answer_lists import read_answers

        read_answers(path)
    return path


def check_image(image: str) -> str:
    """Return an IMAGE; raise an error if it is a file that cannot be read as one."""
    if Path(image).is_file():
        from lxmert.regions.preprocess import load_image

        load_image(image)
    return image


def check_boxes(model: str, data: Path, images: Path | None) -> None:
    """Raise an error if MODEL is a detector, and `data` no annotations of boxes in `images`."""
    if images is not None and _is_detector(model):
        from lxmert.data.coco import read_coco

        read_coco(data, image_folder=images)


def _is_detector(model: str) -> bool:
    from lxmert.files import read_json_object
    from lxmert.regions.configuration import CONFIG_NAME, MODEL_TYPE

    path = Path(model) / CONFIG_NAME
    return path.is_file() and read_json_object(path).get("model_type") == MODEL_TYPE
