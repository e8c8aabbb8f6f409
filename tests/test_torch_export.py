"""Models are exported for PyTorch with weights in bf16, or in fp32."""

import numpy as np
import pytest
import torch
from exports import SCENE, TEXTS, write_tiny_model
from safetensors.torch import load_file

from lxmert import LxmertPipeline

pytestmark = pytest.mark.filterwarnings("ignore::lxmert.reading.InputWarning")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    torch.manual_seed(5)
    return write_tiny_model(tmp_path_factory.mktemp("torch") / "model")


@pytest.mark.long
@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 0), ("bf16", 0.05)])
def test_the_copy_computes_in_the_precision(lxmert, model, tmp_path, precision, tolerance):
    out = tmp_path / "out"
    done = lxmert("export", model, "-o", out, "--runtime", "torch", "--precision", precision)
    assert done.code == 0, done.err
    assert f"for torch in {precision}" in done.out
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    assert {v.dtype for v in load_file(out / "model.safetensors").values()} == {dtype}
    first, second = (LxmertPipeline.from_pretrained(each, cache=False) for each in (model, out))
    assert second.processor.extractor.precision == precision
    assert second.model.dtype == dtype
    regions = first.regions(SCENE)
    expected, found = (each.ask_regions(regions, TEXTS) for each in (first, second))
    for one, other in zip(expected, found, strict=True):
        scores = [{each.answer: each.score for each in answers} for answers in (one, other)]
        for answer, score in scores[0].items():
            assert scores[1][answer] == pytest.approx(score, abs=tolerance)
    explanation = second.explain(SCENE, TEXTS[0], methods=["attention"])
    assert np.isfinite(explanation.relevance).all()
    assert "has no gradients" not in (out / "README.md").read_text()


def test_what_torch_does_not_compute_is_refused(lxmert, model, tmp_path):
    done = lxmert(
        "export", model, "-o", tmp_path / "out", "--runtime", "torch", "--precision", "int8"
    )
    assert done.code == 2
    assert "torch does not compute int8: use --runtime onnxruntime or openvino" in done.err
    done = lxmert("export", model, "-o", model, "--runtime", "torch")
    assert done.code == 2
    assert list(tmp_path.iterdir()) == []
