"""All input forms of an image give the same result, resized by the exact scale."""

import io
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lxmert.regions import preprocess
from lxmert.regions.batching import check_list
from lxmert.regions.configuration import DetectorConfig
from lxmert.regions.padding import pad_batch
from lxmert.regions.preprocess import (
    choose_scale,
    choose_size,
    is_image,
    load_image,
    plan_batches,
    prepare,
)

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
    path = tmp_path / "image.png"
    path.write_bytes(data)
    tensor = torch.from_numpy(pixels).permute(2, 0, 1)
    for image in (path, str(path), data, Image.fromarray(pixels), pixels, tensor):
        np.testing.assert_array_equal(load_image(image), pixels)


def test_files_and_rows_of_data_sets_are_read(pixels, tmp_path):
    """Bug: a BytesIO was read as a list of its lines, a row of a data set as a list of its keys."""
    data = png(Image.fromarray(pixels))
    path = tmp_path / "image.png"
    path.write_bytes(data)
    stream = io.BytesIO()
    stream.write(data)  # it stands at its end
    rows = [
        {"bytes": data, "path": None},
        {"bytes": data, "path": "gone.png"},
        {"bytes": None, "path": str(path)},
        {"path": path},
    ]
    with path.open("rb") as file:
        for image in (file, stream, bytearray(data), memoryview(data), *rows):
            assert is_image(image)
            np.testing.assert_array_equal(load_image(image), pixels)


@pytest.mark.parametrize(
    ("image", "error", "message"),
    [
        (io.BytesIO(), ValueError, "got a BytesIO, which is no image that is read here"),
        (io.StringIO("text"), TypeError, "a StringIO in text mode; expected the bytes"),
        ({}, ValueError, "a dict with nothing; expected 'bytes' or 'path'"),
        ({"image": b"x", "label": 3}, ValueError, "a dict with 'image', 'label'; expected"),
        ({"bytes": None, "path": None}, ValueError, "a dict with 'bytes', 'path'; expected"),
        (torch.zeros(3, 4, 5, dtype=torch.uint8, device="meta"), ValueError, "on the meta device"),
        (torch.zeros(3, 4, 5, dtype=torch.uint8).to_sparse(), ValueError, "torch.sparse_coo"),
        (torch.zeros(3, 0, 0, dtype=torch.uint8), ValueError, r"uint8 \[3, 0, 0\]; expected"),
        (Image.new("RGB", (0, 0)), ValueError, "of 0 x 0 pixels; expected at least one"),
        (Image.new("L", (5, 0)), ValueError, "of 5 x 0 pixels"),
    ],
)
def test_what_holds_no_image_is_one_sentence(image, error, message):
    """Bug: meta and sparse tensors, and images without pixels, failed deep inside of torch."""
    with pytest.raises(error, match=message):
        load_image(image)


def test_an_open_file_is_read_up_to_a_limit(monkeypatch):
    monkeypatch.setattr(preprocess, "MAX_FILE_BYTES", 8)
    with pytest.raises(ValueError, match="a BytesIO of more than 8 bytes"):
        load_image(io.BytesIO(bytes(9)))


@pytest.mark.parametrize(
    "turn", [lambda a: a[:, :, ::-1], np.flipud, np.fliplr, lambda a: a.transpose(1, 0, 2)]
)
def test_views_of_arrays_are_read(pixels, turn):
    """OpenCV's image converted to RGB by [:, :, ::-1] has strides that torch rejects."""
    turned = load_image(turn(pixels))
    np.testing.assert_array_equal(turned, turn(pixels))
    assert prepare(turned, CONFIG).image_size == turned.shape[:2]


@pytest.mark.parametrize("forms", [("NFC", "NFD"), ("NFD", "NFC")])
def test_a_path_in_another_unicode_form_is_found(pixels, tmp_path, forms):
    """MacOS writes names in another Unicode normal form than most keyboards."""
    stored, asked = (unicodedata.normalize(form, "caf\u00e9.png") for form in forms)
    (tmp_path / stored).write_bytes(png(Image.fromarray(pixels)))
    np.testing.assert_array_equal(load_image(tmp_path / asked), pixels)


@pytest.mark.parametrize("name", ["a" * 5000, "nul\0.png", "What color is the ball?"])
def test_a_name_that_no_file_can_have_is_no_file(name):
    with pytest.raises(FileNotFoundError, match="is not a file"):
        load_image(name)


def test_one_image_is_no_list_of_images(pixels):
    """Bug: an array was read as a list of its rows, each of them a gray image."""
    for image in (pixels, torch.from_numpy(pixels), io.BytesIO(b"x"), {"bytes": b"x"}, "x.png"):
        with pytest.raises(ValueError, match=r"expected a list of images"):
            check_list(image)
    check_list(pixels[None])
    check_list([pixels])


