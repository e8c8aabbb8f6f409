"""Linear probes: the fit equals scipy's, and known states give known rows."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Command
from safetensors.numpy import save_file
from scipy.optimize import minimize

from lxmert.study.probe import PREFIX, _labels, fit_probe, probe_states
from lxmert.study.states import read_states

COLORS = ("red", "green", "blue")
WORDS = ("what", "which", "who", "how", "where", "why")


def test_the_fit_minimizes_the_stated_objective() -> None:
    generator = np.random.default_rng(4)
    features, labels = generator.normal(size=(40, 5)), generator.integers(3, size=40)

    def objective(flat: np.ndarray) -> float:  # type: ignore[type-arg]
        weights = flat.reshape(3, 6)
        logits = features @ weights[:, :5].T + weights[:, 5]
        logits -= logits.max(axis=1, keepdims=True)
        losses = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(40), labels]
        return float(losses.mean() + 0.03 / 2 * (weights[:, :5] ** 2).sum())

    best = minimize(objective, np.zeros(18), tol=1e-10)
    found = fit_probe(torch.from_numpy(features), torch.from_numpy(labels), 3, penalty=0.03)
    assert objective(found.numpy().ravel()) == pytest.approx(best.fun, abs=1e-6)
    np.testing.assert_allclose(
        found.numpy()[:, :5], best.x.reshape(3, 6)[:, :5], atol=2e-3
    )  # the biases have a free common term


def write(folder: Path, *, num_texts: int = 6) -> tuple[Path, Path]:
    """Write states and questions; one layer shows the label, one the text, one neither."""
    generator = np.random.default_rng(8)
    number = 240
    labels = generator.integers(3, size=number)
    texts = generator.integers(num_texts, size=number)
    noise = generator.normal(size=(number, 3)).astype(np.float32)
    layers = {
        "language.1": np.eye(num_texts, dtype=np.float32)[texts],
        "cross.1.vision": np.eye(3, dtype=np.float32)[labels] + noise / 50,
        "pooler": noise,
    }
    lines = [
        {
            "question_id": f"q{row}",
            "image": f"{row // 3}.png",
            "question": f"{WORDS[texts[row]]} is it {row}?"
            if num_texts == 6
            else f"number {texts[row]} is odd",
            "answer": COLORS[labels[row]],
            "same": 1,
        }
        for row in range(number)
    ]
    listed = [[line["question_id"], line["image"], line["question"]] for line in lines]
    save_file(
        layers,
        folder / "s.safetensors",
        metadata={
            "format": "lxmert-states",
            "of": "pooled",
            "layers": " ".join(layers),
            "examples": json.dumps(listed),
        },
    )
    (folder / "q.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder / "s.safetensors", folder / "q.jsonl"


def test_known_states_give_known_rows(tmp_path: Path) -> None:
    report = probe_states(*write(tmp_path), "answer", seed=3)
    assert list(report["layers"]) == ["language.1", "cross.1.vision", "pooler"]
    assert report["classes"] == 3
    assert report["train"] == report["test"] == 120
    assert report["seen"] == 1.0
    assert report["warnings"] == []
    text, color, noise = report["layers"].values()
    assert color["accuracy"] == 1.0
    assert color["control"] < 0.6
    assert text["control"] == 1.0  # the text decides the control label
    assert text["accuracy"] < 0.5
    assert text["selectivity"] == pytest.approx(text["accuracy"] - 1)
    assert noise["accuracy"] < 0.5
    for row in (text, color, noise):
        assert row["low"] <= row["accuracy"] <= row["high"]
        assert row["selectivity_low"] <= row["selectivity"] <= row["selectivity_high"]
    assert report == probe_states(
        tmp_path / "s.safetensors", tmp_path / "q.jsonl", "answer", seed=3
    )


def test_texts_that_never_recur_are_warned_about(tmp_path: Path) -> None:
    assert PREFIX == 3
    report = probe_states(*write(tmp_path, num_texts=10_000), "answer")
    assert report["seen"] < 0.1
    assert "can hardly be learned" in report["warnings"][0]


def test_the_command_shows_the_rows(lxmert: Command, tmp_path: Path) -> None:
    states, data = write(tmp_path)
    done = lxmert("probe", states, "--data", data, "-o", tmp_path / "probe.json")
    assert done.code == 0, done.err
    assert "100.0%" in done.out
    again = lxmert("probe", states, "--data", data, "--json")
    assert json.loads(again.out) == json.loads((tmp_path / "probe.json").read_text())


@pytest.mark.parametrize(
    ("label", "message"),
    [
        ("anser", "did you mean 'answer'"),
        ("same", "all training examples have the label '1'"),
    ],
)
def test_useless_labels_are_one_sentence(tmp_path: Path, label: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        probe_states(*write(tmp_path), label)


def test_other_questions_are_refused(tmp_path: Path) -> None:
    states, data = write(tmp_path)
    data.write_text("".join(data.read_text().splitlines(keepends=True)[:100]))
    with pytest.raises(ValueError, match="lacks 140 of the 240 examples of the states"):
        probe_states(states, data, "answer")


def test_lines_are_found_by_the_ids_that_the_states_have(tmp_path: Path) -> None:
    """Ids that are null, which lines are numbered instead of, or 2.0 were not found."""
    states, data = write(tmp_path)
    file = read_states(states)
    lines = [json.loads(line) for line in data.read_text().splitlines()]
    ids = [str(number) for number in range(1, len(lines) + 1)]
    for number, line in enumerate(lines, start=1):
        line["question_id"] = float(number) if number % 2 else None
    data.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert _labels(file._replace(ids=tuple(ids)), data, "answer") == [e["answer"] for e in lines]


def test_ids_that_several_lines_have_are_refused(tmp_path: Path) -> None:
    """The label of the last one was taken for all."""
    states, data = write(tmp_path)
    data.write_text(data.read_text() + data.read_text().splitlines(keepends=True)[5])
    with pytest.raises(ValueError, match="has the question_id 'q5' more than once"):
        probe_states(states, data, "answer")
