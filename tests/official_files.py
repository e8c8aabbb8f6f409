"""Records in the official schemas of VQA, GQA and NLVR2, as small as they can be."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lxmert.metrics.gqa import GqaQuestion

PLAIN = GqaQuestion(
    answer="red",
    balanced=True,
    structural="query",
    semantic="attr",
    common=False,
    num_words=5,
    num_steps=2,
    group="color",
    entailed=(),
    image_id="2354786",
    object_ids=("7",),
)
"""What is read of `gqa_question`."""


def write_json(path: Path, content: object) -> Path:
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def vqa_annotation(
    question_id: int,
    answers: Sequence[str],
    *,
    question_type: str = "what is",
    answer_type: str = "other",
) -> dict[str, Any]:
    return {
        "question_id": question_id,
        "image_id": question_id // 1000,
        "question_type": question_type,
        "answer_type": answer_type,
        "multiple_choice_answer": answers[0],
        "answers": [
            {"answer": answer, "answer_confidence": "yes", "answer_id": number}
            for number, answer in enumerate(answers, start=1)
        ],
    }


def write_vqa(
    folder: Path, annotations: Sequence[dict[str, Any]], results: dict[int, str]
) -> dict[str, Path]:
    """Write the three files of a split, keyed as the options of `lxmert evaluate`."""
    questions = [
        {"question_id": entry["question_id"], "image_id": entry["image_id"], "question": "What?"}
        for entry in annotations
    ]
    info = {"info": {"version": "2.0"}, "license": {}, "data_subtype": "val2014"}
    return {
        "questions": write_json(folder / "questions.json", {**info, "questions": questions}),
        "annotations": write_json(
            folder / "annotations.json", {**info, "annotations": list(annotations)}
        ),
        "results": write_json(
            folder / "results.json",
            [{"question_id": key, "answer": answer} for key, answer in results.items()],
        ),
    }


def gqa_question(answer: str = "red", **changes: Any) -> dict[str, Any]:
    """Return a question; a change of `structural`, `semantic_type` or `detailed` is its type's."""
    types = {
        "structural": changes.pop("structural", "query"),
        "semantic": changes.pop("semantic_type", "attr"),
        "detailed": changes.pop("detailed", "directOf"),
    }
    record = {
        "imageId": "2354786",
        "question": "What color is the bag?",
        "answer": answer,
        "fullAnswer": f"The bag is {answer}.",
        "isBalanced": True,
        "groups": {"global": "color", "local": "10c-bag_color"},
        "entailed": [],
        "equivalent": [],
        "types": types,
        "semantic": [
            {"operation": "select", "argument": "bag (7)", "dependencies": []},
            {"operation": "query", "argument": "color", "dependencies": [0]},
        ],
        "semanticStr": "select: bag (7)->query: color [0]",
        "annotations": {"question": {"4": "7"}, "answer": {}, "fullAnswer": {"1": "7"}},
    }
    assert set(changes) <= set(record)
    return {**record, **changes}


def write_gqa(
    folder: Path, questions: dict[str, Any], predictions: dict[str, str]
) -> dict[str, Path]:
    return {
        "questions": write_json(folder / "questions.json", questions),
        "predictions": write_json(
            folder / "predictions.json",
            [{"questionId": key, "prediction": answer} for key, answer in predictions.items()],
        ),
    }


def write_nlvr2(folder: Path, labels: dict[str, bool], predictions: str) -> dict[str, Path]:
    records = (
        {"identifier": key, "sentence": "Both are red.", "label": str(label), "writer": "3"}
        for key, label in labels.items()
    )
    examples, answers = folder / "dev.json", folder / "predictions.csv"
    examples.write_text("".join(json.dumps(record) + "\n" for record in records))
    answers.write_text(predictions)
    return {"examples": examples, "predictions": answers}
