"""A folder of pictures becomes a store; what is no picture is reported, and tried again."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from lxmert.vision.extract import RegionExtractor
from lxmert.workflows.extraction import extract_folder

ROOT = Path(__file__).parents[2]
EYES = ROOT / "src" / "lxmert" / "default" / "eyes"
SCENES = sorted((ROOT / "examples").rglob("*.png"))


def test_pictures_that_cannot_be_read_are_reported_and_the_run_goes_on(tmp_path: Path) -> None:
    """One broken file ended the extraction of a whole folder."""
    assert SCENES
    images, store_path = tmp_path / "images", tmp_path / "store"
    (images / "more").mkdir(parents=True)
    for name in ("b.png", "more/d.png"):
        shutil.copy(SCENES[0], images / name)
    (images / "a.png").write_bytes(SCENES[0].read_bytes()[:200])
    (images / "c.jpg").write_text("no picture")
    (images / "more" / "e.png").write_bytes(b"")
    seen: list[tuple[int, int]] = []
    store = extract_folder(
        images, store_path, EYES, progress=lambda done, count: seen.append((done, count))
    )
    assert store.image_ids == ["b.png", "more/d.png"]
    assert sorted(f.image_id for f in store.failures) == ["a.png", "c.jpg", "more/e.png"]
    assert all(failure.image_id in failure.reason for failure in store.failures)
    assert seen == [(done, 5) for done in (1, 2, 3, 4, 5)]
    (expected,) = RegionExtractor.from_pretrained(EYES)([SCENES[0]])
    np.testing.assert_array_equal(store["b.png"].boxes, expected.boxes)
    np.testing.assert_allclose(store["b.png"].features, expected.features, rtol=2e-3, atol=1e-4)

    shutil.copy(SCENES[0], images / "a.png")
    store = extract_folder(images, store_path, EYES, progress=lambda done, count: None)
    assert store.image_ids == ["b.png", "more/d.png", "a.png"]
    assert len(store.failures) == 2
    for name in ("c.jpg", "more/e.png"):
        (images / name).unlink()
    with pytest.raises(FileExistsError, match="finished region store"):
        extract_folder(images, store_path, EYES, progress=lambda done, count: None)
