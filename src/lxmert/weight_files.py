"""Checks of weight files without PyTorch, so that a damaged file is refused before it is imported.

`tensor_files` reads the tensors, and makes the same checks of files that come another way.
"""

import pickle
import pickletools
import struct
from collections.abc import Iterator, Mapping
from math import isfinite, prod
from pathlib import Path
from typing import IO, NamedTuple
from zipfile import BadZipFile, ZipFile, is_zipfile

from safetensors import SafetensorError, safe_open

from lxmert.files import child_path, read_json_object, sha256

WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")
"""Weight files of a Hugging Face folder, in order of preference; large ones are sharded."""

PARAMETERS = (".weight", ".bias")
"""How the names of a model's parameters end; other tensors need not be numbers with fractions."""

_READABLE = {"F64", "F32", "F16"}
_TYPES = {*_READABLE, "BF16"}
"""Types of trained weights in a safetensors file; NumPy has none for the last one."""

_PICKLES = 5
"""Pickles at the start of a file in torch's older form: its marks, the content, the storages."""

DAMAGE = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    BadZipFile,
    EOFError,
    LookupError,
    MemoryError,
    NotImplementedError,
    RuntimeError,
    SafetensorError,  # torch.load hands a file over that is named like one
    TypeError,
    ValueError,
    pickle.UnpicklingError,
    struct.error,
)
"""What torch's unpickler raises on garbage, by trial."""

_MOST_READ = 64 << 20
"""Bytes of a weight file up to which its values are looked at before it is loaded."""

_NAMES_SHOWN = 5


class Values(NamedTuple):
    """What is known of a tensor.

    Attributes:
        dtype: name of its type, if trained weights never have it; else "".
        shape: its shape.
        extremes: smallest and largest value; NaN if a value is. None: not known, or no values.
    """

    dtype: str
    shape: tuple[int, ...]
    extremes: tuple[float, float] | None


def find_weights(folder: Path) -> list[Path]:
    """Return the weight files of a Hugging Face folder, of which there may be several shards.

    Raises:
        FileNotFoundError: if there are none.
        ValueError: if an index is damaged, or names files outside of the folder.
    """
    for name in WEIGHT_FILES:
        index = folder / f"{name}.index.json"
        if (folder / name).is_file():
            return [folder / name]
        if index.is_file():
            return _read_index(index)
    advice = "copy the weights of the model there"
    if (folder / "recipe.toml").is_file():
        advice = "its training is not finished, rerun the command of the training to resume it"
    raise FileNotFoundError(f"{folder} has neither {' nor '.join(WEIGHT_FILES)}: {advice}")


def weight_digests(folder: Path) -> tuple[str, ...]:
    """Return the SHA-256 of each weight file of a model, by which its copies are recognized."""
    return tuple(sha256(path) for path in find_weights(folder))


def check_weights(path: Path, source: Path) -> None:
    """Check a file of trained weights as far as PyTorch is not needed.

    The values are read from safetensors files of up to 64 MiB only.

    Args:
        path: the file.
        source: what it belongs to, for messages.

    Raises:
        ValueError: if it is damaged, or holds weights that no training leaves.
    """
    check_readable(path)
    if is_safetensors(path):
        weights = {n: value for n, value in _read_values(path) if n.endswith(PARAMETERS)}
        refuse_faults(source, len(weights), find_faults(weights))


def check_readable(path: Path) -> None:
    """Raise `ValueError` for a file that holds no weights, or is cut short; no value is read."""
    try:
        if is_safetensors(path):
            with safe_open(path, framework="numpy"):
                return
        check_container(path, zipped=is_zipfile(path))
    except SafetensorError as error:
        raise unreadable(path, error) from error
    except DAMAGE as error:
        raise damaged(path, error) from error


def is_safetensors(path: Path) -> bool:
    """Detect it by the first bytes: the length of the header in 8, then its opening brace."""
    with path.open("rb") as file:
        return file.read(9)[4:] == b"\0\0\0\0{"


def check_container(path: Path, *, zipped: bool) -> None:
    """Refuse a file of torch that unpacks to more than the file has, before it is loaded."""
    if not path.stat().st_size:
        raise ValueError("it is empty")
    if not zipped:
        with path.open("rb") as file:
            for _ in range(_PICKLES):
                if file.peek(1):
                    _check_opcodes(file)
        return
    with ZipFile(path) as archive:
        entries = archive.infolist()
        unpacked, size = sum(entry.file_size for entry in entries), path.stat().st_size
        if unpacked > size:
            raise ValueError(
                f"{unpacked} bytes are packed into its {size}, which torch.save never does"
            )
        for entry in entries:
            if entry.filename.endswith("/data.pkl"):
                with archive.open(entry) as file:
                    _check_opcodes(file)


