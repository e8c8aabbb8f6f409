"""The residual network that turns pixels into a feature map and pooled regions into features.

Legend: `channels`, `rows`, `columns` of a feature map; `sizes` `[batch, 2]`, the rows and columns
that each image covers in a padded map, or None if no image is padded. Parameters are named as in
the published detector.

Before a layer reads across the border of an image, the padding is set to 0, which is also what the
layer assumes outside of the map. The features of an image therefore do not depend on its batch.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.ops import FrozenBatchNorm2d  # type: ignore[import-untyped]

from lxmert.regions.configuration import DetectorConfig

NORMS: dict[str, type[nn.Module]] = {"batch": nn.BatchNorm2d, "frozen": FrozenBatchNorm2d}
RESIDUAL_GAIN = 0.2
SMALLEST_INPUT = 3  # pixels per side; the pooling after the stem needs a full window


class NormedConvolution(nn.Conv2d):
    """A convolution without bias, followed by its norm.

    A subclass of the convolution because the published files name the pair `conv1.weight` and
    `conv1.norm.weight`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        kernel_size: int,
        stride: int = 1,
        dilation: int = 1,
        norm: str,
    ) -> None:
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding=kernel_size // 2 * dilation,
            dilation=dilation,
            bias=False,
        )
        self.norm = NORMS[norm](out_channels)
        nn.init.kaiming_normal_(self.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, inputs: Tensor) -> Tensor:
        """Map `[batch, in_channels, rows, columns]` to `[batch, out_channels, ...]`."""
        outputs: Tensor = self.norm(super().forward(inputs))
        return outputs


