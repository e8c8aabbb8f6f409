"""Our models outside of eager PyTorch: captured graphs, ONNX files, other runtimes."""

import warnings
from functools import cache

import numpy as np
import pytest
import torch
from torch.export import Dim
from torch.testing import assert_close

from . import tiny

CLOSE = {"rtol": 1e-5, "atol": 1e-5}
NAMES = list(tiny.OURS)
QA, PRETRAINING = "LxmertForQuestionAnswering", "LxmertForPreTraining"
# Both kinds of cross layers, the last one and others, at the least cost.
SHALLOW = {"l_layers": 1, "x_layers": 2, "r_layers": 1}
BATCHES = [(1, 1, 1), (5, 11, 8), (2, 19, 3)]
"""Sizes of batch, text and regions, none of them those of the example that is exported."""


def inputs(name, batch, text, regions, *, mask_type=torch.long):
    """Return inputs of any size, in which the second image and one word piece stand alone."""
    generator = torch.Generator().manual_seed(batch + text)
    given = {
        "input_ids": torch.randint(3, 51, (batch, text), generator=generator),
        "attention_mask": tiny.mask(text, [text, 1, 6, 5, 2][:batch]).to(mask_type),
        "token_type_ids": torch.randint(0, 3, (batch, text), generator=generator),
    }
    # The second image has no valid region.
    visual_mask = tiny.mask(regions, [regions, 0, 3, 1, 5][:batch]).to(mask_type)
    images = {
        "visual_feats": torch.randn(2, batch, regions, 9, generator=generator),
        "visual_pos": torch.rand(2, batch, regions, 5, generator=generator),
        "visual_attention_mask": torch.stack([visual_mask, visual_mask.roll(1, 0)]),
    }
    for key, value in images.items():
        given[key] = value.transpose(0, 1).contiguous() if name == tiny.PAIRS else value[0]
    return given


def sizes(given):
    """Name the dimensions that may change: batch, text length, regions."""
    batch, text, regions = Dim("batch"), Dim("text", max=19), Dim("regions")
    return {
        key: {0: batch, value.dim() - 1: text}
        if not key.startswith("visual")
        # Images of pairs have one more dimension in front of their regions.
        else {0: batch, value.dim() - (1 if key.endswith("mask") else 2): regions}
        for key, value in given.items()
    }


@cache
def exported(name, *, strict=False):
    """Return a model and its exported program; slow, so shared by the tests."""
    model = tiny.build(name, attention="sdpa", **SHALLOW)
    given = inputs(name, 3, 7, 5)
    with torch.no_grad():
        program = torch.export.export(model, (), given, dynamic_shapes=sizes(given), strict=strict)
    return model, program


def check_exported(name, *, strict):
    model, program = exported(name, strict=strict)
    run = program.module()
    for batch in BATCHES:
        given = inputs(name, *batch)
        expected, output = model(**given), run(**given)
        assert type(output) is type(expected)
        assert list(output) == list(expected)
        assert_close(dict(output), dict(expected), **CLOSE)


@pytest.mark.long
@pytest.mark.parametrize(
    "name",
    [
        name if name in (PRETRAINING, tiny.PAIRS) else pytest.param(name, marks=pytest.mark.slow)
        for name in NAMES
    ],
)
def test_exported_model_takes_any_size(name):
    check_exported(name, strict=False)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_strictly_exported_model_takes_any_size(name):
    check_exported(name, strict=True)


@pytest.mark.slow
@pytest.mark.parametrize("mask_type", [torch.bool, torch.float32])
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_exported_masks_of_other_types(attention, mask_type):
    model = tiny.build(QA, attention=attention, **SHALLOW)
    given = inputs(QA, 3, 7, 5, mask_type=mask_type)
    program = torch.export.export(model, (), given, dynamic_shapes=sizes(given))
    for batch in BATCHES:
        given = inputs(QA, *batch, mask_type=mask_type)
        assert_close(dict(program.module()(**given)), dict(model(**given)), **CLOSE)


@pytest.mark.long
def test_exported_model_has_no_padding_to_read():
    """The features of regions that are masked change no answer, in an image without any too."""
    _, program = exported(QA)
    given = inputs(QA, 5, 11, 8)
    expected = program.module()(**given).question_answering_score
    hidden = given["visual_attention_mask"] == 0
    given["visual_feats"] = given["visual_feats"].masked_fill(hidden[..., None], -8.0)
    output = program.module()(**given).question_answering_score
    assert_close(output, expected, rtol=0, atol=1e-6)


