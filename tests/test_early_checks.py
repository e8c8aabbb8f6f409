"""Damaged local inputs are refused before PyTorch is imported, which takes seconds."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT
from safetensors.numpy import load_file, save_file

from lxmert.weight_files import check_weights

SCENE, QUESTION = ROOT / "src/lxmert/examples/scene.png", "What color is the ball?"
BUNDLED = ROOT / "src/lxmert/default"
DEEP = "[" * 100_000

WITHOUT_TORCH = """
import contextlib, io, json, sys
sys.modules["torch"] = None  # importing it fails
from lxmert.cli.main import main
for arguments in json.loads(sys.argv[1]):
    sys.argv = ["lxmert", *arguments]
    with contextlib.redirect_stderr(io.StringIO()) as err:
        try:
            main()
        except SystemExit as end:
            code = end.code
    print(json.dumps([code, err.getvalue()]))
"""


def refusals(commands: list[list[str]]) -> list[tuple[int, str]]:
    """Run commands where PyTorch cannot be imported; return their exit codes and messages."""
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, json.dumps(commands)],
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    return [tuple(json.loads(line)) for line in done.stdout.splitlines()]


def edited(folder: Path, name: str, **values: object) -> None:
    path = folder / name
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def with_weights(folder: Path, change: Any) -> None:
    path = folder / "model.safetensors"
    weights = load_file(path)
    name = "answer_head.logit_fc.0.weight"
    save_file(weights | {name: change(weights[name])}, path)


def all_zero(folder: Path) -> None:
    path = folder / "model.safetensors"
    save_file({name: np.zeros_like(value) for name, value in load_file(path).items()}, path)


DAMAGES: dict[str, tuple[Any, str]] = {
    "deep configuration": (lambda f: (f / "config.json").write_text(DEEP), "nested too deep"),
    "deep tokenizer": (lambda f: (f / "tokenizer.json").write_text(DEEP), "nested too deep"),
    "deep settings": (lambda f: (f / "preprocessor_config.json").write_text(DEEP), "too deep"),
    "wrong limit": (
        lambda f: edited(f, "preprocessor_config.json", max_text_length="x"),
        "max_text_length",
    ),
    "deep extractor": (lambda f: (f / "extractor/config.json").write_text(DEEP), "too deep"),
    "extractor text": (lambda f: edited(f, "extractor/config.json", shorter_side="x"), "shorter"),
    "extractor size": (lambda f: edited(f, "extractor/config.json", feature_dim=10**9), "feature"),
    "empty weights": (lambda f: (f / "model.safetensors").write_bytes(b""), "is empty"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "neither model.safetensors"),
    "cut weights": (
        lambda f: (f / "model.safetensors").write_bytes(
            (BUNDLED / "model.safetensors").read_bytes()[:5000]
        ),
        "is damaged",
    ),
    "long header": (
        lambda f: (f / "model.safetensors").write_bytes((10**12).to_bytes(8, "little") + b"{}"),
        "no file of weights",
    ),
    "NaN": (lambda f: with_weights(f, lambda w: w * np.nan), "no finite numbers"),
    "integers": (lambda f: with_weights(f, lambda w: w.astype(np.int64)), "logit_fc.0.weight I64"),
    "zeros": (all_zero, "nothing but zeros"),
    "extractor weights": (
        lambda f: (f / "extractor/model.safetensors").write_bytes(b"\0" * 9),
        "no file of weights",
    ),
}


def test_damaged_model_folders_are_refused_without_pytorch(tmp_path: Path) -> None:
    """Every command imported PyTorch and transformers first: 5 s until the sentence appeared."""
    commands = []
    for name, (damage, _) in DAMAGES.items():
        folder = tmp_path / name.replace(" ", "-")
        shutil.copytree(BUNDLED, folder)
        damage(folder)
        commands.append(["ask", str(SCENE), QUESTION, "--model", str(folder)])
    for (code, message), (name, (_, expected)) in zip(
        refusals(commands), DAMAGES.items(), strict=True
    ):
        assert (code, message.count("\n")) == (2, 1), name
        assert expected in message, message


def test_other_inputs_are_refused_without_pytorch(tmp_path: Path) -> None:
    """Of the same kind: images, questions, answer lists, extractors, annotations, recipes."""
    text, cut = tmp_path / "text.png", tmp_path / "cut.png"
    text.write_text("%!PS-Adobe-3.0 EPSF-3.0\n")
    cut.write_bytes(SCENE.read_bytes()[:2000])
    (tmp_path / "answers.json").write_text(DEEP)
    (tmp_path / "boxes.json").write_text("[]")
    (tmp_path / "lines").write_text('{"question": "a"}\n{"answer": 1' + "0" * 400 + "}\n")
    (tmp_path / "recipe.toml").write_text("a = " + DEEP)
    store, empty = tmp_path / "damaged-store", tmp_path / "empty"
    store.mkdir()
    (store / "index.safetensors").write_bytes(b"\0" * 30)
    shutil.copytree(BUNDLED, empty)
    (empty / "model.safetensors").write_bytes(b"")
    detector = tmp_path / "detector"
    shutil.copytree(BUNDLED / "extractor", detector)
    edited(detector, "config.json", proposals=0)
    extractor = str(BUNDLED / "extractor")
    boxes = ["--data", str(tmp_path / "boxes.json"), "--images", str(tmp_path)]
    found = refusals(
        [
            ["ask", str(text), QUESTION],
            ["ask", str(cut), QUESTION],
            ["explain", str(cut), QUESTION],
            ["ask", "absent.jpg", QUESTION, "--model", "vqa"],
            ["match", str(text), "a red ball"],
            ["ask", str(SCENE), "what \udcff?"],
            ["ask", str(SCENE), QUESTION, "--answers", str(tmp_path / "answers.json")],
            ["ask", str(SCENE), QUESTION, "--extractor", str(detector)],
            ["evaluate", extractor, *boxes],
            ["evaluate", str(detector), *boxes],
            ["evaluate", str(BUNDLED), "--data", str(tmp_path / "lines"), "--images", "."],
            ["train", str(tmp_path / "recipe.toml"), "-o", str(tmp_path / "run")],
            ["train", "custom", "-o", str(tmp_path / "run"), "--set", "optim.lr=" + DEEP],
            ["evaluate", str(BUNDLED), "--data", str(tmp_path / "lines"), "--regions", str(store)],
            ["info", str(empty)],
            ["verify", str(empty)],
        ]
    )
    expected = ["no image that is read here", "cut short", "cut short", "is not a file"]
    expected += ["no image that is read"]
    expected += ["not valid Unicode", "nested too deep", "proposals", "no list `images`"]
    expected += ["proposals", "line 2: it is not usable JSON", "nested too deep", "nested too deep"]
    expected += [store.name, "it is empty", "it is empty"]
    for (code, message), part in zip(found, expected, strict=True):
        assert (code, message.count("\n")) == (2, 1), message
        assert part in message, message


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_whole_weights_pass(kind: type, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    ids = np.arange(3)
    save_file({"a.weight": np.ones((2, 2), kind), "a.bias": np.zeros(2, kind), "ids": ids}, path)
    check_weights(path, tmp_path)
