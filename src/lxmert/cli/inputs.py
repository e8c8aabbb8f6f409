"""Checks of local input files before PyTorch is imported, which takes seconds."""

from collections.abc import Sequence
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


def check_stores(paths: list[Path] | None) -> list[Path] | None:
    """Return region stores; raise an error if one is a folder with a damaged index."""
    for path in paths or ():
        if path.is_dir():
            from lxmert.data.store import RegionStore

            RegionStore(path)
    return paths


def check_image(image: str) -> str:
    """Return an IMAGE; raise an error if it names a file that cannot be read as one."""
    from lxmert.data.image_folder import IMAGE_ENDINGS
    from lxmert.web import SCHEMES

    named = image.lower().endswith(tuple(IMAGE_ENDINGS)) and not image.startswith(SCHEMES)
    if named or Path(image).is_file():
        from lxmert.regions.preprocess import load_image

        load_image(image)
    return image


def check_annotations(model: str, data: Path, images: Path | None) -> None:
    """Raise an error if `data` is no file of questions, or of boxes where MODEL is a detector."""
    from lxmert.data.coco import read_coco
    from lxmert.data.lines import scan_lines

    if _is_detector(model):
        if images is not None:
            read_coco(data, image_folder=images)
        return
    for line in scan_lines(data):
        refused = [problem.detail for problem in line.problems if problem.refused]
        if refused:
            raise ValueError(f"{data} line {line.number}: {refused[0]}")


def check_device(device: str | None, model: str | Path | None = None) -> None:
    """Raise an error for a device that is not there, or that an exported MODEL does not use.

    Of the heavy imports, it needs torch only.
    """
    if device is None:
        return
    from lxmert import devices
    from lxmert.exported import check_complete, is_exported

    if model is not None and is_exported(Path(model)):
        check_complete(Path(model), device=device)
    else:
        devices.check_device(device)


def check_recipe(recipe: Path, overrides: Sequence[str]) -> None:
    """Raise an error if a recipe is no TOML file, or an override no assignment."""
    from lxmert.train.recipes import override, read_tables

    override(read_tables(recipe), overrides)


def check_readable(path: Path) -> Path:
    """Return a PATH; raise an error if it is a folder whose weights are no complete files."""
    if (path / "config.json").is_file():
        from lxmert import weight_files

        for name in weight_files.WEIGHT_FILES:
            if (path / name).is_file():
                weight_files.check_readable(path / name)
    return path


def _is_detector(model: str) -> bool:
    from lxmert.files import read_json_object
    from lxmert.regions.configuration import CONFIG_NAME, MODEL_TYPE

    path = Path(model) / CONFIG_NAME
    return path.is_file() and read_json_object(path).get("model_type") == MODEL_TYPE
