"""Small files of region features in the published format and width."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lxmert.data.store import RegionStore, StoreHeader
from lxmert.data.tsv import write_tsv
from lxmert.schema import Regions


def write_features(path: Path, image_ids: Sequence[str]) -> None:
    """Write a TSV file as wide as the published ones."""
    regions = Regions(
        boxes=np.array([[2, 3, 20, 30]], np.float32),
        features=np.full((1, 2048), 3.25, np.float32),
        image_size=(60, 80),
        object_ids=np.array([7]),
        object_scores=np.array([0.75], np.float32),
        attribute_ids=np.array([[8]]),
        attribute_scores=np.array([[0.5]], np.float32),
    )
    names = tuple(map(str, range(9)))
    header = StoreHeader(
        fingerprint="fingerprint",
        feature_dim=2048,
        dtype="float32",
        precision="fp32",
        object_names=names,
        attribute_names=names,
    )
    store = path.with_suffix(".store")
    RegionStore.write(store, list(image_ids), lambda ids: ((i, regions) for i in ids), header)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_tsv(path, RegionStore(store))
