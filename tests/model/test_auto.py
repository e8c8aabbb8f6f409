"""The Auto classes of transformers, which give our classes once they are told to."""

import subprocess
import sys

from . import tiny

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


def test_auto_classes_give_ours_only_after_the_call(tmp_path):
    """Importing the package must not change what other code of the process loads."""
    tiny.build("LxmertForQuestionAnswering").save_pretrained(tmp_path)
    finished = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stderr[-3000:]
    theirs = [f"transformers.{name}" for name in CLASSES]
    theirs[-2:] = ["Unrecognized configuration class"] * 2  # transformers has none for this task
    assert finished.stdout.splitlines() == theirs + [f"lxmert.{name}" for name in CLASSES]
