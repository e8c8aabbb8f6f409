"""Region stores as WebDataset folders: tar files of samples, for other programs and for exchange.

    000000.tar, 000001.tar, ...   one for each shard of the store
    index.json                    header of the store; images and SHA-256 checksum of each tar file

A sample is an image with two members, in the order of the store:

    KEY.json   `image_id`, `height`, `width`, `found`, and lists with one item per region: `boxes`
               (4 numbers), `object_ids`, `object_scores`, `attribute_ids` and `attribute_scores`
               (one number per group, of which there are `attribute_groups`)
    KEY.npy    features `[regions, feature_dim]`, in the data type of the store

The key is the number of the image in 9 digits: image ids may contain slashes, and full stops, at
which readers of WebDataset cut the key off. The lists hold float32 numbers exactly.
"""

import io
import tarfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from lxmert.data.store import RegionStore
from lxmert.data.store_layout import Shard, StoreHeader
from lxmert.data.store_writing import Extracted
from lxmert.data.tsv import Progress
from lxmert.files import atomic_path, parse_json, read_json_object, sha256, to_json, write_json
from lxmert.records import Count, Items, Record
from lxmert.schema import Regions

INDEX = "index.json"
FORMAT: Literal["lxmert-webdataset-1"] = "lxmert-webdataset-1"

_REMEDY = "convert the store again"
_MOST_JSON = 16 << 20
"""Bytes of a sample's JSON; 10,000 regions with boxes and one attribute each have 3 MB."""
_NPY_HEADER = 1 << 10
"""Bytes that the header of a .npy file of one matrix has at most."""

_Float32 = Annotated[float, Field(ge=-3.4028235e38, le=3.4028235e38)]
_Int32 = Annotated[int, Field(ge=-(1 << 31), lt=1 << 31)]
_Box = Annotated[tuple[_Float32, _Float32, _Float32, _Float32], Field(strict=False)]
_Side = Annotated[int, Field(ge=1, lt=1 << 31)]


class TarShard(Record):
    """A tar file of a WebDataset folder, as its index lists it."""

    name: Annotated[str, Field(pattern=r"^\d{6,9}\.tar$")]
    images: Count
    sha256: str


class Index(Record):
    """The index of a WebDataset folder."""

    remedy = _REMEDY

    format: Literal["lxmert-webdataset-1"]
    header: StoreHeader
    shards: Items[TarShard]


class Sample(Record):
    """The JSON member of a sample without `image_id`, which need not be valid Unicode."""

    height: _Side
    width: _Side
    found: bool
    attribute_groups: Annotated[int, Field(ge=0, le=1000)]
    boxes: Items[_Box]
    object_ids: Items[_Int32]
    object_scores: Items[_Float32]
    attribute_ids: Items[Items[_Int32]]
    attribute_scores: Items[Items[_Float32]]


def write_web_dataset(
    folder: str | Path, store: RegionStore, *, progress: Progress | None = None
) -> None:
    """Write a store as a WebDataset folder atomically; a shard becomes a tar file.

    Args:
        folder: the folder, which must not exist.
        store: the region store.
        progress: called with the number of images done and the total.

    Raises:
        OSError: if the folder cannot be written; nothing is left of it.
        ValueError: if the store has no image, or a box or score is not finite.
    """
    with atomic_path(Path(folder)) as partial:
        partial.mkdir()
        shards: list[TarShard] = []
        done = 0
        for number, shard in enumerate(store.shards()):
            path = partial / f"{number:06d}.tar"
            with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
                for place, image_id in enumerate(shard.image_ids()):
                    _add_sample(tar, f"{done + place:09d}", image_id, shard, place)
            shards.append(TarShard(name=path.name, images=len(shard), sha256=sha256(path)))
            done += len(shard)
            if progress is not None:
                progress(done, len(store))
        if not shards:
            raise ValueError(f"{store.folder} has no image with regions: there is nothing to write")
        index = Index(format=FORMAT, header=store.header, shards=tuple(shards))
        write_json(partial / INDEX, index.to_dict())


def is_web_dataset(folder: Path) -> bool:
    """Return whether a folder has the index of a WebDataset folder of ours, damaged or not."""
    with suppress(FileNotFoundError, ValueError):
        return read_json_object(folder / INDEX).get("format") == FORMAT
    return False


def read_web_index(folder: Path) -> Index:
    """Read the index of a WebDataset folder.

    Raises:
        FileNotFoundError: if it is missing.
        ValueError: if it is damaged.
    """
    return Index.from_file(folder / INDEX)


