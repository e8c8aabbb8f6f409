"""The published detector in plain torch, as a baseline; it imports nothing of lxmert.

Eager, channels first, norms not folded, all regions in one call, dilated `res5`, one NMS per class.
Parameters have the published names, so that both sides can run the same weights.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.ops import FrozenBatchNorm2d, nms, roi_pool  # type: ignore[import-untyped]


class Convolution(nn.Conv2d):
    """A convolution with its frozen norm."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, dilation: int) -> None:
        super().__init__(
            inputs, outputs, kernel, stride, kernel // 2 * dilation, dilation, bias=False
        )
        self.norm = FrozenBatchNorm2d(outputs)

    def forward(self, inputs: Tensor) -> Tensor:
        """Run it."""
        outputs: Tensor = self.norm(super().forward(inputs))
        return outputs


class Bottleneck(nn.Module):
    """1x1 with the stride, 3x3, 1x1."""

    def __init__(self, inputs: int, inner: int, outputs: int, stride: int, dilation: int) -> None:
        super().__init__()
        self.conv1 = Convolution(inputs, inner, 1, stride, 1)
        self.conv2 = Convolution(inner, inner, 3, 1, dilation)
        self.conv3 = Convolution(inner, outputs, 1, 1, 1)
        self.shortcut = Convolution(inputs, outputs, 1, stride, 1) if inputs != outputs else None

    def forward(self, inputs: Tensor) -> Tensor:
        """Run it."""
        hidden = functional.relu(self.conv1(inputs))
        hidden = functional.relu(self.conv2(hidden))
        shortcut = inputs if self.shortcut is None else self.shortcut(inputs)
        return functional.relu(self.conv3(hidden) + shortcut)


def stage(
    inputs: int, inner: int, outputs: int, *, depth: int, stride: int, dilation: int = 1
) -> nn.Sequential:
    """Chain bottlenecks."""
    blocks = [Bottleneck(inputs, inner, outputs, stride, dilation)]
    blocks += [Bottleneck(outputs, inner, outputs, 1, dilation) for _ in range(depth - 1)]
    return nn.Sequential(*blocks)


class Stem(nn.Module):
    """The first convolution and the pool."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = Convolution(3, 64, 7, 2, 1)

    def forward(self, pixels: Tensor) -> Tensor:
        """Run it."""
        return functional.max_pool2d(functional.relu(self.conv1(pixels)), 3, 2, ceil_mode=True)


class Backbone(nn.Sequential):
    """ResNet-101 to the end of its fourth stage."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = Stem()
        self.res2 = stage(64, 64, 256, depth=3, stride=1)
        self.res3 = stage(256, 128, 512, depth=4, stride=2)
        self.res4 = stage(512, 256, 1024, depth=23, stride=2)


class ProposalHead(nn.Module):
    """Scores and moves anchors."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1024, 512, 3, padding=1)
        self.objectness_logits = nn.Conv2d(512, 12, 1)
        self.anchor_deltas = nn.Conv2d(512, 48, 1)

    def forward(self, feature_map: Tensor) -> tuple[Tensor, Tensor]:
        """Run it."""
        hidden = functional.relu(self.conv(feature_map))
        scores = self.objectness_logits(hidden)[0].permute(1, 2, 0).flatten()
        deltas = self.anchor_deltas(hidden)[0].permute(1, 2, 0).reshape(-1, 4)
        return scores.float(), deltas.float()


class ProposalGenerator(nn.Module):
    """The head and the anchors of a cell."""

    def __init__(self) -> None:
        super().__init__()
        self.rpn_head = ProposalHead()
        self.anchor_generator = nn.Module()
        self.anchor_generator.cell_anchors = nn.Module()
        self.anchor_generator.cell_anchors.register_buffer("0", torch.zeros(12, 4))


class Predictor(nn.Module):
    """Classes and attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.cls_score = nn.Linear(2048, 1601)
        self.bbox_pred = nn.Linear(2048, 6400)  # the Caffe program returns proposals
        self.cls_embedding = nn.Embedding(1601, 256)
        self.fc_attr = nn.Linear(2304, 512)
        self.attr_score = nn.Linear(512, 401)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Run it."""
        probabilities = self.cls_score(features).float().softmax(dim=1)
        embedded = self.cls_embedding(probabilities.argmax(dim=1))
        hidden = functional.relu(self.fc_attr(torch.cat([features, embedded], dim=1)))
        return probabilities, self.attr_score(hidden).float().softmax(dim=1)


class RegionHeads(nn.Module):
    """Features and classes of regions."""

    def __init__(self) -> None:
        super().__init__()
        self.res5 = stage(1024, 512, 2048, depth=3, stride=1, dilation=2)
        self.box_predictor = Predictor()

    def forward(self, feature_map: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Run it."""
        rois = torch.cat([boxes.new_zeros(len(boxes), 1), boxes], dim=1)
        pooled = roi_pool(feature_map.float(), rois, 14, 1 / 16)
        features = self.res5(pooled.to(feature_map.dtype)).float().mean(dim=(2, 3))
        return features, *self.box_predictor(features)


