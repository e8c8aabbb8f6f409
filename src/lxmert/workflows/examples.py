"""Copies of the bundled example images and model, with which the documentation can be followed."""

import shutil
from pathlib import Path

from lxmert.files import atomic_path, sha256
from lxmert.hub import find_model

EXAMPLES = Path(__file__).parents[1] / "examples"
"""Folder of the bundled example images and of their questions."""

MODEL_FOLDER = "model"


def copy_examples(folder: Path) -> list[Path]:
    """Copy the example images, their questions and the bundled model into a folder.

    Existing files with the same content are kept, so that an interrupted copy can be repeated.

    Args:
        folder: the folder to write; the model is written to its sub-folder `model`.

    Returns:
        The files of the folder that belong to the examples, sorted.

    Raises:
        FileExistsError: if a file with other content exists; nothing is written then.
    """
    model = find_model(None)
    sources = {folder / path.name: path for path in EXAMPLES.iterdir()} | {
        folder / MODEL_FOLDER / path.relative_to(model): path
        for path in model.rglob("*")
        if path.is_file()
    }
    missing = {target: source for target, source in sources.items() if not target.exists()}
    for target in sources.keys() - missing.keys():
        if not target.is_file() or sha256(target) != sha256(sources[target]):
            raise FileExistsError(
                f"{target} exists and is not the example: name another folder with -o"
            )
    for target, source in missing.items():
        target.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(target) as partial:
            shutil.copyfile(source, partial)
    return sorted(sources)
