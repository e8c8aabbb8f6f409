import os
import pickle
import random
import struct

import numpy as np
import pytest
from regions.published import python2_array, python2_text

from lxmert.regions import pickles
from lxmert.regions.pickles import read_pickle


def read(folder, data):
    path = folder / "weights.pkl"
    path.write_bytes(data)
    return read_pickle(path)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_random_arrays_come_back(protocol, tmp_path):
    generator = np.random.default_rng(protocol)
    for dtype in ("<f4", ">f4", "<f2", "<f8", ">i8", "<i4"):
        shape = generator.integers(1, 5, int(generator.integers(0, 5)))
        array = np.asarray(generator.normal(size=shape) * 99).astype(dtype)
        content = {"a": array, "b": {"c": np.asarray(array, order="F"), "d": 8, "e": "text"}}
        found = read(tmp_path, pickle.dumps(content, protocol))
        assert found["a"].dtype == array.dtype
        assert np.array_equal(found["a"], array)
        assert np.array_equal(found["b"]["c"], array)
        assert (found["b"]["d"], found["b"]["e"]) == (8, "text")


def test_every_byte_of_a_python_2_array_survives(tmp_path):
    array = np.frombuffer(bytes(range(256)), "<f4").reshape(4, 16)
    data = b"\x80\x02}" + python2_text(b"a") + python2_array(array) + b"s."
    assert read(tmp_path, data)["a"].tobytes() == array.tobytes()


