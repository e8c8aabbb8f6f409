"""The official GQA scores except grounding."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, TypedDict, TypeVar

Group = TypeVar("Group", str, int)

_COMMON_CHOICES = ("color", "material", "shape")
"""Valid answers to "what do they have in common?", regardless of the choices file."""


class GqaQuestion(NamedTuple):
    """The properties of a question that scoring needs.

    Attributes:
        answer: the gold answer.
        balanced: whether it is in the balanced set; only that set is scored.
        structural: query, verify, choose, logical or compare; only queries are open questions.
        semantic: obj, attr, cat, rel or global.
        common: whether it asks what objects have in common.
        num_words: words of the question, split at whitespace.
        num_steps: operations of its program except those that only name or check existence.
        group: questions with similar answers, such as "color"; None if it has no group.
        entailed: ids of questions whose answers follow from this answer.
        image_id: its key in the scene graphs.
        object_ids: objects named by the question and its full answer, with repetitions.
    """

    answer: str
    balanced: bool
    structural: str
    semantic: str
    common: bool
    num_words: int
    num_steps: int
    group: str | None
    entailed: tuple[str, ...]
    image_id: str
    object_ids: tuple[str, ...]


class GqaChoices(NamedTuple):
    """Valid answers to a question, and plausible ones, which also occur in the real world."""

    valid: Sequence[str]
    plausible: Sequence[str]


class GqaScores(TypedDict):
    """Scores in percent, except `distribution`; None if a score cannot be computed.

    Attributes:
        accuracy: of balanced questions.
        binary: accuracy of questions that are not queries: yes/no or a choice of two.
        open: accuracy of queries.
        consistency: accuracy of entailed questions, over correctly answered questions.
        validity: percentage of answers in the scope of the question.
        plausibility: percentage of answers that are plausible in the real world.
        grounding: attention on the regions named in question and answer; can exceed 100, since
            regions overlap.
        distribution: distance between predicted and gold answer distributions; lower is better.
        per_structural_type: accuracy by query, verify, choose, logical, compare.
        per_semantic_type: accuracy by obj, attr, cat, rel, global.
        per_steps: accuracy by number of reasoning steps.
        per_length: accuracy by number of words.
    """

    accuracy: float | None
    binary: float | None
    open: float | None
    consistency: float | None
    validity: float | None
    plausibility: float | None
    grounding: float | None
    distribution: float | None
    per_structural_type: dict[str, float]
    per_semantic_type: dict[str, float]
    per_steps: dict[int, float]
    per_length: dict[int, float]


def score_gqa(
    questions: Mapping[str, GqaQuestion],
    predictions: Mapping[str, str],
    *,
    choices: Iterable[tuple[str, GqaChoices]] = (),
    grounding: Mapping[str, float] | None = None,
) -> GqaScores:
    """Compute all official scores.

    Args:
        questions: by id; at least one must be balanced.
        predictions: by question id, for every balanced question; others only count for
            consistency.
        choices: valid and plausible answers for every balanced question; empty: no validity.
        grounding: `grounding_score` of every balanced question; None: no grounding.

    Source: the GQA evaluation script. A mean over zero questions is None here and 0 there.
    """
    balanced = {key: question for key, question in questions.items() if question.balanced}
    right = {key: predictions[key] == question.answer for key, question in balanced.items()}
    is_open = {key: question.structural == "query" for key, question in balanced.items()}
    validity, plausibility = choice_scores(balanced, predictions, choices)
    return {
        "accuracy": percent(right.values()),
        "binary": percent(right[key] for key in balanced if not is_open[key]),
        "open": percent(right[key] for key in balanced if is_open[key]),
        "consistency": consistency(questions, predictions),
        "validity": validity,
        "plausibility": plausibility,
        "grounding": None if grounding is None else percent(grounding[key] for key in balanced),
        "distribution": distribution(
            (question.group, question.answer, predictions[key])
            for key, question in balanced.items()
            if question.group is not None
        ),
        "per_structural_type": _by((q.structural, right[key]) for key, q in balanced.items()),
        "per_semantic_type": _by((q.semantic, right[key]) for key, q in balanced.items()),
        "per_steps": _by((q.num_steps, right[key]) for key, q in balanced.items()),
        "per_length": _by((q.num_words, right[key]) for key, q in balanced.items()),
    }


def consistency(
    questions: Mapping[str, GqaQuestion], predictions: Mapping[str, str]
) -> float | None:
    """Return the consistency in percent.

    This is the mean over correctly answered balanced questions with entailed questions other than
    themselves: the fraction of the entailed questions that are answered correctly.

    Returns:
        None if predictions or entailed questions are missing (see `consistency_gap`), or if no
        correctly answered question entails another.
    """
    if consistency_gap(questions, predictions):
        return None
    shares = []
    for key, question in questions.items():
        entailed = _entailed(key, question, predictions)
        if entailed:
            hits = [predictions[other] == questions[other].answer for other in entailed]
            shares.append(sum(hits) / len(hits))
    return percent(shares)


def consistency_gap(
    questions: Mapping[str, GqaQuestion], predictions: Mapping[str, str]
) -> list[str]:
    """Return ids of questions without a prediction and of entailed questions that are missing.

    The official script computes consistency only if all questions have predictions, balanced or
    not.
    """
    gap = [key for key in questions if key not in predictions]
    unknown = {
        other: None
        for key, question in questions.items()
        for other in _entailed(key, question, predictions)
        if other not in questions
    }
    return gap + list(unknown)


def choice_scores(
    questions: Mapping[str, GqaQuestion],
    predictions: Mapping[str, str],
    choices: Iterable[tuple[str, GqaChoices]],
) -> tuple[float | None, float | None]:
    """Return the percentages of valid and of plausible answers.

    Args:
        questions: the questions to score, by id.
        predictions: an answer for each of them.
        choices: by question id; other questions are skipped. Read once.
    """
    valid, plausible = [], []
    for key, allowed in choices:
        if key in questions:
            common = questions[key].common
            valid.append(predictions[key] in (_COMMON_CHOICES if common else allowed.valid))
            plausible.append(predictions[key] in (_COMMON_CHOICES if common else allowed.plausible))
    return percent(valid), percent(plausible)


def distribution(answers: Iterable[tuple[str, str, str]]) -> float | None:
    """Return the distance between predicted and gold answer distributions; 0 if equal.

    For each group this is the chi-square of predicted against gold counts over the gold answers;
    other answers are not counted. Groups are averaged, weighted by their gold counts, and divided
    by 100.

    Args:
        answers: group, gold answer and predicted answer of each question.
    """
    gold: dict[str, Counter[str]] = defaultdict(Counter)
    predicted: dict[str, Counter[str]] = defaultdict(Counter)
    for group, answer, prediction in answers:
        gold[group][answer] += 1
        predicted[group][prediction] += 1
    total = sum(counts.total() for counts in gold.values())
    if not total:
        return None
    weighted = sum(
        counts.total()
        * sum((predicted[group][answer] - count) ** 2 / count for answer, count in counts.items())
        for group, counts in gold.items()
    )
    return weighted / total / 100


def percent(scores: Iterable[float]) -> float | None:
    """Return the mean times 100, or None without any score."""
    values = list(scores)
    return 100 * sum(values) / len(values) if values else None


def _entailed(key: str, question: GqaQuestion, predictions: Mapping[str, str]) -> tuple[str, ...]:
    """Return the questions other than itself that a correct, balanced question entails."""
    if not question.balanced or predictions.get(key) != question.answer:
        return ()
    return tuple(other for other in question.entailed if other != key)


def _by(scores: Iterable[tuple[Group, bool]]) -> dict[Group, float]:
    """Return the accuracy by group in percent, sorted by group."""
    groups: dict[Group, list[bool]] = defaultdict(list)
    for group, score in scores:
        groups[group].append(score)
    return {group: 100 * sum(groups[group]) / len(groups[group]) for group in sorted(groups)}
