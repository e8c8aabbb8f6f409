"""Shared fixtures: the command line in this process, and a tiny trained system."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image
from warm import starting

from lxmert.cli.main import main
from lxmert.data.tsv import read_tsv
from lxmert.train import loop

ROOT = Path(__file__).parent.parent
ASSETS = ROOT / "tests/assets"
"""Facts from published data; its README names the sources."""


LATE_AND_LONG = {"test_trials.py", "test_training.py"}
"""Files of the last folder that take a minute: run last, they would keep one process waiting."""


WITH_RAY = {"test_ray_engine.py", "test_ray_failures.py", "test_ray_train.py"}
"""Files that start Ray, whose threads stay in the process: what it forks afterwards may hang."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run long files first, and those with Ray last."""
    items.sort(key=lambda item: (item.path.name in WITH_RAY, item.path.name not in LATE_AND_LONG))


class Result(NamedTuple):
    code: int
    out: str
    err: str


Command = Callable[..., Result]


def draw_photos(rows: Path, folder: Path) -> Path:
    """Draw an image in the place of each photo of a TSV file, in its size; return the folder."""
    folder.mkdir()
    for seed, (name, regions) in enumerate(read_tsv(rows)):
        coarse = np.random.default_rng(seed).integers(256, size=(9, 12, 3), dtype=np.uint8)
        size = regions.image_size[::-1]
        Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).save(folder / f"{name}.png")
    return folder


@pytest.fixture(autouse=True, scope="session")
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the regions of tests out of the user's cache folder, for all of the session."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True, scope="session")
def _curves() -> Iterator[None]:
    """Save empty figures of runs, since to draw one takes longer than to train a tiny model."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "draw_curve", lambda *_, **__: Figure(figsize=(12, 4.6)))
        yield


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Folder of `python` and `lxmert`, which on Linux start in milliseconds; see `warm`."""
    if sys.platform != "linux":
        yield Path(sys.executable).parent
        return
    with starting(tmp_path_factory.mktemp("programs")) as folder:
        yield folder


@pytest.fixture
def lxmert(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """Run `lxmert ARGUMENTS` and return its exit code and what it printed."""

    def run(*arguments: object) -> Result:
        monkeypatch.setattr(sys, "argv", ["lxmert", *map(str, arguments)])
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        captured = capsys.readouterr()
        return Result(code, captured.out, captured.err)

    return run
