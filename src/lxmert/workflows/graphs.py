"""The parts of models and detectors as modules that `torch.onnx` exports, and their export."""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim
from torchvision.ops import roi_align, roi_pool  # type: ignore[import-untyped]

from lxmert.exported import (
    CELLS_GRAPH,
    EXTRACTOR,
    HEADS_GRAPH,
    IMAGE_GRAPH,
    IMAGE_INPUTS,
    STATE,
    TEXT_GRAPH,
    TEXT_INPUTS,
    TRUNK_GRAPH,
)
from lxmert.files import write_json
from lxmert.model.heads import LxmertForImageAndTextRetrieval, LxmertForQuestionAnswering
from lxmert.model.modeling import LxmertModel
from lxmert.model.outputs import LxmertEncodedStream
from lxmert.regions.detector import Detector
from lxmert.regions.exported import SMALLEST_INPUT, ExportedDetectorConfig
from lxmert.regions.single_image import CellExtractor

_LONGEST_SIDE = 10_000
"""Pixels; the largest side that a configuration of a detector allows."""

SCOPES = "pkg.torch.onnx.name_scopes"
"""Key of a node's metadata: the modules that contain it, from the outermost to the innermost."""


class ImageGraph(nn.Module):
    """Encodes the regions of images once for several texts."""

    def __init__(self, encoder: LxmertModel) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, visual_feats: Tensor, visual_pos: Tensor, mask: Tensor) -> Tensor:
        """Return the encoded regions `[images, regions, hidden]`."""
        state: Tensor = self.encoder.encode_image(visual_feats, visual_pos, mask).last_hidden_state
        return state


class TextGraph(nn.Module):
    """Scores answers, or matches, or both, of texts with encoded images."""

    def __init__(
        self,
        answering: LxmertForQuestionAnswering | None,
        matching: LxmertForImageAndTextRetrieval | None,
    ) -> None:
        super().__init__()
        encoder = answering or matching
        assert encoder is not None
        self.encoder = encoder.lxmert
        self.heads = nn.ModuleList()
        if answering is not None:
            self.heads.append(answering.answer_head)
        if matching is not None:
            self.heads.append(matching.cls)

    def forward(
        self, input_ids: Tensor, words: Tensor, types: Tensor, state: Tensor, mask: Tensor
    ) -> tuple[Tensor, ...]:
        """Return logits `[texts, classes]` of each head."""
        pooled = self.encoder(
            input_ids=input_ids,
            attention_mask=words,
            token_type_ids=types,
            encoded_image=LxmertEncodedStream(state, mask),
            only_pooled=True,
            return_dict=True,
        ).pooled_output
        return tuple(head(pooled) for head in self.heads)


