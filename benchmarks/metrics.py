"""Time of the official metrics, from files to scores, on synthetic files of official sizes.

Run it as `OMP_NUM_THREADS=1 python benchmarks/metrics.py`; it writes 1.3 GB to a temporary folder.
"""

import argparse
import json
import random
import resource
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

from lxmert.workflows.scoring import score_files

ANSWERS = (
    "yes",
    "no",
    "2",
    "two",
    "red",
    "a cat",
    "t-shirt",
    "skiing, fast",
    "don't know",
    "1,000",
)


def write_json(path: Path, entries: Iterable[str], opening: str, closing: str) -> Path:
    """Write JSON entries, separated by commas."""
    with path.open("w", encoding="utf-8") as file:
        file.write(opening)
        for index, entry in enumerate(entries):
            file.write(", " * (index > 0) + entry)
        file.write(closing)
    return path


def write_vqa(folder: Path, count: int, draw: random.Random) -> dict[str, Path]:
    """Write questions, annotations with ten answers each, and results."""

    def answer() -> str:
        rare = draw.random() < 0.2
        return f"{draw.choice(ANSWERS)} {draw.randrange(100_000)}" if rare else draw.choice(ANSWERS)

    def annotation(number: int) -> str:
        answers = [
            {"answer": answer(), "answer_confidence": "yes", "answer_id": index}
            for index in range(1, 11)
        ]
        types = {"question_type": f"type {number % 65}", "answer_type": ANSWERS[number % 3]}
        best = {"multiple_choice_answer": answers[0]["answer"], "image_id": number // 5}
        return json.dumps({"question_id": number, **types, **best, "answers": answers})

    questions = (
        json.dumps({"question_id": number, "image_id": number // 5, "question": "What is it?"})
        for number in range(count)
    )
    results = (json.dumps({"question_id": number, "answer": answer()}) for number in range(count))
    return {
        "questions": write_json(folder / "questions.json", questions, '{"questions": [', "]}"),
        "annotations": write_json(
            folder / "annotations.json", map(annotation, range(count)), '{"annotations": [', "]}"
        ),
        "results": write_json(folder / "results.json", results, "[", "]"),
    }


def write_gqa(folder: Path, count: int, draw: random.Random) -> dict[str, Path]:
    """Write questions, half of them balanced, each with two entailed ones, and predictions."""

    def question(number: int) -> str:
        step = {"operation": "filter color", "dependencies": [0], "argument": "red"}
        entry = {
            "semantic": [
                {"operation": "select", "dependencies": [], "argument": f"bag ({number})"},
                step,
                {"operation": "relate", "dependencies": [1], "argument": "person,to the left,s"},
                {"operation": "query", "dependencies": [2], "argument": "name"},
            ],
            "semanticStr": "select: bag (1)->filter color: red [0]->relate: person [1]",
            "entailed": [f"{(number + offset) % count:09d}" for offset in (0, 1, 7)],
            "equivalent": [f"{number:09d}"],
            "question": "Who is to the left of the red bag that is on the wooden bench?",
            "imageId": str(number // 15),
            "isBalanced": number % 2 == 0,
            "groups": {"global": f"group {number % 97}", "local": f"07-bag_{number % 999}"},
            "answer": draw.choice(ANSWERS),
            "annotations": {"answer": {"0": "1"}, "question": {"8": "2"}, "fullAnswer": {"1": "1"}},
            "types": {"detailed": "relS", "semantic": "rel", "structural": "query"},
            "fullAnswer": "The person is to the left of the bag.",
        }
        return f'"{number:09d}": {json.dumps(entry)}'

    predictions = (
        json.dumps({"questionId": f"{number:09d}", "prediction": draw.choice(ANSWERS)})
        for number in range(count)
    )
    return {
        "questions": write_json(folder / "gqa.json", map(question, range(count)), "{", "}"),
        "predictions": write_json(folder / "predictions.json", predictions, "[", "]"),
    }


def main() -> None:
    """Write the files, score them, and print processor time and peak memory."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vqa", type=int, default=200_000, help="number of VQA results")
    parser.add_argument("--gqa", type=int, default=1_000_000, help="number of GQA results")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for metric, write, count in (
            ("vqa", write_vqa, arguments.vqa),
            ("gqa", write_gqa, arguments.gqa),
        ):
            paths = write(Path(folder), count, random.Random(0))
            started = time.process_time()
            score_files(metric, **paths)
            seconds = time.process_time() - started
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
            print(
                f"{metric}: {count} results in {seconds:.1f} s of one core, at most {peak:.2f} GiB"
            )


if __name__ == "__main__":
    main()
