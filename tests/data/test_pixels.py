"""The pixel store: what was read once is kept, however often writing is interrupted."""

import numpy as np
import pytest
from stores import first_shard, flip

from lxmert.data import store_writing
from lxmert.data.pixels import PixelStore

IDS = [f"folder/{index}.png" for index in range(7)]


def random_image(image_id):
    return np.full((4, 6, 3), IDS.index(image_id) * 30 + 8, np.uint8)


def test_images_come_back_by_their_id(tmp_path):
    store = PixelStore.write(tmp_path / "store", IDS, random_image, height=4, width=6)
    assert (len(store), store.image_ids, store.header.width) == (7, IDS, 6)
    wanted = [*reversed(IDS), "absent.png"]
    positions = store.positions(wanted).tolist()
    assert positions == [6, 5, 4, 3, 2, 1, 0, -1]
    for position, image_id in zip(positions[:-1], wanted, strict=False):
        assert (store[position] == random_image(image_id)).all()
    assert store.verify() == []


def write_some(folder, ids, most):
    """Write a store that is interrupted after some images; return those that were read."""
    read = []

    def counted(image_id):
        if len(read) == most:
            raise InterruptedError
        read.append(image_id)
        return random_image(image_id)

    try:
        PixelStore.write(folder, ids, counted, height=4, width=6)
    except InterruptedError:
        assert not (folder / "index.safetensors").exists()
    return read


@pytest.mark.parametrize("unit", [2, 1024])
@pytest.mark.parametrize("most", [0, 1, 4, 6])
def test_an_interrupted_store_is_resumed_where_it_stopped(tmp_path, most, unit, monkeypatch):
    monkeypatch.setattr(store_writing, "UNIT", unit)
    PixelStore.write(tmp_path / "whole", IDS, random_image, height=4, width=6)
    write_some(tmp_path / "cut", IDS, most)
    assert write_some(tmp_path / "cut", IDS, 99) == IDS[most:]
    whole = {path.name: path.read_bytes() for path in (tmp_path / "whole").iterdir()}
    assert {path.name: path.read_bytes() for path in (tmp_path / "cut").iterdir()} == whole


def test_an_interrupted_store_of_other_images_begins_again(tmp_path):
    """It was resumed behind the images that were there, and gave one image for another."""
    write_some(tmp_path, IDS, 4)
    others = [IDS[0], *IDS[2:]]  # the second one has vanished
    assert write_some(tmp_path, others, 99) == others
    store = PixelStore(tmp_path)
    for image_id, row in zip(others, store.positions(others).tolist(), strict=True):
        assert (store[row] == random_image(image_id)).all()


def test_a_finished_store_is_read_and_not_written(tmp_path):
    PixelStore.write(tmp_path, IDS, random_image, height=4, width=6)

    def fail(image_id):
        raise AssertionError(image_id)

    assert len(PixelStore.write(tmp_path, IDS, fail, height=4, width=6)) == 7


def test_a_store_of_other_images_is_refused(tmp_path):
    PixelStore.write(tmp_path, IDS, random_image, height=4, width=6)
    with pytest.raises(ValueError, match=r"7 images of 6x4 pixels, expected 6 of 6x4: the imag"):
        PixelStore.write(tmp_path, IDS[:6], random_image, height=4, width=6)


def test_damage_is_one_sentence(tmp_path):
    """It ended the training with a traceback, or gave other pixels."""
    PixelStore.write(tmp_path, IDS, random_image, height=4, width=6)
    flip(first_shard(tmp_path), "pixels")
    with pytest.raises(ValueError, match="is damaged: image 6 of 7"):
        PixelStore(tmp_path)[6]
    (tmp_path / "index.safetensors").write_bytes(b"{}")
    with pytest.raises(ValueError, match=r"index.safetensors is damaged: .*make the store again"):
        PixelStore.write(tmp_path, IDS, random_image, height=4, width=6)


def test_damaged_files_of_an_interrupted_store_are_written_again(tmp_path, caplog):
    """It ended the training with a traceback."""
    write_some(tmp_path, IDS, 4)
    for path in tmp_path.glob("saved-*"):
        path.write_bytes(b"junk")
    assert write_some(tmp_path, IDS, 99) == IDS
    assert "are prepared again: " in caplog.text
