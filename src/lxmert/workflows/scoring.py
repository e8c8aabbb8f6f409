"""Scores anybody's result files against the official files, without a model."""

import logging
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from lxmert.metrics.files import check_coverage, collect, first_cases
from lxmert.metrics.gqa import GqaChoices, GqaQuestion, GqaScores, consistency_gap, score_gqa
from lxmert.metrics.gqa_files import read_gqa_choices, read_gqa_predictions, read_gqa_questions
from lxmert.metrics.grounding import (
    gold_regions,
    grounding_score,
    read_attentions,
    read_scene_graphs,
)
from lxmert.metrics.nlvr2 import (
    Nlvr2Scores,
    read_nlvr2_labels,
    read_nlvr2_predictions,
    score_nlvr2,
)
from lxmert.metrics.vqa import (
    VqaAnnotation,
    VqaScores,
    read_vqa_annotations,
    read_vqa_questions,
    read_vqa_results,
    score_vqa,
)

LOGGER = logging.getLogger(__name__)

Scores = VqaScores | GqaScores | Nlvr2Scores


class Metric(NamedTuple):
    """How a data set is scored, and from which files.

    Attributes:
        score: takes the files by name.
        required: names of the files that it needs.
        optional: names of those without which it computes less; a tuple of them comes together.
    """

    score: Callable[..., Scores]
    required: tuple[str, ...]
    optional: tuple[tuple[str, ...], ...] = ()


def score_files(metric: str, **paths: Path) -> Scores:
    """Score predictions by the official rules.

    Args:
        metric: a key of `METRICS`.
        paths: the files of that metric, by name.

    Returns:
        What `VqaScores`, `GqaScores` or `Nlvr2Scores` describe.

    Raises:
        FileNotFoundError: if one of the files is missing.
        ValueError: if the files are not those of the metric, or are damaged, or if the ids of the
            predictions are not those of the split.
    """
    if metric not in METRICS:
        raise ValueError(f"the metric is {metric!r}, expected one of {', '.join(METRICS)}")
    rule = METRICS[metric]
    missing = [name for name in rule.required if name not in paths]
    for names in rule.optional:
        if any(name in paths for name in names):
            missing += [name for name in names if name not in paths]
    if missing:
        raise ValueError(f"the metric {metric} also needs {_options(missing)}")
    known = {*rule.required, *(name for names in rule.optional for name in names)}
    unknown = [name for name in paths if name not in known]
    if unknown:
        raise ValueError(f"the metric {metric} does not take {_options(unknown)}: leave it out")
    return rule.score(**paths)


def score_vqa_files(*, questions: Path, annotations: Path, results: Path) -> VqaScores:
    """Score a results file of VQA v2 against the official files of one split.

    The official evaluator takes results for exactly the split: missing and
    unknown ids are errors.
    """
    asked = read_vqa_questions(questions)
    if not asked:
        raise ValueError(f"{questions} has no question: name the official questions")
    answered = read_vqa_results(results)
    check_coverage(answered, asked, name=str(results), reference=str(questions))
    return score_vqa(_read_annotations(answered, annotations, questions), answered)


def score_gqa_files(
    *,
    questions: Path,
    predictions: Path,
    choices: Path | None = None,
    scene_graphs: Path | None = None,
    attentions: Path | None = None,
) -> GqaScores:
    """Score predictions for GQA against the official files of one split.

    Every balanced question needs a prediction. As in the official script, predictions for questions
    that the file does not have are passed over, with a warning that counts them.

    Args:
        questions: the questions; all of them, not the balanced ones only, for consistency.
        predictions: the predictions.
        choices: sensible answers; absent: no validity and plausibility.
        scene_graphs: objects of the images; together with attentions.
        attentions: attention on a grid; absent: no grounding.
    """
    asked = read_gqa_questions(questions)
    balanced = {key: question for key, question in asked.items() if question.balanced}
    if not balanced:
        raise ValueError(f"{questions} has no balanced question: name GQA's balanced questions")
    answered = read_gqa_predictions(predictions)
    _check_answered(answered, balanced, asked, name=predictions, whole=questions)
    gap = consistency_gap(asked, answered)
    if gap:
        LOGGER.warning(
            "consistency is not computed: it needs all questions, unbalanced ones too, and a "
            "prediction for each; not there: %s",
            first_cases(gap),
        )
    grounding = None
    if scene_graphs is not None and attentions is not None:
        grounding = _ground(balanced, scene_graphs, attentions, questions)
    sensible = () if choices is None else _read_choices(balanced, choices, questions)
    return score_gqa(asked, answered, choices=sensible, grounding=grounding)