class BaselineDetector(nn.Module):
    """The complete detector as the Caffe program ran it, one image at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = Backbone()
        self.proposal_generator = ProposalGenerator()
        self.roi_heads = RegionHeads()

    def detect(self, pixels: Tensor, scale: float) -> tuple[Tensor, Tensor]:
        """Return 36 boxes and their features for `[1, 3, height, width]`."""
        feature_map = self.backbone(pixels)
        height, width = pixels.shape[2:]
        boxes = self.propose(feature_map, height, width, scale)
        features, probabilities, _ = self.roi_heads(feature_map, boxes)
        chosen = select_naively(probabilities[:, :-1], boxes / scale)
        return boxes[chosen], features[chosen]

    def describe(self, pixels: Tensor, boxes: Tensor) -> Tensor:
        """Return the features of given boxes `[regions, 4]`."""
        features: Tensor = self.roi_heads(self.backbone(pixels), boxes)[0]
        return features

    def propose(self, feature_map: Tensor, height: int, width: int, scale: float) -> Tensor:
        """Return up to 300 proposals."""
        scores, deltas = self.proposal_generator.rpn_head(feature_map)
        cell = self.get_buffer("proposal_generator.anchor_generator.cell_anchors.0")
        y, x = torch.meshgrid(
            torch.arange(feature_map.shape[2]) * 16,
            torch.arange(feature_map.shape[3]) * 16,
            indexing="ij",
        )
        anchors = (torch.stack([x, y, x, y], -1).reshape(-1, 1, 4) + cell).reshape(-1, 4)
        sides = anchors[:, 2:] - anchors[:, :2]
        centers = (anchors[:, :2] + anchors[:, 2:]) / 2 + deltas[:, :2] * sides
        sides = sides * deltas[:, 2:].exp()
        boxes = torch.cat([centers - sides / 2, centers + sides / 2], dim=1).clamp(min=0)
        limits = torch.tensor([width, height, width, height]) - 1
        boxes = torch.minimum(boxes, limits.float())
        large = (boxes[:, 2:] - boxes[:, :2] + 1 >= 16 * scale).all(dim=1)
        boxes, scores = boxes[large], scores[large]
        scores, order = scores.sort(descending=True, stable=True)
        boxes, scores = boxes[order[:6000]], scores[:6000]
        ones = boxes.new_tensor([0, 0, 1, 1])
        return boxes[nms(boxes + ones, scores, 0.7)[:300]]


def select_naively(probabilities: Tensor, boxes: Tensor, num_regions: int = 36) -> Tensor:
    """Return the indices of the regions that the Caffe program selects: one NMS for each class."""
    extended = boxes + boxes.new_tensor([0, 0, 1, 1])
    best = torch.zeros(len(boxes))
    for index in range(probabilities.shape[1]):
        scores = probabilities[:, index]
        kept = nms(extended, scores, 0.3)
        best[kept] = torch.maximum(best[kept], scores[kept])
    return best.argsort(descending=True, stable=True)[:num_regions]
