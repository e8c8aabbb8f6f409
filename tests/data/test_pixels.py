"""The pixel store: what was read once is kept, however often writing is interrupted."""

import numpy as np
import pytest

from lxmert.data.pixels import PixelStore

IDS = [f"folder/{index}.png" for index in range(7)]


def picture(image_id):
    return np.full((4, 4, 3), IDS.index(image_id) * 30 + 8, np.uint8)


def test_pictures_come_back_by_their_id(tmp_path):
    store = PixelStore.write(tmp_path / "store", IDS, picture, side=4)
    for image_id in reversed(IDS):
        assert (store[image_id] == picture(image_id)).all()
    assert (tmp_path / "store" / "pixels.bin").stat().st_size == 7 * 4 * 4 * 3


@pytest.mark.parametrize("cut", [0, 1, 48, 49, 150, 7 * 48 - 1])
def test_an_interrupted_store_goes_on_where_it_stopped(tmp_path, cut):
    whole = PixelStore.write(tmp_path / "whole", IDS, picture, side=4)
    content = (tmp_path / "whole" / "pixels.bin").read_bytes()
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut" / "pixels.bin").write_bytes(content[:cut])
    read = []

    def counted(image_id):
        read.append(image_id)
        return picture(image_id)

    again = PixelStore.write(tmp_path / "cut", IDS, counted, side=4)
    assert read == IDS[cut // 48 :]
    assert (tmp_path / "cut" / "pixels.bin").read_bytes() == content
    assert again.rows == whole.rows


def test_a_finished_store_is_read_and_not_written(tmp_path):
    PixelStore.write(tmp_path, IDS, picture, side=4)

    def fail(image_id):
        raise AssertionError(image_id)

    assert len(PixelStore.write(tmp_path, IDS, fail, side=4).rows) == 7


def test_a_store_of_other_pictures_is_refused(tmp_path):
    PixelStore.write(tmp_path, IDS, picture, side=4)
    with pytest.raises(ValueError, match=r"7 pictures of side 4, expected 6 of side 4: remove it"):
        PixelStore.write(tmp_path, IDS[:6], picture, side=4)