def read_web_dataset(folder: Path, skip: frozenset[str]) -> Iterator[Extracted]:
    """Yield the regions of each image that is not in `skip`, in order.

    Nothing is unpacked: members are read by their expected names, types and sizes.

    Raises:
        FileNotFoundError: if a tar file is missing.
        ValueError: if one is damaged.
    """
    index = read_web_index(folder)
    first = 0
    for shard in index.shards:
        path = folder / shard.name
        if not path.is_file():
            raise FileNotFoundError(f"{path} is missing, but listed in {INDEX}: copy it again")
        if sha256(path) != shard.sha256:
            raise ValueError(
                f"{path} does not have the checksum that {INDEX} lists: copy it again, or {_REMEDY}"
            )
        numbers = range(first, first + shard.images)
        try:
            with tarfile.open(path, "r:") as tar:
                for image_id, regions in _read_samples(tar, numbers, index.header):
                    if image_id not in skip:
                        yield image_id, regions
        except (tarfile.TarError, ValueError) as error:
            raise ValueError(f"{path} is damaged ({error}): {_REMEDY}") from error
        first += shard.images


def _add_sample(tar: tarfile.TarFile, key: str, image_id: str, shard: Shard, place: int) -> None:
    tensors = shard.file.tensors
    rows = slice(shard.starts.item(place), shard.starts.item(place + 1))
    height, width = tensors["image_sizes"][place].tolist()
    described = {
        "image_id": image_id,
        "height": height,
        "width": width,
        "found": bool(tensors["found"][place]),
        "attribute_groups": tensors["attribute_ids"].shape[1],
        **{
            name: tensors[name][rows].tolist()
            for name in StoreHeader.row_columns
            if name != "features"
        },
    }
    features = io.BytesIO()
    np.save(features, tensors["features"][rows], allow_pickle=False)
    for name, content in (("json", to_json(described).encode()), ("npy", features.getvalue())):
        member = tarfile.TarInfo(f"{key}.{name}")  # no time and no owner: the same bytes each time
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))


def _read_samples(
    tar: tarfile.TarFile, numbers: range, header: StoreHeader
) -> Iterator[tuple[str, Regions]]:
    for number in numbers:
        text = _read_member(tar, f"{number:09d}.json", _MOST_JSON)
        values = parse_json(text, f"{number:09d}.json")
        image_id = values.pop("image_id", None) if isinstance(values, dict) else None
        if not isinstance(image_id, str):
            raise ValueError(f"{number:09d}.json has no image_id")
        sample = Sample(**values)
        size = len(sample.boxes) * header.feature_dim * np.dtype(header.dtype).itemsize
        content = _read_member(tar, f"{number:09d}.npy", size + _NPY_HEADER)
        features = _parse_npy(content, header.dtype, (len(sample.boxes), header.feature_dim))
        yield image_id, _to_regions(sample, features)
    if tar.next() is not None:
        raise ValueError(f"it has more than {2 * len(numbers)} members")


def _read_member(tar: tarfile.TarFile, name: str, most: int) -> bytes:
    """Read the next member, which must be a regular file of that name."""
    member = tar.next()
    if member is None:
        raise ValueError(f"{name} is missing")
    file = tar.extractfile(member) if member.type == tarfile.REGTYPE else None
    if member.name != name or file is None:
        raise ValueError(f"it has {member.name[:60]!r} in the place of the file {name}")
    if member.size > most:
        raise ValueError(f"{name} has {member.size} bytes, expected at most {most}")
    return file.read()


def _parse_npy(content: bytes, dtype: str, shape: tuple[int, int]) -> npt.NDArray[Any]:
    """Return the matrix of a .npy file, which must have this type and shape."""
    file = io.BytesIO(content)
    if np.lib.format.read_magic(file) != (1, 0):
        raise ValueError("a .npy file is of another version than 1.0")
    found, is_fortran, kind = np.lib.format.read_array_header_1_0(file)
    if (found, kind) != (shape, np.dtype(dtype)) or is_fortran:
        raise ValueError(f"features are {kind} {list(found)}, expected {dtype} {list(shape)}")
    return np.frombuffer(content, dtype, offset=file.tell()).reshape(shape)


def _to_regions(sample: Sample, features: npt.NDArray[Any]) -> Regions:
    count, groups = len(sample.boxes), sample.attribute_groups
    return Regions(
        boxes=np.array(sample.boxes, np.float32).reshape(count, 4),
        features=features.astype(np.float32),
        image_size=(sample.height, sample.width),
        object_ids=np.array(sample.object_ids, np.int64).reshape(count),
        object_scores=np.array(sample.object_scores, np.float32).reshape(count),
        attribute_ids=np.array(sample.attribute_ids, np.int64).reshape(count, groups),
        attribute_scores=np.array(sample.attribute_scores, np.float32).reshape(count, groups),
        found=sample.found,
    )
