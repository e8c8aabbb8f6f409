"""Throughput and memory of reading and collating examples on one core.

Run it as `python benchmarks/corpus.py`; it prints JSON. Questions and regions are synthetic: 36 x
2048 features in float16 for 1,000 and 100,000 images, with four questions each. The features of the
large store are holes of a sparse file, which are read like any others. Memory is private to the
process: mapped pages are shared and reclaimable. Examples are timed in processor time with their
features in the page cache; the first pass also reports the time with the disk of this machine.

`--sentences 9000000` measures the pretraining index instead: captions and questions (a third) about
180,000 images in five files, read and tokenized on one core.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import torch
from store import make_sparse_store

from lxmert.data.arrays import normalize_boxes
from lxmert.data.collate import collate_inputs
from lxmert.data.corpus import Corpus, Targets
from lxmert.data.store import RegionStore
from lxmert.data.tokenizer import build_tokenizer
from lxmert.data.tokens import Tokens

SIZES = (1_000, 100_000)
IMAGES, PRETRAINING_ANSWERS = 180_000, 9_500
SHARES = {"captions-1": 0.07, "captions-2": 0.59, "vqa": 0.07, "gqa": 0.11, "vg-qa": 0.16}
"""Files of a pretraining corpus and their shares of the sentences; source: paper, table 1."""
QUESTIONS, WORDS, ANSWERS, BATCH, BATCHES, LONGEST = 4, 12_000, 3_129, 32, 150, 20


class Memory:
    """Samples the private memory of this process in the background."""

    def __init__(self) -> None:
        """Start."""
        self.peak = 0.0
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        while True:
            self.peak = max(self.peak, private_megabytes())
            time.sleep(0.01)


def private_megabytes() -> float:
    """Return the memory of this process that is neither shared nor backed by a file."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024


def write_questions(path: Path, num_images: int) -> None:
    """Write questions of four to ten words with one to three answers."""
    generator = np.random.default_rng(3)
    with path.open("w") as file:
        for row in range(num_images * QUESTIONS):
            words = generator.integers(WORDS, size=generator.integers(3, 10)).tolist()
            answers = generator.integers(ANSWERS, size=generator.integers(1, 4)).tolist()
            line = {
                "question_id": 262_148_000 + row,
                "image": f"COCO_train2014_{row // QUESTIONS:012d}",
                "question": f"what {' '.join(f'w{word}' for word in words)}?",
                "answers": {f"answer {answer}": 0.3 for answer in answers},
            }
            file.write(json.dumps(line) + "\n")


def write_sentences(folder: Path, count: int) -> None:
    """Write a pretraining corpus: captions, and questions with one to three answers."""
    generator = np.random.default_rng(5)
    first = 0
    for name, share in SHARES.items():
        with (folder / f"{name}.jsonl").open("w") as file:
            for row in range(first, first := first + round(count * share)):
                words = generator.integers(WORDS, size=generator.integers(3, 10)).tolist()
                text = " ".join(f"w{word}" for word in words)
                line: dict[str, object] = {
                    "question_id": f"{name}-{row}",
                    "image": f"COCO_train2014_{row % IMAGES:012d}",
                }
                if name.startswith("captions"):
                    line["caption"] = text
                else:
                    answers = generator.integers(PRETRAINING_ANSWERS, size=row % 3 + 1).tolist()
                    line["question"] = f"{text}?"
                    line["answers"] = {f"answer {answer}": 0.3 for answer in answers}
                file.write(json.dumps(line) + "\n")


