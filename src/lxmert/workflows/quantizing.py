"""Quantizes exported graphs to int8, except the layers in which that loses most.

Both runtimes read the result: ONNX graphs in which the inputs of matrix products and convolutions
are quantized to unsigned 8-bit integers, with ranges measured on calibration data, and their
weights to signed ones of 7 bits, with a scale for each output channel.
"""

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from lxmert.runtimes import Array, open_graph
from lxmert.workflows.graphs import SCOPES

Calls = Sequence[Mapping[str, Array]]
"""Inputs of a graph, one mapping for each call."""

_RANKING_CALLS = 4
"""Calls that the loss of a layer is measured with: enough to rank layers."""

_PRODUCTS = ("MatMul", "Gemm", "Conv")


Kept = Mapping[str, tuple[str, ...]]
"""Names of the layers that stay in fp32, by the file name of their graph."""


def quantize_folder(
    folder: Path,
    calls: Mapping[str, Calls],
    find_wrong: Callable[[Kept], Sequence[Sequence[str]]],
    *,
    report: Callable[[str], None],
) -> None:
    """Quantize graphs of a folder; as few layers as possible stay in fp32.

    First, all layers are quantized. While a part of the model then differs too much, the layers of
    its graphs that lose most are left in fp32: 1, 2, 4, ..., at most half of them.

    Args:
        folder: the graphs are replaced there.
        calls: calibration data of each graph, by its file name.
        find_wrong: returns the parts of the model that differ too much, each as the file names of
            its graphs; called with the layers left in fp32.
        report: called before each step.
    """
    with TemporaryDirectory(dir=folder.parent) as work:
        graphs = {}
        for name, made in calls.items():
            report(f"ranges of {name}")
            graphs[name] = QuantizableGraph(folder / name, made, Path(work))
        kept: dict[str, tuple[str, ...]] = dict.fromkeys(graphs, ())
        losses: dict[str, dict[str, float]] = {}
        changed = list(graphs)
        while changed:
            for name in changed:
                report(f"quantization of {name}")
                graph = graphs[name]
                graph.write(
                    folder / name, [each for each in graph.layers if each not in kept[name]]
                )
            wrong = find_wrong(kept)
            changed = [name for part in wrong for name in part]
            for name in changed:
                if name not in losses:
                    losses[name] = graphs[name].losses(report)
            for part in wrong:
                if not _keep_more(part, losses, kept):
                    return


def _keep_more(
    part: Sequence[str], losses: Mapping[str, Mapping[str, float]], kept: dict[str, tuple[str, ...]]
) -> bool:
    """Leave twice as many layers of a part in fp32; return False if these are too many."""
    ranked = sorted(
        ((loss, name, layer) for name in part for layer, loss in losses[name].items()), reverse=True
    )
    number = max(1, 2 * sum(len(kept[name]) for name in part))
    if number > len(ranked) / 2:
        return False
    for name in part:
        kept[name] = tuple(layer for _, graph, layer in ranked[:number] if graph == name)
    return True


def layer_names(path: Path) -> list[str]:
    """Return the names of the layers of a graph that have weights."""
    import onnx

    return list(_layers(onnx.load(path)))


