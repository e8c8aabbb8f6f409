"""The contact sheet shows scenes with their boxes and texts, and refuses what is no data set."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lxmert.scenes.dataset import Contents, make_dataset
from lxmert.scenes.sheet import draw_sheet


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scenes") / "test"
    kinds = ("qa", "captions", "pairs")
    make_dataset(folder, Contents(kinds=kinds, split="test", count=8, rounds=1, groups=20))
    return folder


def test_scenes_stand_in_rows_with_boxes_and_text(folder: Path) -> None:
    sheet = draw_sheet(folder, count=6, seed=1)
    assert sheet.width > 4 * 320
    pixels = np.asarray(sheet)
    first = pixels[10:330, 10:330]
    shown = [
        np.asarray(Image.open(path).convert("RGB").resize((320, 320)))
        for path in sorted((folder / "images").iterdir())
    ]
    same = [(picture == first).all(axis=2) for picture in shown]
    drawn = max(same, key=np.mean)
    assert 0.9 < drawn.mean() < 1, "the picture itself, but for its boxes"
    assert (first[~drawn] == 255).all()
    text = pixels[335:490, 10:330]
    assert 0.01 < (text < 128).all(axis=2).mean() < 0.4


def test_the_seed_decides_what_is_shown(folder: Path) -> None:
    sheets = [draw_sheet(folder, count=2, seed=seed).tobytes() for seed in (1, 1, 2)]
    assert sheets[0] == sheets[1] != sheets[2]


def test_what_cannot_be_shown_is_refused(folder: Path, tmp_path: Path) -> None:
    assert (
        draw_sheet(folder, count=None, seed=1).height > draw_sheet(folder, count=4, seed=1).height
    )
    with pytest.raises(ValueError, match="1 to 8 scenes"):
        draw_sheet(folder, count=9, seed=1)
    with pytest.raises(FileNotFoundError, match="lxmert scenes make qa -o"):
        draw_sheet(tmp_path, count=1, seed=1)