class Stem(nn.Module):
    """The first convolution with stride 2, optionally followed by a max-pooling with stride 2."""

    def __init__(self, config: DetectorConfig) -> None:
        super().__init__()
        self.conv1 = NormedConvolution(
            3, config.stem_width, kernel_size=config.stem_kernel, stride=2, norm=config.norm
        )
        self.pool = config.stem_pool

    def forward(self, pixel_values: Tensor, image_sizes: Tensor | None) -> Tensor:
        """Map `[batch, 3, height, width]` to `[batch, channels, rows, columns]`."""
        outputs = functional.relu(self.conv1(pixel_values), inplace=True)
        if self.pool == "none":
            return outputs
        # Padding with 0 does not change the maximum, because the inputs come from a ReLU.
        outputs = hide_padding(outputs, None if image_sizes is None else _halve(image_sizes))
        if self.pool == "ceil":
            # The same as ceil_mode, which ONNX graphs lack for maps of unknown size.
            return functional.max_pool2d(functional.pad(outputs, (0, 1, 0, 1)), 3, stride=2)
        return functional.max_pool2d(outputs, 3, stride=2, padding=1)

    def map_sizes(self, image_sizes: Tensor) -> Tensor:
        """Return the map sizes for images of `[batch, 2]` (height, width) pixels."""
        sizes = _halve(image_sizes)
        if self.pool == "ceil":
            # The windows start at 0, 2, 4, ...; the last one covers the last cell.
            return (torch.div(sizes - 2, 2, rounding_mode="floor") + 1).clamp(min=1)
        return sizes if self.pool == "none" else _halve(sizes)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with a shortcut; the first convolution has the stride."""

    def __init__(
        self, in_width: int, inner_width: int, width: int, *, stride: int, dilation: int, norm: str
    ) -> None:
        super().__init__()
        self.stride = stride
        self.conv1 = NormedConvolution(
            in_width, inner_width, kernel_size=3, stride=stride, dilation=dilation, norm=norm
        )
        self.conv2 = NormedConvolution(
            inner_width, width, kernel_size=3, dilation=dilation, norm=norm
        )
        self.shortcut = _make_shortcut(in_width, width, stride=stride, norm=norm)

    def forward(self, inputs: Tensor, sizes: Tensor | None = None) -> Tensor:
        """Map `[batch, in_width, rows, columns]` to `[batch, width, rows / stride, ...]`."""
        inputs = hide_padding(inputs, sizes)
        hidden = functional.relu(self.conv1(inputs), inplace=True)
        outputs = self.conv2(hide_padding(hidden, stride_sizes(sizes, self.stride)))
        outputs += inputs if self.shortcut is None else self.shortcut(inputs)
        return functional.relu(outputs, inplace=True)


class BottleneckBlock(nn.Module):
    """A 1x1, a 3x3 and a 1x1 convolution with a shortcut; the first has the stride."""

    def __init__(
        self, in_width: int, inner_width: int, width: int, *, stride: int, dilation: int, norm: str
    ) -> None:
        super().__init__()
        self.stride = stride
        self.conv1 = NormedConvolution(
            in_width, inner_width, kernel_size=1, stride=stride, norm=norm
        )
        self.conv2 = NormedConvolution(
            inner_width, inner_width, kernel_size=3, dilation=dilation, norm=norm
        )
        self.conv3 = NormedConvolution(inner_width, width, kernel_size=1, norm=norm)
        # Without this gain, activations explode in thirty randomly initialized blocks.
        self.conv3.norm.weight.data.fill_(RESIDUAL_GAIN)  # type: ignore[operator]
        self.shortcut = _make_shortcut(in_width, width, stride=stride, norm=norm)

    def forward(self, inputs: Tensor, sizes: Tensor | None = None) -> Tensor:
        """Map `[batch, in_width, rows, columns]` to `[batch, width, rows / stride, ...]`."""
        hidden = functional.relu(self.conv1(inputs), inplace=True)
        hidden = hide_padding(hidden, stride_sizes(sizes, self.stride))
        hidden = functional.relu(self.conv2(hidden), inplace=True)
        outputs = self.conv3(hidden)
        outputs += inputs if self.shortcut is None else self.shortcut(inputs)
        return functional.relu(outputs, inplace=True)


BLOCKS: dict[str, type[BasicBlock] | type[BottleneckBlock]] = {
    "basic": BasicBlock,
    "bottleneck": BottleneckBlock,
}


class Stage(nn.Sequential):
    """A sequence of blocks; the first one has the stride."""

    def __init__(
        self,
        config: DetectorConfig,
        widths: tuple[int, int, int],
        *,
        depth: int,
        stride: int,
        dilation: int = 1,
    ) -> None:
        in_width, inner_width, width = widths
        super().__init__(
            *(
                BLOCKS[config.block](
                    width if index else in_width,
                    inner_width,
                    width,
                    stride=1 if index else stride,
                    dilation=dilation,
                    norm=config.norm,
                )
                for index in range(depth)
            )
        )
        self.stride = stride

    @property
    def dtype(self) -> torch.dtype:
        """Data type of the weights."""
        return next(self.parameters()).dtype

    @property
    def memory_format(self) -> torch.memory_format:
        """Memory layout of the weights, read from a 3x3 convolution: 1x1 kernels are ambiguous."""
        block = self[0]
        assert isinstance(block, BasicBlock | BottleneckBlock)
        last = block.conv2.weight.is_contiguous(memory_format=torch.channels_last)
        return torch.channels_last if last else torch.contiguous_format

    def forward(self, inputs: Tensor, sizes: Tensor | None = None) -> Tensor:
        """Map `[batch, in_width, rows, columns]` to `[batch, width, rows / stride, ...]`."""
        for index, block in enumerate(self):
            inputs = block(inputs, sizes if index == 0 else stride_sizes(sizes, self.stride))
        return inputs


class Backbone(nn.Module):
    """The stem and three stages."""

    def __init__(self, config: DetectorConfig) -> None:
        super().__init__()
        self.stem = Stem(config)
        widths = (config.stem_width, *config.stage_widths)
        self.res2, self.res3, self.res4 = (
            Stage(
                config,
                (widths[stage], config.stage_inner_widths[stage], widths[stage + 1]),
                depth=config.stage_depths[stage],
                stride=config.stage_strides[stage],
            )
            for stage in range(3)
        )

    def forward(self, pixel_values: Tensor, image_sizes: Tensor | None = None) -> Tensor:
        """Map `[batch, 3, height, width]` to `[batch, channels, rows, columns]`.

        Args:
            pixel_values: normalized images, padded with 0 at the bottom and on the right.
            image_sizes: `[batch, 2]`, (height, width) without padding. None: there is no padding.

        Returns:
            The feature maps, 0 in the padding; `map_sizes` returns their sizes without padding.
        """
        height, width = pixel_values.shape[2:]
        if image_sizes is None:
            image_sizes = torch.tensor([(height, width)], device=pixel_values.device)
        missing = [max(0, SMALLEST_INPUT - side) for side in (width, height)]
        pixel_values = functional.pad(pixel_values, (0, missing[0], 0, missing[1]))
        height, width = pixel_values.shape[2:]
        if bool((image_sizes == image_sizes.new_tensor([height, width])).all()):
            image_sizes = None
        pixel_values = pixel_values.to(dtype=self.res2.dtype, memory_format=self.res2.memory_format)
        hidden = self.stem(pixel_values, image_sizes)
        sizes = None if image_sizes is None else self.stem.map_sizes(image_sizes)
        for stage in (self.res2, self.res3, self.res4):
            hidden = stage(hidden, sizes)
            sizes = stride_sizes(sizes, stage.stride)
        return hide_padding(hidden, sizes)

    def map_sizes(self, image_sizes: Tensor) -> Tensor:
        """Return `[batch, 2]` rows and columns for images of `[batch, 2]` (height, width)."""
        sizes = self.stem.map_sizes(image_sizes)
        for stage in (self.res2, self.res3, self.res4):
            sizes = torch.div(sizes - 1, stage.stride, rounding_mode="floor") + 1
        return sizes


def stride_sizes(sizes: Tensor | None, stride: int) -> Tensor | None:
    """Return the map sizes after a strided convolution with padded borders."""
    if sizes is None or stride == 1:
        return sizes
    return torch.div(sizes - 1, stride, rounding_mode="floor") + 1


def hide_padding(values: Tensor, sizes: Tensor | None) -> Tensor:
    """Set the padding of a map `[batch, channels, rows, columns]` to 0."""
    if sizes is None:
        return values
    mask = own_cells(sizes, values.shape[2], values.shape[3])
    return values * mask[:, None].to(values.dtype)


def own_cells(sizes: Tensor, rows: int, columns: int) -> Tensor:
    """Return a boolean `[batch, rows, columns]`, True inside the `[batch, 2]` sizes."""
    inside_rows = torch.arange(rows, device=sizes.device) < sizes[:, :1]
    inside_columns = torch.arange(columns, device=sizes.device) < sizes[:, 1:]
    return inside_rows[:, :, None] & inside_columns[:, None, :]


def _halve(sizes: Tensor) -> Tensor:
    """Return the map sizes after a convolution with stride 2 and padded borders."""
    return torch.div(sizes - 1, 2, rounding_mode="floor") + 1


def _make_shortcut(
    in_width: int, width: int, *, stride: int, norm: str
) -> NormedConvolution | None:
    if stride == 1 and in_width == width:
        return None
    return NormedConvolution(in_width, width, kernel_size=1, stride=stride, norm=norm)
