"""A cache of regions by image content, limited in bytes."""

from collections import OrderedDict
from dataclasses import dataclass
from threading import Lock

from lxmert.schema import REGION_ARRAYS, Regions


@dataclass(frozen=True)
class KnownImage:
    """An image whose regions are known.

    Attributes:
        data: the image file.
        regions: its regions.
    """

    data: bytes
    regions: Regions

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        size: int = sum(getattr(self.regions, name).nbytes for name in REGION_ARRAYS)
        return len(self.data) + size


class RegionCache:
    """Images by the SHA-256 of their files; the least recently used ones are dropped first."""

    def __init__(self, max_bytes: int) -> None:
        """Create an empty cache; with a limit of 0 it stays empty."""
        self.max_bytes = max_bytes
        self.nbytes = 0
        self._images: OrderedDict[str, KnownImage] = OrderedDict()
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._images)

    def get(self, image_id: str) -> KnownImage | None:
        """Return an image, or None if it is unknown."""
        with self._lock:
            known = self._images.get(image_id)
            if known is not None:
                self._images.move_to_end(image_id)
            return known

    def put(self, image_id: str, known: KnownImage) -> None:
        """Add an image; drop old ones while the limit is exceeded."""
        with self._lock:
            old = self._images.pop(image_id, None)
            self.nbytes += known.nbytes - (0 if old is None else old.nbytes)
            self._images[image_id] = known
            while self.nbytes > self.max_bytes:
                self.nbytes -= self._images.popitem(last=False)[1].nbytes