class Call:
    """An object that pickles as a function call."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def hostile(victim):
    """Yield the requested global, and a pickle that would create the file `victim`."""
    command = f"touch {victim}"
    for protocol in range(6):
        yield "posix.system", pickle.dumps({"model": Call(os.system, command)}, protocol)
        module = "__builtin__" if protocol < 3 else "builtins"
        for function in (eval, exec):
            yield (
                f"{module}.{function.__name__}",
                pickle.dumps({"a": Call(function, f"open({str(victim)!r}, 'w')")}, protocol),
            )
        yield f"{module}.getattr", pickle.dumps({"a": Call(getattr, "", "join")}, protocol)
    text = command.encode()
    yield "os.system", b"cos\nsystem\n(S'" + text + b"'\ntR."
    yield "os.system", b"(S'" + text + b"'\nios\nsystem\n."
    yield (
        "os.system",
        b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c" + bytes([len(text)]) + text + (b"\x85R."),
    )
    yield (
        "subprocess.Popen",
        b"\x80\x02csubprocess\nPopen\n(S'touch'\nS'" + text[6:] + b"'\nl\x85R.",
    )
    # Dotted names reach through what is allowed; proto 4 resolves them attribute by attribute.
    yield "numpy.ndarray.__class__", b"\x80\x04\x8c\x05numpy\x8c\x11ndarray.__class__\x93."
    yield "numpy.load", b"\x80\x02cnumpy\nload\n."
    yield "numpy.core.multiarray.scalar", b"\x80\x02cnumpy.core.multiarray\nscalar\n."
    yield "numpy._core.multiarray.fromfile", b"\x80\x02cnumpy._core.multiarray\nfromfile\n."
    yield "_codecs.decode", b"\x80\x02c_codecs\ndecode\n."


def test_hostile_pickles_are_refused_by_name_without_running(tmp_path):
    victim = tmp_path / "victim"
    count = 0
    for name, data in hostile(victim):
        with pytest.raises(ValueError, match="is refused: it asks for the global") as error:
            read(tmp_path, data)
        assert f"the global {name}, but" in str(error.value)
        assert "weights.pkl" in str(error.value)
        assert not victim.exists()
        count += 1
    assert count == 33


def test_the_payload_of_this_test_works(tmp_path):
    """Without the restriction the same bytes do create the file."""
    victim = tmp_path / "victim"
    data = next(data for name, data in hostile(victim) if name == "posix.system")
    pickle.loads(data)
    assert victim.exists()


DTYPE = (
    b"cnumpy\ndtype\nU\x02f4K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
)
EMPTY = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"


@pytest.mark.parametrize(
    ("data", "reported"),
    [
        (b"cnumpy\ndtype\nU\x01OK\x00K\x01\x87R.", "arrays of type 'O'"),
        (b"cnumpy\ndtype\nU\x0cf4,(9999,)f4K\x00K\x01\x87R.", "arrays of type 'f4,(9999,)f4'"),
        (b"c_codecs\nencode\nU\x01aU\x03zip\x86R.", "the encoding 'zip'"),
        (b"\x80\x02\x82\x08.", "registered extension 8"),
    ],
)
def test_other_uses_of_what_is_allowed_are_refused(data, reported, tmp_path):
    with pytest.raises(ValueError, match="is refused") as error:
        read(tmp_path, data)
    assert reported in str(error.value)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x80",
        b"\x80\x02.",
        pickle.dumps({"a": 8}) + b"more",
        pickle.dumps([1, 2]),
        pickle.dumps({1: 2}),
        # Lengths and memo indices that would fill the memory before anything is read.
        b"\x80\x04\x8e" + struct.pack("<Q", 2**40) + b"x.",
        b"\x80\x04\x8d" + struct.pack("<Q", 2**62) + b"x.",
        b"\x80\x02}r" + struct.pack("<I", 2**31 - 8) + b".",
        b"}p99999999999\n.",
        b"\x80\x02\x8b" + struct.pack("<i", 2**30) + b"x.",
        # Arrays that promise more than they hold, or hold what is no array.
        b"}U\x01a" + EMPTY + b"(K\x01J\x00\x00\x00\x7f\x85" + DTYPE + b"\x89U\x04abcdtbs.",
        b"}U\x01a" + EMPTY + b"(K\x01J\xff\xff\xff\xff\x85" + DTYPE + b"\x89U\x04abcdtbs.",
        b"}U\x01a" + EMPTY + b"(K\x01K\x01\x85" + DTYPE + b"\x89]tbs.",
        b"}U\x01a" + EMPTY + b"(K\x01K\x01\x85U\x02f4\x89U\x04abcdtbs.",
        b"}U\x01a" + EMPTY + b"s.",
        # Attributes of a stand-in cannot be set, nor its methods called.
        b"cnumpy\ndtype\n}U\x08__call__K\x08sb.",
        b"cnumpy\ndtype\nN}U\x08__call__K\x08s\x86b.",
        b"cnumpy\nndarray\nK\x08\x85R.",
        b"cnumpy\ndtype\n)\x81.",
        # A dictionary that holds itself.
        b"}q\x00U\x01ah\x00s.",
        b"Pid\n.",
    ],
)
def test_broken_pickles_are_refused(data, tmp_path):
    with pytest.raises(ValueError, match=r"weights\.pkl is (damaged|empty)"):
        read(tmp_path, data)


def test_garbage_is_refused(tmp_path):
    generator = random.Random(2)
    for _ in range(500):
        data = b"\x80\x04" + generator.randbytes(generator.randrange(1, 60))
        with pytest.raises(ValueError, match=r"weights\.pkl"):
            read(tmp_path, data)


def test_a_pickle_cannot_change_the_reader(tmp_path):
    before = dict(pickles.ALLOWED)
    for module, name in pickles.ALLOWED:
        for state in (b"N}U\x06valuesK\x08s\x86", b"N}U\x07_budgetU\x01as\x86", b"}U\x01aK\x08s"):
            with pytest.raises(ValueError, match="damaged"):
                read(tmp_path, f"c{module}\n{name}\n".encode() + state + b"b.")
    assert before == pickles.ALLOWED


def doubled(start, open_, close, last):
    """Return a pickle of forty nested objects that hold the next one twice, followed by `last`."""
    steps = b"}(U\x01k" + start + b"q\x00"
    for index in range(40):
        get = b"h" + bytes([index])
        steps += b"U\x01k" + open_.replace(b"?", get) + close + b"q" + bytes([index + 1])
    return steps + b"U\x01k" + last + b"u."


def doubled_lists(last):
    return doubled(b"]", b"](??", b"e", last)


BOMBS = {
    "dictionaries": doubled(b"}", b"}(U\x01a?U\x01b?", b"u", b"h\x28"),
    "a tuple as key": doubled(b"K\x01\x85", b"??", b"\x86", b"}h\x28K\x01s"),
    "a tuple by DUP": b"})" + b"2\x86" * 40 + b"K\x01s.",
    "a tuple in a set": b"\x80\x04\x8f(" + b"K\x01\x85" * 9 + b"\x90.",
    "a tuple hidden by POP": b"}))\x86K\x010q\x00h\x00h\x00\x86K\x01s.",
    "a tuple that MEMOIZE hides": b"\x80\x04}Kaq\x00q\x00)\x85\x94h\x01h\x01\x86K\x01s.",
    "a list as type": doubled_lists(b"cnumpy\ndtype\nh\x28\x85R"),
    "a list as encoding": doubled_lists(b"c_codecs\nencode\nU\x01ah\x28\x86R"),
    "a list as side": doubled_lists(EMPTY + b"(K\x01h\x28\x85" + DTYPE + b"\x89U\x04abcdtb"),
    "a list as order": doubled_lists(
        b"cnumpy\ndtype\nU\x02f4\x85R(K\x03h\x28NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    ),
    "bytes copied again": b"\x80\x02}(U\x01kX"
    + struct.pack("<I", 10_000)
    + b"a" * 10_000
    + b"q\x00"
    + b"U\x01kc_codecs\nencode\nh\x00X\x06\x00\x00\x00latin1\x86R" * 9
    + b"u.",
    "steps": b"}" * (pickles.MAX_STEPS + 1) + b".",
}


@pytest.mark.parametrize("name", BOMBS)
def test_what_grows_without_end_is_refused(name, tmp_path):
    """Bug: a pickle of a few hundred bytes whose memo doubles 40 times hung the reader."""
    with pytest.raises(ValueError, match=r"weights\.pkl is (damaged|refused)") as error:
        read(tmp_path, BOMBS[name])
    assert len(str(error.value)) < 500
