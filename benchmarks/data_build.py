"""Time and memory of `lxmert data build pretraining`.

Run it as `python benchmarks/data_build.py --share 0.1`; it prints JSON. It generates files in
the official schemas and sizes; at share 1 they are those of the full mixture,
9.2 million sentences about 180,000 images, in 4 GB of JSON.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from lxmert.datasets.making import Options, make_data

TRAIN, VAL, GENOME, SHARED = 82_783, 40_504, 108_077, 51_208
REGIONS, PAIRS, CAPTIONS, QUESTIONS, BALANCED = 50, 13, 5, 5.34, 9.95
"""Sentences of an image, in the mean."""

WORDS = [f"word{number}" for number in range(12_000)]
ANSWERS = [f"answer {number}" for number in range(30_000)]


class Texts:
    """Random sentences and answers with a realistic answer frequency."""

    def __init__(self) -> None:
        """Draw from a fixed seed."""
        self._generator = np.random.default_rng(3)

    def sentence(self) -> str:
        """Return seven words."""
        return " ".join(WORDS[i] for i in self._generator.integers(12_000, size=7).tolist())

    def answer(self) -> str:
        """Return an answer; answers with low numbers are frequent."""
        return ANSWERS[int(30_000 * self._generator.random() ** 4)]


def write_list(path: Path, before: str, entries: Iterable[object], after: str) -> None:
    """Write a document entry by entry."""
    with path.open("w") as file:
        file.write(before)
        for number, entry in enumerate(entries):
            file.write(("" if number == 0 else ", ") + json.dumps(entry))
        file.write(after)


def write_coco(folder: Path, numbers: dict[str, range], texts: Texts) -> None:
    for subset, images in numbers.items():
        listed = ({"id": i, "file_name": f"COCO_{subset}_{i:012d}.jpg"} for i in images)
        path = folder / f"captions_{subset}.json"
        write_list(path, '{"images": [', listed, "], ")
        captions = (
            {"image_id": i, "id": CAPTIONS * i + row, "caption": texts.sentence()}
            for i in images
            for row in range(CAPTIONS)
        )
        with path.open("a") as file:
            file.write('"annotations": [')
            file.write(", ".join(map(json.dumps, captions)))
            file.write("]}")
        write_vqa(folder, subset, images, texts)


def write_vqa(folder: Path, subset: str, images: range, texts: Texts) -> None:
    ids = [1000 * i + row for i in images for row in range(int(QUESTIONS + (i % 3 == 0)))]
    header = f'{{"info": {{"version": "2.0"}}, "data_subtype": "{subset}", '
    questions = (
        {"image_id": i // 1000, "question": texts.sentence(), "question_id": i} for i in ids
    )
    path = folder / f"v2_OpenEnded_mscoco_{subset}_questions.json"
    write_list(path, header + '"questions": [', questions, "]}")

    def annotate(number: int) -> dict[str, Any]:
        given = [texts.answer() for _ in range(3)]
        return {
            "question_type": "what is the",
            "multiple_choice_answer": given[0],
            "answers": [
                {"answer": given[row % 3], "answer_confidence": "yes", "answer_id": row + 1}
                for row in range(10)
            ],
            "image_id": number // 1000,
            "answer_type": "other",
            "question_id": number,
        }

    path = folder / f"v2_mscoco_{subset}_annotations.json"
    write_list(path, header + '"annotations": [', map(annotate, ids), "]}")


def write_genome(folder: Path, images: range, coco: range, texts: Texts) -> None:
    partners = {i: coco[row] if row < len(coco) else None for row, i in enumerate(images)}
    listed = ({"image_id": i, "coco_id": partner} for i, partner in partners.items())
    write_list(folder / "image_data.json", "[", listed, "]")
    place = {"x": 11, "y": 22, "width": 333, "height": 444}

    def regions(i: int) -> dict[str, Any]:
        found = [
            {"region_id": REGIONS * i + row, "image_id": i, "phrase": texts.sentence(), **place}
            for row in range(REGIONS)
        ]
        return {"id": i, "regions": found}

    def pairs(i: int) -> dict[str, Any]:
        found = [
            {
                "a_objects": [],
                "question": texts.sentence(),
                "image_id": i,
                "qa_id": PAIRS * i + row,
                "answer": texts.answer(),
                "q_objects": [],
            }
            for row in range(PAIRS)
        ]
        return {"id": i, "qas": found}

    write_list(folder / "region_descriptions.json", "[", map(regions, images), "]")
    write_list(folder / "question_answers.json", "[", map(pairs, images), "]")


def write_gqa(folder: Path, images: range, texts: Texts) -> None:
    steps = [{"operation": "select", "argument": "bag (7)", "dependencies": []}] * 4

    def entries(part: range) -> Iterator[str]:
        for i in part:
            for row in range(int(BALANCED)):
                record = {
                    "semantic": steps,
                    "entailed": [str(number) for number in range(12)],
                    "equivalent": [str(number) for number in range(4)],
                    "question": texts.sentence(),
                    "imageId": str(i),
                    "isBalanced": True,
                    "groups": {"global": "color", "local": "10c-bag_color"},
                    "answer": texts.answer(),
                    "semanticStr": "select: bag (7)->query: color [0]",
                    "annotations": {"answer": {}, "question": {"4": "7"}, "fullAnswer": {}},
                    "types": {"detailed": "directOf", "semantic": "attr", "structural": "query"},
                    "fullAnswer": texts.sentence(),
                }
                yield f'"{i}{row}": {json.dumps(record)}'

    cut = round(0.88 * len(images))
    for name, part in (("train", images[:cut]), ("val", images[cut:])):
        with (folder / f"{name}_balanced_questions.json").open("w") as file:
            file.write("{" + next(rows := entries(part)))
            file.writelines(f", {row}" for row in rows)
            file.write("}")


def write_all(folder: Path, share: float) -> int:
    """Write all files; return their bytes."""
    texts = Texts()
    numbers = {
        "train2014": range(1, 1 + round(share * TRAIN)),
        "val2014": range(200_000, 200_000 + round(share * VAL)),
    }
    write_coco(folder, numbers, texts)
    genome = range(2_300_000, 2_300_000 + round(share * GENOME))
    write_genome(folder, genome, numbers["train2014"][: round(share * SHARED)], texts)
    write_gqa(folder, genome, texts)
    return sum(path.stat().st_size for path in folder.iterdir())


def measure(downloads: Path, target: Path) -> dict[str, Any]:
    """Build in this process."""
    started, busy = time.perf_counter(), time.process_time()
    made = make_data("pretraining", downloads, target, Options())
    seconds, busy = time.perf_counter() - started, time.process_time() - busy
    sentences = sum(file["sentences"] for file in made.files.values())
    return {
        "sentences": sentences,
        "seconds": seconds,
        "processor_seconds": busy,
        "sentences_per_second": sentences / seconds,
        "bytes_written": sum(file["bytes"] for file in made.files.values()),
        "peak_megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def main() -> None:
    """Write the files, build in a process of its own and print everything."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, help="where to put temporary files")
    parser.add_argument("--share", type=float, default=0.1, help="share of the complete mixture")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(arguments.measure / "downloads", arguments.measure)))
        return
    with tempfile.TemporaryDirectory(dir=arguments.folder) as temporary:
        downloads = Path(temporary) / "downloads"
        downloads.mkdir()
        size = write_all(downloads, arguments.share)
        command = [sys.executable, __file__, "--measure", temporary]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        print(json.dumps({"bytes_read": size, **json.loads(output.splitlines()[-1])}, indent=1))


if __name__ == "__main__":
    main()
