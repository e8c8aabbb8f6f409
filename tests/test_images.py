"""Image files are reported by their content, and only a few formats are ever tried."""

import io
import os
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lxmert.images import FORMATS, image_size, read_image
from lxmert.regions.preprocess import load_image

PIXELS = np.random.default_rng(3).integers(0, 256, (6, 9, 3), dtype=np.uint8)

EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 20 30\n%%EndComments\nshowpage\n%%EOF\n"
DDS = b"DDS " + struct.pack("<30I", 124, 0x1007, 4, 4, *[0] * 14, 32, 4, 7, *[0] * 9)
BLP = b"BLP2" + struct.pack("<i4bii", 1, 9, 8, 7, 0, 4, 4) + bytes(2000)
PPM = b"P6 1 1 255\n\x01\x02\x03"


def encoded(pixels: np.ndarray, format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format=format, **options)
    return buffer.getvalue()


@pytest.fixture
def ghostscript(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program `gs` that leaves a mark when it is started."""
    from PIL import EpsImagePlugin

    folder, mark = tmp_path / "bin", tmp_path / "started"
    folder.mkdir()
    (folder / "gs").write_text(f"#!/bin/sh\ntouch {mark}\n")
    (folder / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)
    return mark


@pytest.mark.parametrize("name", ["x.png", "x.eps", "x.jpg", "x"])
def test_postscript_is_never_run(ghostscript: Path, tmp_path: Path, name: str) -> None:
    """Pillow started Ghostscript on any file that begins as PostScript does."""
    path = tmp_path / name
    for content in (EPS, b"\xc5\xd0\xd3\xc6" + struct.pack("<2I", 30, len(EPS)) + EPS):
        path.write_bytes(content)
        for image in (path, content, io.BytesIO(content)):
            with pytest.raises(ValueError, match="no image that is read here; expected PNG"):
                load_image(image)
    path.write_bytes(EPS)
    with Image.open(path) as opened, pytest.raises(ValueError, match="a file of the format EPS"):
        load_image(opened)
    assert not ghostscript.exists()


def test_the_mark_of_ghostscript_is_left_if_it_is_run(ghostscript: Path) -> None:
    """The test above means nothing if the program is not found."""
    with Image.open(io.BytesIO(EPS)) as opened, pytest.raises(Exception, match=r".*"):
        opened.load()
    assert ghostscript.exists()


@pytest.mark.parametrize("format", FORMATS)
def test_formats_are_reported_by_content(tmp_path: Path, format: str) -> None:
    path = tmp_path / "x.eps"
    path.write_bytes(encoded(PIXELS, format))
    assert read_image(path).shape == (6, 9, 3)
    assert image_size(path) == (6, 9)


@pytest.mark.parametrize(
    "content",
    [EPS, DDS, BLP, PPM, b"", b"GIF89a", b"BM" + bytes(9), b"II*\0" + b"\xff" * 40],
    ids=["eps", "dds", "blp", "ppm", "empty", "gif", "bmp", "tiff"],
)
def test_odd_files_are_one_sentence(tmp_path: Path, content: bytes) -> None:
    """DDS and BLP files raised errors that nobody caught, and ended a whole extraction."""
    path = tmp_path / "x.png"
    path.write_bytes(content)
    warnings.simplefilter("ignore")  # Pillow's, of damaged metadata
    for read in (read_image, image_size):
        with pytest.raises(ValueError, match=r"no image that is read here|cut short or damaged"):
            read(path)


def test_damage_of_any_kind_is_a_value_error() -> None:
    """Pillow answers damage with SyntaxError, RuntimeError, struct.error and others."""
    generator = np.random.default_rng(8)
    refused = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for format in FORMATS * 40:
            damaged = np.frombuffer(encoded(PIXELS, format), np.uint8).copy()
            places = generator.integers(0, len(damaged), 6)
            damaged[places] = generator.integers(0, 256, 6)
            try:
                read_image(io.BytesIO(damaged.tobytes()))
            except ValueError:
                refused += 1
    assert refused > 50


def test_what_is_no_regular_file_is_refused(tmp_path: Path) -> None:
    """A pipe with the name of an image let the reader wait for ever."""
    os.mkfifo(tmp_path / "x.png")
    for path in (tmp_path / "x.png", tmp_path, tmp_path / "gone.png"):
        with pytest.raises(ValueError, match="no regular file"):
            image_size(path)


@pytest.mark.parametrize(
    ("levels", "expected"),
    [
        (np.array([[0, 0.5, 1]], np.float32), [0, 128, 255]),
        (np.array([[0, 80.4, 255]], np.float32), [0, 80, 255]),
        (np.array([[0, 9, 255]], np.int32), [0, 9, 255]),
        (np.array([[0, 9 * 256, 65535]], np.int32), [0, 9, 255]),
        (np.array([[0, 9, 250]], np.uint16), [0, 9, 250]),
        (np.array([[0, 9 * 256, 65535]], np.uint16), [0, 9, 255]),
    ],
)
def test_gray_levels_of_more_bits_are_scaled(levels: np.ndarray, expected: list[int]) -> None:
    """Floats of 0 to 1 and integers of 0 to 255 became black images, without a word."""
    for image in (encoded(levels, "TIFF"), Image.fromarray(levels)):
        assert load_image(image)[0].tolist() == [[level] * 3 for level in expected]


@pytest.mark.parametrize(
    "levels",
    [
        np.array([[-0.5, 1]], np.float32),
        np.array([[0, 3]], np.float32),
        np.array([[0, 70_000]], np.float32),
        np.array([[0, np.nan]], np.float32),
        np.array([[0, np.inf]], np.float32),
        np.array([[-1, 9]], np.int32),
        np.array([[0, 1000]], np.int32),
        np.array([[0, 2_000_000_000]], np.int32),
    ],
)
def test_gray_levels_that_may_mean_anything_are_refused(levels: np.ndarray) -> None:
    with pytest.raises(ValueError, match="not known what white is; expected 0 to"):
        load_image(encoded(levels, "TIFF"))


def test_sixteen_bits_of_png_are_what_the_format_says() -> None:
    dark = np.array([[0, 255, 256]], np.uint16)
    assert load_image(encoded(dark, "PNG"))[0, :, 0].tolist() == [0, 0, 1]


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_the_size_is_that_of_the_upright_image(
    tmp_path: Path, format: str, orientation: int
) -> None:
    """Sizes were those of the file, boxes those of the upright image."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "x"
    path.write_bytes(encoded(PIXELS, format, exif=exif))
    assert image_size(path) == read_image(path).shape[:2]
    assert image_size(path) == ((9, 6) if orientation in (6, 8) else (6, 9))


def test_the_size_is_read_from_the_header_alone(tmp_path: Path) -> None:
    for format in ("JPEG", "PNG"):
        content = encoded(np.tile(PIXELS, (20, 20, 1)), format)
        (tmp_path / "x").write_bytes(content[:700])
        assert image_size(tmp_path / "x") == (120, 180)


def test_the_orientation_may_stand_behind_the_pixels_of_a_png(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    content = encoded(PIXELS, "PNG")
    body = b"eXIf" + exif.tobytes().removeprefix(b"Exif\0\0")
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    (tmp_path / "x").write_bytes(content[:-12] + chunk + content[-12:])
    assert image_size(tmp_path / "x") == read_image(tmp_path / "x").shape[:2] == (9, 6)


def test_heic_is_read_where_its_plugin_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message names the extra where the plug-in is missing; it was that of any odd file."""
    pillow_heif = pytest.importorskip("pillow_heif")
    path = tmp_path / "photo.jpg"  # the content counts, not the name
    smooth = np.repeat(np.arange(64, dtype=np.uint8)[None, :, None] * 3, 48, axis=0)
    heif = pillow_heif.from_bytes(mode="RGB", size=(64, 48), data=smooth.repeat(3, 2).tobytes())
    heif.save(path, quality=100)
    assert image_size(path) == (48, 64)
    assert np.abs(read_image(path).astype(int) - smooth).max() < 8
    path.with_suffix(".cut").write_bytes(path.read_bytes()[:200])
    with pytest.raises(ValueError, match="damaged"):
        read_image(path.with_suffix(".cut"))
    monkeypatch.setattr("lxmert.images._formats", lambda: FORMATS)
    for source in (path, io.BytesIO(path.read_bytes())):
        with pytest.raises(ValueError, match=r"pip install 'lxmert\[heic\]'"):
            read_image(source)
