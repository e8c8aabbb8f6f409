"""The images in a folder: each real folder once, and names in any Unicode normal form."""

import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lxmert.data.check import check_data
from lxmert.data.image_folder import ImageFolder

NAME = "caf\u00e9.png"
FORMS = [unicodedata.normalize(form, NAME) for form in ("NFC", "NFD")]


def make_image(path: Path, seed: int = 8) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 9, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def test_a_link_to_a_folder_above_is_not_followed_twice(tmp_path: Path) -> None:
    """Bug: a link to the folder itself counted its images 41 times."""
    make_image(tmp_path / "set/train/a.png")
    for link in ("set/itself", "set/train/up", "set/train/twice"):
        (tmp_path / link).symlink_to(tmp_path / "set")
    (tmp_path / "set/nowhere").symlink_to(tmp_path / "gone")
    (tmp_path / "set/circle").symlink_to(tmp_path / "set/circle")
    assert ImageFolder(tmp_path / "set").names == {"train/a.png"}


def test_folders_that_link_to_each_other_are_walked_once(tmp_path: Path) -> None:
    """Bug: forty folders with two links each to the next one were 2^40 paths."""
    folders = [tmp_path / f"{number:02}" for number in range(40)]
    for number, folder in enumerate(folders):
        make_image(folder / "a.png", number)
        for link in ("x", "y"):
            (folder / link).symlink_to(folders[(number + 1) % 40])
    assert ImageFolder(tmp_path).names == {f"{number:02}/a.png" for number in range(40)}
    assert len(ImageFolder(folders[0]).names) == 40


def test_links_to_folders_elsewhere_are_followed(tmp_path: Path) -> None:
    make_image(tmp_path / "elsewhere/a.png")
    make_image(tmp_path / "set/z/b.png")
    (tmp_path / "set/a-link").symlink_to(tmp_path / "set/z")  # sorted before the real folder
    (tmp_path / "set/more").symlink_to(tmp_path / "elsewhere")
    assert ImageFolder(tmp_path / "set").names == {"more/a.png", "z/b.png"}


@pytest.mark.parametrize("stored", FORMS)
@pytest.mark.parametrize("asked", [*FORMS, "sub/" + FORMS[0], "SUB/CAFE\u0301.PNG", "cafe\u0301"])
def test_a_name_in_another_normal_form_is_found(tmp_path: Path, stored: str, asked: str) -> None:
    """Bug: a file from macOS was missing for questions written elsewhere, and vice versa."""
    make_image(tmp_path / "sub" / stored)
    match = ImageFolder(tmp_path).match(asked)
    assert match.name == f"sub/{stored}"
    assert match.how == ("exact" if asked == f"sub/{stored}" else "renamed")


def test_the_exact_name_comes_before_its_other_form(tmp_path: Path) -> None:
    for number, form in enumerate(FORMS):
        make_image(tmp_path / form, number)
    for form in FORMS:
        assert ImageFolder(tmp_path).match(form) == (form, "exact", "")


def test_the_check_of_data_finds_names_in_another_normal_form(tmp_path: Path) -> None:
    make_image(tmp_path / "images" / FORMS[1])
    (tmp_path / "t.jsonl").write_text(
        f'{{"image": "{FORMS[0]}", "question": "Is it?", "answer": "yes"}}\n'
    )
    report = check_data({"train": [tmp_path / "t.jsonl"]}, images=tmp_path / "images")
    (case,) = next(f for f in report.findings if f.kind == "renamed_image").cases
    assert "the Unicode normal forms differ" in case.detail
    assert not any(f.kind == "missing_image" for f in report.findings)


@pytest.mark.parametrize("name", ["../secret.png", "/{}/secret.png", "sub/../../secret.png"])
def test_a_name_does_not_leave_the_folder(tmp_path: Path, name: str) -> None:
    """Bug: `../secret.png` was accepted as the name of a file outside of the folder."""
    make_image(tmp_path / "secret.png")
    make_image(tmp_path / "images/sub/a.png")
    name = name.format(str(tmp_path)[1:])
    assert ImageFolder(tmp_path / "images").match(name)[:2] == (None, "missing")
