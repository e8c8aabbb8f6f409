"""Measures how much words and regions contribute to a model's answers over a data set (MM-SHAP)."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from lxmert.data.corpus import Corpus
from lxmert.data.splits import draw_rows
from lxmert.explain.shapley_values import SAMPLES
from lxmert.explain.views import match_view
from lxmert.files import check_absent, folder_sha256, resume_log, sha256, to_json, write_text
from lxmert.hub import find_model
from lxmert.model.heads import LxmertForQuestionAnswering
from lxmert.pipeline import LxmertPipeline
from lxmert.predict import ImageRegions, Progress, check_images, region_batches
from lxmert.schema import Example
from lxmert.study.matching import read_foils
from lxmert.study.trust import mean_of, question_text_share
from lxmert.tasks.metrics import rows_by_question_type
from lxmert.workflows.questions import choose_questions, open_answering

REPORT, _PROGRESS = "modalities.json", "modalities-progress.jsonl"
"""Files in the results folder; the last one exists until the results are complete."""

MATCHES = 1
"""Answer of a `match_view` that a caption describes its image."""

Report = dict[str, Any]


UNVALIDATED = "pairs left out, which annotators did not validate"


class AskedTexts(NamedTuple):
    """What a model is asked.

    Attributes:
        examples: texts about one image; `question_type` is what they are grouped by.
        left_out: number of lines without an answer.
        findings: other problems -> `count` and `first` cases.
    """

    examples: list[Example]
    left_out: int
    findings: Report


def measure_modalities(
    model: str,
    data: Path,
    images: Path,
    output: Path,
    *,
    match: bool = False,
    limit: int | None = None,
    samples: int = SAMPLES,
    seed: int = 0,
    device: str = "cpu",
    progress: Progress = lambda done, total: None,  # noqa: ARG005
) -> Report:
    """Compute the share of the words in the Shapley values of each answer or match (T-SHAP).

    The same call resumes an interrupted job.

    Args:
        model: folder or hub name.
        data: JSONL file of questions with answers; with `match`, a file of captions and foils.
        images: image folder.
        output: folder to write `modalities.json` to.
        match: explain the probability that a caption, or a foil, matches, instead of best answers.
        limit: number of questions or pairs, drawn at random with a fixed seed; None: all.
        samples: coalitions for each text.
        seed: seed of the coalitions.
        device: where to compute.
        progress: called with the numbers of finished and of all texts.

    Returns:
        The written report: `model`, `data`, `match`, `samples`, `seed`, `left_out`, `findings`;
        `text_share`: `overall` and each question type (or `caption` and `foil`) -> `mean`, `low`,
        `high` (95% interval, resampling images) and `count`; None where nothing contributes; and
        `examples`: `id`, `image`, `text`, `group` and `text_share` of each.

    Raises:
        FileExistsError: if the folder already has results.
        ValueError: if the model cannot be asked this, nothing can be used, or the folder belongs to
            another job.

    Source: Parcalabescu and Frank, MM-SHAP (ACL 2023), equations 2 to 4; V-SHAP is 1 - T-SHAP.
    """
    check_absent(output / REPORT, remedy="name another folder with -o")
    texts = _foils(data, limit) if match else _questions(data, images, limit)
    pipeline, asked = _open(model, match=match, device=device)
    output.mkdir(parents=True, exist_ok=True)
    arguments = {
        "model": model,
        "model files": folder_sha256(find_model(model)),
        "data": str(data),
        "data file": sha256(data)[:16],
        "images": str(images),
        "match": match,
        "texts": len(texts.examples),
        "samples": samples,
        "seed": seed,
    }
    path = output / _PROGRESS
    shares = resume_log(path, arguments, remedy=f"name another folder, or remove {path}")
    answer_id = MATCHES if match else None
    with path.open("a", encoding="utf-8") as lines:
        for inputs in _inputs(pipeline, texts.examples[len(shares) :], images):
            share = question_text_share(
                asked, inputs, answer_id=answer_id, samples=samples, seed=seed
            )
            shares.append(share)
            lines.write(to_json(share) + "\n")
            lines.flush()
            progress(len(shares), len(texts.examples))
    report = arguments | _describe(texts.examples, shares)
    report |= {"left_out": texts.left_out, "findings": texts.findings}
    write_text(output / REPORT, to_json(report, indent=1) + "\n")
    path.unlink()
    return report


def _open(
    model: str, *, match: bool, device: str
) -> tuple[LxmertPipeline, LxmertForQuestionAnswering]:
    """Load a pipeline, and the model that answers questions or says whether a caption matches."""
    if not match:
        return open_answering(model, device=device)
    pipeline = LxmertPipeline.from_pretrained(model, device=device)
    if pipeline.matcher is None:
        raise ValueError(
            f"{model} has no matching head: leave out --match to explain answers, or name a "
            "pretrained model"
        )
    return pipeline, match_view(pipeline.matcher)


def _questions(data: Path, images: Path, limit: int | None) -> AskedTexts:
    asked, left_out, findings = choose_questions(data, images, limit=limit)
    return AskedTexts([row.example for row in asked], left_out, findings)


def _foils(data: Path, limit: int | None) -> AskedTexts:
    """Read captions and foils as texts of the groups `caption` and `foil`, ordered by image."""
    pairs, invalid = read_foils(data)
    chosen = [pairs[row] for row in draw_rows(len(pairs), limit, seed=0)]
    examples = [
        Example(pair.pair_id, text, (pair.image,), question_type=kind)
        for pair in sorted(chosen, key=lambda pair: pair.image)
        for kind, text in (("caption", pair.caption), ("foil", pair.foil))
    ]
    found = {"count": len(invalid), "first": invalid[:3]}
    return AskedTexts(examples, 0, {UNVALIDATED: found} if invalid else {})


def _inputs(
    pipeline: LxmertPipeline, examples: Sequence[Example], images: Path
) -> Iterator[dict[str, torch.Tensor]]:
    """Yield the arguments of forward for each text, in order; each image is read once in a row."""
    read = ImageRegions(images, pipeline.processor)
    check_images(Corpus.of(examples), read, 1)
    for indices, found in region_batches(examples, read, batch_size=16):
        for index, regions in zip(indices, found, strict=True):
            inputs = pipeline.processor.inputs([regions[0]], [examples[index].text])
            yield {name: value.to(pipeline.device) for name, value in inputs.items()}


def _describe(examples: Sequence[Example], shares: Sequence[float | None]) -> Report:
    """Return the mean share of each group, and that of each text."""
    rows = rows_by_question_type(examples)
    images = [example.image_ids[0] for example in examples]
    return {
        "text_share": {
            name: mean_of([shares[row] for row in own], [images[row] for row in own])
            for name, own in rows.items()
        },
        "examples": [
            {
                "id": example.example_id,
                "image": image,
                "text": example.text,
                "group": example.question_type,
                "text_share": share,
            }
            for example, image, share in zip(examples, images, shares, strict=True)
        ],
    }
