"""Writes a model folder of the published sizes with random weights, detector included.

    python benchmarks/published_model.py runs/published

docs/performance.md lists the commands that compare runtimes with it.
It needs 1.1 GB. Ten answers instead of 3,129, so that few answers are nearly equal and differ
between precisions for that reason alone.
"""

import argparse
from collections.abc import Iterable
from pathlib import Path

import torch
from detector import make_detector
from transformers import BertTokenizer

from lxmert import LxmertConfig, LxmertForQuestionAnswering, LxmertProcessor
from lxmert.data.corpus import Corpus
from lxmert.data.preprocessing import PreprocessorConfig
from lxmert.data.tokenizer import build_tokenizer
from lxmert.regions.extract import DetectorExtractor
from lxmert.workflows.examples import EXAMPLES

ANSWERS = 10


def write_model(folder: Path) -> None:
    """Write the model and its processor."""
    torch.manual_seed(0)
    names = {place: f"answer {place}" for place in range(ANSWERS)}
    config = LxmertConfig(num_qa_labels=ANSWERS, id2label=names)
    LxmertForQuestionAnswering(config).save_pretrained(folder)
    texts = (example.text for example in Corpus.read([EXAMPLES / "questions.jsonl"], strict=True))
    extractor = DetectorExtractor(make_detector())
    preprocessor = PreprocessorConfig(fingerprint=extractor.fingerprint)
    LxmertProcessor(extractor, make_tokenizer(texts), preprocessor).save_pretrained(folder)


def make_tokenizer(texts: Iterable[str]) -> BertTokenizer:
    """Return a tokenizer of the words of texts, filled up to the published number of words."""
    words = build_tokenizer(texts).get_vocab()
    words |= {f"[unused{place}]": place for place in range(len(words), LxmertConfig().vocab_size)}
    return BertTokenizer(vocab=words, do_lower_case=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    write_model(parser.parse_args().folder)
