"""Tensors in files: bounded by the file's size, of a type and values that weights have."""

import io
import json
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from lxmert.tensor_files import (
    check_values,
    find_faults,
    named_tensors,
    read_safetensors,
    read_torch,
)
from lxmert.weight_files import is_safetensors

GOOD = {"a.weight": torch.full((2, 3), 3.25), "a.bias": torch.zeros(2), "b": torch.tensor(-8.0)}


def read(path: Path) -> dict[str, Tensor]:
    if is_safetensors(path):
        return read_safetensors(path)
    return named_tensors(path, read_torch(path))


def repack(path: Path, change: Callable[[str, bytes], bytes]) -> None:
    """Write the entries of a zip again, compressed."""
    with zipfile.ZipFile(path) as archive:
        entries = {info.filename: archive.read(info) for info in archive.infolist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in entries.items():
            archive.writestr(name, change(name, data))


@pytest.mark.parametrize("rows", [1000, 10**6, 10**12, 2**62])
@pytest.mark.parametrize("zipped", [True, False])
def test_a_number_repeated_without_end_is_refused(rows: int, zipped: bool, tmp_path: Path) -> None:
    """Bug: a tensor of 10^12 rows of stride 0 in a file of a kilobyte was loaded and copied."""
    path = tmp_path / "a.pth"
    state = {"a": torch.zeros(1).expand(rows, 1)}
    torch.save(state, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(ValueError, match=r"a\.pth has \d+ bytes, but its tensors up to a .* claim"):
        read(path)


def test_many_tensors_over_the_same_numbers_are_refused(tmp_path: Path) -> None:
    numbers = torch.ones(4000)
    torch.save({f"t{index}": numbers for index in range(9)}, tmp_path / "a.pth")
    with pytest.raises(ValueError, match=r"up to t4 \[4000\] claim 80000"):
        read(tmp_path / "a.pth")
    torch.save({"embedding": numbers, "decoder": numbers}, tmp_path / "tied.pth")
    assert read(tmp_path / "tied.pth").keys() == {"embedding", "decoder"}


def test_a_compressed_archive_is_refused(tmp_path: Path) -> None:
    """Bug: a zip file of 2.9 MB was unpacked to 6.2 GB."""
    path = tmp_path / "a.pth"
    torch.save({"a": torch.zeros(300_000)}, path)
    repack(path, lambda _, data: data)
    assert path.stat().st_size < 10_000
    with pytest.raises(ValueError, match=r"a\.pth .*\d{7} bytes are packed into its \d{4}"):
        read(path)


def test_a_tuple_that_doubles_itself_is_refused(tmp_path: Path) -> None:
    """To hash the tuple, as the key of a dictionary, takes 2^60 steps."""
    doubling = (
        b"(" + b"t" + b"q\x00" + b"".join(b"h%ch%c\x86q%c" % (i, i, i + 1) for i in range(60))
    )
    bomb = b"\x80\x02}" + doubling + b"K\x01s."
    path = tmp_path / "a.pth"
    torch.save(GOOD, path)
    with zipfile.ZipFile(path) as archive:
        entries = {info.filename: archive.read(info) for info in archive.infolist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in entries.items():
            archive.writestr(name, bomb if name.endswith("data.pkl") else data)
    with pytest.raises(ValueError, match="refers to its own parts"):
        read(path)


@pytest.mark.parametrize("count", [10**6, 10**11, 10**15])
def test_storages_that_the_older_form_only_announces_are_refused(
    count: int, tmp_path: Path
) -> None:
    buffer = io.BytesIO()
    torch.save({"a": torch.zeros(77)}, buffer, _use_new_zipfile_serialization=False)
    announced = b"\x8a" + bytes([8]) + struct.pack("<q", count)
    path = tmp_path / "a.pth"
    path.write_bytes(buffer.getvalue().replace(b"KM", announced))
    with pytest.raises(ValueError, match=r"a\.pth"):
        read(path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b"PK\x03\x04",
        b"\x80\x02.",
        bytes(99),
        b"\x00\x00\x00\x80\x00\x00\x00\x00{" + b"[" * 5000,
        struct.pack("<Q", 60) + json.dumps({"a": {"dtype": "F32", "shape": [10**12]}}).encode(),
        pickle.dumps([1] * 9, protocol=0),
    ],
)
def test_what_is_no_file_of_weights_is_one_sentence(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(ValueError, match=r"model\.safetensors .*(copy|check)"):
        read(tmp_path / "model.safetensors")


@pytest.mark.parametrize("kind", [torch.int64, torch.bool, torch.complex64, torch.uint8])
def test_a_type_that_no_weights_have_is_named(kind: torch.dtype, tmp_path: Path) -> None:
    """Bug: integers and truth values were taken for weights, and complex ones cut in half."""
    save_file(GOOD | {"a.weight": torch.ones(2, 3).to(kind)}, tmp_path / "a")
    name = str(kind).removeprefix("torch.")
    with pytest.raises(ValueError, match=f"1 of a type that no weights have: a.weight {name}"):
        check_values("here", read(tmp_path / "a"))


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_values_that_are_not_finite_are_named(value: float, kind: torch.dtype) -> None:
    """Bug: NaN weights were loaded, and `lxmert verify` said that nothing was wrong."""
    state = {name: tensor.clone().to(kind) for name, tensor in GOOD.items()}
    assert find_faults(state) == {}
    state["a.bias"][1] = value
    with pytest.raises(ValueError, match=r"here .*1 with values that are no finite.*a\.bias"):
        check_values("here", state)


def test_a_model_of_zeros_is_refused_and_a_layer_of_zeros_is_not() -> None:
    """Bug: weights of nothing but zeros were loaded; a new last layer may well start there."""
    state = {f"layer.{index}.weight": torch.ones(2, 2) for index in range(4)}
    state |= {f"layer.{index}.bias": torch.zeros(2) for index in range(4)}
    state["layer.3.weight"] = torch.zeros(2, 2)
    check_values("here", state)
    state["layer.2.weight"] = torch.zeros(2, 2)  # the end of a file that was never written
    with pytest.raises(ValueError, match=r"2 of 4 matrices nothing but zeros: layer\.2"):
        check_values("here", state)
    check_values("here", {"bias": torch.zeros(3), "scale": torch.tensor(0.0)})
    check_values("here", {"empty": torch.zeros(0, 3)})
