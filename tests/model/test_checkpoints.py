"""Reading weights: only tensors, nothing run, damage named."""

import os
import pickle
import random
from collections import OrderedDict

import pytest
import torch
from safetensors.torch import save_file

from lxmert.model.checkpoints import check_fit, read_folder, read_weights

STATE = {"a.weight": torch.full((2, 3), 3.25), "b": torch.tensor(-8.0)}


class Payload:
    """Makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def write(path, content=None, *, zipped=True):
    torch.save(STATE if content is None else content, path, _use_new_zipfile_serialization=zipped)
    return path


@pytest.fixture(params=["zipped", "older", "safetensors"])
def path(request, tmp_path):
    if request.param != "safetensors":
        return write(tmp_path / "weights.pth", zipped=request.param == "zipped")
    save_file(STATE, tmp_path / "weights.pth")  # its content counts, not its ending
    return tmp_path / "weights.pth"


def test_every_form_gives_the_same_tensors(path):
    found = read_weights(path)
    assert found.keys() == STATE.keys()
    assert all(torch.equal(found[name], value) for name, value in STATE.items())


def test_an_outline_has_names_and_shapes_and_no_values(path):
    found = read_weights(path, device="meta")
    assert {name: value.shape for name, value in found.items()} == {"a.weight": (2, 3), "b": ()}
    assert all(value.is_meta and value.dtype == torch.float32 for value in found.values())


def test_an_outline_knows_the_type(tmp_path):
    save_file({"a": torch.zeros(2, dtype=torch.bfloat16)}, tmp_path / "a")
    assert read_weights(tmp_path / "a", device="meta")["a"].dtype == torch.bfloat16


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize("form", ["zipped", "older", "bare"])
def test_a_file_that_would_run_code_is_refused_and_nothing_is_run(form, device, tmp_path):
    """The original loaded files with a full unpickler: a shared one could run anything."""
    target, path = tmp_path / "proof", tmp_path / "BEST.pth"
    content = {**STATE, "c": Payload(target)}
    if form == "bare":
        path.write_bytes(pickle.dumps(content["c"], protocol=2))
    else:
        write(path, content, zipped=form == "zipped")
    with pytest.raises(
        ValueError, match=r"BEST\.pth is refused: it holds Python objects .*mkdir.* nothing was run"
    ):
        read_weights(path, device=device)
    assert not target.exists()
    pickle.loads(pickle.dumps(Payload(target)))
    assert target.exists()  # the payload does work


def test_a_pickle_of_today_is_refused_and_nothing_is_run(tmp_path):
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(Payload(tmp_path / "proof")))
    with pytest.raises(ValueError, match=r"a\.pkl is no file of weights.*nothing of it was run"):
        read_weights(tmp_path / "a.pkl")
    assert not (tmp_path / "proof").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([torch.zeros(3)], "holds a list"),
        ({"model": STATE, "step": 3}, "holds a dict under 'model'"),
        ({3: torch.zeros(3)}, "holds a Tensor under 3"),
    ],
)
def test_anything_but_tensors_by_name_is_refused(content, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        read_weights(write(tmp_path / "a.pth", content))


def test_a_state_dict_with_its_metadata_is_read(tmp_path):
    """`state_dict()` is an ordered dictionary with an attribute, parameters may be in it."""
    state = torch.nn.Linear(3, 2).state_dict(keep_vars=True)
    assert isinstance(state, OrderedDict)
    assert hasattr(state, "_metadata")
    assert read_weights(write(tmp_path / "a.pth", state)).keys() == {"weight", "bias"}


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no file .*nowhere\.pth"):
        read_weights(tmp_path / "nowhere.pth")


def test_damage_anywhere_is_a_clear_error(path, tmp_path):
    """Random bytes changed, cut off or put instead: an error of ours, or what still is readable."""
    whole = path.read_bytes()
    generator = random.Random(7)
    refused = unnamed = 0
    for _ in range(120):
        data = bytearray(whole[: generator.randrange(len(whole) + 1)])
        for _ in range(generator.randrange(4)):
            if data:
                data[generator.randrange(len(data))] = generator.randrange(256)
        path.write_bytes(generator.choice([bytes(data), generator.randbytes(len(data))]))
        try:
            read_weights(path)
        except ValueError as error:
            refused += str(path) in str(error)
            unnamed += str(path) not in str(error)
    assert unnamed == 0
    assert refused > 90


@pytest.mark.parametrize("length", [4095, 4102, 9001, 17339])
def test_a_truncated_file_of_any_length_is_named(length, tmp_path):
    """Bug: a truncated file was reported as `Invalid argument` only."""
    path = write(tmp_path / "a.pth", {"a": torch.arange(4000.0)})
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(ValueError, match=r"a\.pth is no file of weights, or damaged"):
        read_weights(path)


def test_a_folder_in_parts_is_joined(tmp_path):
    save_file({"a.weight": STATE["a.weight"]}, tmp_path / "model-1.safetensors")
    save_file({"b": STATE["b"]}, tmp_path / "model-2.safetensors")
    index = '{"weight_map": {"a.weight": "model-1.safetensors", "b": "model-2.safetensors"}}'
    (tmp_path / "model.safetensors.index.json").write_text(index)
    assert read_folder(tmp_path).keys() == STATE.keys()
    (tmp_path / "model-2.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"model-2\.safetensors"):
        read_folder(tmp_path)


@pytest.mark.parametrize("text", ["{", "[]", "{}"])
def test_a_damaged_index_is_named(text, tmp_path):
    (tmp_path / "pytorch_model.bin.index.json").write_text(text)
    with pytest.raises(ValueError, match=r"pytorch_model\.bin\.index\.json.*copy it again"):
        read_folder(tmp_path)


def test_every_kind_of_misfit_is_listed_at_once():
    expected = {"kept": torch.zeros(2), "short": torch.zeros(3), "gone": torch.zeros(1)}
    expected |= {"tied": torch.zeros(2)}
    state = {"kept": torch.ones(2), "short": torch.ones(2), "more": torch.ones(1)}
    state |= {"tied": torch.zeros(2)}
    with pytest.raises(ValueError, match="does not fill") as error:
        check_fit("here", state, expected, tied={"tied": "kept"}, unknown=["module.odd"])
    for part in (
        "here does not fill",
        "2 unknown: module.odd, more",
        "1 missing: gone",
        "1 of another shape: short [2] instead of [3]",
        "1 different from their tied weight: tied",
    ):
        assert part in str(error.value)
    allow = ["module.odd", "more", "gone", "short", "tied"]
    options = {"tied": {"tied": "kept"}, "unknown": ["module.odd"]}
    assert check_fit("here", state, expected, **options, allow=allow).keys() == {"kept"}


def test_allowed_prefixes_end_at_a_dot():
    expected = {"head.bias": torch.zeros(1), "header.bias": torch.zeros(1)}
    with pytest.raises(ValueError, match=r"1 missing: header\.bias:"):
        check_fit("here", {}, expected, tied={}, allow=["head"])
