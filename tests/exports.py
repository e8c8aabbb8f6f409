"""Tiny complete models, and Python without PyTorch."""

import subprocess
import sys
from pathlib import Path

from lxmert import LxmertConfig, LxmertForPreTraining, LxmertProcessor
from lxmert.data.preprocessing import PreprocessorConfig
from lxmert.data.tokenizer import build_tokenizer
from lxmert.regions.configuration import DetectorConfig
from lxmert.regions.detector import Detector
from lxmert.regions.extract import DetectorExtractor
from lxmert.regions.extractor import RegionExtractor

SCENE = Path(__file__).parents[1] / "src/lxmert/examples/scene.png"
ANSWERS = ("yellow", "red", "a mug", "2", "no")
TEXTS = ("What color is the ball?", "How many mugs are there?", "Is it a mug")

WITHOUT_TORCH = """
import sys

class Without:
    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, *rest):
        hidden = ("torch", "transformers", "torchvision", "accelerate", "safetensors", "matplotlib")
        return None if name.split(".")[0] in hidden else self.finder.find_spec(name, *rest)

    def __getattr__(self, name):
        return getattr(self.finder, name)

sys.meta_path = [Without(finder) for finder in sys.meta_path]
"""


def run_without_torch(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run Python code in a process in which PyTorch and what needs it cannot be found."""
    command = [sys.executable, "-c", WITHOUT_TORCH + code]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def make_tiny_detector() -> DetectorExtractor:
    config = DetectorConfig(
        object_names=("ball", "mug"),
        attribute_groups={"color": ("red", "blue", "green"), "size": ("small", "large")},
        stem_width=8,
        stage_inner_widths=(8, 8, 8),
        stage_widths=(8, 8, 8),
        stage_depths=(1, 1, 1),
        head_depth=1,
        head_inner_width=8,
        feature_dim=12,
        score_threshold=0.2,
        proposals=20,
    )
    return DetectorExtractor(Detector(config))


def write_tiny_model(folder: Path, extractor: RegionExtractor | None = None) -> Path:
    """Write a model with random weights, which answers and matches, with its region extractor."""
    extractor = extractor or make_tiny_detector()
    tokenizer = build_tokenizer(TEXTS)
    processor = LxmertProcessor(
        extractor, tokenizer, PreprocessorConfig(fingerprint=extractor.fingerprint)
    )
    model = LxmertForPreTraining(
        LxmertConfig(
            vocab_size=len(tokenizer),
            hidden_size=16,
            num_attention_heads=2,
            intermediate_size=24,
            l_layers=1,
            x_layers=1,
            r_layers=1,
            visual_feat_dim=extractor.feature_dim,
            num_qa_labels=len(ANSWERS),
            id2label=dict(enumerate(ANSWERS)),
            initializer_range=0.3,
        )
    ).eval()
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder
