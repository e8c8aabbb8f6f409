"""Studies a model on a data set: what `lxmert study` runs, and where its results are written."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lxmert.data.corpus import Corpus
from lxmert.data.splits import draw_rows
from lxmert.explain.shapley import shapley_for_answers, text_share
from lxmert.files import to_json, write_text
from lxmert.hub import find_model
from lxmert.metrics.intervals import bootstrap
from lxmert.model.heads import LxmertForQuestionAnswering
from lxmert.model.runtime import TorchRuntime
from lxmert.names import count
from lxmert.predict import Predictor, Progress, RegionReader, open_reader
from lxmert.schema import Regions
from lxmert.study.confidence import measure_confidence
from lxmert.study.page import write_page
from lxmert.study.robustness import measure_robustness
from lxmert.study.trust import measure_trust
from lxmert.tasks.metrics import accuracy_by_question_type, intervals_by_question_type

REPORT, PAGE = "study.json", "study.html"
"""Files in the results folder."""

EXPLAINED = 50
"""Questions whose answers are explained."""


def study_model(
    model: str | Path,
    data: Path,
    output: Path,
    *,
    images: Path | None = None,
    stores: tuple[Path, ...] = (),
    limit: int | None = None,
    explained: int = EXPLAINED,
    seed: int = 0,
    device: str = "cpu",
    progress: Progress = lambda done, total: None,  # noqa: ARG005
) -> dict[str, Any]:
    """Measure accuracy, robustness, confidence and the contribution of each modality.

    Args:
        model: folder or hub name of a model that answers questions.
        data: JSONL file of questions with answers.
        output: folder to write `study.json` and `study.html` to.
        images: image folder.
        stores: region stores to use instead of images.
        limit: number of questions, drawn at random; None: all.
        explained: number of these whose answers are explained; 0: none.
        seed: seed of all random choices.
        device: where to compute.
        progress: called with the numbers of finished and of all steps.

    Returns:
        The written report: `model`, `data`, `seed`, `count`; `accuracy` and `intervals` by question
        type; `robustness` (see `measure_robustness`); `confidence` (see `measure_confidence`);
        `modality`: the mean share of the text in the Shapley values (T-SHAP) with its interval, and
        the number of questions; and `explanations` (see `measure_trust`). The last two are None if
        no question was explained.

    Raises:
        FileExistsError: if the folder already has results.
        ValueError: if the model answers no questions about one image, or nothing can be scored.
    """
    if (output / REPORT).exists():
        raise FileExistsError(f"{output / REPORT} exists already: name another folder with -o")
    folder = find_model(model)
    predictor = Predictor.from_pretrained(folder, device=device)
    if predictor.num_images != 1:
        raise ValueError(
            f"{model} judges statements about two images: expected a model that answers questions"
        )
    corpus = _read(data, limit, seed)
    read = _Remembered(open_reader(folder, images=images, stores=stores, device=device))
    examples = list(corpus)
    steps = 7 * len(corpus)  # logits, and six passes of the robustness suite
    logits = np.zeros((len(corpus), len(predictor.answers)), np.float32)
    done = 0
    for indices, found in predictor.logits(corpus, read):
        logits[indices] = found
        done += len(indices)
        progress(done, steps)
    answers = [predictor.answers[place] for place in logits.argmax(axis=1)]
    questions = _explainable(predictor, corpus, read, explained, seed)
    report: dict[str, Any] = {
        "model": str(model),
        "data": str(data),
        "seed": seed,
        "count": len(corpus),
        "accuracy": accuracy_by_question_type(examples, answers),
        "intervals": intervals_by_question_type(examples, answers),
        "robustness": measure_robustness(
            predictor,
            corpus,
            read,
            seed=seed,
            progress=lambda done, _: progress(len(corpus) + done, steps),
        ),
        "confidence": measure_confidence(examples, logits, predictor.answers, seed=seed),
        "modality": _modality(_answering(predictor), questions, seed),
        "explanations": (
            measure_trust(_answering(predictor), questions, seed=seed) if questions else None
        ),
    }
    output.mkdir(parents=True, exist_ok=True)
    write_page(report, output / PAGE)
    write_text(output / REPORT, to_json(report, indent=1) + "\n")
    return report


class _Remembered:
    """A reader that keeps the regions of all images, since every image is read several times."""

    def __init__(self, read: RegionReader) -> None:
        self._read = read
        self._known: dict[str, Regions] = {}
        self.name = read.name

    def problem(self, image_id: str) -> str | None:
        """Return why an image has no regions; None if it has."""
        return self._read.problem(image_id)

    def __call__(self, image_ids: Sequence[str]) -> list[Regions]:
        """Return the regions of each image."""
        new = [name for name in dict.fromkeys(image_ids) if name not in self._known]
        self._known |= zip(new, self._read(new) if new else (), strict=True)
        return [self._known[name] for name in image_ids]


def _read(data: Path, limit: int | None, seed: int) -> Corpus:
    """Read the questions with answers, and draw some of them."""
    corpus = Corpus.read([data], strict=True)
    corpus = corpus.select(np.flatnonzero(corpus.num_answers()))
    if len(corpus) < 2:
        raise ValueError(
            f"{data} has {count(len(corpus), 'question')} with an answer: expected at least two"
        )
    return corpus.select(draw_rows(len(corpus), limit, seed=seed))


def _explainable(
    predictor: Predictor, corpus: Corpus, read: RegionReader, explained: int, seed: int
) -> list[tuple[dict[str, torch.Tensor], str]]:
    """Draw questions to explain, each with its image."""
    questions = []
    for row in draw_rows(len(corpus), explained, seed=seed).tolist() if explained else []:
        image = corpus.image_ids(row)[0]
        (regions,) = read([image])
        questions.append((predictor.inputs(corpus[row].text, regions), image))
    return questions


def _answering(predictor: Predictor) -> LxmertForQuestionAnswering:
    """Return the PyTorch model of a predictor."""
    assert isinstance(predictor.runtime, TorchRuntime)
    model = predictor.runtime.model
    assert isinstance(model, LxmertForQuestionAnswering)
    return model


def _modality(
    model: LxmertForQuestionAnswering,
    questions: Sequence[tuple[dict[str, torch.Tensor], str]],
    seed: int,
) -> dict[str, Any] | None:
    """Return the share of the text in the Shapley values of the best answers."""
    shares, images = [], []
    for inputs, image in questions:
        with torch.inference_mode():
            best = model(**inputs).question_answering_score.argmax(dim=-1)
        values, _ = shapley_for_answers(model, inputs, best, seed=seed)
        share = float(text_share(values)[0])
        if np.isfinite(share):
            shares.append(share)
            images.append(image)
    if not shares:
        return None
    return {"text_share": bootstrap(shares, images)._asdict(), "count": len(shares)}