class QuantizableGraph:
    """An fp32 graph with the ranges of its values in calibration data.

    Attributes:
        layers: name of each layer with weights, such as `encoder.layer.3`, and its nodes.
    """

    def __init__(self, path: Path, calls: Calls, work: Path) -> None:
        """Run the graph on calibration data.

        Args:
            path: the ONNX file.
            calls: inputs to measure the ranges with, at least one.
            work: folder for a copy of the graph and for graphs that are tried. There, the weights
                are in files of their own, so that quantizing a layer reads and writes no others.
        """
        import onnx
        from onnxruntime.quantization.quant_utils import (  # type: ignore[import-untyped]
            load_model_with_shape_infer,
        )

        self._path = work / path.name
        self._calls = calls
        model = load_model_with_shape_infer(path)
        self.layers = _layers(model)
        weights = f"{path.name}.weights"
        onnx.save(model, self._path, save_as_external_data=True, location=weights)
        self._ranges = self._measure_ranges()

    def write(self, output: Path, layers: Collection[str]) -> None:
        """Write the graph, in one file, with some of its layers quantized."""
        import onnx

        model = self._quantize(layers)
        onnx.load_external_data_for_model(model, str(self._path.parent))
        onnx.save(model, output)

    def losses(self, report: Callable[[str], None]) -> dict[str, float]:
        """Return how much the outputs change if only one layer is quantized, for each layer.

        The loss is the root mean square of the change of an output, divided by that of the output;
        that of the output that changes most. It is measured with at most `_RANKING_CALLS` of the
        calls, evenly spaced.

        Args:
            report: called before each layer.
        """
        import onnx

        calls = self._calls[:: -(-len(self._calls) // _RANKING_CALLS)]
        expected = _run(self._path, calls)
        found = {}
        tried = self._path.with_suffix(".tried.onnx")
        for number, layer in enumerate(self.layers, start=1):
            report(f"loss of layer {number} of {len(self.layers)} of {self._path.name}")
            onnx.save(self._quantize([layer]), tried)
            found[layer] = _loss(expected, _run(tried, calls))
        return found

    def _quantize(self, layers: Collection[str]) -> Any:
        """Return the graph with some layers quantized; the weights of others are in their file."""
        import onnx
        from onnxruntime.quantization import (  # type: ignore[import-untyped]
            QDQQuantizer,
            QuantType,
        )

        chosen = {node for layer in layers for node in self.layers[layer]}
        model = onnx.load(self._path, load_external_data=False)
        _read_weights(model, chosen, self._path.parent)
        quantizer = QDQQuantizer(
            model,
            per_channel=True,
            # Weights of 7 bits: processors without VNNI add two products of 8 bits in 16 bits, and
            # cut off what is larger.
            reduce_range=True,
            weight_qType=QuantType.QInt8,
            activation_qType=QuantType.QUInt8,
            tensors_range=self._ranges,
            # An empty list of the nodes to quantize would mean all.
            nodes_to_quantize=[],
            nodes_to_exclude=[node.name for node in model.graph.node if node.name not in chosen],
            op_types_to_quantize=_PRODUCTS,
            # Products of matrices return float32; only convolutions need quantized outputs.
            extra_options={"OpTypesToExcludeOutputQuantization": ["MatMul", "Gemm"]},
        )
        quantizer.quantize_model()
        quantizer.model.topological_sort()
        return quantizer.model.model

    def _measure_ranges(self) -> Any:
        from onnxruntime.quantization import CalibrationMethod, create_calibrator

        calibrator = create_calibrator(
            self._path,
            _PRODUCTS,
            augmented_model_path=str(self._path.with_suffix(".ranges.onnx")),
            calibrate_method=CalibrationMethod.MinMax,
        )
        calibrator.collect_data(_CallReader(self._calls))
        return calibrator.compute_data()


class _CallReader:
    """Calls in the form in which the calibrator reads them."""

    def __init__(self, calls: Calls) -> None:
        self._rest = iter(calls)

    def get_next(self) -> Mapping[str, Array] | None:
        return next(self._rest, None)


def _read_weights(model: Any, nodes: Collection[str], folder: Path) -> None:
    """Read the weights of some nodes of a graph whose weights are in a file of a folder."""
    from onnx import TensorProto, external_data_helper

    names = {name for node in model.graph.node if node.name in nodes for name in node.input}
    for tensor in model.graph.initializer:
        if tensor.name in names and external_data_helper.uses_external_data(tensor):
            external_data_helper.load_external_data_for_tensor(tensor, str(folder))
            tensor.data_location = TensorProto.DEFAULT
            del tensor.external_data[:]


def _layers(model: Any) -> dict[str, list[str]]:
    """Return the nodes of each layer; see `QuantizableGraph`."""
    layers: dict[str, list[str]] = {}
    for node in _products(model):
        layers.setdefault(_layer(node), []).append(node.name)
    return layers


def _products(model: Any) -> Iterator[Any]:
    """Yield the nodes that multiply by weights."""
    weights = {tensor.name for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type in _PRODUCTS and node.input[1] in weights:
            yield node


def _layer(node: Any) -> str:
    """Return the layer of a node: its innermost module, up to the first number in its name."""
    scopes = next(entry.value for entry in node.metadata_props if entry.key == SCOPES)
    module = re.findall(r"'([^']*)'", scopes)[-2]
    numbered = re.match(r".*?\.\d+(?=\.|$)", module)
    return numbered[0] if numbered else module


def _run(path: Path, calls: Calls) -> list[list[Array]]:
    graph = open_graph(path, "onnxruntime")
    return [graph(call) for call in calls]


def _loss(expected: list[list[Array]], found: list[list[Array]]) -> float:
    """Compare the outputs of all calls; see `QuantizableGraph.losses`."""
    largest = 0.0
    for one, other in zip(zip(*expected, strict=True), zip(*found, strict=True), strict=True):
        if np.issubdtype(one[0].dtype, np.floating):
            change = sum(float(np.square(a - b).sum()) for a, b in zip(one, other, strict=True))
            scale = sum(float(np.square(a).sum()) for a in one)
            largest = max(largest, (change / max(scale, 1e-30)) ** 0.5)
    return largest
