"""Plain ways to store region features and to read random batches; imports nothing of lxmert."""

import base64
import csv
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

Read = Callable[[Sequence[int]], Tensor]
"""From rows to `[batch, regions, dim]` float32."""

Features = npt.NDArray[np.float16]


def numpy_astype(features: Features, folder: Path) -> Read:
    """Keep one .npy file in float16, mapped; convert in numpy, the usual code."""
    np.save(folder / "features.npy", features)
    mapped = np.load(folder / "features.npy", mmap_mode="r")
    return lambda rows: torch.from_numpy(mapped[list(rows)].astype(np.float32))


def numpy_then_torch(features: Features, folder: Path) -> Read:
    """Keep the same file; index in numpy, convert in torch."""
    np.save(folder / "features.npy", features)
    mapped = np.load(folder / "features.npy", mmap_mode="r")
    return lambda rows: torch.from_numpy(mapped[list(rows)]).float()


def safetensors_slices(features: Features, folder: Path) -> Read:
    """Keep one safetensors file; read a slice for each image."""
    save_file({"features": torch.from_numpy(features)}, folder / "features.safetensors")
    file = safe_open(folder / "features.safetensors", framework="pt")

    def read(rows: Sequence[int]) -> Tensor:
        part = file.get_slice("features")  # type: ignore[no-untyped-call]
        return torch.stack([part[row] for row in rows]).float()

    return read


def npz_folder(features: Features, folder: Path) -> Read:
    """Keep one .npz file for each image."""
    for row, values in enumerate(features):
        np.savez(folder / f"{row}.npz", x=values)

    def load(row: int) -> Tensor:
        return torch.from_numpy(np.load(folder / f"{row}.npz")["x"]).float()

    return lambda rows: torch.stack([load(row) for row in rows])


def tsv_in_memory(features: Features, folder: Path) -> Read:
    """Keep base64 in a TSV file and decode all of it into memory first, like the original code."""
    shape = features.shape[1:]
    with (folder / "features.tsv").open("w", newline="") as file:
        writer = csv.writer(file, delimiter="\t")
        for row, values in enumerate(features):
            writer.writerow([row, base64.b64encode(values.astype(np.float32).tobytes()).decode()])
    csv.field_size_limit(sys.maxsize)
    held = {}
    with (folder / "features.tsv").open(newline="") as file:
        for name, text in csv.reader(file, delimiter="\t"):
            held[int(name)] = np.frombuffer(base64.b64decode(text), np.float32).reshape(shape)
    return lambda rows: torch.from_numpy(np.stack([held[row] for row in rows]))


BASELINES: dict[str, Callable[[Features, Path], Read]] = {
    "memmap float16, numpy astype": numpy_astype,
    "memmap float16, torch float": numpy_then_torch,
    "safetensors float16, slices": safetensors_slices,
    "npz float16, a file an image": npz_folder,
    "TSV, all in memory (original)": tsv_in_memory,
}
"""Name -> what writes the features into a folder and returns how to read them."""
