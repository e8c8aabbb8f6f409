"""The folder of a run: its files, and checks whether a run may start or resume in it.

OUT/recipe.toml      the resolved recipe
OUT/versions.json    versions of the libraries, commit of the source
OUT/log.jsonl        losses and metrics
OUT/tensorboard/     losses and metrics for TensorBoard, if it is installed
OUT/curve.png        figure of losses and metrics, drawn at the end
OUT/checkpoints/     the last two checkpoints
OUT/best/            the best weights so far, if the recipe evaluates during training
OUT/finished.json    the final metrics; written last
OUT/...              the model with the final weights, as the task saves it
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
"""Keys that may differ when a run resumes: they do not change its result."""

CHECKPOINTS = "checkpoints"
_RECIPE = "recipe.toml"
_FINISHED = "finished.json"


def check_folder(output: Path, recipe: Recipe) -> None:
    """Check that a run may start or resume in a folder.

    Args:
        output: the folder; need not exist.
        recipe: of the run.

    Raises:
        ValueError: the folder has a run of another recipe, or a model without a recipe.
    """
    path = output / _RECIPE
    if not path.is_file():
        if (output / "config.json").exists():
            raise ValueError(
                f"{output} has a model without a recipe; expected an empty folder or an "
                "interrupted run: choose another folder with -o"
            )
        if latest_checkpoint(output / CHECKPOINTS) is not None:
            raise ValueError(
                f"{output} has checkpoints but no {_RECIPE} of their run: choose another folder "
                "with -o, or delete them to start again"
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
    """Create the folder of an unfinished run, and lock it.

    Raises:
        ValueError: if another process trains in it, or has just finished.
    """
    output.mkdir(parents=True, exist_ok=True)
    lock = FolderLock(output)
    if finished_metrics(output) is not None:
        lock.close()
        raise ValueError(
            f"another process has just finished {output}: rerun the command for its metrics"
        )
    return lock


def open_folder(output: Path, recipe_text: str, versions: dict[str, str | None]) -> None:
    """Write the versions and then the recipe of a run into its folder."""
    write_json(output / "versions.json", versions, indent=2)
    write_text(output / _RECIPE, recipe_text)


def close_folder(output: Path, metrics: dict[str, float], *, steps: int) -> None:
    """Mark a run as finished."""
    write_json(output / _FINISHED, {"steps": steps, "metrics": metrics}, indent=2)


def finished_metrics(output: Path) -> dict[str, float] | None:
    """Return the final metrics of a finished run; None for other folders.

    Raises:
        ValueError: if their file is damaged.
    """
    path = output / _FINISHED
    if not path.is_file():
        return None
    remedy = "delete it, and rerun the command to finish the run from its last checkpoint"
    metrics = read_json_object(path, remedy=remedy).get("metrics")
    if not isinstance(metrics, dict) or not all(map(_is_number, metrics.values())):
        raise ValueError(f"{path} must hold metrics by name, got {shorten(metrics)}: {remedy}")
    return metrics


def find_versions() -> dict[str, str | None]:
    """Return the versions that determine a run.

    Returns:
        Versions by name (`lxmert`, `torch`, `transformers`, `accelerate`, `python`), and `commit`,
        the git commit of this source; None if the source is not in a repository.
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
    # An installed copy may be inside another repository, which does not track it.
    if _git("ls-files", "--error-unmatch", source.name, folder=source.parent) is None:
        return None
    commit = _git("rev-parse", "HEAD", folder=source.parent)
    changes = _git("status", "--porcelain", "--untracked-files=no", folder=source.parent)
    return f"{commit}+changes" if commit and changes else commit


def _git(*arguments: str, folder: Path) -> str | None:
    """Return the output of a git command; None if it fails or git is not installed."""
    try:
        done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True)
    except FileNotFoundError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None