def score_nlvr2_files(*, examples: Path, predictions: Path) -> Nlvr2Scores:
    """Score predictions for NLVR2 against an official file.

    Every example needs a prediction. As in the official script, predictions for examples that the
    file does not have are passed over, with a warning that counts them.
    """
    labels, predicted = read_nlvr2_labels(examples), read_nlvr2_predictions(predictions)
    if not labels:
        raise ValueError(f"{examples} has no example: name a file of NLVR2")
    _check_answered(predicted, labels, labels, name=predictions, whole=examples)
    return score_nlvr2(labels, predicted)


def _options(names: Collection[str]) -> str:
    return ", ".join("--" + name.replace("_", "-") for name in names)


def _read_annotations(
    asked: Collection[int], annotations: Path, questions: Path
) -> Iterator[VqaAnnotation]:
    """Yield annotations as they are read; at the end, check that they are of these questions."""
    seen: dict[int, None] = {}
    for question_id, annotation in read_vqa_annotations(annotations):
        seen[question_id] = None
        if question_id in asked:
            yield annotation
    check_coverage(seen, asked, name=str(annotations), reference=str(questions))


def _check_answered(
    answered: Mapping[str, object],
    needed: Collection[str],
    known: Collection[str],
    *,
    name: Path,
    whole: Path,
) -> None:
    """Refuse missing predictions; count those that the official scripts pass over."""
    _check_complete(answered, needed, name=name, whole=whole)
    unknown = [key for key in answered if key not in known]
    if unknown:
        LOGGER.warning(
            "%s: passed over predictions that are about nothing in %s: %s",
            name,
            whole,
            first_cases(unknown),
        )


def _read_choices(
    balanced: Collection[str], choices: Path, questions: Path
) -> Iterator[tuple[str, GqaChoices]]:
    """Yield choices as they are read; at the end, check that no balanced question lacks them."""
    seen = set()
    for key, allowed in read_gqa_choices(choices):
        seen.add(key)
        yield key, allowed
    _check_complete(seen, balanced, name=choices, whole=questions)


def _ground(
    balanced: Mapping[str, GqaQuestion], scene_graphs: Path, attentions: Path, questions: Path
) -> dict[str, float]:
    """Return the grounding score of every balanced question, by id."""
    graphs = read_scene_graphs(scene_graphs)
    images = {question.image_id: None for question in balanced.values()}
    _check_complete(graphs, images, name=scene_graphs, whole=questions)
    regions = {key: gold_regions(q, graphs[q.image_id]) for key, q in balanced.items()}
    scores = (
        (key, grounding_score(attention, regions.get(key, ())))
        for key, attention in read_attentions(attentions)
    )
    grounding = collect(scores, attentions)
    _check_complete(grounding, balanced, name=attentions, whole=questions)
    return grounding


def _check_complete(
    given: Collection[str], needed: Collection[str], *, name: Path, whole: Path
) -> None:
    missing = [key for key in needed if key not in given]
    if missing:
        raise ValueError(
            f"{name} must be about each of the {len(needed)} ids that are scored in {whole}; it "
            f"lacks {first_cases(missing)}: are both files of the same split?"
        )


METRICS: dict[str, Metric] = {
    "vqa": Metric(score_vqa_files, ("questions", "annotations", "results")),
    "gqa": Metric(
        score_gqa_files,
        ("questions", "predictions"),
        (("choices",), ("scene_graphs", "attentions")),
    ),
    "nlvr2": Metric(score_nlvr2_files, ("examples", "predictions")),
}
"""Official metrics by name; the files are named as the options of `lxmert evaluate`."""
