"""Input handling shared by all extractors: checking image lists and batching streams."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice

from lxmert.regions.preprocess import ImageInput, is_image
from lxmert.schema import Regions


def check_list(images: Sequence[ImageInput]) -> None:
    """Raise `ValueError` for a single image instead of a list of images."""
    if is_image(images) and getattr(images, "ndim", 3) <= 3:  # a batch of arrays is a list
        raise ValueError(
            f"got one {type(images).__name__}; expected a list of images: write "
            "extractor([image])[0]"
        )


def stream_regions(
    extract: Callable[[Sequence[ImageInput]], list[Regions]],
    images: Iterable[tuple[str, ImageInput]],
    batch_size: int,
) -> Iterator[tuple[str, Regions]]:
    """Yield the image id and regions of each image in order; images are read lazily.

    Args:
        extract: returns the regions of each image.
        images: (image id, image) pairs.
        batch_size: images held in memory at a time.
    """
    pairs = iter(images)
    while batch := list(islice(pairs, batch_size)):
        found = extract([image for _, image in batch])
        yield from zip((image_id for image_id, _ in batch), found, strict=True)
