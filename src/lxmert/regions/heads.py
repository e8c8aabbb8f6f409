"""The detector's region head: pooling, classification, box refinement and attributes.

Legend: `samples` regions per image in training, `regions` boxes of all images concatenated. Boxes
are float32 `(x1, y1, x2, y2)` in pixels of the resized image.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from lxmert.regions import proposals as rpn
from lxmert.regions.backbone import Stage
from lxmert.regions.box_coding import clip_boxes, decode_boxes, encode_boxes, extend_boxes
from lxmert.regions.choosing import REGION_WEIGHTS
from lxmert.regions.configuration import DetectorConfig
from lxmert.regions.objectives import EMPTY, attribute_loss, box_loss, object_loss
from lxmert.regions.pooling import align_regions, pool_regions

CHUNK_BYTES = {"cpu": 68_000_000, "cuda": 2_000_000_000}
"""Memory limit for the activations of regions. On a CPU a small limit is faster, because the
activations then fit into the caches."""


@dataclass(frozen=True)
class Description:
    """Outputs of the head for boxes.

    Attributes:
        features: `[regions, feature_dim]` float32.
        object_ids: `[regions]`, the most probable class, excluding background.
        object_scores: `[regions]`, its probability among all classes including background.
        attribute_ids: `[regions, groups]`, best of each group, as ids in the list of all
            attributes.
        attribute_scores: `[regions, groups]`, its probability within the group.
    """

    features: Tensor
    object_ids: Tensor
    object_scores: Tensor
    attribute_ids: Tensor
    attribute_scores: Tensor


class BoxPredictor(nn.Module):
    """Predicts the class, the refined box and the attributes of a region."""

    def __init__(self, config: DetectorConfig) -> None:
        super().__init__()
        self.config = config
        num_classes = len(config.object_names)
        self.num_boxes = num_classes if config.class_specific_boxes else 1
        self.cls_score = nn.Linear(config.feature_dim, num_classes + 1)  # background is the last
        self.bbox_pred = nn.Linear(config.feature_dim, 4 * self.num_boxes)
        # Fast R-CNN's 0.01 suits features of a trained network. With random weights almost no
        # gradient would reach the features, and the classes would be learned late.
        nn.init.normal_(self.cls_score.weight, std=0.1)
        nn.init.normal_(self.bbox_pred.weight, std=0.001)  # Fast R-CNN, section 3.1
        nn.init.zeros_(self.cls_score.bias)
        nn.init.zeros_(self.bbox_pred.bias)
        if config.attribute_groups:
            self.cls_embedding = nn.Embedding(num_classes + 1, config.embedding_dim)
            self.fc_attr = nn.Linear(
                config.feature_dim + config.embedding_dim, config.attribute_dim
            )
            self.attr_score = nn.Linear(config.attribute_dim, sum(self._logit_counts()))

    def deltas(self, features: Tensor) -> Tensor:
        """Return box deltas `[regions, classes, 4]`, or `[regions, 1, 4]` if classes share them."""
        deltas: Tensor = self.bbox_pred(features)
        return deltas.float().reshape(-1, self.num_boxes, 4)

    def deltas_of(self, deltas: Tensor, regions: Tensor, classes: Tensor) -> Tensor:
        """Select the deltas `[pairs, 4]` of the given regions and classes."""
        return deltas[regions, classes if self.config.class_specific_boxes else 0]

    def attributes(self, features: Tensor, classes: Tensor) -> list[Tensor]:
        """Return the logits of each attribute group `[regions, attributes]`, given the class.

        An additional class "none of these" is the last of its group if it is counted, else removed.
        """
        embedded = self.cls_embedding(classes)
        hidden = functional.relu(self.fc_attr(torch.cat([features, embedded], dim=1)))
        groups = torch.split(self.attr_score(hidden).float(), self._logit_counts(), dim=1)
        if self.config.attribute_none == "ignored":
            return [group[:, :-1] for group in groups]
        return list(groups)

    def _logit_counts(self) -> list[int]:
        extra = int(self.config.attribute_none != "absent")
        return [size + extra for size in self.config.group_sizes]


class RegionHeads(nn.Module):
    """Pools regions from the feature map and describes them."""

    def __init__(self, config: DetectorConfig) -> None:
        super().__init__()
        self.config = config
        self.res5 = Stage(
            config,
            (config.stage_widths[-1], config.head_inner_width, config.feature_dim),
            depth=config.head_depth,
            stride=config.head_stride,
            dilation=config.head_dilation,
        )
        self.box_predictor = BoxPredictor(config)

    def pool(self, feature_map: Tensor, boxes: Sequence[Tensor], map_sizes: Tensor) -> Tensor:
        """Return the feature of each box.

        Args:
            feature_map: `[batch, width, rows, columns]`.
            boxes: `[boxes, 4]` of each image.
            map_sizes: `[batch, 2]`, rows and columns of each image's map without padding.

        Returns:
            `[regions, feature_dim]` float32.
        """
        counts = torch.tensor([len(part) for part in boxes], device=feature_map.device)
        images = torch.repeat_interleave(counts)  # [regions]
        cells = torch.cat(list(boxes)) / self.config.stride
        if self.config.pooling == "pool":
            # The kernel would convert every chunk; it does not support bfloat16 on CPUs.
            feature_map = feature_map.float().contiguous()
        if self.training or not len(cells):
            return self._pool_chunk(feature_map, cells, images, map_sizes)
        chunk = self._chunk_size(feature_map.device.type)
        return torch.cat(
            [
                self._pool_chunk(feature_map, *part, map_sizes)
                for part in zip(torch.split(cells, chunk), torch.split(images, chunk), strict=True)
            ]
        )

    def _pool_chunk(
        self, feature_map: Tensor, cells: Tensor, images: Tensor, map_sizes: Tensor
    ) -> Tensor:
        """Return the features of boxes `[regions, 4]`, given in cells, in one pass."""
        size = self.config.pooled_size
        if self.config.pooling == "pool":
            pooled = pool_regions(feature_map, cells, images, size=size)
        else:
            pooled = align_regions(feature_map, cells, images, size=size, map_sizes=map_sizes)
        pooled = pooled.to(dtype=self.res5.dtype, memory_format=self.res5.memory_format)
        maps: Tensor = self.res5(pooled)  # [regions, feature_dim, cells, cells]
        return maps.float().mean(dim=(2, 3))

    def _chunk_size(self, device: str) -> int:
        """Return how many regions fit into the activation memory."""
        limit = CHUNK_BYTES.get(device, CHUNK_BYTES["cpu"])
        return max(1, int(limit / self.config.region_bytes))

    def classify(self, features: Tensor) -> Tensor:
        """Return probabilities `[regions, classes + 1]`, background last."""
        logits: Tensor = self.box_predictor.cls_score(features).float()
        with torch.autocast(features.device.type, enabled=False):
            return logits.softmax(dim=1)

    def refine(self, deltas: Tensor, boxes: Tensor, image_size: Tensor) -> Tensor:
        """Apply deltas to boxes, both `[regions, 4]`, in one image of `[2]` (height, width)."""
        with torch.autocast(deltas.device.type, enabled=False):
            references = extend_boxes(boxes, self.config.side_offset)
            moved = decode_boxes(
                deltas, references, REGION_WEIGHTS, max_log_scale=self.config.max_log_scale
            )
            return clip_boxes(moved[None], image_size[None], margin=self.config.clip_margin)[0]

    def describe(
        self, features: Tensor, probabilities: Tensor, object_ids: Tensor | None = None
    ) -> Description:
        """Describe regions.

        Args:
            features: `[regions, feature_dim]`.
            probabilities: `[regions, classes + 1]`.
            object_ids: `[regions]`, classes chosen by the selection. None: the most probable ones.
        """
        objects = probabilities[:, :-1]
        if object_ids is None:
            object_ids = objects.argmax(dim=1)
        scores = objects.gather(1, object_ids[:, None])[:, 0]
        best_ids, best_scores = [], []
        if self.config.attribute_groups:
            classes = probabilities if self.config.embed_background else objects
            start = 0
            groups = self.box_predictor.attributes(features, classes.argmax(dim=1))
            for group, size in zip(groups, self.config.group_sizes, strict=True):
                best = group.softmax(dim=1)[:, :size].max(dim=1)
                best_ids.append(best.indices + start)
                best_scores.append(best.values)
                start += size
        return Description(
            features=features,
            object_ids=object_ids,
            object_scores=scores,
            attribute_ids=_stack_groups(best_ids, object_ids),
            attribute_scores=_stack_groups(best_scores, scores),
        )

    def losses(
        self,
        feature_map: Tensor,
        proposals: rpn.Proposals,
        targets: dict[str, Tensor],
        map_sizes: Tensor,
    ) -> dict[str, Tensor]:
        """Return the loss sums `object`, `box` and, with attributes, `attribute`."""
        boxes, labels, matched = self._sample(proposals, targets)
        features = self.pool(feature_map, list(boxes), map_sizes)
        logits = self.box_predictor.cls_score(features).float()
        positive = labels == 1
        object_ids = targets["object_ids"].gather(1, matched)
        background = logits.shape[1] - 1
        classes = torch.where(positive, object_ids, background)
        objects, _ = object_loss(
            logits.view(*labels.shape, -1), torch.where(labels == EMPTY, EMPTY, classes)
        )
        # Where there is no object the class does not matter, but it must be a valid index.
        deltas = self.box_predictor.deltas_of(
            self.box_predictor.deltas(features),
            torch.arange(len(features), device=features.device),
            object_ids.clamp(min=0).flatten(),
        )
        wanted = encode_boxes(rpn.gather_rows(targets["boxes"], matched), boxes, REGION_WEIGHTS)
        box, _ = box_loss(deltas.view_as(wanted), wanted, labels, positive=positive, beta=1.0)
        losses = {"object": objects, "box": box}
        if self.config.attribute_groups:
            groups = self.box_predictor.attributes(features, classes.flatten())
            wanted_ids = rpn.gather_rows(targets["attribute_ids"], matched)
            losses["attribute"], _ = attribute_loss(
                [group.view(*labels.shape, -1) for group in groups],
                wanted_ids.masked_fill(~positive[..., None], EMPTY),
                group_sizes=self.config.group_sizes,
            )
        return losses

    @torch.no_grad()
    def _sample(
        self, proposals: rpn.Proposals, targets: dict[str, Tensor]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Sample boxes `[batch, samples, 4]`, their labels and their objects `[batch, samples]`."""
        real = targets["object_ids"] >= 0
        # Add the true boxes to the proposals: an untrained network would propose no object.
        boxes = torch.cat([proposals.boxes, targets["boxes"]], dim=1)
        usable = torch.cat([proposals.mask, real], dim=1)
        labels, matched = rpn.match_regions(boxes, targets["boxes"], real)
        indices, labels = rpn.sample(labels.masked_fill(~usable, EMPTY), self.config.region_samples)
        boxes = rpn.gather_rows(boxes, indices)
        # Empty places need a box with an area, so that the delta is finite although never counted.
        unit = boxes.new_tensor([0.0, 0.0, 1.0, 1.0])
        boxes = torch.where((labels == EMPTY)[..., None], unit, boxes)
        return boxes, labels, matched.gather(1, indices)


def _stack_groups(columns: list[Tensor], like: Tensor) -> Tensor:
    """Stack one column per group to `[regions, groups]`; zero columns without groups."""
    return torch.stack(columns, dim=1) if columns else like.new_zeros(len(like), 0)
