"""Graphs quantized by onnxruntime, compared with the same graphs in fp32."""

import numpy as np
import pytest
import torch
from torch import nn

from lxmert.runtimes import open_graph
from lxmert.workflows.quantizing import QuantizableGraph, quantize_folder

pytest.importorskip("onnxscript", reason="onnxscript is not installed")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")


class Network(nn.Module):
    """Two layers, of which the last has weights that 8 bits do not resolve."""

    def __init__(self):
        super().__init__()
        self.layer = nn.ModuleList([nn.Linear(12, 8), nn.Linear(8, 8), nn.Linear(8, 5)])

    def forward(self, values):
        for layer in self.layer[:-1]:
            values = layer(values).relu()
        return self.layer[-1](values)


@pytest.fixture(scope="module")
def graph(tmp_path_factory):
    """A graph and its calibration data."""
    torch.manual_seed(7)
    network = Network().eval()
    with torch.no_grad():
        network.layer[1].weight[:, 0] *= 300
    path = tmp_path_factory.mktemp("graph") / "network.onnx"
    program = torch.onnx.export(
        network, (torch.zeros(3, 12),), dynamo=True, verbose=False, input_names=["values"]
    )
    program.save(path)
    generator = np.random.default_rng(5)
    return path, [{"values": generator.normal(size=(3, 12)).astype(np.float32)} for _ in range(20)]


def relative_error(path, other, calls):
    one, two = (
        np.concatenate([open_graph(each, "onnxruntime")(call)[0] for call in calls])
        for each in (path, other)
    )
    return np.sqrt(np.square(one - two).mean() / np.square(one).mean())


def test_the_loss_of_a_layer_is_that_of_quantizing_it_alone(graph, tmp_path):
    path, calls = graph
    quantizable = QuantizableGraph(path, calls, tmp_path)
    assert list(quantizable.layers) == ["layer.0", "layer.1", "layer.2"]
    losses = quantizable.losses(print)
    for layer, loss in losses.items():
        quantizable.write(tmp_path / "one.onnx", [layer])
        change = relative_error(path, tmp_path / "one.onnx", calls[::5])  # four calls
        assert loss == pytest.approx(change, rel=1e-4)
        assert 0 < loss < 0.1
    quantizable.write(tmp_path / "none.onnx", [])
    assert relative_error(path, tmp_path / "none.onnx", calls) == 0


def test_weights_are_integers_with_a_scale_for_each_output(graph, tmp_path):
    onnx = pytest.importorskip("onnx")
    path, calls = graph
    quantizable = QuantizableGraph(path, calls, tmp_path)
    quantizable.write(tmp_path / "all.onnx", list(quantizable.layers))
    values = {
        tensor.name: onnx.numpy_helper.to_array(tensor)
        for tensor in onnx.load(tmp_path / "all.onnx").graph.initializer
    }
    integers = [value for value in values.values() if value.dtype == np.int8 and value.ndim == 2]
    assert len(integers) == 3
    assert max(np.abs(each.astype(int)).max() for each in integers) == 64
    assert {8, 5} <= {
        len(value) for name, value in values.items() if name.endswith("_scale") and value.ndim
    }
    for tensor in onnx.load(path).graph.initializer:
        exact = onnx.numpy_helper.to_array(tensor)
        if exact.ndim == 2:
            name = f"{tensor.name}_quantized"
            scale = values[f"{tensor.name}_scale"]
            rows = exact if len(scale) == len(exact) else exact.T
            found = values[name] if len(scale) == len(exact) else values[name].T
            np.testing.assert_allclose(found * scale[:, None], rows, atol=scale.max() / 2 * 1.001)


@pytest.mark.long
@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_sums_of_large_products_are_not_cut_off(tmp_path, runtime):
    """Bug: processors without VNNI cut off weights of 8 bits: half of this sum was lost."""
    pytest.importorskip(runtime, reason=f"{runtime} is not installed")
    layer = nn.Linear(64, 16)
    nn.init.constant_(layer.weight, 3.25)
    work = tmp_path / "work"
    work.mkdir()
    path, calls = tmp_path / "sum.onnx", [{"values": np.ones((4, 64), np.float32)}]
    program = torch.onnx.export(
        nn.Sequential(layer).eval(), (torch.ones(4, 64),), dynamo=True, verbose=False,
        input_names=["values"],
    )  # fmt: skip
    program.save(path)
    quantizable = QuantizableGraph(path, calls, work)
    quantizable.write(tmp_path / "int8.onnx", list(quantizable.layers))
    expected, found = (
        open_graph(each, runtime)(calls[0])[0] for each in (path, tmp_path / "int8.onnx")
    )
    np.testing.assert_allclose(found, expected, rtol=0.02)


@pytest.mark.parametrize(("allowed", "kept"), [(3, 0), (2, 1)])
def test_layers_that_lose_most_stay_in_fp32(graph, tmp_path, allowed, kept):
    path, calls = graph
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "network.onnx").write_bytes(path.read_bytes())
    tried = []

    def find_wrong(layers):
        tried.append(layers["network.onnx"])
        return [("network.onnx",)] if 3 - len(tried[-1]) > allowed else []

    quantize_folder(folder, {"network.onnx": calls}, find_wrong, report=print)
    assert [each.name for each in tmp_path.iterdir()] == ["folder"]
    assert [each.name for each in folder.iterdir()] == ["network.onnx"]
    losses = QuantizableGraph(path, calls, tmp_path).losses(print)
    assert len(tried[-1]) == kept
    assert list(tried[-1]) == sorted(losses, key=losses.get, reverse=True)[:kept]


def test_at_most_half_of_the_layers_stay_in_fp32(graph, tmp_path):
    path, calls = graph
    (tmp_path / "network.onnx").write_bytes(path.read_bytes())
    tried = []

    def find_wrong(layers):
        tried.append(len(layers["network.onnx"]))
        return [("network.onnx",)]

    quantize_folder(tmp_path, {"network.onnx": calls}, find_wrong, report=print)
    assert tried == [0, 1]
