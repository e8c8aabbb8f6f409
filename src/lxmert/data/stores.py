"""Several region stores of one extractor, read as one."""

from collections.abc import Sequence
from pathlib import Path

from lxmert.data.store import RegionStore
from lxmert.data.store_layout import StoreHeader
from lxmert.schema import Regions


class RegionStores:
    """The images of several stores, such as those of COCO and of Visual Genome.

    Attributes:
        header: what is known of all regions; that of the first store.
    """

    def __init__(self, stores: Sequence[RegionStore]) -> None:
        """Join stores; an image that several have is read from the first.

        Raises:
            ValueError: if another extractor made one of them, or its names are others.
        """
        self.stores = tuple(stores)
        self.header: StoreHeader = stores[0].header
        for store in stores[1:]:
            for what in ("fingerprint", "feature_dim", "object_names", "attribute_names"):
                one, other = getattr(self.header, what), getattr(store.header, what)
                if one != other:
                    raise ValueError(
                        f"the region store {store.folder} has another {what} than "
                        f"{stores[0].folder} ({str(other)[:40]} instead of {str(one)[:40]}): join "
                        "stores of one extractor only"
                    )

    @property
    def folder(self) -> str:
        """Where they are, for messages."""
        return ", ".join(str(store.folder) for store in self.stores)

    def __len__(self) -> int:
        return sum(len(store) for store in self.stores)

    def __contains__(self, image_id: str) -> bool:
        return any(image_id in store for store in self.stores)

    def __getitem__(self, image_id: str) -> Regions:
        """Return the regions of an image.

        Raises:
            KeyError: naming the image and the stores, if none has it.
        """
        for store in self.stores:
            if image_id in store:
                return store[image_id]
        raise KeyError(
            f"image {image_id!r} is in none of the region stores {self.folder}: extract it first"
        )


RegionSource = RegionStore | RegionStores
"""Where a task finds the regions of its images."""


def open_regions(folders: str | Path | Sequence[str]) -> RegionSource:
    """Open one store, or several as one.

    Raises:
        FileNotFoundError: if one of them is not there or not finished.
        ValueError: if none is named, one is damaged, or they do not belong together.
    """
    if isinstance(folders, str | Path):
        return RegionStore(folders)
    if not folders:
        raise ValueError("no region store is named: give at least one")
    stores = [RegionStore(folder) for folder in folders]
    return stores[0] if len(stores) == 1 else RegionStores(stores)
