"""The folder of a run: what is written beside the weights, and whether a run may go on in it.

OUT/recipe.toml      the resolved recipe
OUT/versions.json    versions of the libraries, commit of the source
OUT/log.jsonl        losses and metrics
OUT/tensorboard/     the same for TensorBoard, where it is installed
OUT/curve.png        the same as an image, drawn at the end
OUT/checkpoints/     the last two checkpoints
OUT/best/            the best weights so far, where the recipe evaluates along the way
OUT/finished.json    the final metrics; written last
OUT/...              the model that the task saves, with the final weights
"""

import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

from lxmert.files import read_json_object, read_toml, shorten, write_json, write_text
from lxmert.locks import FolderLock
from lxmert.train.recipes import Recipe, flatten, recipe_table
from lxmert.train.state import latest_checkpoint

FREE_KEYS = ("loop.workers", "loop.log_every", "data.strict")
"""Keys that may change when a run goes on: they decide how fast it is and what is seen of it."""

CHECKPOINTS = "checkpoints"
_RECIPE = "recipe.toml"
_FINISHED = "finished.json"


def check_folder(output: Path, recipe: Recipe) -> None:
    """Check that a run may start or go on in a folder.

    Args:
        output: the folder; need not exist.
        recipe: of the run.

    Raises:
        ValueError: the folder holds a run of another recipe, or a model of another origin.
    """
    path = output / _RECIPE
    if not path.is_file():
        if (output / "config.json").exists():
            raise ValueError(
                f"{output} holds a model that no recipe made; expected an empty folder or an "
                "interrupted run: choose another folder with -o"
            )
        if latest_checkpoint(output / CHECKPOINTS) is not None:
            raise ValueError(
                f"{output} has checkpoints but no {_RECIPE}, so that it is not known of which run: "
                "choose another folder with -o, or delete them to begin anew"
            )
        return
    old, new = flatten(read_toml(path)), flatten(recipe_table(recipe))
    for key in {**old, **new}:
        if key not in FREE_KEYS and old.get(key) != new.get(key):
            raise ValueError(
                f"{key} is {_shown(new, key)}; the run in {output} was started with "
                f"{_shown(old, key)}: choose another folder with -o, or set {key} back"
            )


def hold_folder(output: Path) -> FolderLock:
    """Create the folder of a run that is not finished, and keep other processes from it.

    Raises:
        ValueError: if one trains in it, or has just finished.
    """
    output.mkdir(parents=True, exist_ok=True)
    lock = FolderLock(output)
    if finished_metrics(output) is not None:
        lock.close()
        raise ValueError(
            f"another process has just finished {output}: give the same command again to see it"
        )
    return lock


def open_folder(output: Path, recipe_text: str, versions: dict[str, str | None]) -> None:
    """Write what a run is made from into its folder; the recipe last."""
    write_json(output / "versions.json", versions, indent=2)
    write_text(output / _RECIPE, recipe_text)


def close_folder(output: Path, metrics: dict[str, float], *, steps: int) -> None:
    """Mark a run as finished."""
    write_json(output / _FINISHED, {"steps": steps, "metrics": metrics}, indent=2)


def finished_metrics(output: Path) -> dict[str, float] | None:
    """Return the final metrics of a finished run; None for any other folder.

    Raises:
        ValueError: if the file that has them is damaged.
    """
    path = output / _FINISHED
    if not path.is_file():
        return None
    remedy = "delete it, and the same command finishes the run again from its last checkpoint"
    metrics = read_json_object(path, remedy=remedy).get("metrics")
    if not isinstance(metrics, dict) or not all(map(_is_number, metrics.values())):
        raise ValueError(f"{path} must hold metrics by name, got {shorten(metrics)}: {remedy}")
    return metrics


def find_versions() -> dict[str, str | None]:
    """Return what a run is made with.

    Returns:
        Versions by name (`lxmert`, `torch`, `transformers`, `accelerate`, `python`), and under
        `commit` the git commit of our source; None where the source is in no repository.
    """
    packages = ("lxmert", "torch", "transformers", "accelerate")
    versions: dict[str, str | None] = {package: version(package) for package in packages}
    return versions | {"python": platform.python_version(), "commit": _commit(Path(__file__))}


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _shown(leaves: dict[str, object], key: str) -> str:
    return repr(leaves[key]) if key in leaves else "not set"


def _commit(source: Path) -> str | None:
    """Return the commit of a tracked file, with `+changes` if the checkout differs from it."""
    # An installed copy may lie inside somebody else's repository, where it is not tracked.
    if _git("ls-files", "--error-unmatch", source.name, folder=source.parent) is None:
        return None
    commit = _git("rev-parse", "HEAD", folder=source.parent)
    changes = _git("status", "--porcelain", "--untracked-files=no", folder=source.parent)
    return f"{commit}+changes" if commit and changes else commit


def _git(*arguments: str, folder: Path) -> str | None:
    """Return what a git command prints; None if it fails or there is no git."""
    try:
        done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True)
    except FileNotFoundError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None
