"""The region store: regions of many images on disk, memory-mapped, shared by all workers.

`store_layout` says which files there are and what is in them.
"""

import warnings
import zlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from lxmert.data.store_layout import (
    FEATURES,
    HEADER,
    IDS,
    IMAGE_RECORD,
    IMAGES,
    LOOKUP,
    REGIONS,
    UNFINISHED,
    ImageRecord,
    StoreHeader,
    decode_id,
    encode_id,
    file_checksum,
    load_header,
    map_file,
    map_parts,
    read_failures,
    region_record,
)
from lxmert.data.store_writing import Extracted, StoreWriter
from lxmert.names import count
from lxmert.schema import Failure, IntArray, Regions

__all__ = ["Damage", "RegionStore", "StoreHeader", "describe_store"]


class Damage(NamedTuple):
    """Something in a store that is not as it was written.

    Attributes:
        file: name of the file.
        image_id: whose part of it; empty where the file is no list of images.
        problem: what is wrong.
    """

    file: str
    image_id: str
    problem: str


class RegionStore:
    """Read access to the regions of many images by image id; it is pickled as its path.

    Attributes:
        folder: where it is.
        header: what is known of all regions.
    """

    def __init__(self, folder: str | Path) -> None:
        """Open a finished store; the time and the memory do not grow with its size.

        Raises:
            FileNotFoundError: if the folder holds no finished store.
            ValueError: if a file is missing or has another size than the header says, or the store
                is of another version.
        """
        self.folder = Path(folder)
        if not (self.folder / HEADER).is_file():
            begun = (self.folder / UNFINISHED).is_file()
            remedy = "go on with the same command" if begun else "make one"
            raise FileNotFoundError(
                f"{folder} is no finished region store (it has no {HEADER}): {remedy}, "
                "`lxmert extract IMAGES --extractor EYES -o STORE` or `lxmert convert FILE.tsv STORE`"
            )
        self.header, contents = load_header(self.folder / HEADER)
        if contents is None:
            raise ValueError(
                f"{self.folder / HEADER} is the header of an unfinished store: "
                f"rename it to {UNFINISHED} and go on with the same command"
            )
        self._contents = contents
        self._check_sizes()
        self._images = map_file(self.folder / IMAGES, IMAGE_RECORD)
        self._files = map_parts(self.folder)
        self._ids = self._files[IDS].data
        self._lookup = map_file(self.folder / LOOKUP, "<u4")
        self._checksums, self._rows = self._lookup[: len(self)], self._lookup[len(self) :]
        self._features = self._map_features()
        self._checked = bytearray(len(self))  # images whose parts were compared, in this process
        self._index_is_checked = False

    def _check_sizes(self) -> None:
        """Refuse a store whose files are not as long as they were; name the first image lost."""
        for name, expected in self._contents.sizes.items():
            path = self.folder / name
            if not path.is_file():
                raise ValueError(f"{path} is missing: the store is damaged; make it again")
            size = path.stat().st_size
            if size != expected:
                lost = f", from image {self._lost_from(size)!r} on" if name == FEATURES else ""
                raise ValueError(
                    f"{path} has {size} bytes, but its header says {expected}: the store is "
                    f"damaged{lost if size < expected else ''}; make it again"
                )

    def _lost_from(self, size: int) -> str:
        """Return the first image whose features do not fit into so many bytes."""
        images = map_file(self.folder / IMAGES, IMAGE_RECORD)
        ends = (images["first_region"] + images["num_regions"]) * self.header.row_bytes
        record = ImageRecord(*images[int((ends > size).argmax())].item())
        ids = map_file(self.folder / IDS, np.uint8)
        return decode_id(ids[record.id_start : record.id_start + record.id_bytes].tobytes())

    def _map_features(self) -> Tensor:
        """Map the features; torch converts them ten times as fast as numpy."""
        values = self._files[FEATURES].view(self.header.dtype)
        with warnings.catch_warnings():
            # The tensor must not be written to; it never leaves this class.
            warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
            return torch.from_numpy(values).view(self._contents.regions, self.header.feature_dim)

    def __reduce__(self) -> tuple[type["RegionStore"], tuple[Path]]:
        return RegionStore, (self.folder,)

    def __len__(self) -> int:
        return self._contents.images

    def __contains__(self, image_id: str) -> bool:
        return self._find([image_id]) != [None]

    def __getitem__(self, image_id: str) -> Regions:
        """Return the regions of an image; its arrays are copies.

        Raises:
            KeyError: naming the image and the store, if it is not there.
            ValueError: if the index of the store or the image's part is not as it was written.
        """
        record = self._checked_record(int(self.rows([image_id])[0]))
        start, size, _ = record.spans(self.header)[REGIONS]
        records = self._files[REGIONS][start : start + size].view(region_record(record.num_groups))
        stored = self._features[record.first_region :][: record.num_regions]
        return Regions(
            boxes=np.ascontiguousarray(records["box"]),
            features=stored.to(torch.float32, copy=True).numpy(),
            image_size=(record.height, record.width),
            object_ids=records["object_id"].astype(np.int64),
            object_scores=np.ascontiguousarray(records["object_score"]),
            attribute_ids=records["attribute_ids"].astype(np.int64),
            attribute_scores=np.ascontiguousarray(records["attribute_scores"]),
            found=bool(record.found),
        )

    @property
    def image_ids(self) -> list[str]:
        """The ids of all images in the order of rows, read anew each time."""
        self._check_index()
        stored = self._files[IDS].tobytes()
        starts, sizes = self._images["id_start"].tolist(), self._images["id_bytes"].tolist()
        return [decode_id(stored[i : i + n]) for i, n in zip(starts, sizes, strict=True)]

    @property
    def num_failed(self) -> int:
        """The number of images that have no regions, as the header says."""
        return self._contents.failed

    @property
    def failures(self) -> list[Failure]:
        """The images that have no regions, with the reason, read anew each time."""
        return read_failures(self.folder)

    def rows(self, image_ids: Iterable[str]) -> IntArray:
        """Return the row of each image, by which `features` reads.

        Raises:
            KeyError: naming the first image that is not there.
        """
        image_ids = list(image_ids)
        rows = self._find(image_ids)
        if None in rows:
            image_id = image_ids[rows.index(None)]
            raise KeyError(f"image {image_id!r} is not in the region store {self.folder}")
        return np.asarray(rows, dtype=np.int64)

    def features(self, rows: Sequence[int] | IntArray) -> Tensor:
        """Read the features of a batch of images.

        Args:
            rows: of the images, as `rows` returns them; at least one.

        Returns:
            `[batch, regions, feature_dim]` float32; an image with fewer regions than another is
            filled up with zeros.
        """
        images = self._images[np.asarray(rows)]
        counts, starts = images["num_regions"].tolist(), images["first_region"].tolist()
        longest = max(counts)
        shape = (len(counts), longest, self.header.feature_dim)
        batch = torch.zeros(shape) if min(counts) < longest else torch.empty(shape)
        for row in rows:
            if not self._checked[row]:
                self._checked_record(int(row))
        flat = batch.view(-1, self.header.feature_dim)
        for index, (start, number) in enumerate(zip(starts, counts, strict=True)):
            first = index * longest
            flat[first : first + number].copy_(self._features[start : start + number])
        return batch

    def verify(
        self,
        *,
        progress: Callable[[int, int], None] = lambda done, total: None,  # noqa: ARG005
    ) -> list[Damage]:
        """Read everything and compare it with the checksums.

        Args:
            progress: called with the numbers of images read and in all.

        Returns:
            What is damaged, file by file, and image by image within a file; empty for a sound
            store.
        """
        damages = [
            Damage(name, "", "its content does not have the checksum in the header")
            for name, checksum in self._contents.checksums.items()
            if file_checksum(self.folder / name) != checksum
        ]
        for row, values in enumerate(self._images):
            record = ImageRecord(*values.item())
            name = record.damage(self.header, self._files)
            if name:
                stored = self._files[IDS][record.id_start :][: max(0, record.id_bytes)].tobytes()
                problem = f"image {row} of {len(self)} is not as it was written"
                damages.append(Damage(name, decode_id(stored), problem))
            progress(row + 1, len(self))
        return damages

    def _find(self, image_ids: Sequence[str]) -> list[int | None]:
        """Return the row of each image; None for one that is not there."""
        self._check_index()
        keys = [encode_id(image_id) for image_id in image_ids]
        checksums = np.array([zlib.crc32(key) for key in keys], dtype=np.uint32)
        places = self._checksums.searchsorted(checksums).tolist()
        return [self._match(key, place) for key, place in zip(keys, places, strict=True)]

    def _match(self, key: bytes, place: int) -> int | None:
        """Return the row whose id is `key`, from the first place with its checksum on."""
        checksum = zlib.crc32(key)
        while place < len(self) and self._checksums.item(place) == checksum:
            row: int = self._rows.item(place)
            record = self._record(row)
            stored = self._ids[record.id_start : record.id_start + record.id_bytes]
            if stored == key:
                return row
            if zlib.crc32(stored) != record.id_checksum:
                raise ValueError(
                    f"{self.folder / IDS} is damaged: the id of image {row} is not as it was "
                    "written; make the store again"
                )
            place += 1  # another id with the same checksum
        return None

    def _check_index(self) -> None:
        """Compare the files that say where images are with their checksums, once."""
        if self._index_is_checked:
            return
        # Of what was mapped: the files may have grown since.
        for name, mapped in ((IMAGES, self._images), (LOOKUP, self._lookup)):
            if zlib.crc32(mapped.view(np.uint8).data) != self._contents.checksums[name]:
                raise ValueError(
                    f"{self.folder / name} is damaged: its content does not have the checksum in "
                    f"{HEADER}; make the store again"
                )
        self._index_is_checked = True

    def _checked_record(self, row: int) -> ImageRecord:
        """Return what is known of an image, whose parts are compared with their checksums once."""
        record = self._record(row)
        if not self._checked[row]:
            if name := record.damage(self.header, self._files):
                raise ValueError(
                    f"{self.folder / name} is damaged: the part of image {row} of {len(self)} does "
                    "not have its checksum; list all damage with `lxmert verify`, and make the "
                    "store again"
                )
            self._checked[row] = 1
        return record

    def _record(self, row: int) -> ImageRecord:
        """Return what is known of an image, if the files can hold it."""
        if row < len(self):
            record = ImageRecord(*self._images[row].item())
            if record.fits(self.header, self._files):
                return record
        raise ValueError(
            f"the region store {self.folder} is damaged at image {row} of {len(self)}: its "
            f"{LOOKUP} and {IMAGES} do not fit its other files; make it again"
        )

    @staticmethod
    def write(
        folder: str | Path,
        image_ids: Sequence[str],
        extract: Callable[[Sequence[str]], Iterable[Extracted]],
        header: StoreHeader,
    ) -> "RegionStore":
        """Fill a store, taking up an unfinished one where it stopped.

        A finished store that lacks some of the images, because they failed or are new, is opened
        again for these.

        Args:
            folder: the store; one that is there must have been begun with the same header.
            image_ids: the images, in order.
            extract: yields the regions of the images that it is given, in that order; a `Failure`
                for one that has none.
            header: what is known of all of them.

        Raises:
            FileExistsError: if a finished store with all of the images is there, or the folder
                holds something else.
            ValueError: if the store was begun with another header or with images that are not
                wanted now.
        """
        with StoreWriter(folder, header) as writer:
            gone = writer.done - set(image_ids)
            if gone:
                raise ValueError(
                    f"{folder} was begun with {count(len(gone), 'image')} missing now, such as "
                    f"{min(gone)!r}: put them back, or remove the folder first"
                )
            remaining = [image_id for image_id in image_ids if image_id not in writer.done]
            if not remaining and (Path(folder) / HEADER).exists():
                raise FileExistsError(f"{folder} is a finished region store: name another folder")
            for item in extract(remaining):
                writer.add(item)
            writer.finish()
        return RegionStore(folder)