@cache
def onnx_bytes(name, *, half=False):
    """Return a model and its ONNX file."""
    pytest.importorskip("onnxscript", reason="onnxscript is not installed")
    model, program = exported(name)
    if half:
        model = tiny.build(name, attention="sdpa", **SHALLOW).half()
        given = half_inputs(inputs(name, 3, 7, 5))
        program = torch.export.export(model, (), given, dynamic_shapes=sizes(given))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        written = torch.onnx.export(program, (), dynamo=True, verbose=False)
    return model, written.model_proto.SerializeToString()


def half_inputs(given):
    return {k: v.half() if v.is_floating_point() else v for k, v in given.items()}


def arrays(given):
    return {key: value.numpy() for key, value in given.items()}


def check_outputs(found, expected, *, error=1e-5):
    """Compare a runtime's outputs, which have no names of ours, in their order.

    `error` is relative to the largest number of each output.
    """
    for array, (key, value) in zip(found, expected.items(), strict=True):
        assert np.isfinite(array).all(), key
        scale = value.abs().max().item()
        assert_close(torch.from_numpy(array), value.detach(), rtol=0, atol=error * scale)


def check_in_onnxruntime(name):
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    model, content = onnx_bytes(name)
    session = runtime.InferenceSession(content, providers=["CPUExecutionProvider"])
    for batch in BATCHES:
        given = inputs(name, *batch)
        check_outputs(session.run(None, arrays(given)), model(**given))


def check_in_openvino(name, precision, *, error):
    openvino = pytest.importorskip("openvino", reason="openvino is not installed")
    core = openvino.Core()
    if precision == "bf16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        pytest.skip("this CPU computes no bfloat16")
    model, content = onnx_bytes(name)
    compiled = core.compile_model(
        core.read_model(content), "CPU", {"INFERENCE_PRECISION_HINT": precision}
    )
    assert str(compiled.get_property("INFERENCE_PRECISION_HINT").to_string()) == precision
    for batch in BATCHES:
        given = inputs(name, *batch)
        found = list(compiled(arrays(given)).values())
        check_outputs(found, model(**given), error=error)


@pytest.mark.long
def test_onnx_file_answers_in_onnxruntime():
    check_in_onnxruntime(QA)


@pytest.mark.parametrize(("precision", "error"), [("f32", 1e-5), ("bf16", 0.05)])
def test_onnx_file_answers_in_openvino(precision, error):
    """Half of the smallest float32 is a finite bfloat16 too, so that no mask becomes NaN."""
    check_in_openvino(QA, precision, error=error)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_every_onnx_file_runs(name):
    check_in_onnxruntime(name)
    check_in_openvino(name, "f32", error=1e-5)
    check_in_openvino(name, "bf16", error=0.05)


@pytest.mark.slow
def test_exported_program_runs_in_openvino():
    openvino = pytest.importorskip("openvino", reason="openvino is not installed")
    model, program = exported(QA)
    converted = openvino.convert_model(program)
    compiled = openvino.Core().compile_model(converted, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    for batch in BATCHES:
        given = inputs(QA, *batch)
        found = list(compiled(arrays(given)).values())
        check_outputs(found, model(**given))


@pytest.mark.slow
def test_half_precision_onnx_file_masks_without_nan():
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    model, content = onnx_bytes(QA, half=True)
    session = runtime.InferenceSession(content, providers=["CPUExecutionProvider"])
    for batch in BATCHES:
        given = half_inputs(inputs(QA, *batch))
        found = session.run(None, arrays(given))
        check_outputs(found, model(**given), error=0.02)


@pytest.mark.long
@pytest.mark.parametrize("name", NAMES)
def test_the_older_exporter_to_onnx_takes_positional_arguments(name, tmp_path):
    """Bug: it also passes defaults by position, of which ours took three only by name."""
    model = tiny.build(name, attention="eager", return_dict=False, **SHALLOW)
    given = inputs(name, 2, 7, 5)
    order = ["input_ids", "visual_feats", "visual_pos", "attention_mask", "visual_attention_mask"]
    values = tuple(given[key] for key in (*order, "token_type_ids"))
    with warnings.catch_warnings(action="ignore"):
        torch.onnx.export(model, values, str(tmp_path / "model.onnx"), dynamo=False)
    assert (tmp_path / "model.onnx").stat().st_size > 10_000
