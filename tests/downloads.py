"""Official downloads as small as they can be, in the schemas in which they are published.

COCO has the images 9 and 25 (train2014), 42 and 73 (val2014); Visual Genome's 1 is COCO's 9, its 2
is COCO's 42, 3 is its own, 4 names a number that COCO does not have.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from official_files import gqa_question, vqa_annotation, write_json

TRAIN_9, TRAIN_25 = "COCO_train2014_000000000009", "COCO_train2014_000000000025"
VAL_42, VAL_73 = "COCO_val2014_000000000042", "COCO_val2014_000000000073"

VQA: dict[str, list[tuple[int, str, list[str]]]] = {
    "train2014": [
        *((9001 + row, "Is it?", ["yes"] * 8 + ["Yes", "no"]) for row in range(8)),
        (9009, "Really?", ["yes"] * 10),
        *((25001 + row, "What?", ["a mug"] * 2 + ["mug"] * 3 + ["cup"] * 5) for row in range(9)),
    ],
    "val2014": [
        *((42001 + row, "Which?", ["mug"] * 6 + ["yes"] * 4) for row in range(9)),
        (73001, "How many?", ["two"] * 9 + ["mug"]),
    ],
}
"""Question id, question, the annotators' answers, of which the first is the majority's.

Majority answers, cleaned: "yes" of 9 questions, "mug" of 18 (also written "a mug"), "2" of one.
"""


def write_vqa(folder: Path) -> None:
    for subset, rows in VQA.items():
        write_vqa_subset(folder, subset, rows)
    questions = [{"image_id": 8, "question": "Who?", "question_id": 8001}]
    name = "v2_OpenEnded_mscoco_test2015_questions.json"
    write_json(folder / name, vqa_document("test2015", questions=questions))


def write_vqa_subset(
    folder: Path, subset: str, rows: Sequence[tuple[int, str, Sequence[str]]]
) -> None:
    questions = [
        {"image_id": number // 1000, "question": text, "question_id": number}
        for number, text, _ in rows
    ]
    annotations = [
        vqa_annotation(number, answers, answer_type="yes/no" if number < 25000 else "other")
        for number, _, answers in rows
    ]
    write_json(
        folder / f"v2_OpenEnded_mscoco_{subset}_questions.json",
        vqa_document(subset, questions=questions),
    )
    write_json(
        folder / f"v2_mscoco_{subset}_annotations.json",
        vqa_document(subset, annotations=annotations),
    )


def vqa_document(subset: str, **lists: Any) -> dict[str, Any]:
    info = {"description": "This is v2.0 of the VQA dataset.", "version": "2.0", "year": 2017}
    return {
        "info": info,
        "task_type": "Open-Ended",
        "data_type": "mscoco",
        **lists,
        "license": {"name": "CC BY 4.0"},
        "data_subtype": subset,
    }


def write_gqa(folder: Path) -> None:
    rows = {
        "train": {"02930152": gqa_question("yes", imageId="1", structural="verify")},
        "val": {
            "05451384": gqa_question("red", imageId="2"),
            "05451385": gqa_question("bag", imageId="3"),
        },
        "testdev": {"20168": gqa_question("bird", imageId="n161313")},
    }
    for split, questions in rows.items():
        write_json(folder / f"{split}_balanced_questions.json", questions)
    submission = {"20168": {"imageId": "n161313", "question": "What?", "isBalanced": False}}
    write_json(folder / "submission_all_questions.json", submission)


def write_nlvr2(folder: Path) -> None:
    for name in ("train", "dev", "test1"):
        records = [
            {
                "sentence": f"Both of {name} are red.",
                "label": label,
                "identifier": f"{name}-10-{pair}-1",
                "left_url": "http://a/b.jpg",
                "right_url": "http://a/c.jpg",
                "writer": "3",
            }
            for pair, label in enumerate(("True", "False"))
        ]
        lines = "".join(json.dumps(record) + "\n" for record in records)
        (folder / f"{name}.json").write_text(lines)


def write_coco(folder: Path) -> None:
    for subset, images in {"train2014": (9, 25), "val2014": (42, 73)}.items():
        document = {
            "info": {"version": "1.0", "year": 2014},
            "images": [
                {
                    "id": number,
                    "file_name": f"COCO_{subset}_{number:012d}.jpg",
                    "height": 480,
                    "width": 640,
                }
                for number in images
            ],
            "licenses": [{"id": 1}],
            "annotations": [
                {"image_id": number, "id": 10 * number + row, "caption": f"Caption {row} of it. "}
                for number in images
                for row in range(2)
            ],
        }
        write_json(folder / f"captions_{subset}.json", document)


def write_visual_genome(folder: Path) -> None:
    partners = {1: 9, 2: 42, 3: None, 4: 999}
    write_json(
        folder / "image_data.json",
        [
            {"image_id": image, "width": 800, "height": 600, "coco_id": coco, "flickr_id": None}
            for image, coco in partners.items()
        ],
    )
    place = {"x": 1, "y": 2, "width": 30, "height": 40}
    write_json(
        folder / "region_descriptions.json",
        [
            {
                "id": image,
                "regions": [
                    {"region_id": 10 * image + 7, "image_id": image, "phrase": f"region of {image}"}
                    | place
                ],
            }
            for image in partners
        ],
    )
    write_json(
        folder / "question_answers.json",
        [
            {
                "id": image,
                "qas": [
                    {
                        "qa_id": 100 + image,
                        "image_id": image,
                        "question": "What is on it?",
                        "answer": {1: "A mug.", 2: "mug", 3: " "}.get(image, "Grey"),
                        "a_objects": [],
                        "q_objects": [],
                    }
                ],
            }
            for image in partners
        ],
    )


def write_visual7w(folder: Path) -> None:
    images = [
        {
            "image_id": image,
            "filename": f"v7w_{image}.jpg",
            "split": split,
            "qa_pairs": [
                {
                    "qa_id": 500 + image,
                    "image_id": image,
                    "question": "Where is it?",
                    "answer": "On the table.",
                    "type": "where",
                    "multiple_choices": ["Here.", "There.", "Nowhere."],
                }
            ],
        }
        for image, split in ((1, "train"), (2, "val"), (3, "test"))
    ]
    document = {"dataset": "visual7w-telling", "images": images}
    write_json(folder / "dataset_v7w_telling.json", document)


def write_original(folder: Path) -> None:
    """Write the files of the original code, in folders named as there."""
    for name in ("lxmert", "vqa", "gqa", "nlvr2"):
        (folder / name).mkdir(parents=True)
    record = {
        "img_id": TRAIN_9,
        "sentf": {"mscoco": ["A mug."], "vg": ["red mug"], "vqa": ["Is it?", "What?"]},
        "labelf": {"vqa": [{"yes": 0.9, "no": 0.3}, {}]},
    }
    own = {
        "img_id": "3",
        "sentf": {"gqa": ["Which?"], "visual7w": ["Where?"]},
        "labelf": {"gqa": [{"left": 1.0}], "visual7w": [{"on the table": 1.0}]},
    }
    held_out = {"img_id": VAL_42, "sentf": {"mscoco": ["A cat."]}, "labelf": {}}
    files = {
        "mscoco_train": [record],
        "mscoco_nominival": [{"img_id": VAL_73, "sentf": {"mscoco": ["A hat."]}, "labelf": {}}],
        "vgnococo": [own],
        "mscoco_minival": [held_out],
    }
    for name, records in files.items():
        write_json(folder / f"lxmert/{name}.json", records)
    _write_original_tasks(folder)


def _write_original_tasks(folder: Path) -> None:
    def vqa(image: str, number: int, **more: Any) -> dict[str, Any]:
        return {"img_id": image, "question_id": number, "sent": "What?", **more}

    types = {"answer_type": "other", "question_type": "what"}
    first = vqa(TRAIN_9, 9001, label={"mug": 1, "cup": 0.3}, **types)
    write_json(folder / "vqa/train.json", [first])
    second = vqa(VAL_73, 73001, label={}, **types)
    write_json(folder / "vqa/nominival.json", [second])
    third = vqa(VAL_42, 42001, label={"2": 0.6, "": 0.3}, **types)
    write_json(folder / "vqa/minival.json", [third])
    write_json(folder / "vqa/test.json", [vqa("COCO_test2015_000000000008", 8001)])
    for split, answer in (("train", "yes"), ("valid", "bag"), ("testdev", "bird")):
        row = {"img_id": "1", "question_id": f"0{split}", "sent": "Is it?", "label": {answer: 1.0}}
        write_json(folder / f"gqa/{split}.json", [row])
    for split, official in (("train", "train"), ("valid", "dev"), ("test", "test1")):
        pair = f"{official}-10-0"
        row = {
            "identifier": f"{pair}-1",
            "img0": f"{pair}-img0",
            "img1": f"{pair}-img1",
            "label": 0,
            "sent": "Both.",
            "uid": f"nlvr2_{split}_0",
        }
        write_json(folder / f"nlvr2/{split}.json", [row])


def write_all(folder: Path) -> Path:
    """Write all official downloads into folders named as their downloads; return the folder."""
    writers = {
        "vqa": write_vqa,
        "gqa": write_gqa,
        "nlvr2": write_nlvr2,
        "coco-captions": write_coco,
        "visual-genome": write_visual_genome,
        "visual7w": write_visual7w,
    }
    for name, write in writers.items():
        (folder / name).mkdir(parents=True)
        write(folder / name)
    return folder