def measure_index(folder: Path) -> dict[str, float]:
    """Read and tokenize a pretraining corpus in this process, on one core."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    tokenizer = build_tokenizer(f"w{word}" for word in range(WORDS))
    memory, before, started = Memory(), private_megabytes(), time.perf_counter()
    files = sorted(folder.glob("*.jsonl"))
    captions = [path for path in files if path.stem.startswith("captions")]
    questions = [path for path in files if path not in captions]
    corpus = Corpus.read(questions, captions=captions, strict=True)
    read = time.perf_counter() - started
    tokens = Tokens(corpus.texts(), tokenizer, longest=LONGEST)
    tokenized = time.perf_counter() - started - read
    targets = Targets(corpus, corpus.vocabulary())
    seconds = time.perf_counter() - started
    order = np.random.default_rng(7).integers(len(corpus), size=BATCH * BATCHES).tolist()
    asked = time.process_time()
    for row in order:
        corpus.images(row), tokens[row], targets.known(row)
    asked = time.process_time() - asked
    return {
        "sentences": len(corpus),
        "images": len(corpus.image_names),
        "seconds": seconds,
        "seconds_reading": read,
        "seconds_tokenizing": tokenized,
        "bytes_per_sentence": (corpus.nbytes + tokens.nbytes) / len(corpus),
        "gigabytes_mapped": (corpus.nbytes + tokens.nbytes) / 1e9,
        "private_megabytes_before": before,
        "private_megabytes_peak": memory.peak,
        "examples_per_second": len(order) / asked,
    }


def measure(folder: Path) -> dict[str, float]:
    """Read a data set and its batches in this process, on one core."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    torch.set_num_threads(1)
    torch.zeros(1).sum()  # what torch itself takes is in the memory before
    memory, before = Memory(), private_megabytes()
    started = time.perf_counter()
    corpus = Corpus.read([folder / "questions.jsonl"])
    read = time.perf_counter() - started
    tokenizer = build_tokenizer(corpus.texts())
    targets = Targets(corpus, corpus.vocabulary())
    started = time.perf_counter()
    tokens = Tokens(corpus.texts(), tokenizer, longest=LONGEST)
    tokenized = time.perf_counter() - started
    store = RegionStore(folder / "store")
    rows = np.random.default_rng(7).permutation(len(corpus))[: BATCH * BATCHES]
    order = np.resize(rows, BATCH * BATCHES).reshape(BATCHES, BATCH)
    first, second = (
        [
            collate(corpus, tokens, targets, store, batch, tokenizer.pad_token_id)
            for batch in order.tolist()
        ]
        for _ in range(2)
    )
    return {
        "images": len(corpus.image_names),
        "questions": len(corpus),
        "lines_per_second": len(corpus) / read,
        "texts_tokenized_per_second": len(corpus) / tokenized,
        "bytes_per_question": (corpus.nbytes + tokens.nbytes) / len(corpus),
        "examples_per_second": BATCH / float(np.median(second)),
        "examples_per_second_mean": BATCH * BATCHES / sum(second),
        "examples_per_second_first_pass": BATCH * BATCHES / sum(first),
        "private_megabytes_before": before,
        "private_megabytes_after": private_megabytes(),
        "private_megabytes_peak": memory.peak,
    }


def collate(
    corpus: Corpus,
    tokens: Tokens,
    targets: Targets,
    store: RegionStore,
    batch: list[int],
    pad_id: int,
) -> float:
    """Prepare a batch as the answering task does; return the seconds."""
    started = time.process_time()
    features, boxes = [], []
    for index in batch:
        (image_id,) = corpus.image_ids(index)
        regions = store[image_id]
        features.append(regions.features)
        boxes.append(normalize_boxes(regions, name=image_id))
    sentences = [tokens[index] for index in batch]
    collate_inputs(sentences, features, boxes, pad_id=pad_id)
    torch.from_numpy(np.stack([targets.scores(index) for index in batch]))
    return time.process_time() - started


def measure_apart(temporary: str, kind: str) -> dict[str, float]:
    """Measure in a process of its own."""
    command = [sys.executable, __file__, "--measure", temporary, "--kind", kind]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    measured: dict[str, float] = json.loads(output.splitlines()[-1])
    return measured


def main() -> None:
    """Measure each size in a process of its own and print everything."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, help="where to put temporary files")
    parser.add_argument("--sentences", type=int, help="measure an index of so many sentences")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--kind", choices=KINDS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(KINDS[arguments.kind](arguments.measure)))
        return
    with tempfile.TemporaryDirectory(dir=arguments.folder) as temporary:
        if arguments.sentences:
            write_sentences(Path(temporary), arguments.sentences)
            print(json.dumps(measure_apart(temporary, "index"), indent=1))
            return
    results = []
    for num_images in SIZES:
        with tempfile.TemporaryDirectory(dir=arguments.folder) as temporary:
            folder = Path(temporary)
            make_sparse_store(folder / "store", num_images)
            write_questions(folder / "questions.jsonl", num_images)
            results.append(measure_apart(temporary, "examples"))
    small, large = results
    ratio = large["private_megabytes_peak"] / small["private_megabytes_peak"]
    print(json.dumps({"runs": results, "peak_memory_ratio": ratio}, indent=1))


KINDS = {"examples": measure, "index": measure_index}

if __name__ == "__main__":
    main()
