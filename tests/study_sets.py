"""Files of datasets that test models, as small as they can be, in the published schemas."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from downloads import vqa_document
from official_files import gqa_question, vqa_annotation, write_json

COCO_NAMES = ("COCO_train2014_000000000009", "COCO_val2014_000000000042")


def write_all(folder: Path) -> Path:
    """Write the files of all sets but VQA-CE's questions, which are VQA's."""
    for write in (write_cp, write_ce, write_rephrasings, write_ok, write_vizwiz, write_ood,
                  write_vsr, write_entailment):  # fmt: skip
        write(folder)
    return folder


def write_cp(folder: Path) -> None:
    for split, image, subset in (("train", 9, "train2014"), ("test", 42, "val2014")):
        numbers = range(image * 1000, image * 1000 + 5)
        place = {"coco_split": subset, "image_id": image}
        questions = [{"question_id": n, "question": "What?", **place} for n in numbers]
        answers = ["mug"] * 9 + ["cup"]
        annotations = [vqa_annotation(n, answers) | {"coco_split": subset} for n in numbers]
        write_json(folder / f"vqacp_v2_{split}_questions.json", questions)
        write_json(folder / f"vqacp_v2_{split}_annotations.json", annotations)


def write_ce(folder: Path) -> None:
    write_json(folder / "counterexamples.json", [42001, 42002])
    write_json(folder / "hard.json", [42003, 99999])


def write_rephrasings(folder: Path) -> None:
    """A question and three rephrasings; the number of one of them is that of another question."""
    questions: list[dict[str, Any]] = [
        {"question_id": 42001, "image_id": 42, "question": "Which is it?"},
        {"question_id": 420011, "image_id": 420, "question": "Who is this?"},
        *(
            {
                "question_id": 420010 + n,
                "image_id": 42,
                "question": f"So, which {n}?",
                "rephrasing_of": 42001,
            }
            for n in (1, 2, 3)
        ),
    ]
    annotations = [
        vqa_annotation(q["question_id"], ["mug"] * 4 + ["cup"] * 6)
        | {key: q[key] for key in ("rephrasing_of", "image_id") if key in q}
        for q in questions
    ]
    name = "v2_{}mscoco_valrep2014_humans_og_{}.json"
    write_json(folder / name.format("OpenEnded_", "questions"), {"questions": questions})
    write_json(folder / name.format("", "annotations"), {"annotations": annotations})


def write_ok(folder: Path) -> None:
    for subset, image in (("train2014", 9), ("val2014", 42)):
        numbers = range(image * 1000, image * 1000 + 9)
        questions = [
            {"question_id": n, "image_id": image, "question": "Which sport?"} for n in numbers
        ]
        answers = [
            {"answer_id": n, "answer": "surf", "raw_answer": "surfing", "answer_confidence": "yes"}
            for n in range(10)
        ]
        annotations = [
            {"question_id": n, "image_id": image, "question_type": "four", "answer_type": "other",
             "answers": answers, "confidence": 3}
            for n in numbers
        ]  # fmt: skip
        document = vqa_document(subset, questions=questions)
        write_json(folder / f"OpenEnded_mscoco_{subset}_questions.json", document)
        document = vqa_document(subset, annotations=annotations)
        write_json(folder / f"mscoco_{subset}_annotations.json", document)


def write_vizwiz(folder: Path) -> None:
    (folder / "vizwiz").mkdir()
    for split in ("train", "val", "test"):
        entries: list[dict[str, Any]] = [
            {"image": f"VizWiz_{split}_{n:08d}.jpg", "question": "What is this?"} for n in range(9)
        ]
        if split != "test":
            for entry in entries:
                answers = ["unanswerable"] * 8 + ["can"] * 2
                entry["answers"] = [{"answer": a, "answer_confidence": "yes"} for a in answers]
                entry |= {"answer_type": "unanswerable", "answerable": 0}
        write_json(folder / f"vizwiz/{split}.json", entries)


def write_ood(folder: Path) -> None:
    for row, name in enumerate(("val_head", "val_tail", "testdev_head", "testdev_tail")):
        image = str(row) if name.startswith("val") else f"n{row}"
        write_json(folder / f"ood_{name}.json", {f"0{row}": gqa_question("red", imageId=image)})


def write_vsr(folder: Path) -> None:
    for kind in ("random", "zeroshot"):
        for split in ("train", "dev", "test"):
            records = [
                {
                    "image": f"{image:012d}.jpg",
                    "image_link": "http://a/b.jpg",
                    "caption": f"The cat of {split} is behind the mug.",
                    "label": label,
                    "relation": "behind",
                    "annotator_id": 31,
                    "vote_true_validator_id": [2, 6],
                    "vote_false_validator_id": [],
                }
                for label, image in enumerate((9, 42))
            ]
            write_lines(folder / f"{kind}/{split}.jsonl", records)


def write_entailment(folder: Path) -> None:
    for split in ("train", "dev", "test"):
        records = [
            {
                "Flickr30K_ID": "4705552913",
                "pairID": f"4705552913.jpg#{row}r1n",
                "captionID": "4705552913.jpg#2",
                "gold_label": label,
                "sentence1": "Two women talk.",
                "sentence2": f"Women of {split} are {label}.",
                "annotator_labels": [label],
            }
            for row, label in enumerate(("entailment", "neutral", "contradiction"))
        ]
        write_lines(folder / f"snli_ve_{split}.jsonl", records)


def write_lines(path: Path, records: Sequence[dict[str, Any]]) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
