"""Studies a model on a data set: what `lxmert study` runs, and where its results are written."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from lxmert.data.answers import AnswerVocabulary
from lxmert.data.corpus import Corpus
from lxmert.data.splits import draw_rows
from lxmert.explain.shapley_values import SAMPLES
from lxmert.files import check_absent, folder_sha256, resume_log, sha256, to_json, write_text
from lxmert.hub import find_model
from lxmert.model.heads import LxmertForQuestionAnswering
from lxmert.model.runtime import TorchRuntime
from lxmert.model.wrappers import execution_device
from lxmert.predict import Predictor, Progress, RegionReader, refuse_exported
from lxmert.schema import Example
from lxmert.study.answers import measure_answers, open_questions, silent
from lxmert.study.matching import evaluate_foils
from lxmert.study.page import write_page
from lxmert.study.trust import Explained, mean_of, measure_question, summarize_trust

REPORT, PAGE, _PROGRESS = "study.json", "study.html", "progress.jsonl"
"""Files in the results folder; the last one exists until the results are complete."""

EXPLAINED = 50
"""Questions whose answers are explained."""


def study_model(
    model: str | Path,
    data: Path,
    output: Path,
    *,
    images: Path | None = None,
    stores: tuple[Path, ...] = (),
    foils: Path | None = None,
    limit: int | None = None,
    explained: int = EXPLAINED,
    samples: int = SAMPLES,
    seed: int = 0,
    device: str = "cpu",
    reading: Progress = silent,
    progress: Progress = silent,
    explaining: Progress = silent,
) -> dict[str, Any]:
    """Measure accuracy, robustness, confidence and the contribution of each modality.

    The same call resumes an interrupted study after the last question that it has explained.

    Args:
        model: folder or hub name of a model that answers questions.
        data: JSONL file of questions with answers.
        output: folder to write `study.json` and `study.html` to.
        images: image folder.
        stores: region stores to use instead of images.
        foils: file of captions and foils as for `evaluate_foils`; needs a matching head.
        limit: number of questions, drawn at random; None: all.
        explained: number of these whose answers are explained; 0: none.
        samples: coalitions for the Shapley values of an answer.
        seed: seed of all random choices.
        device: where to compute.
        reading: called with the numbers of images whose regions are known, and of all.
        progress: called with the numbers of finished and of all texts to score.
        explaining: called with the numbers of finished and of all questions to explain.

    Returns:
        The written report: `model`, `data`, `seed`, `count`; `accuracy`, `intervals` and `counts`
        by question type; `foils` (see `evaluate_foils`; None without foils); `robustness` (see
        `measure_robustness`); `confidence` (see `measure_confidence`); `modality`: `text_share`,
        the mean share of the text in the Shapley values (T-SHAP) with its interval, the number of
        questions (`count`) and of `samples`; and `explanations` (see `measure_question`). The last
        two are None if no question was explained.

    Raises:
        FileExistsError: if the folder already has results.
        ValueError: if the model answers no questions about one image or is an exported one,
            nothing can be scored, or the folder belongs to another study.
    """
    check_absent(output / REPORT, remedy="name another folder with -o")
    find_model(model, check=refuse_exported)
    source: dict[str, Any] = {"images": images, "stores": stores, "device": device}
    opened = open_questions(model, data, **source, limit=limit, seed=seed, reading=reading)
    predictor, corpus, read = opened
    matched = None
    if foils is not None:
        matched = evaluate_foils(model, foils, **source, progress=progress)
    report: dict[str, Any] = {
        "model": str(model),
        "data": str(data),
        "seed": seed,
        "foils": matched,
        **measure_answers(*opened, seed=seed, progress=progress),
    }
    output.mkdir(parents=True, exist_ok=True)
    arguments = {
        "model": str(model),
        "model files": folder_sha256(find_model(model)),
        "data": str(data),
        "data file": sha256(data)[:16],
        "images": None if images is None else str(images),
        "regions": [str(store) for store in stores],
        "limit": limit,
        "explained": explained,
        "samples": samples,
        "seed": seed,
    }
    questions = _explainable(predictor, corpus, read, explained, seed)
    records = _explain(_answering(predictor), questions, arguments, output, explaining)
    report |= _summarize(records, [question.image for question in questions], samples)
    write_page(report, output / PAGE)
    write_text(output / REPORT, to_json(report, indent=1) + "\n")
    (output / _PROGRESS).unlink()
    return report


def _explain(
    model: LxmertForQuestionAnswering,
    questions: Sequence[Explained],
    arguments: dict[str, Any],
    output: Path,
    progress: Progress,
) -> list[dict[str, Any]]:
    """Explain questions; what an interrupted study has finished is read from its log."""
    path = output / _PROGRESS
    records = resume_log(path, arguments, remedy=f"name another folder, or remove {path}")
    with path.open("a", encoding="utf-8") as lines:
        for index in range(len(records), len(questions)):
            records.append(
                measure_question(
                    model,
                    questions[index],
                    index=index,
                    samples=arguments["samples"],
                    seed=arguments["seed"],
                )
            )
            lines.write(to_json(records[-1]) + "\n")
            lines.flush()
            progress(index + 1, len(questions))
    return records


def _summarize(
    records: Sequence[dict[str, Any]], images: Sequence[str], samples: int
) -> dict[str, Any]:
    """Return the parts of the report about explained questions."""
    if not records:
        return {"modality": None, "explanations": None}
    share = mean_of([record["text_share"] for record in records], images)
    modality = None
    if share is not None:
        shown = {name: share[name] for name in ("mean", "low", "high")}
        modality = {"text_share": shown, "count": share["count"], "samples": samples}
    return {"modality": modality, "explanations": summarize_trust(records, images)}


def _explainable(
    predictor: Predictor, corpus: Corpus, read: RegionReader, explained: int, seed: int
) -> list[Explained]:
    """Draw questions to explain."""
    vocabulary = AnswerVocabulary(predictor.answers)
    device = execution_device(_answering(predictor))
    questions = []
    for row in draw_rows(len(corpus), explained, seed=seed).tolist() if explained else []:
        example: Example = corpus[row]
        (regions,) = read(example.image_ids)
        scores = torch.from_numpy(vocabulary.scores(example.answers))
        found = predictor.inputs(example.text, regions)
        inputs = {name: value.to(device) for name, value in found.items()}
        questions.append(Explained(inputs, example.image_ids[0], scores))
    return questions


def _answering(predictor: Predictor) -> LxmertForQuestionAnswering:
    """Return the PyTorch model of a predictor."""
    assert isinstance(predictor.runtime, TorchRuntime)
    model = predictor.runtime.model
    assert isinstance(model, LxmertForQuestionAnswering)
    return model
