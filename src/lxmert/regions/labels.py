"""Labels of regions for people: "large red metal ball", "cell 3,5"."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lxmert.schema import Regions

if TYPE_CHECKING:
    from lxmert.regions.extractor import RegionExtractor

_WHOLE = "whole image"


def object_labels(extractor: "RegionExtractor", regions: Regions) -> list[str]:
    """Return the object class of each region; `whole image` if nothing was found.

    Grid cells, which have no class, are named by row and column: `cell 3,5`.
    """
    if not extractor.recognizes:
        from lxmert.regions.cells import cell_labels

        return cell_labels(regions.boxes)
    names = extractor.object_names
    return [names[i] if regions.found else _WHOLE for i in regions.object_ids]


def region_labels(extractor: "RegionExtractor", regions: Regions) -> list[str]:
    """Return a label for each region: its attributes and its object class."""
    objects = object_labels(extractor, regions)
    if not regions.found:
        return objects
    order = adjective_order(list(extractor.attribute_groups))
    return [
        " ".join([*(extractor.attribute_names[attributes[group]] for group in order), name])
        for name, attributes in zip(objects, regions.attribute_ids, strict=True)
    ]


def adjective_order(groups: Sequence[str]) -> list[int]:
    """Return the indices of attribute groups in English adjective order: size, color, others."""
    rank = {"size": 0, "color": 1}
    return sorted(range(len(groups)), key=lambda index: rank.get(groups[index], 2))
