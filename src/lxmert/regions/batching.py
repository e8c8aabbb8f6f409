"""What all extractors do with their images before they look: check the list, cut a stream."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice

from lxmert.regions.preprocess import ImageInput, is_image
from lxmert.schema import Regions


def check_list(images: Sequence[ImageInput]) -> None:
    """Refuse one image where a list is expected: its letters or rows would be taken for images."""
    if is_image(images) and getattr(images, "ndim", 3) <= 3:  # a batch of arrays is a list
        raise ValueError(
            f"Got one {type(images).__name__}; expected a list of images: write "
            "extractor([image])[0]."
        )


def stream_regions(
    look: Callable[[Sequence[ImageInput]], list[Regions]],
    images: Iterable[tuple[str, ImageInput]],
    batch_size: int,
) -> Iterator[tuple[str, Regions]]:
    """Yield the regions of one image after the other, in order; images are read lazily.

    Args:
        look: returns the regions of each image.
        images: pairs of image id and image.
        batch_size: images that are held at a time.
    """
    pairs = iter(images)
    while batch := list(islice(pairs, batch_size)):
        found = look([image for _, image in batch])
        yield from zip((image_id for image_id, _ in batch), found, strict=True)
