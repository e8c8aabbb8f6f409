"""The loop on a CUDA device, in every precision."""

import pytest
from toy import toy_recipe, toy_task

from lxmert.train.loop import train

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_gpu_learns_what_a_cpu_learns(tmp_path, precision):
    recipe = toy_recipe(tmp_path, f"loop.precision={precision}", "loop.workers=2")
    task = toy_task(recipe)
    metrics = train(recipe, task, tmp_path / "run")
    assert next(task.model.parameters()).device.type == "cuda"
    reference = train(toy_recipe(tmp_path), toy_task(recipe), tmp_path / "cpu", cpu=True)
    assert metrics["score"] == pytest.approx(reference["score"], rel=0.05)


def test_an_interrupted_run_resumes(tmp_path):
    recipe = toy_recipe(tmp_path, "model.dropout=0.25", "loop.precision=fp16")
    whole = train(recipe, toy_task(recipe), tmp_path / "run")
    (tmp_path / "run" / "finished.json").unlink()
    again = train(recipe, toy_task(recipe), tmp_path / "run")
    assert again["score"] == whole["score"]
