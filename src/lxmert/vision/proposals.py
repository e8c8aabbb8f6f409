"""Where objects may be: anchors, box coding, matching, sampling and the proposal network.

Legend: `anchors` = rows x columns x shapes, in this order; `objects` = true objects of an image,
padded to the most in the batch. Boxes are float32 `(x1, y1, x2, y2)` in pixels of the resized
image. Knows nothing of classes.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.ops import nms  # type: ignore[import-untyped]

from lxmert.vision.configuration import DetectorConfig
from lxmert.vision.objectives import EMPTY, box_loss, objectness_loss

ANCHOR_WEIGHTS = (1.0, 1.0, 1.0, 1.0)
REGION_WEIGHTS = (10.0, 10.0, 5.0, 5.0)  # Fast R-CNN's: deltas of unit variance
MAX_LOG_SCALE = math.log(1000.0 / 16)  # a delta beyond this would overflow exp

# Faster R-CNN's rule is 0.7 / 0.3. With objects of two cells no anchor may reach 0.7.
ANCHOR_IS_OBJECT = 0.6
ANCHOR_IS_BACKGROUND = 0.3
REGION_IS_OBJECT = 0.5
CANDIDATES_PER_PROPOSAL = 6  # boxes that enter NMS for each one that may leave it
PROPOSAL_NMS = 0.7
SMALLEST_SIDE = 2.0  # pixels; a proposal thinner than this shows nothing


def make_cell_anchors(sizes: Sequence[float], ratios: Sequence[float]) -> Tensor:
    """Return `[sizes x ratios, 4]` anchors around the origin; size outer, ratio inner."""
    shapes = [
        (size / math.sqrt(ratio), size * math.sqrt(ratio)) for size in sizes for ratio in ratios
    ]
    return torch.tensor([(-w / 2, -h / 2, w / 2, h / 2) for w, h in shapes])


def make_anchors(cell_anchors: Tensor, rows: int, columns: int, stride: int) -> Tensor:
    """Shift the cell anchors to the centre of every cell: `[rows x columns x shapes, 4]`."""
    device = cell_anchors.device
    y, x = torch.meshgrid(
        (torch.arange(rows, device=device) + 0.5) * stride,
        (torch.arange(columns, device=device) + 0.5) * stride,
        indexing="ij",
    )
    shifts = torch.stack([x, y, x, y], dim=-1).reshape(-1, 1, 4)  # [cells, 1, 4]
    return (shifts + cell_anchors).reshape(-1, 4)


def encode_boxes(boxes: Tensor, references: Tensor, weights: Sequence[float]) -> Tensor:
    """Write boxes as deltas from reference boxes (Girshick et al. 2014, appendix C).

    Args:
        boxes: `[..., 4]`.
        references: `[..., 4]`, none of them empty.
        weights: factors of the deltas `(x, y, width, height)`.

    Returns:
        `[..., 4]` deltas; `decode_boxes` is the way back.
    """
    centers, sides = _to_centers(boxes)
    reference_centers, reference_sides = _to_centers(references)
    shifts = (centers - reference_centers) / reference_sides
    scales = torch.log(sides.clamp(min=1e-3) / reference_sides)
    return torch.cat([shifts, scales], dim=-1) * boxes.new_tensor(weights)


def decode_boxes(deltas: Tensor, references: Tensor, weights: Sequence[float]) -> Tensor:
    """Apply deltas `[..., 4]` to reference boxes `[..., 4]`: the inverse of `encode_boxes`."""
    deltas = deltas.float() / references.new_tensor(weights)
    centers, sides = _to_centers(references)
    centers = centers + deltas[..., :2] * sides
    sides = sides * torch.exp(deltas[..., 2:].clamp(max=MAX_LOG_SCALE))
    return torch.cat([centers - sides / 2, centers + sides / 2], dim=-1)


def clip_boxes(boxes: Tensor, image_sizes: Tensor) -> Tensor:
    """Cut `[batch, boxes, 4]` at the borders of images of `[batch, 2]` (height, width) pixels."""
    limits = image_sizes.flip(1).repeat(1, 2)[:, None].to(boxes.dtype)  # [batch, 1, 4]
    return torch.minimum(boxes.clamp(min=0), limits)


def pairwise_iou(first: Tensor, second: Tensor) -> Tensor:
    """Return the IoU of each pair: `[..., n, 4]`, `[batch, m, 4]` -> `[batch, n, m]`."""
    first, second = first.unsqueeze(-2), second.unsqueeze(-3)
    top_left = torch.maximum(first[..., :2], second[..., :2])
    bottom_right = torch.minimum(first[..., 2:], second[..., 2:])
    overlap = (bottom_right - top_left).clamp(min=0).prod(-1)
    area = (first[..., 2:] - first[..., :2]).prod(-1) + (second[..., 2:] - second[..., :2]).prod(-1)
    return overlap / (area - overlap).clamp(min=torch.finfo(torch.float32).tiny)


def match_anchors(anchors: Tensor, boxes: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
    """Decide which anchors show an object (Faster R-CNN, section 3.1.2).

    Args:
        anchors: `[anchors, 4]`.
        boxes: `[batch, objects, 4]`.
        real: boolean `[batch, objects]`, False for padding.

    Returns:
        `[batch, anchors]` labels: 1 object, 0 background, -1 neither; and `[batch, anchors]`, the
        object that overlaps most.
    """
    iou = _iou_with_objects(anchors, boxes, real)  # [batch, anchors, objects]
    best, matched = iou.max(dim=2)
    labels = torch.full_like(matched, EMPTY)
    labels[best < ANCHOR_IS_BACKGROUND] = 0
    labels[best >= ANCHOR_IS_OBJECT] = 1
    # The best anchors of an object count however little they overlap, so that none is forgotten.
    best_of_object = iou.amax(dim=1, keepdim=True)
    is_best = (iou == best_of_object) & (best_of_object > 0)
    forced = is_best.any(dim=2)
    labels[forced] = 1
    return labels, torch.where(forced, is_best.to(torch.uint8).argmax(dim=2), matched)


def match_regions(boxes: Tensor, objects: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
    """Decide which boxes `[batch, boxes, 4]` show an object; as `match_anchors`, without -1."""
    best, matched = _iou_with_objects(boxes, objects, real).max(dim=2)
    return (best >= REGION_IS_OBJECT).long(), matched


def sample(labels: Tensor, num_samples: int) -> tuple[Tensor, Tensor]:
    """Draw samples from each image: objects for half of the places at most, then background.

    Args:
        labels: `[batch, candidates]`, 1 object, 0 background, -1 neither.
        num_samples: places per image. The torch global generator decides.

    Returns:
        `[batch, samples]` indices of the candidates, and their labels, -1 in the places that
        nothing was left for.
    """
    num_samples = min(num_samples, labels.shape[1])
    chance = torch.rand(labels.shape, device=labels.device)
    objects = (chance - (labels != 1).float()).topk(num_samples // 2, dim=1)
    others = (chance - (labels != 0).float()).topk(num_samples, dim=1)
    indices = torch.cat([objects.indices, others.indices], dim=1)
    drawn = torch.cat([objects.values >= 0, others.values >= 0], dim=1)
    # A stable sort moves the drawn candidates to the front, objects first.
    order = torch.argsort((~drawn).to(torch.uint8), dim=1, stable=True)[:, :num_samples]
    indices, drawn = indices.gather(1, order), drawn.gather(1, order)
    return indices, torch.where(drawn, labels.gather(1, indices), EMPTY)


@dataclass(frozen=True)
class Proposals:
    """What the proposal network hands on.

    Attributes:
        boxes: `[batch, proposals, 4]`, best first, cut at the image's borders, without gradient.
        mask: boolean `[batch, proposals]`, True = real.
        losses: loss sums by name; empty outside training.
    """

    boxes: Tensor
    mask: Tensor
    losses: dict[str, Tensor]


class ProposalHead(nn.Module):
    """Scores and moves the anchors of every cell."""

    def __init__(self, width: int, num_shapes: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)
        self.objectness_logits = nn.Conv2d(width, num_shapes, 1)
        self.anchor_deltas = nn.Conv2d(width, num_shapes * 4, 1)
        for layer in (self.conv, self.objectness_logits, self.anchor_deltas):
            nn.init.normal_(layer.weight, std=0.01)  # Faster R-CNN, section 3.1.3
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def forward(self, feature_map: Tensor) -> tuple[Tensor, Tensor]:
        """Map `[batch, width, rows, columns]` to `[batch, anchors]`, `[batch, anchors, 4]`."""
        hidden = functional.relu(self.conv(feature_map), inplace=True)
        logits = self.objectness_logits(hidden).permute(
            0, 2, 3, 1
        )  # [batch, rows, columns, shapes]
        deltas = self.anchor_deltas(hidden).permute(0, 2, 3, 1)
        return logits.flatten(1).float(), deltas.reshape(len(deltas), -1, 4).float()


class ProposalGenerator(nn.Module):
    """The region proposal network of Faster R-CNN."""

    cell_anchors: Tensor

    def __init__(self, config: DetectorConfig) -> None:
        super().__init__()
        cell_anchors = make_cell_anchors(config.anchor_sizes, config.anchor_ratios)
        self.register_buffer("cell_anchors", cell_anchors, persistent=False)
        self.rpn_head = ProposalHead(config.stage_widths[-1], len(cell_anchors))
        self.stride = config.stride
        self.num_proposals = config.proposals
        self.num_samples = config.anchor_samples

    def forward(
        self, feature_map: Tensor, image_sizes: Tensor, targets: dict[str, Tensor] | None
    ) -> Proposals:
        """Propose boxes, and compare them with the objects if these are given.

        Args:
            feature_map: `[batch, width, rows, columns]`.
            image_sizes: `[batch, 2]`, (height, width) of each image without its padding.
            targets: as for `Detector.forward`.
        """
        logits, deltas = self.rpn_head(feature_map)
        with torch.autocast(feature_map.device.type, enabled=False):
            anchors = make_anchors(
                self.cell_anchors, feature_map.shape[2], feature_map.shape[3], self.stride
            )
            with torch.no_grad():
                boxes, mask = self._propose(logits, deltas, anchors, image_sizes)
            losses = {} if targets is None else self._losses(logits, deltas, anchors, targets)
        return Proposals(boxes, mask, losses)

    def _propose(
        self, logits: Tensor, deltas: Tensor, anchors: Tensor, image_sizes: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Decode the best anchors, drop empty and doubled boxes, pad to `num_proposals`."""
        num_candidates = min(self.num_proposals * CANDIDATES_PER_PROPOSAL, len(anchors))
        scores, best = logits.topk(num_candidates, dim=1)
        deltas = deltas.gather(1, best[..., None].expand(-1, -1, 4))
        boxes = clip_boxes(decode_boxes(deltas, anchors[best], ANCHOR_WEIGHTS), image_sizes)
        large = ((boxes[..., 2:] - boxes[..., :2]) >= SMALLEST_SIDE).all(dim=2)
        proposals = boxes.new_zeros(len(boxes), self.num_proposals, 4)
        mask = large.new_zeros(len(boxes), self.num_proposals)
        for image in range(len(boxes)):
            candidates = boxes[image][large[image]]
            kept = nms(candidates, scores[image][large[image]], PROPOSAL_NMS)
            kept = kept[: self.num_proposals]
            proposals[image, : len(kept)] = candidates[kept]
            mask[image, : len(kept)] = True
        return proposals, mask

    def _losses(
        self, logits: Tensor, deltas: Tensor, anchors: Tensor, targets: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        """Return the sums of `rpn_objectness` and `rpn_box`."""
        with torch.no_grad():
            real = targets["object_ids"] >= 0
            labels, matched = match_anchors(anchors, targets["boxes"], real)
            indices, labels = sample(labels, self.num_samples)
            boxes = gather_rows(targets["boxes"], matched.gather(1, indices))
            wanted = encode_boxes(boxes, anchors[indices], ANCHOR_WEIGHTS)
        objectness, _ = objectness_loss(logits.gather(1, indices), labels)
        box, _ = box_loss(
            gather_rows(deltas, indices), wanted, labels, positive=labels == 1, beta=1 / 9
        )
        return {"rpn_objectness": objectness, "rpn_box": box}


def gather_rows(values: Tensor, indices: Tensor) -> Tensor:
    """Take rows `[batch, samples]` of `[batch, rows, width]`: `[batch, samples, width]`."""
    return values.gather(1, indices[..., None].expand(-1, -1, values.shape[2]))


def _to_centers(boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Split `[..., 4]` corners into centres `[..., 2]` and sides `[..., 2]`."""
    return (boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2]


def _iou_with_objects(boxes: Tensor, objects: Tensor, real: Tensor) -> Tensor:
    """Return `[batch, boxes, objects]`, at least one object wide, 0 for padding."""
    return pairwise_iou(boxes, objects) * real[:, None]