def test_exif_orientation_is_applied(pixels, tmp_path):
    path = tmp_path / "turned.png"
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by 90 degrees clockwise
    Image.fromarray(pixels).save(path, exif=exif)
    np.testing.assert_array_equal(load_image(path), np.rot90(pixels, k=-1))


def test_grey_images_get_three_equal_channels(pixels):
    gray = pixels[..., 0]
    expected = np.repeat(gray[..., None], 3, axis=2)
    np.testing.assert_array_equal(load_image(Image.fromarray(gray)), expected)
    np.testing.assert_array_equal(load_image(gray), expected)


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
    with pytest.raises(FileNotFoundError, match=r"nothing.png.*is not a file; expected"):
        load_image(tmp_path / "nothing.png")


def test_text_is_no_image(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("a cup on a table")
    with pytest.raises(ValueError, match=r"notes.txt.*no image that is read here; expected PNG"):
        load_image(path)
    with pytest.raises(ValueError, match="got 16 bytes, which is no image"):
        load_image(path.read_bytes())


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_image_that_ends_early_is_refused(kind):
    noise = np.random.default_rng(1).integers(0, 256, (60, 60, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, format=kind)
    with pytest.raises(ValueError, match=r"cut short or damaged.*expected a complete image"):
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
        (7, "got int; expected a path, bytes"),
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


def test_image_of_the_right_size_is_only_normalized():
    pixels = np.random.default_rng(2).integers(0, 256, (160, 200, 3), dtype=np.uint8)
    values = prepare(pixels, CONFIG).pixel_values.transpose(1, 2, 0)
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
    """A step derived from the rounded size would shift the far end of this ramp by half a step."""
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
    gray = (127.5 - np.array(CONFIG.pixel_mean)) / np.array(CONFIG.pixel_std)
    np.testing.assert_allclose(values[:, 9, 9], gray, atol=0.05)


def test_batch_is_padded_below_and_on_the_right():
    images = [
        prepare(np.full((*size, 3), 9, np.uint8), CONFIG) for size in ((160, 240), (320, 160))
    ]
    pixel_values, sizes = pad_batch(images)
    assert pixel_values.shape == (2, 3, 320, 240)
    assert sizes.tolist() == [[160, 240], [320, 160]]
    assert (pixel_values[0, :, 160:] == 0).all()
    assert (pixel_values[1, :, :, 160:] == 0).all()
    np.testing.assert_array_equal(pixel_values[1, :, :, :160], images[1].pixel_values)
    assert pixel_values.is_contiguous(memory_format=torch.channels_last)


def test_batches_hold_images_of_similar_size_and_each_image_once():
    sizes = [(160, 160), (160, 240), (80, 80), (80, 120), (160, 164), (320, 160)]
    images = [prepare(np.zeros((*size, 3), np.uint8), CONFIG) for size in sizes]
    batches = plan_batches(images)
    assert batches == [[0, 2, 4], [1, 3], [5]]
    assert plan_batches([]) == []


def test_batches_are_limited_whatever_the_number_and_size_of_images():
    config = CONFIG.replace(shorter_side=1000, longer_side=1000)
    image = prepare(np.zeros((10, 10, 3), np.uint8), config)
    assert [len(batch) for batch in plan_batches([image] * 5)] == [2, 2, 1]
    wide = CONFIG.replace(shorter_side=2000, longer_side=2000)
    huge = prepare(np.zeros((10, 10, 3), np.uint8), wide)
    assert plan_batches([huge, huge]) == [[0], [1]]


def draw(height, width):
    """Return a computed image, so that the stored numbers need no stored image."""
    y, x, c = np.ogrid[:height, :width, :3]
    return ((x * 37 + y * 101 + (x * y) % 251 + c * 53) % 256).astype(np.uint8)


def published(name):
    return DetectorConfig.preset(name, object_names=("cup",))


STORED = np.load(Path(__file__).with_name("cv2_resize.npz"))
STORED_SIZES = sorted({name.split(".")[0] for name in STORED.files})


def test_all_stored_images_are_tested():
    assert len(STORED_SIZES) == 8


@pytest.mark.parametrize("name", STORED_SIZES)
def test_resize_of_the_original_is_that_of_opencv(name):
    """The file holds the output of OpenCV 4.10 and 5.0 for `resize(fx=scale, fy=scale)`."""
    height, width = map(int, name.split("x"))
    config = published("caffe")
    prepared = prepare(draw(height, width), config)
    assert prepared.scaled_size == tuple(STORED[f"{name}.size"])
    gray = prepared.pixel_values[::-1].transpose(1, 2, 0) + np.float32(config.pixel_mean)[::-1]
    rows, columns = STORED[f"{name}.places"].astype(np.int64)
    np.testing.assert_allclose(gray[rows, columns], STORED[f"{name}.values"], atol=0.001)


@pytest.mark.parametrize(
    ("size", "caffe", "ports"),
    [
        ((480, 640), (600, 800), (800, 1067)),
        ((640, 407), (943, 600), (1258, 800)),
        ((500, 333), (901, 600), (1201, 800)),  # 1201.2 and 900.9
        ((1920, 2560), (600, 800), (800, 1067)),
        ((90, 1200), (75, 1000), (100, 1333)),  # 99.975
        ((2400, 4001), (600, 1000), (800, 1333)),  # 1000.25 rounds to what is allowed
        ((1, 1), (600, 600), (800, 800)),
        ((1, 20000), (1, 1000), (1, 1333)),
        ((20000, 3), (1000, 1), (1333, 1)),
    ],
)
def test_size_rules_of_the_programs(size, caffe, ports):
    for name, expected in (("caffe", caffe), ("detectron2", ports), ("hf", ports)):
        config = published(name)
        assert choose_size(size, choose_scale(size, config), config) == expected


def test_halves_are_rounded_as_the_program_does():
    config = CONFIG.replace(shorter_side=1, longer_side=1000)  # scale 1 / shorter side
    pixels = np.zeros((2, 5, 3), np.uint8)  # 2.5 wide
    assert prepare(pixels, config).scaled_size == (1, 2)
    up = config.replace(size_rounding="half_up")
    assert prepare(pixels, up).scaled_size == (1, 3)


def test_resize_rules_of_the_ports():
    pixels = draw(41, 67)
    small = {"shorter_side": 30, "longer_side": 50}
    hf = published("hf").replace(**small)
    prepared = prepare(pixels, hf)
    planes = torch.from_numpy(pixels).permute(2, 0, 1).float()
    expected = torch.nn.functional.interpolate(
        planes[None], size=prepared.scaled_size, mode="bilinear"
    )[0] - torch.tensor(hf.pixel_mean).view(3, 1, 1)  # red, green, blue minus blue, green, red
    np.testing.assert_allclose(prepared.pixel_values, expected, atol=0.002)
    detectron2 = published("detectron2").replace(**small)
    prepared = prepare(pixels, detectron2)
    height, width = prepared.scaled_size
    resized = np.asarray(Image.fromarray(pixels).resize((width, height), Image.BILINEAR))
    expected = resized[..., ::-1] - np.float32(detectron2.pixel_mean)
    np.testing.assert_allclose(prepared.pixel_values.transpose(1, 2, 0), expected, atol=1e-5)


@pytest.mark.parametrize("size", [(41, 67), (160, 299), (300, 200), (901, 700)])
def test_averaging_is_that_of_torch(size):
    """The filter of torch's kernel, enlarging and shrinking, by the exact scale."""
    pixels = draw(*size)
    prepared = prepare(pixels, CONFIG.replace(pixel_mean=(0.0,) * 3, pixel_std=(1.0,) * 3))
    planes = torch.from_numpy(pixels).permute(2, 0, 1).float()
    scale = prepared.scale
    expected = torch.ops.aten._upsample_bilinear2d_aa(
        planes[None], list(prepared.scaled_size), False, scale, scale
    )[0]
    np.testing.assert_allclose(prepared.pixel_values, expected, atol=0.02)


@pytest.mark.parametrize("name", ["caffe", "detectron2", "hf"])
def test_boxes_are_scaled_as_the_pixels_are(name):
    prepared = prepare(draw(333, 500), published(name))
    height, width = prepared.scaled_size
    exact = [width / 500, height / 333] * 2
    expected = [prepared.scale] * 4 if name == "caffe" else exact
    np.testing.assert_allclose(prepared.box_scale, expected, rtol=1e-6)
    assert np.abs(prepared.box_scale - prepared.scale).max() < 0.01


def test_opaque_colors_survive_every_mode_and_file():
    """Red must be read as red from any file format and mode."""
    red = np.zeros((9, 8, 3), np.uint8)
    red[..., 0] = 255
    for mode in ("RGB", "RGBA", "P", "CMYK"):
        image = Image.fromarray(red).convert(mode)
        np.testing.assert_array_equal(load_image(image), red)
        for kind in {"CMYK": ("TIFF",)}.get(mode, ("PNG", "TIFF")):
            buffer = io.BytesIO()
            image.save(buffer, format=kind)
            np.testing.assert_array_equal(load_image(buffer.getvalue()), red)


def test_very_wide_image_is_read_and_resized():
    wide = np.random.default_rng(1).integers(0, 256, (3, 20000, 3), dtype=np.uint8)
    np.testing.assert_array_equal(load_image(png(Image.fromarray(wide))), wide)
    assert prepare(wide, CONFIG).scaled_size == (1, 320)
