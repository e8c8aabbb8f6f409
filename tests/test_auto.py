"""The Auto classes of transformers, after `register_auto_classes`."""

import shutil
import subprocess

import pytest
from conftest import ROOT
from model import tiny

from lxmert import LxmertProcessor
from lxmert.data.tokenizer import load_tokenizer

pytestmark = pytest.mark.long

SCRIPT = """
import sys
from transformers import (
    AutoConfig, AutoModel, AutoModelForPreTraining, AutoModelForQuestionAnswering,
    AutoModelForVisualQuestionAnswering,
)
import lxmert

def show(thing):
    print(f"{type(thing).__module__.partition('.')[0]}.{type(thing).__name__}")

def show_all(folder):
    config = AutoConfig.from_pretrained(folder)
    show(config)
    for auto_class in (
        AutoModel, AutoModelForPreTraining, AutoModelForQuestionAnswering,
        AutoModelForVisualQuestionAnswering,
    ):
        for source, make in (
            (config, auto_class.from_config), (folder, auto_class.from_pretrained)
        ):
            try:
                show(make(source))
            except ValueError as error:
                print(str(error)[:32])

lxmert.LxmertForPreTraining, lxmert.LxmertForQuestionAnswering  # loads what defines our classes
show_all(sys.argv[1])
lxmert.register_auto_classes()
lxmert.register_auto_classes()  # once more changes nothing
show_all(sys.argv[1])
"""
CLASSES = (
    "LxmertConfig",
    *["LxmertModel"] * 2,
    *["LxmertForPreTraining"] * 2,
    *["LxmertForQuestionAnswering"] * 4,
)


def test_auto_classes_give_ours_only_after_the_call(programs, tmp_path):
    """Importing the package must not change what other code of the process loads."""
    tiny.build("LxmertForQuestionAnswering").save_pretrained(tmp_path)
    finished = subprocess.run(
        [programs / "python", "-c", SCRIPT, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr[-3000:]
    theirs = [f"transformers.{name}" for name in CLASSES]
    theirs[-2:] = ["Unrecognized configuration class"] * 2  # transformers has none for this task
    assert finished.stdout.splitlines() == theirs + [f"lxmert.{name}" for name in CLASSES]


PROCESSORS = """
import sys
from transformers import AutoProcessor, AutoTokenizer
import lxmert

lxmert.register_auto_classes()
for folder in sys.argv[1:]:
    processor = AutoProcessor.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    print(type(processor).__name__, type(processor.tokenizer).__name__, type(tokenizer).__name__)
    assert processor.tokenizer.get_vocab() == tokenizer.get_vocab()
    inputs = processor("src/lxmert/examples/scene.png", "What color is the ball?")
    assert inputs["visual_feats"].shape[-1] == processor.extractor.feature_dim
try:
    AutoProcessor.from_pretrained(folder, image_size=5)
except TypeError as error:
    print(error)
"""


def test_auto_processor_gives_ours_after_the_call(programs, tmp_path):
    """Bug: `AutoProcessor` gave a bare tokenizer, which cannot read an image, without a word."""
    bundled = ROOT / "src/lxmert/default"
    LxmertProcessor.from_pretrained(None).save_pretrained(tmp_path / "saved")
    shutil.copy(bundled / "config.json", tmp_path / "saved")
    plain = shutil.copytree(bundled, tmp_path / "plain")
    (plain / "tokenizer_config.json").unlink()
    (plain / "tokenizer.json").unlink()
    words = load_tokenizer(bundled)
    tokens = words.convert_ids_to_tokens(list(range(len(words))))
    (plain / "vocab.txt").write_text("\n".join(tokens))
    folders = [str(bundled), str(tmp_path / "saved"), str(plain)]
    finished = subprocess.run(
        [programs / "python", "-c", PROCESSORS, *folders],
        capture_output=True, text=True, check=False, cwd=ROOT,
    )  # fmt: skip
    assert finished.returncode == 0, finished.stderr[-3000:]
    lines = finished.stdout.splitlines()
    named = "LxmertProcessor BertTokenizer BertTokenizer"  # in tokenizer_config.json
    assert lines[:3] == [named, named, "LxmertProcessor BertTokenizer LxmertTokenizer"]
    assert lines[3] == "LxmertProcessor.from_pretrained has no argument 'image_size'"
