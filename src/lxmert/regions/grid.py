"""A small grid extractor that needs neither boxes nor pretrained weights: cells are the regions.

It is trained together with the model that reads its features. Legend: `cells` of the last feature
map, row by row.
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from lxmert.records import Items, Record
from lxmert.regions.cells import CellLayout, cell_boxes
from lxmert.regions.folders import load_folder
from lxmert.regions.single_image import CellExtractor

GRID_TYPE: Literal["lxmert-grid"] = "lxmert-grid"
_Width = Annotated[int, Field(ge=1, le=65_536)]
_Side = Annotated[int, Field(ge=1, le=4096)]
_MOST_CELLS = 64
_MOST_ENLARGED = 3.3
_POSITIONS = 2
"""Channels for the place of a cell: y and x."""


class GridConfig(Record):
    """Configuration of a grid extractor; saved as `config.json` next to the weights.

    The weights do not depend on the size of the images, so that they can be used with another one.

    Attributes:
        model_type: kind of extractor.
        height: images are resized to this height; a multiple of the stride.
        width: images are resized to this width; a multiple of the stride.
        widths: channels after each stage; each stage halves height and width.
        feature_dim: length of a cell's feature.
    """

    model_type: Literal["lxmert-grid"] = GRID_TYPE
    height: _Side = 128
    width: _Side = 128
    widths: Annotated[Items[_Width], Field(min_length=1, max_length=12)] = (24, 48, 96, 128)
    feature_dim: _Width = 128

    def problems(self) -> Iterator[str]:
        """Yield the inconsistencies between fields."""
        for name in ("height", "width"):
            if getattr(self, name) % self.stride:
                yield f"{name}: got {getattr(self, name)}, expected a multiple of {self.stride}"

    @property
    def stride(self) -> int:
        """Pixels per cell."""
        return int(2 ** len(self.widths))

    @property
    def num_cells(self) -> tuple[int, int]:
        """Rows and columns of cells."""
        return self.height // self.stride, self.width // self.stride

    @property
    def layout(self) -> CellLayout:
        """How images are divided into cells."""
        rows, columns = self.num_cells
        return CellLayout(
            height=self.height,
            width=self.width,
            rows=rows,
            columns=columns,
            feature_dim=self.feature_dim,
        )

    def for_images(self, height: float, width: float) -> "GridConfig":
        """Return the same grid for images of a typical size, with about 64 cells.

        Args:
            height: typical height of the images in pixels; the aspect ratio is kept.
            width: typical width. Small images are enlarged, to at most about 3 times their size.
        """
        scale = min(_MOST_ENLARGED, self.stride * math.sqrt(_MOST_CELLS / (height * width)))
        rows, columns = (
            min(_MOST_CELLS, max(2, round(side * scale / self.stride))) for side in (height, width)
        )
        return self.replace(height=rows * self.stride, width=columns * self.stride)


class GridNetwork(nn.Module):
    """A few convolutions; the cells of the final feature map are the regions."""

    def __init__(self, config: GridConfig) -> None:
        super().__init__()
        self.config = config
        widths = [3, *config.widths]
        before = widths[:-1]
        before[-1] += _POSITIONS
        stages = (_stage(*pair) for pair in zip(before, widths[1:], strict=True))
        self.stages = nn.Sequential(*stages)
        self.project = nn.Conv2d(widths[-1] + _POSITIONS, config.feature_dim, 1)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the grid features of images.

        Args:
            pixels: `[batch, height, width, 3]` uint8 RGB, of any size in multiples of the stride.

        Returns:
            Features `[batch, cells, feature_dim]`, and the boxes `(x1, y1, x2, y2)` of the cells in
            `[0, 1]`, `[batch, cells, 4]`.
        """
        # A view of channels-last memory, with which convolutions are faster on CPU.
        values = pixels.permute(0, 3, 1, 2).to(self.project.weight.dtype) / 127.5 - 1
        for stage in self.stages[:-1]:
            values = stage(values)
        values = _with_positions(self.stages[-1](_with_positions(values)))
        # [batch, channels, rows, columns] -> [batch, cells, channels]
        features = self.project(values).flatten(2).transpose(1, 2)
        cells = torch.from_numpy(cell_boxes(*values.shape[2:])).to(pixels.device)
        return features, cells.expand(len(pixels), -1, -1)


def _with_positions(values: Tensor) -> Tensor:
    """Append the y and x of each place, in `[-1, 1]`, to `[batch, channels, rows, columns]`.

    Source: Liu et al. 2018, "An intriguing failing of convolutional neural networks and the
    CoordConv solution".
    """
    batch, _, rows, columns = values.shape
    y, x = (
        torch.linspace(-1, 1, count, device=values.device, dtype=values.dtype)
        for count in (rows, columns)
    )
    places = torch.stack(torch.meshgrid(y, x, indexing="ij"))
    return torch.cat([values, places.expand(batch, -1, -1, -1)], dim=1)


def _stage(before: int, after: int) -> nn.Sequential:
    """Build a stage: a strided convolution, then a convolution with stride 1.

    Uses batch norm: with norms of single images, simple shapes took more than twice as many steps.
    """
    return nn.Sequential(
        nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(after),
        nn.ReLU(inplace=True),
        nn.Conv2d(after, after, 3, padding=1, bias=False),
        nn.BatchNorm2d(after),
        nn.ReLU(inplace=True),
    )


class GridExtractor(CellExtractor):
    """Region extractor of a trained grid network: images in, one region per cell out."""

    config: GridConfig

    def __init__(self, network: GridNetwork, *, device: str = "cpu") -> None:
        super().__init__(network, network.config, device=device)
        self.layout = network.config.layout

    @classmethod
    def from_pretrained(cls, path: str | Path, *, device: str = "cpu") -> "GridExtractor":
        """Load a folder written by `save_pretrained`.

        Raises:
            FileNotFoundError: if a file is missing.
            ValueError: if the configuration or the weights do not belong to this kind of extractor.
        """
        return cls(load_folder(Path(path), GridConfig, GridNetwork), device=device)

    def describe(self, pixels: Tensor) -> Tensor:
        """Return the features `[batch, cells, feature_dim]` of stretched images."""
        features: Tensor = self.network(pixels)[0]
        return features
