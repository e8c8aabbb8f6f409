"""The region store: regions of many images on disk, memory-mapped, shared by all workers."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lxmert.data.shards import Damage, Shards
from lxmert.data.store_layout import (
    INDEX,
    Shard,
    StoreHeader,
    find_all,
    open_shard,
    read_header,
)
from lxmert.data.store_writing import Extracted, StoreWriter
from lxmert.data.tensor_maps import map_tensors
from lxmert.names import count
from lxmert.schema import Failure, IntArray, Regions

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Damage", "RegionStore", "StoreHeader", "describe_store"]


class RegionStore(Shards[StoreHeader]):
    """Read access to the regions of many images by image id; it is pickled as its path.

    Attributes:
        folder: the folder of the store.
        header: properties of all regions.
    """

    header_type = StoreHeader

    def __getitem__(self, image_id: str) -> Regions:
        """Return the regions of an image; its arrays are copies.

        Raises:
            KeyError: naming the image and the store, if it is not there.
            ValueError: if the image is not as it was written.
        """
        [(shard, place)] = self.locate(self.rows([image_id]))
        tensors, (start, end) = shard.file.tensors, shard.span(place)
        rows = {name: tensors[name][start:end] for name in StoreHeader.row_columns}
        height, width = tensors["image_sizes"][place].tolist()
        found = bool(tensors["found"][place])
        return Regions.of_columns(rows, image_size=(height, width), found=found)

    def features(self, rows: Sequence[int] | IntArray) -> "Tensor":
        """Read the features of a batch of images.

        Args:
            rows: positions of the images, as `rows` returns them; at least one.

        Returns:
            `[batch, regions, feature_dim]` float32; an image with fewer regions than another is
            filled up with zeros.
        """
        import torch

        spans = [(shard, *shard.span(place)) for shard, place in self.locate(rows)]
        longest = max(end - start for _, start, end in spans)
        dim, parts = self.header.feature_dim, []
        for shard, start, end in spans:
            part = torch.from_numpy(shard.file.tensors["features"][start:end])
            parts.append(part)
            if end - start < longest:
                parts.append(part.new_zeros(longest - end + start, dim))
        return torch.cat(parts).float().view(len(spans), longest, dim)

    @staticmethod
    def write(
        folder: str | Path,
        image_ids: Sequence[str],
        extract: Callable[[Sequence[str]], Iterable[Extracted]],
        header: StoreHeader,
        *,
        shard_images: int | None = None,
    ) -> "RegionStore":
        """Fill a store, resuming an unfinished one where it stopped.

        A finished store that lacks some of the images, because they failed or are new, is opened
        again for these.

        Args:
            folder: the store; an existing one must have been started with the same header.
            image_ids: the images, in order.
            extract: yields the regions of the images that it is given, in that order; a `Failure`
                for one that has none.
            header: properties of all regions.
            shard_images: images per shard; None: `store_layout.UNIT`.

        Raises:
            FileExistsError: if a finished store with all of the images is there, or the folder
                holds something else.
            ValueError: if the store was started with another header or with images that are not
                wanted now.
        """
        with StoreWriter(folder, header, shard_images=shard_images) as writer:
            gone = writer.done - set(image_ids)
            if gone:
                raise ValueError(
                    f"{folder} was started with {count(len(gone), 'image')} missing now, such as "
                    f"{min(gone)!r}: put them back, or remove the folder first"
                )
            present = writer.done | {failure.image_id for failure in writer.failures}
            remaining = [image_id for image_id in image_ids if image_id not in present]
            if not remaining and is_finished(folder):
                raise FileExistsError(f"{folder} is a finished region store: name another folder")
            for item in extract(remaining):
                writer.add(item)
            writer.finish()
        return RegionStore(folder)


def is_finished(folder: str | Path) -> bool:
    """Return whether a folder holds a finished store."""
    return (Path(folder) / INDEX).is_file()


def is_store(folder: str | Path) -> bool:
    """Return whether a folder holds a store, finished or not."""
    return is_finished(folder) or bool(find_all(Path(folder)))


def describe_store(folder: str | Path) -> dict[str, object]:
    """Describe a store, finished or not.

    Returns:
        `complete` (whether it is finished), `images`, `failed` (images without regions),
        `regions` (in all), `regions_min`, `regions_mean`, `regions_max` (per image; 0 without
        images), `feature_dim`, `dtype`, `fingerprint`, `precision`, `objects` and `attributes`
        (number of names), `bytes` (on disk, all files together).

    Raises:
        FileNotFoundError: if the folder holds no store.
        ValueError: if a file that is read is damaged or of another format.
    """
    folder = Path(folder)
    if is_finished(folder):
        store = RegionStore(folder)
        header, images, failed = store.header, len(store), store.num_failed
        regions, fewest, most = store.num_regions
    else:
        header, images, failed, counts = _scan(folder)
        regions, fewest, most = sum(counts), min(counts, default=0), max(counts, default=0)
    return {
        "complete": is_finished(folder),
        "images": images,
        "failed": failed,
        "regions": regions,
        "regions_min": fewest,
        "regions_mean": regions / images if images else 0.0,
        "regions_max": most,
        "feature_dim": header.feature_dim,
        "dtype": header.dtype,
        "fingerprint": header.fingerprint,
        "precision": header.precision,
        "objects": len(header.object_names),
        "attributes": len(header.attribute_names),
        "bytes": sum(file.stat().st_size for file in folder.iterdir()),
    }


def list_failures(folder: str | Path) -> list[Failure]:
    """Return the images of a store that have no regions; of an unfinished one, those so far."""
    if is_finished(folder):
        return RegionStore(folder).failures
    return [failure for shard in _open_all(Path(folder)) for failure in shard.failures()]


def _scan(folder: Path) -> tuple[StoreHeader, int, int, list[int]]:
    """Return header, number of images and of failures, and regions per image."""
    shards = list(_open_all(folder))
    counts = [number for shard in shards for number in np.diff(shard.starts).tolist()]
    header = read_header(shards[0].file, StoreHeader)
    return header, len(counts), sum(len(shard.failures()) for shard in shards), counts


def _open_all(folder: Path) -> Iterator[Shard]:
    """Map all shards of an unfinished store, and the images saved for the next one."""
    paths = find_all(folder)
    if not paths:
        raise FileNotFoundError(
            f"{folder} is no region store (it has neither {INDEX} nor a shard): check the path"
        )
    header = read_header(map_tensors(paths[0]), StoreHeader)
    for path in paths:
        yield open_shard(path, header)
