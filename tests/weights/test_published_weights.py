"""The real weights, fetched from the web: `make weights-test` runs these and prints a table.

The photos and rows of the published features are third-party images and not part of the repository:
`LXMERT_PHOTOS` names a folder with them and `train2014_obj36.tsv`.
"""

import os
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch

from lxmert import LxmertModel, LxmertPipeline
from lxmert.hub import find_extractor, find_model
from lxmert.weights.table import PUBLISHED
from lxmert.workflows.verification import EXPECTED, verify, verify_rows

pytestmark = pytest.mark.weights

MODELS = [name for name, entry in PUBLISHED.items() if entry.kind == "model"]
DETECTORS = [name for name, entry in PUBLISHED.items() if entry.kind == "detector"]
QUESTIONS = {
    "giraffe": ("is the animal eating?", "no"),
    "baseball": ("did he catch the ball?", "yes"),
    "bath": ("is the tub white ?", "yes"),
    "frisbee": ("did the man just catch the frisbee?", "no"),
}
"""Questions and answers of the paper on transformer explainability, by the name of the photo."""


@pytest.fixture(scope="module", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Use the user's cache of weights, so that a second run downloads nothing."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("XDG_CACHE_HOME", raising=False)
        yield


@pytest.fixture
def photos() -> Path:
    folder = os.environ.get("LXMERT_PHOTOS")
    if folder is None:
        pytest.skip("LXMERT_PHOTOS does not name a folder of photos")
    return Path(folder)


def report(*cells: object) -> None:
    print("| " + " | ".join(map(str, cells)) + " |")


@pytest.mark.parametrize("name", MODELS)
def test_a_model_is_fetched_and_whole(name: str) -> None:
    verdict = verify(find_model(name))
    report(name, "structure", verdict.facts["parameters"], verdict.problems or "whole")
    assert not verdict.problems


@pytest.mark.parametrize("name", DETECTORS)
def test_a_detector_reproduces_the_published_rows(name: str, photos: Path) -> None:
    folder = find_extractor(name)
    rows = photos / "train2014_obj36.tsv"
    found = verify_rows(folder, photos, rows, progress=lambda done, total: None)
    report(name, "published rows", found["mean"], f"expected {asdict(EXPECTED)}")
    if "10-100" not in name and name != "detector-huggingface":
        assert found["problems"] == []


def test_the_pretrained_model_returns_the_slice_that_hugging_face_expects() -> None:
    """Source: LxmertModelIntegrationTest of huggingface/transformers."""
    model = LxmertModel.from_pretrained(find_model("lxmert-base")).eval()
    token_ids = torch.tensor([[101, 345, 232, 328, 740, 140, 1695, 69, 6078, 1588, 102]])
    values = []
    for width in (2048, 4):
        np.random.seed(0)  # noqa: NPY002 - as in the published test
        values.append(torch.tensor(np.random.rand(1, 10, width), dtype=torch.float32))  # noqa: NPY002
    with torch.no_grad():
        states = model(token_ids, visual_feats=values[0], visual_pos=values[1]).language_output
    expected = torch.tensor(
        [[0.2417, -0.9807, 0.1480], [1.2541, -0.8320, 0.5112], [1.4070, -1.1052, 0.6990]]
    )
    report(
        "lxmert-base", "slice of Hugging Face", float((states[0, :3, :3] - expected).abs().max())
    )
    torch.testing.assert_close(states[0, :3, :3], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", QUESTIONS)
def test_the_photos_of_the_explainability_paper_are_answered_as_there(
    name: str, photos: Path
) -> None:
    path = photos / f"{name}.jpg"
    if not path.is_file():
        pytest.skip(f"no {path}")
    question, expected = QUESTIONS[name]
    answer = LxmertPipeline.from_pretrained("vqa").ask(path, question)[0]
    report("vqa", name, question, f"{answer.answer} {answer.score:.3f}", f"expected {expected}")
    assert answer.answer == expected
