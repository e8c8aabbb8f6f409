"""The contact sheet shows scenes with their boxes and texts, and rejects other folders."""

import resource
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lxmert.lab.scenes.dataset import SceneSettings, make_dataset
from lxmert.lab.scenes.sheet import _SOFT, draw_sheet, save_sheet


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scenes") / "test"
    kinds = ("qa", "captions", "pairs")
    make_dataset(folder, SceneSettings(kinds=kinds, split="test", count=8, rounds=1, groups=20))
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
    same = [(image == first).all(axis=2) for image in shown]
    drawn = max(same, key=np.mean)
    assert 0.9 < drawn.mean() < 1, "the image itself, but for its boxes"
    assert (first[~drawn] == 255).all()
    assert (pixels[333:352, 10:330] == _SOFT).all(axis=2).sum() > 20, "its name"
    text = pixels[352:490, 10:330]
    assert 0.01 < (text < 128).all(axis=2).mean() < 0.4


def test_the_seed_decides_what_is_shown(folder: Path) -> None:
    sheets = [draw_sheet(folder, count=2, seed=seed).tobytes() for seed in (1, 1, 2)]
    assert sheets[0] == sheets[1] != sheets[2]


def test_what_cannot_be_shown_is_refused(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (
        draw_sheet(folder, count=None, seed=1).height > draw_sheet(folder, count=4, seed=1).height
    )
    with pytest.raises(ValueError, match="expected 1 to 8"):
        draw_sheet(folder, count=9, seed=1)
    with pytest.raises(FileNotFoundError, match=r"objects\.json, .*: make one with .* make qa -o"):
        draw_sheet(tmp_path / "x", count=1, seed=1)
    (tmp_path / "x.partial").mkdir()
    with pytest.raises(FileNotFoundError, match=r"x\.partial is incomplete: rerun its command"):
        draw_sheet(tmp_path / "x", count=1, seed=1)
    monkeypatch.chdir(tmp_path)
    for here in (tmp_path, Path()):
        with pytest.raises(FileNotFoundError, match="lab make: name its folder"):
            draw_sheet(here, count=1, seed=1)
    with pytest.raises(ValueError, match="seed is -1, expected at least 0"):
        draw_sheet(folder, count=1, seed=-1)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", r"objects\.json is not valid JSON .*make the dataset again"),
        ("[7]", r"objects\.json must hold a JSON object, got \[7\]: make"),
        ('{"images": []}', r"objects\.json is damaged \(KeyError\('annotations'\)"),
        (
            '{"images": [], "annotations": [{"image_id": 1, "bbox": [3]}]}',
            "objects.json is damaged",
        ),
        ('{"images": [], "annotations": []}', r"objects\.json lists no image"),
    ],
)
def test_a_damaged_list_of_objects_is_named(tmp_path: Path, content: str, message: str) -> None:
    """Bug: it was a JSON error without a file name, a traceback, or "has 1 to 0 scenes"."""
    (tmp_path / "objects.json").write_text(content)
    with pytest.raises(ValueError, match=message):
        draw_sheet(tmp_path, count=None, seed=1)


def shorten_data(content: bytes) -> bytes:
    """Let a PNG file say that its pixels take 9 bytes, so that no chunk begins behind them."""
    start = content.index(b"IDAT")
    return content[: start - 4] + (9).to_bytes(4) + content[start:]


def test_a_damaged_image_is_named(folder: Path, tmp_path: Path) -> None:
    """Bug: the message had no file name, or was a traceback of a `SyntaxError`."""
    shutil.copytree(folder, tmp_path / "x")
    whole = {path: path.read_bytes() for path in (tmp_path / "x" / "images").iterdir()}
    reported = r"images/test-0.*\.png cannot be read .*: make the dataset"
    for damage in (lambda content: content[:2000], shorten_data):
        for path, content in whole.items():
            path.write_bytes(damage(content))
        with pytest.raises(OSError, match=reported):
            draw_sheet(tmp_path / "x", count=1, seed=1)


def test_a_sheet_does_not_take_the_place_of_an_image(folder: Path) -> None:
    """Bug: it overwrote an image of the dataset."""
    path = folder / "images" / "test-000000.png"
    before = path.read_bytes()
    with pytest.raises(ValueError, match="is among the images of the dataset: name another"):
        save_sheet(folder, path, count=1, seed=1)
    assert path.read_bytes() == before


def test_damaged_texts_are_named(folder: Path, tmp_path: Path) -> None:
    """Bug: it was a JSON error without a file name."""
    shutil.copytree(folder, tmp_path / "x")
    with (tmp_path / "x" / "captions.jsonl").open("a") as lines:
        lines.write('{"image": "half a li')
    with pytest.raises(ValueError, match=r"captions\.jsonl is not valid JSON"):
        draw_sheet(tmp_path / "x", count=None, seed=1)


def test_a_sheet_that_cannot_be_saved_leaves_the_old_one(folder: Path, tmp_path: Path) -> None:
    """Bug: the image was written in place, so that a full disk left a truncated file."""
    path = tmp_path / "sheet.PNG"
    save_sheet(folder, path, count=1, seed=1)
    assert Image.open(path).format == "PNG"
    before, (soft, hard) = path.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            save_sheet(folder, path, count=2, seed=1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
