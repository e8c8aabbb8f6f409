"""`lxmert states`: the states of a data set equal those of single forward passes."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT, Command
from safetensors.numpy import save_file

from lxmert import LxmertModel, LxmertProcessor
from lxmert.study.states import layer_names, read_states, write_states

MODEL, IMAGES = ROOT / "src/lxmert/default", ROOT / "src/lxmert/examples"
QUESTIONS = IMAGES / "questions.jsonl"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("states") / "some.jsonl"
    path.write_text("".join(QUESTIONS.read_text().splitlines(keepends=True)[::5]))
    return path


@pytest.fixture(scope="module")
def expected(data: Path):  # type: ignore[no-untyped-def]
    """Inputs and output of single forward passes by question id."""
    processor = LxmertProcessor.from_pretrained(MODEL)
    model = LxmertModel.from_pretrained(MODEL).eval()
    found = {}
    for number, line in enumerate(map(json.loads, data.read_text().splitlines()), 1):
        inputs = processor([IMAGES / line["image"]], [line["question"]])
        with torch.no_grad():
            found[str(number)] = inputs, model(**inputs, output_hidden_states=True)
    return found


def close(found: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-4)


def test_pooled_states_are_means(data: Path, expected, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    write_states(MODEL, data, tmp_path / "s.safetensors", images=IMAGES)
    file = read_states(tmp_path / "s.safetensors")
    config = LxmertModel.from_pretrained(MODEL).config
    assert list(file.states) == layer_names(config)
    assert len(file.ids) == len(expected) == 5
    for row, example_id in enumerate(file.ids):
        _, output = expected[example_id]
        close(file.states["pooler"][row], output.pooled_output[0])
        first = output.language_hidden_states[0][0].mean(dim=0)
        close(file.states["language.1"][row], first)
        last = output.vision_hidden_states[-1][0].mean(dim=0)
        close(file.states[f"cross.{config.x_layers}.vision"][row], last)
        close(last, output.vision_output[0].mean(dim=0))


@pytest.mark.parametrize("of", ["words", "regions"])
def test_rows_of_words_and_regions(data: Path, expected, tmp_path: Path, of: str) -> None:  # type: ignore[no-untyped-def]
    layer, states = {
        "words": ("cross.2.language", "language_output"),
        "regions": ("cross.2.vision", "vision_output"),
    }[of]
    path = tmp_path / "s.safetensors"
    write_states(MODEL, data, path, of=of, layers=[layer], images=IMAGES)  # type: ignore[arg-type]
    file = read_states(path)
    assert list(file.states) == [layer]
    bounds = file.extra["bounds"].tolist()
    for row, example_id in enumerate(file.ids):
        inputs, output = expected[example_id]
        part = slice(bounds[row], bounds[row + 1])
        close(file.states[layer][part], getattr(output, states)[0])
        if of == "words":
            assert file.extra["input_ids"][part].tolist() == inputs["input_ids"][0].tolist()
        else:
            close(file.extra["boxes"][part], inputs["visual_pos"][0])
            assert len(file.extra["object_ids"][part]) == bounds[row + 1] - bounds[row]
    assert bounds[-1] == len(file.states[layer])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--of", "all"), "--of is 'all'"),
        (("--limit", 0), "--limit is 0"),
        (("--layers", "cross.9.vision"), "cross.9.vision is unknown"),
        (("--of", "words", "--layers", "pooler"), "pooler has no states of words"),
    ],
)
def test_impossible_options_are_one_sentence(
    lxmert: Command, tmp_path: Path, options: tuple[object, ...], message: str
) -> None:
    done = lxmert(
        "states", MODEL, "--data", QUESTIONS, "--images", IMAGES, "-o", tmp_path / "out", *options
    )
    assert (done.code, done.out) == (2, "")
    assert message in done.err
    assert not (tmp_path / "out").exists()


def test_other_files_are_no_states(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="write it with `lxmert states`"):
        read_states(tmp_path / "none")
    save_file({"a": np.zeros(2)}, tmp_path / "other")
    with pytest.raises(ValueError, match="holds no states"):
        read_states(tmp_path / "other")