def _check_opcodes(file: IO[bytes]) -> None:
    """Walk over a pickle: no tuple may be used twice, by which one doubles its size each time."""
    tuples: set[int] = set()
    previous, memos = "", 0
    for opcode, argument, _ in pickletools.genops(file):
        if opcode.name.endswith("PUT") or opcode.name == "MEMOIZE":
            index = memos if argument is None else int(argument)
            memos += 1
            tuples |= {index} if "TUPLE" in previous else set()
        elif opcode.name == "DUP" or (opcode.name.endswith("GET") and int(argument or 0) in tuples):
            raise ValueError("it refers to its own parts, as no weights do")
        previous = opcode.name


def find_faults(weights: Mapping[str, Values]) -> dict[str, list[str]]:
    """Find what trained weights never are.

    Weights of which half or more of the matrices are zeros are those of a file that was never
    written to its end, or of no training: a model learns nothing from there. A single such matrix
    may be the last layer of a head for new classes.

    Returns:
        Names by fault; of those that have one.
    """
    mistyped = [f"{name} {value.dtype}" for name, value in weights.items() if value.dtype]
    known = {n: value.extremes for n, value in weights.items() if value.extremes is not None}
    infinite = [name for name, pair in known.items() if not all(map(isfinite, pair))]
    shapes = {name: weights[name].shape for name in known}
    matrices = [name for name, shape in shapes.items() if len(shape) > 1 and prod(shape) > 1]
    zero = [name for name in matrices if known[name] == (0, 0)]
    faults = {
        "of a type that no weights have": mistyped,
        "with values that are no finite numbers": infinite,
        f"of {len(matrices)} matrices nothing but zeros": zero if 2 * len(zero) >= len(matrices)
        else [],
    }  # fmt: skip
    return {fault: names for fault, names in faults.items() if names}


def describe_faults(faults: Mapping[str, list[str]]) -> str:
    """Count the faults and name the first tensors of each."""
    return "; ".join(
        f"{len(names)} {fault}: {', '.join(names[:_NAMES_SHOWN])}"
        + (", ..." if len(names) > _NAMES_SHOWN else "")
        for fault, names in faults.items()
    )


def refuse_faults(source: str | Path, number: int, faults: Mapping[str, list[str]]) -> None:
    """Raise `ValueError` if any of so many tensors has faults, as from `find_faults`."""
    if faults:
        raise ValueError(
            f"{source} cannot be used; of its {number} tensors, {describe_faults(faults)}: "
            "copy it again from where it was trained, or take another file"
        )


def damaged(path: Path, error: Exception) -> ValueError:
    """Return the error about a file that torch cannot read, or that is refused before."""
    # torch's own messages recommend an unsafe way of loading.
    lines = [line for line in str(error).splitlines() if line and "weights_only" not in line]
    reason = f"{type(error).__name__}: {lines[0][:120]}" if lines else type(error).__name__
    return ValueError(
        f"{path} is no file of weights, or damaged ({reason}); nothing of it was run: check the "
        "path, or copy the file again"
    )


def unreadable(path: Path, error: Exception) -> ValueError:
    """Return the error about a damaged safetensors file."""
    return ValueError(f"{path} is damaged ({error}); expected safetensors: copy it again")


def _read_values(path: Path) -> Iterator[tuple[str, Values]]:
    """Yield what is known of each tensor of a safetensors file, by its name."""
    small = path.stat().st_size <= _MOST_READ
    try:
        with safe_open(path, framework="numpy") as file:
            for name in file.keys():  # noqa: SIM118, it is no mapping
                piece = file.get_slice(name)
                dtype, shape = piece.get_dtype(), tuple(piece.get_shape())
                extremes = None
                if small and prod(shape) and dtype in _READABLE:
                    values = file.get_tensor(name)
                    extremes = (float(values.min()), float(values.max()))
                yield name, Values("" if dtype in _TYPES else dtype, shape, extremes)
    except (SafetensorError, OverflowError) as error:
        raise unreadable(path, error) from error


def _read_index(path: Path) -> list[Path]:
    """Return the paths of the shards, which are in the folder of their index."""
    parts = read_json_object(path, remedy="copy it again").get("weight_map")
    if not isinstance(parts, dict) or not all(isinstance(name, str) for name in parts.values()):
        raise ValueError(f"{path} is damaged (no weight_map of file names): copy it again")
    return [child_path(path.parent, name) for name in sorted(set(parts.values()))]