class TrunkGraph(nn.Module):
    """The feature map of one image, and objectness and deltas of all anchors."""

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.backbone = detector.backbone
        self.rpn_head = detector.proposal_generator.rpn_head

    def forward(self, pixel_values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Map `[1, 3, height, width]` to the map, `[1, anchors]` and `[1, anchors, 4]`."""
        hidden = self.backbone.stem(pixel_values, None)
        for stage in (self.backbone.res2, self.backbone.res3, self.backbone.res4):
            hidden = stage(hidden)
        return hidden, *self.rpn_head(hidden)


class HeadsGraph(nn.Module):
    """Features, classes, deltas and attributes of boxes of one image."""

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.heads = detector.roi_heads
        self.config = detector.config

    def forward(self, feature_map: Tensor, boxes: Tensor) -> tuple[Tensor, ...]:
        """Describe boxes `[regions, 4]`, in cells of the map; whole numbers for RoIPool."""
        config = self.config
        rois = torch.cat([torch.zeros_like(boxes[:, :1]), boxes], dim=1)
        if config.pooling == "pool":
            pooled = roi_pool(feature_map, rois, config.pooled_size, 1.0)
        else:
            pooled = roi_align(feature_map, rois, config.pooled_size, 1.0, 1, aligned=True)
        features = self.heads.res5(pooled).mean(dim=(2, 3))
        probabilities = self.heads.classify(features)
        described = self.heads.describe(features, probabilities)
        return (
            features,
            probabilities,
            self.heads.box_predictor.deltas(features),
            described.attribute_ids,
            described.attribute_scores,
        )


class CellsGraph(nn.Module):
    """The features of the cells of one image."""

    def __init__(self, extractor: CellExtractor) -> None:
        super().__init__()
        self.network = extractor.network
        self.extractor = extractor

    def forward(self, pixels: Tensor) -> Tensor:
        """Map uint8 `[1, height, width, 3]` to `[1, cells, feature_dim]`."""
        return self.extractor.describe(pixels)


def export_model(
    answering: LxmertForQuestionAnswering | None,
    matching: LxmertForImageAndTextRetrieval | None,
    folder: Path,
) -> None:
    """Write the two graphs of a model; batch, words and regions are free.

    Raises:
        ValueError: naming the operation that cannot be exported.
    """
    model = answering or matching
    assert model is not None
    config = model.config
    # Sizes that no other dimension has, so that none is taken for another.
    images, words, regions = 3, 7, 5
    texts, length, seen = (
        Dim("texts"),
        Dim("words", max=config.max_position_embeddings),
        Dim("seen"),
    )
    features = torch.zeros(images, regions, config.visual_feat_dim)
    places = torch.rand(images, regions, config.visual_pos_dim)
    mask = torch.ones(images, regions, dtype=torch.long)
    ids = torch.ones(images, words, dtype=torch.long)
    state = torch.zeros(images, regions, config.hidden_size)
    wide, long = {0: texts, 1: seen}, {0: texts, 1: length}
    _export(
        ImageGraph(model.lxmert),
        dict(zip(IMAGE_INPUTS, (features, places, mask), strict=True)),
        [STATE],
        [wide, wide, wide],
        folder / IMAGE_GRAPH,
    )
    # Different tensors: the exporter would join inputs that are the same object.
    inputs = dict(zip(TEXT_INPUTS, (ids, ids.clone(), ids * 0), strict=True))
    heads = [name for name, head in (("answers", answering), ("matches", matching)) if head]
    _export(
        TextGraph(answering, matching),
        {**inputs, STATE: state, IMAGE_INPUTS[2]: mask},
        heads,
        [long, long, long, wide, wide],
        folder / TEXT_GRAPH,
    )


def export_detector(detector: Detector, folder: Path) -> None:
    """Write the two graphs of a detector and its configuration.

    The size of the image and the number of boxes are free.

    Args:
        detector: in evaluation mode, with or without folded norms.
        folder: where to write.

    Raises:
        ValueError: naming the operation that cannot be exported.
    """
    config = detector.config
    side = {
        axis: Dim(name, min=SMALLEST_INPUT, max=_LONGEST_SIDE)
        for axis, name in ((2, "height"), (3, "width"))
    }
    pixels = torch.zeros(1, 3, 9 * config.stride, 11 * config.stride)
    trunk = TrunkGraph(detector)
    outputs = ["feature_map", "logits", "deltas"]
    _export(trunk, {"pixel_values": pixels}, outputs, [side], folder / TRUNK_GRAPH)
    with torch.inference_mode():
        feature_map = trunk(pixels)[0]
    boxes = torch.tensor([[1.0, 2, 6, 7], [3, 5, 4, 6], [0, 0, 2, 2]])
    described = ["features", "probabilities", "deltas", "attribute_ids", "attribute_scores"]
    cells = {2: Dim("rows"), 3: Dim("columns")}
    _export(
        HeadsGraph(detector),
        {"feature_map": feature_map.clone(), "boxes": boxes},
        described,
        [cells, {0: Dim("regions")}],
        folder / HEADS_GRAPH,
    )
    generator = detector.proposal_generator.anchor_generator
    anchors = generator.cell_anchors.get_buffer("0").cpu().tolist()
    exported = ExportedDetectorConfig(
        detector=config,
        cell_anchors=tuple(map(tuple, anchors)),
        anchor_offset=generator.offset,
    )
    write_json(folder / EXTRACTOR, exported.to_dict())


def export_grid(extractor: CellExtractor, folder: Path) -> None:
    """Write the graph of a grid extractor and its configuration.

    Raises:
        ValueError: naming the operation that cannot be exported.
    """
    layout = extractor.layout
    pixels = torch.zeros(1, layout.height, layout.width, 3, dtype=torch.uint8)
    _export(CellsGraph(extractor), {"pixels": pixels}, ["features"], [{}], folder / CELLS_GRAPH)
    write_json(folder / EXTRACTOR, layout.to_dict())


def _max_roi_pool(
    feature_map: Any, boxes: Any, spatial_scale: float, height: int, width: int
) -> tuple[Any, Any]:
    """Translate torchvision's RoIPool; its second output, the places of the maxima, is unused."""
    from onnxscript import opset18

    pooled = opset18.MaxRoiPool(
        feature_map, boxes, pooled_shape=(height, width), spatial_scale=spatial_scale
    )
    return pooled, pooled


def _roi_align(
    feature_map: Any,
    rois: Any,
    spatial_scale: float,
    height: int,
    width: int,
    sampling_ratio: int,
    aligned: bool,
) -> Any:
    """Translate torchvision's RoIAlign.

    The boxes are taken as they were before they were joined with the numbers of their images: with
    bf16, OpenVINO rounds what it joins to 8 bits, but not what RoIAlign gets directly.
    """
    from onnxscript import opset18

    ops: Any = opset18
    numbers, boxes = rois.producer().inputs
    return ops.RoiAlign(
        feature_map,
        boxes,
        ops.Cast(ops.Squeeze(numbers, axes=[1]), to=7),  # int64
        coordinate_transformation_mode="half_pixel" if aligned else "output_half_pixel",
        output_height=height,
        output_width=width,
        sampling_ratio=sampling_ratio,
        spatial_scale=spatial_scale,
    )


def _export(
    module: nn.Module,
    inputs: Mapping[str, Tensor],
    outputs: Sequence[str],
    sizes: Sequence[Mapping[int, Any]],
    path: Path,
) -> None:
    """Write one graph as an ONNX file."""
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            program = torch.onnx.export(
                module.eval(),
                tuple(inputs.values()),
                dynamo=True,
                verbose=False,
                input_names=list(inputs),
                output_names=list(outputs),
                dynamic_shapes=tuple(dict(size) for size in sizes),
                custom_translation_table={
                    torch.ops.torchvision.roi_pool.default: _max_roi_pool,
                    torch.ops.torchvision.roi_align.default: _roi_align,
                },
            )
        except torch.onnx.errors.OnnxExporterError as error:
            reason = " ".join(str(error.__cause__ or error).split())[:300]
            raise ValueError(
                f"{path.stem} cannot be exported to ONNX: {reason}; use the PyTorch model, or "
                "report the operation"
            ) from error
    assert program is not None
    # Most of what torch notes about nodes are lines of code with the paths of this machine's files.
    for node in program.model.graph.all_nodes():
        scopes = node.metadata_props.get(SCOPES)
        node.metadata_props.clear()
        if scopes is not None:
            node.metadata_props[SCOPES] = scopes
    program.save(path)