def describe_store(folder: str | Path) -> dict[str, object]:
    """Describe a store, finished or not.

    Returns:
        `complete` (whether it is finished), `images`, `failed` (images without regions),
        `regions` (in all), `regions_min`, `regions_mean`, `regions_max` (by image; 0 without
        images), `feature_dim`, `dtype`, `fingerprint` (fingerprint), `precision`, `objects` and
        `attributes` (number of names), `bytes` (on disk, all files together).

    Raises:
        FileNotFoundError: if the folder holds no store.
        ValueError: if its header is damaged or of another version.
    """
    folder = Path(folder)
    complete = (folder / HEADER).is_file()
    if complete:
        header = RegionStore(folder).header
    elif (folder / UNFINISHED).is_file():
        header = load_header(folder / UNFINISHED)[0]
    else:
        raise FileNotFoundError(
            f"{folder} is no region store (it has neither {HEADER} nor {UNFINISHED}): check the "
            "path"
        )
    path = folder / IMAGES
    counts = map_file(path, IMAGE_RECORD)["num_regions"] if path.exists() else np.zeros(0, int)
    return {
        "complete": complete,
        "images": len(counts),
        "failed": len(read_failures(folder)),
        "regions": int(counts.sum()),
        "regions_min": int(counts.min()) if len(counts) else 0,
        "regions_mean": float(counts.mean()) if len(counts) else 0.0,
        "regions_max": int(counts.max(initial=0)),
        "feature_dim": header.feature_dim,
        "dtype": header.dtype,
        "fingerprint": header.fingerprint,
        "precision": header.precision,
        "objects": len(header.object_names),
        "attributes": len(header.attribute_names),
        "bytes": sum(file.stat().st_size for file in folder.iterdir()),
    }
