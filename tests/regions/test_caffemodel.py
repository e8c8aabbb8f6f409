import random
import struct

import numpy as np
import pytest
from regions.published import encode_blob, encode_net, field, varint

from lxmert.regions.caffemodel import read_caffemodel


def read(folder, data):
    path = folder / "net.caffemodel"
    path.write_bytes(data)
    return read_caffemodel(path)


def random_layers(generator, count):
    """Draw layers with blobs of 1-4 sides; odd names shift the floats off their alignment."""
    layers = {}
    for index in range(count):
        name = "layer" + "/x" * int(generator.integers(5)) + str(index)
        layers[name] = [
            generator.normal(size=generator.integers(1, 6, int(generator.integers(1, 5)))).astype(
                np.float32
            )
            for _ in range(int(generator.integers(1, 4)))
        ]
    return layers


@pytest.mark.parametrize("generation", ["layer", "layers"])
@pytest.mark.parametrize("packed", [True, False])
def test_random_networks_come_back(generation, packed, tmp_path):
    generator = np.random.default_rng(0)
    for count in (1, 3, 40):
        layers = random_layers(generator, count)
        found = read(tmp_path, encode_net(layers, generation, packed=packed))
        assert list(found) == list(layers)
        for name, blobs in layers.items():
            assert len(found[name]) == len(blobs)
            for blob, expected in zip(found[name], blobs, strict=True):
                assert blob.dtype == np.float32
                assert blob.shape == expected.shape
                assert np.array_equal(blob, expected)


def test_legacy_shapes_have_four_sides(tmp_path):
    blobs = [np.ones((2, 3), np.float32), np.ones(5, np.float32)]
    found = read(tmp_path, encode_net({"a": blobs}, legacy=True))
    assert [blob.shape for blob in found["a"]] == [(1, 1, 2, 3), (1, 1, 1, 5)]


def test_a_blob_without_a_shape_is_one_number(tmp_path):
    found = read(tmp_path, encode_net({"scale": [np.float32(3.25)]}))
    assert found["scale"][0].shape == ()
    assert found["scale"][0] == np.float32(3.25)


def test_values_in_several_runs_are_joined_in_order(tmp_path):
    """The encoding allows a packed field to be cut, and packed and single values to be mixed."""
    values = np.arange(7, dtype="<f4")
    blob = field(7, field(1, bytes([7])))
    blob += field(5, values[:3].tobytes())
    blob += varint(5 << 3 | 5) + struct.pack("<f", 3) + field(5, values[4:].tobytes())
    found = read(tmp_path, field(100, field(1, b"a") + field(7, blob)))
    assert np.array_equal(found["a"][0], values)


def test_fields_of_every_known_wire_type_are_skipped(tmp_path):
    other = field(3, 300) + varint(11 << 3 | 1) + bytes(8) + varint(12 << 3 | 5) + bytes(4)
    blob = other[2 + 1 :] + encode_blob(np.ones(2)) + field(6, bytes(8))  # 6: the gradient
    data = field(1, b"net") + field(100, field(1, b"a") + field(7, blob)) + field(9, b"x")
    assert list(read(tmp_path, data)) == ["a"]


def test_a_layer_may_occur_again_without_blobs(tmp_path):
    """Networks list a layer once for training and once for testing."""
    data = encode_net({"a": [np.ones(2)]}) + field(100, field(1, b"a"))
    assert list(read(tmp_path, data)) == ["a"]


def test_the_whole_file_is_not_copied(tmp_path):
    blob = read(tmp_path, encode_net({"a": [np.ones((9, 9))]}))["a"][0]
    assert not blob.flags.owndata
    assert not blob.flags.writeable


@pytest.mark.parametrize(
    ("data", "reported"),
    [
        (b"", "is empty"),
        (field(1, b"net"), "no layer with blobs in its 5 bytes"),
        (field(1, b"net") + b"\xa2\x06\x7f", "field at byte 5 ends at byte 135, beyond byte 8"),
        (field(1, b"net") + b"\xff" * 12, "number at byte 5 has no end"),
        (field(1, b"net") + b"\xa2", "number at byte 5 has no end"),
        (field(1, b"net") + b"\x0b", "byte 5 does not start a field"),
        (field(1, b"net") + b"\x02\x00", "byte 5 does not start a field"),
        (b"\x0d\x00", "field at byte 0 ends at byte 5, beyond byte 2"),
        (field(100, field(1, b"\xff\xfe")), "layer's name at byte 5 is not UTF-8"),
        (field(100, field(7, field(5, b"123"))), "at byte 7 are not 4-byte floats"),
        (field(100, field(7, field(5, bytes(8)))), "at byte 5 has 2 values and the shape []"),
        (field(100, field(7, field(7, field(1, 3)))), "has 0 values and the shape [3]"),
        (encode_net({"a": [1.0]}) + encode_net({"a": [1.0]}), "a second layer 'a'"),
        (
            field(100, field(7, field(7, field(1, varint(2**62) * 9)))),
            "has 0 values and the shape [46116860",
        ),
    ],
)  # fmt: skip
def test_damage_is_reported_with_its_place(data, reported, tmp_path):
    with pytest.raises(ValueError, match=r"net\.caffemodel") as error:
        read(tmp_path, data)
    assert reported in str(error.value)


def test_garbage_is_refused(tmp_path):
    generator = random.Random(1)
    for _ in range(300):
        with pytest.raises(ValueError, match="Caffe network"):
            read(tmp_path, generator.randbytes(generator.randrange(1, 200)))
