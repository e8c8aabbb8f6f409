"""Turns pixels into a feature map, and pooled regions into features: residual convolutions.

Legend: `channels`, `rows`, `columns` of a map; parameters are named as in the published detector.
"""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional
from torchvision.ops import FrozenBatchNorm2d  # type: ignore[import-untyped]

from lxmert.vision.configuration import DetectorConfig

NORMS: dict[str, type[nn.Module]] = {"batch": nn.BatchNorm2d, "frozen": FrozenBatchNorm2d}


class NormedConvolution(nn.Conv2d):
    """A convolution without bias, followed by its norm.

    A subclass of the convolution because the published files name the pair `conv1.weight` and
    `conv1.norm.weight`.
    """

    def __init__(
        self, in_channels: int, out_channels: int, *, kernel_size: int, stride: int, norm: str
    ) -> None:
        super().__init__(
            in_channels, out_channels, kernel_size, stride, kernel_size // 2, bias=False
        )
        self.norm = NORMS[norm](out_channels)
        nn.init.kaiming_normal_(self.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, inputs: Tensor) -> Tensor:
        """Map `[batch, in_channels, rows, columns]` to `[batch, out_channels, ...]`."""
        outputs: Tensor = self.norm(super().forward(inputs))
        return outputs


class Stem(nn.Module):
    """The first convolution: 3x3 with stride 2."""

    def __init__(self, width: int, *, norm: str) -> None:
        super().__init__()
        self.conv1 = NormedConvolution(3, width, kernel_size=3, stride=2, norm=norm)

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Map `[batch, 3, height, width]` to `[batch, channels, rows, columns]`."""
        return functional.relu(self.conv1(pixel_values), inplace=True)


class Block(nn.Module):
    """Two 3x3 convolutions and a shortcut around them; the first one has the stride."""

    def __init__(
        self, in_width: int, inner_width: int, width: int, *, stride: int, norm: str
    ) -> None:
        super().__init__()
        self.conv1 = NormedConvolution(
            in_width, inner_width, kernel_size=3, stride=stride, norm=norm
        )
        self.conv2 = NormedConvolution(inner_width, width, kernel_size=3, stride=1, norm=norm)
        self.shortcut = (
            NormedConvolution(in_width, width, kernel_size=1, stride=stride, norm=norm)
            if stride != 1 or in_width != width
            else None
        )

    def forward(self, inputs: Tensor) -> Tensor:
        """Map `[batch, in_width, rows, columns]` to `[batch, width, rows / stride, ...]`."""
        outputs = self.conv2(functional.relu(self.conv1(inputs), inplace=True))
        outputs += inputs if self.shortcut is None else self.shortcut(inputs)
        return functional.relu(outputs, inplace=True)


def make_stage(
    in_width: int, inner_width: int, width: int, *, depth: int, stride: int, norm: str
) -> nn.Sequential:
    """Chain `depth` blocks, the first of which has the stride."""
    blocks = [Block(in_width, inner_width, width, stride=stride, norm=norm)]
    blocks += [Block(width, inner_width, width, stride=1, norm=norm) for _ in range(depth - 1)]
    return nn.Sequential(*blocks)


class Backbone(nn.Module):
    """The stem and three stages."""

    def __init__(self, config: DetectorConfig) -> None:
        super().__init__()
        self.stem = Stem(config.stem_width, norm=config.norm)
        widths: Sequence[int] = (config.stem_width, *config.stage_widths)
        self.res2, self.res3, self.res4 = (
            make_stage(
                widths[stage],
                config.stage_inner_widths[stage],
                widths[stage + 1],
                depth=config.stage_depths[stage],
                stride=config.stage_strides[stage],
                norm=config.norm,
            )
            for stage in range(3)
        )

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Map `[batch, 3, height, width]` to `[batch, channels, height/stride, width/stride]`."""
        feature_map: Tensor = self.res4(self.res3(self.res2(self.stem(pixel_values))))
        return feature_map
