"""A picture means the same however it is handed in, and is resized by its true scale."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from lxmert.vision.configuration import DetectorConfig
from lxmert.vision.preprocess import choose_scale, group_by_size, load_image, pad_batch, prepare

CONFIG = DetectorConfig(object_names=("cup",))


@pytest.fixture
def pixels():
    return np.random.default_rng(3).integers(0, 256, (23, 31, 3), dtype=np.uint8)


def png(image):
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


def test_colors_are_the_same_from_every_kind_of_input(pixels, tmp_path):
    data = png(Image.fromarray(pixels))
    path = tmp_path / "picture.png"
    path.write_bytes(data)
    tensor = torch.from_numpy(pixels).permute(2, 0, 1)
    for image in (path, str(path), data, Image.fromarray(pixels), pixels, tensor):
        np.testing.assert_array_equal(load_image(image), pixels)


def test_exif_orientation_is_applied(pixels, tmp_path):
    path = tmp_path / "turned.png"
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to see it upright
    Image.fromarray(pixels).save(path, exif=exif)
    np.testing.assert_array_equal(load_image(path), np.rot90(pixels, k=-1))


def test_grey_pictures_get_three_equal_channels(pixels):
    grey = pixels[..., 0]
    expected = np.repeat(grey[..., None], 3, axis=2)
    np.testing.assert_array_equal(load_image(Image.fromarray(grey)), expected)
    np.testing.assert_array_equal(load_image(grey), expected)


def test_sixteen_bit_grey_is_scaled_not_cut_off():
    wide = np.array([[0, 256 * 9, 256 * 200]], dtype=np.uint16)
    loaded = load_image(png(Image.fromarray(wide)))
    np.testing.assert_array_equal(loaded[0, :, 0], [0, 9, 200])


@pytest.mark.parametrize("mode", ["RGBA", "P", "LA", "1", "CMYK"])
def test_other_color_modes_become_rgb(pixels, mode):
    image = Image.fromarray(pixels).convert(mode)
    assert load_image(image).shape == pixels.shape
    assert load_image(image).dtype == np.uint8


def test_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nothing.png.*which is no file; expected"):
        load_image(tmp_path / "nothing.png")


def test_text_is_no_picture(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("a cup on a table")
    with pytest.raises(ValueError, match=r"notes.txt.*no picture that can be read; expected PNG"):
        load_image(path)
    with pytest.raises(ValueError, match="Got 16 bytes, which is no picture"):
        load_image(path.read_bytes())


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_picture_that_ends_early_is_refused(kind):
    noise = np.random.default_rng(1).integers(0, 256, (60, 60, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, format=kind)
    with pytest.raises(ValueError, match=r"cut short or damaged.*expected a whole picture"):
        load_image(buffer.getvalue()[: len(buffer.getvalue()) // 2])


@pytest.mark.parametrize("limit", [23 * 31 - 1, 23 * 31 // 2 - 1])
def test_decompression_bomb_is_refused_from_the_first_pixel_too_many(pixels, monkeypatch, limit):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    with pytest.raises(ValueError, match=f"too many pixels; expected at most {limit}"):
        load_image(png(Image.fromarray(pixels)))


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((4, 5, 3)), r"array of float64 \[4, 5, 3\]; expected uint8 \[height, width, 3\]"),
        (np.zeros((3, 4, 5), np.uint8), r"array of uint8 \[3, 4, 5\]; expected"),
        (np.zeros((0, 5, 3), np.uint8), r"array of uint8 \[0, 5, 3\]; expected"),
        (torch.zeros(3, 4, 5), r"tensor of float32 \[3, 4, 5\]; expected uint8 \[3, height, width"),
        (torch.zeros(4, 5, 3, dtype=torch.uint8), r"tensor of uint8 \[4, 5, 3\]; expected"),
        (7, "Got int; expected a path, bytes"),
    ],
)
def test_other_inputs_are_named(image, message):
    with pytest.raises(ValueError, match=message):
        load_image(image)


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((160, 160), (160, 160)),
        ((80, 120), (160, 240)),
        ((333, 500), (160, 240)),
        ((100, 400), (80, 320)),  # the longer side decides
        ((3, 4000), (1, 320)),
    ],
)
def test_size_rule(size, expected):
    assert prepare(np.zeros((*size, 3), np.uint8), CONFIG).scaled_size == expected


def test_scale_is_the_quotient_of_the_sides_before_rounding():
    prepared = prepare(np.zeros((333, 500, 3), np.uint8), CONFIG)
    assert prepared.scale == choose_scale((333, 500), CONFIG) == 160 / 333
    assert prepared.image_size == (333, 500)


def test_picture_of_the_right_size_is_only_normalized():
    pixels = np.random.default_rng(2).integers(0, 256, (160, 200, 3), dtype=np.uint8)
    values = prepare(pixels, CONFIG).pixel_values.permute(1, 2, 0).numpy()
    expected = (pixels - np.float32(CONFIG.pixel_mean)) / np.float32(CONFIG.pixel_std)
    np.testing.assert_allclose(values, expected, atol=1e-6)


def test_channel_order_of_the_weights_is_followed():
    pixels = np.zeros((160, 160, 3), np.uint8)
    pixels[..., 0] = 200  # red
    config = DetectorConfig(
        object_names=("cup",),
        channel_order="BGR",
        pixel_mean=(1.0, 2.0, 4.0),
        pixel_std=(1.0, 1.0, 2.0),
    )
    assert prepare(pixels, config).pixel_values[:, 5, 5].tolist() == [-1.0, -2.0, 98.0]


def test_positions_follow_the_scale_and_not_the_rounded_size():
    """A step derived from the rounded size moves the far end of this ramp by half a step."""
    height, width = 100, 331  # scale 320 / 331: the shorter side would be 96.68, becomes 97
    pixels = np.repeat(np.arange(height, dtype=np.uint8)[:, None, None], width, axis=1)
    prepared = prepare(np.repeat(pixels, 3, axis=2), CONFIG)
    rows = prepared.pixel_values[0, 8:-8, 50] * CONFIG.pixel_std[0] + CONFIG.pixel_mean[0]
    centers = (np.arange(prepared.scaled_size[0])[8:-8] + 0.5) / prepared.scale - 0.5
    np.testing.assert_allclose(rows, centers, atol=0.05)


def test_shrinking_averages_instead_of_skipping_pixels():
    stripes = np.zeros((1600, 1600, 3), np.uint8)
    stripes[::2] = 255
    values = prepare(stripes, CONFIG).pixel_values
    grey = (127.5 - torch.tensor(CONFIG.pixel_mean)) / torch.tensor(CONFIG.pixel_std)
    torch.testing.assert_close(values[:, 9, 9], grey, atol=0.05, rtol=0)


def test_batch_is_padded_below_and_on_the_right():
    pictures = [
        prepare(np.full((*size, 3), 9, np.uint8), CONFIG) for size in ((160, 240), (320, 160))
    ]
    pixel_values, sizes = pad_batch(pictures)
    assert pixel_values.shape == (2, 3, 320, 240)
    assert sizes.tolist() == [[160, 240], [320, 160]]
    assert (pixel_values[0, :, 160:] == 0).all()
    assert (pixel_values[1, :, :, 160:] == 0).all()
    torch.testing.assert_close(pixel_values[1, :, :, :160], pictures[1].pixel_values)
    assert pixel_values.is_contiguous(memory_format=torch.channels_last)


def test_groups_hold_pictures_of_one_size_in_order():
    sizes = [(160, 160), (160, 240), (80, 80), (80, 120)]  # the latter two are enlarged
    pictures = [prepare(np.zeros((*size, 3), np.uint8), CONFIG) for size in sizes]
    assert group_by_size(pictures) == [[0, 2], [1, 3]]
