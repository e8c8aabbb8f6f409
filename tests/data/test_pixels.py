"""The pixel store: what was read once is kept, however often writing is interrupted."""

import numpy as np
import pytest

from lxmert.data.pixels import PixelStore

IDS = [f"folder/{index}.png" for index in range(7)]


def random_image(image_id):
    return np.full((4, 4, 3), IDS.index(image_id) * 30 + 8, np.uint8)


def test_images_come_back_by_their_id(tmp_path):
    store = PixelStore.write(tmp_path / "store", IDS, random_image, side=4)
    assert (len(store), store.image_ids()) == (7, IDS)
    wanted = [*reversed(IDS), "absent.png"]
    rows = store.rows(wanted).tolist()
    assert rows == [6, 5, 4, 3, 2, 1, 0, -1]
    for row, image_id in zip(rows[:-1], wanted, strict=False):
        assert (store[row] == random_image(image_id)).all()
    assert (tmp_path / "store" / "pixels.bin").stat().st_size == 7 * 4 * 4 * 3


def write_some(folder, ids, most):
    """Write a store that is interrupted after some images; return those that were read."""
    read = []

    def counted(image_id):
        if len(read) == most:
            raise InterruptedError
        read.append(image_id)
        return random_image(image_id)

    try:
        PixelStore.write(folder, ids, counted, side=4)
    except InterruptedError:
        assert not (folder / "header.json").exists()
    return read


@pytest.mark.parametrize("most", [0, 1, 4, 6])
@pytest.mark.parametrize("cut", [0, 1, 48])
def test_an_interrupted_store_goes_on_where_it_stopped(tmp_path, most, cut):
    PixelStore.write(tmp_path / "whole", IDS, random_image, side=4)
    write_some(tmp_path / "cut", IDS, most)
    pixels = tmp_path / "cut" / "pixels.bin"
    content = pixels.read_bytes()
    pixels.write_bytes(content[: len(content) - cut])
    whole = max(0, len(content) - cut) // 48
    assert write_some(tmp_path / "cut", IDS, 99) == IDS[whole:]
    assert pixels.read_bytes() == (tmp_path / "whole" / "pixels.bin").read_bytes()


def test_an_interrupted_store_of_other_images_begins_again(tmp_path):
    """It went on behind the images that were there, and gave one image for another."""
    write_some(tmp_path, IDS, 4)
    others = [IDS[0], *IDS[2:]]  # the second one has vanished
    assert write_some(tmp_path, others, 99) == others
    store = PixelStore(tmp_path)
    for image_id, row in zip(others, store.rows(others).tolist(), strict=True):
        assert (store[row] == random_image(image_id)).all()


def test_a_finished_store_is_read_and_not_written(tmp_path):
    PixelStore.write(tmp_path, IDS, random_image, side=4)

    def fail(image_id):
        raise AssertionError(image_id)

    assert len(PixelStore.write(tmp_path, IDS, fail, side=4)) == 7


def test_a_store_of_other_images_is_refused(tmp_path):
    PixelStore.write(tmp_path, IDS, random_image, side=4)
    with pytest.raises(ValueError, match=r"7 images of side 4, expected 6 of side 4: the imag"):
        PixelStore.write(tmp_path, IDS[:6], random_image, side=4)


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "{}", "[" * 10**5, '{"side": 4}', '{"side": "4", "image_ids": ["a"]}',
                '{"side": 4, "image_ids": 7}', '{"side": -4, "image_ids": ["a"]}'],
)  # fmt: skip
def test_a_damaged_header_is_one_sentence(tmp_path, content):
    """It ended the training with a traceback."""
    PixelStore.write(tmp_path, IDS, random_image, side=4)
    (tmp_path / "header.json").write_text(content)
    with pytest.raises(ValueError, match=r"header.json .*: remove this folder, and the same comm"):
        PixelStore.write(tmp_path, IDS, random_image, side=4)


@pytest.mark.parametrize("size", [None, 0, 48, 335, 337])
def test_pixels_of_another_size_are_refused(tmp_path, size):
    """Fewer ended with a word of numpy's, more without a word."""
    PixelStore.write(tmp_path, IDS, random_image, side=4)
    pixels = tmp_path / "pixels.bin"
    pixels.unlink() if size is None else pixels.write_bytes(b"." * size)
    with pytest.raises(ValueError, match=rf"pixels.bin has {size or 0} bytes, expected 336: remov"):
        PixelStore(tmp_path)


def test_a_damaged_note_of_what_is_to_come_begins_again(tmp_path, caplog):
    """It ended the training with a traceback."""
    write_some(tmp_path, IDS, 4)
    (tmp_path / "unfinished.json").write_text('{"side": 4, "ima')
    assert write_some(tmp_path, IDS, 99) == IDS
    assert "are prepared again: " in caplog.text
