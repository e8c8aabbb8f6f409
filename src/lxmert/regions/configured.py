"""What detectors in PyTorch and in other runtimes share: their names, their sizes, and streams."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial

from lxmert.regions.batching import stream_regions
from lxmert.regions.configuration import DetectorConfig
from lxmert.regions.preprocess import ImageInput
from lxmert.schema import Regions


class ConfiguredExtractor(ABC):
    """A region extractor that `DetectorConfig` describes.

    Attributes:
        config: the configuration.
    """

    recognizes = True
    config: DetectorConfig

    @property
    def feature_dim(self) -> int:
        """Length of a region's feature."""
        return self.config.feature_dim

    @property
    def object_names(self) -> tuple[str, ...]:
        """Name of each object class, by id."""
        return self.config.object_names

    @property
    def attribute_names(self) -> tuple[str, ...]:
        """Name of each attribute, by id."""
        return self.config.attribute_names

    @property
    def attribute_groups(self) -> Mapping[str, tuple[str, ...]]:
        """Names of the attributes, by group."""
        return self.config.attribute_groups

    @abstractmethod
    def __call__(
        self, images: Sequence[ImageInput], *, num_regions: int | tuple[int, int] | None = None
    ) -> list[Regions]:
        """Return the regions of each image, in order."""

    def stream(
        self,
        images: Iterable[tuple[str, ImageInput]],
        *,
        batch_size: int = 16,
        num_regions: int | tuple[int, int] | None = None,
    ) -> Iterator[tuple[str, Regions]]:
        """Yield the image id and regions of each image in order.

        Args:
            images: (image id, image) pairs; read lazily.
            batch_size: number of images held in memory at a time.
            num_regions: as for a call.

        Raises:
            FileNotFoundError: if a path does not exist.
            ValueError: if an image cannot be read; the images before it have been returned.
        """
        return stream_regions(partial(self, num_regions=num_regions), images, batch_size)
