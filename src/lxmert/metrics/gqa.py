"""The official scores of GQA, but for grounding."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, TypedDict, TypeVar

Group = TypeVar("Group", str, int)

_COMMON_CHOICES = ("color", "material", "shape")
"""What may be answered to "what do they have in common?", whatever the choices file says."""


class GqaQuestion(NamedTuple):
    """What scoring needs to know about a question.

    Attributes:
        answer: the gold answer.
        balanced: whether it is in the balanced set, which alone is scored.
        structural: query, verify, choose, logical or compare; only a query is open.
        semantic: obj, attr, cat, rel or global.
        common: whether it asks what objects have in common.
        num_words: words of the question, split at white space.
        num_steps: operations of its program, without those that only name or check existence.
        group: questions with like answers, such as "color"; None where it has none.
        entailed: ids of the questions whose answers follow from this one's.
        image_id: key of the scene graphs.
        object_ids: objects named by the question and by its full answer, as often as they are.
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
    """Answers that make sense to a question; plausible ones also occur in the real world."""

    valid: Sequence[str]
    plausible: Sequence[str]


class GqaScores(TypedDict):
    """Scores in percent, but for `distribution`; None is what cannot be computed.

    Attributes:
        accuracy: of balanced questions.
        binary: of those that are no query: yes or no, this or that.
        open: of queries.
        consistency: of what questions entail, over those answered correctly.
        validity: share of answers in the scope of the question.
        plausibility: share of answers that make sense in the real world.
        grounding: attention on the regions that question and answer name; not a share, since
            regions overlap.
        distribution: distance of the answers' distribution from the gold one; lower is better.
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
    """Score predictions by every official measure.

    Args:
        questions: by id; at least one balanced one.
        predictions: an answer for every balanced question, by question id; others are used for
            consistency alone.
        choices: sensible answers for every balanced question; none: no validity.
        grounding: attention on the regions of every balanced question, from `grounding_score`;
            absent: no grounding.

    Source: the evaluation script of GQA. A mean over no question is None, where the script says 0.
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
    """Return in percent how well what follows from correct answers is answered.

    Over balanced questions that are answered correctly and entail others than themselves: the mean
    share of the entailed questions that are answered correctly.

    Returns:
        None where predictions or entailed questions are missing (`consistency_gap` says which), or
        where no correct answer entails another.
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
    """Return the ids that consistency lacks: questions without prediction, entailed ones not there.

    The script wants predictions for all questions, balanced or not, before it computes consistency.
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
    """Return in percent how many answers are valid, and how many are plausible.

    Args:
        questions: those to score, by id.
        predictions: an answer for each of them.
        choices: by question id; those of other questions are passed over. Read once.
    """
    valid, plausible = [], []
    for key, allowed in choices:
        if key in questions:
            common = questions[key].common
            valid.append(predictions[key] in (_COMMON_CHOICES if common else allowed.valid))
            plausible.append(predictions[key] in (_COMMON_CHOICES if common else allowed.plausible))
    return percent(valid), percent(plausible)


def distribution(answers: Iterable[tuple[str, str, str]]) -> float | None:
    """Return how far the distribution of the answers is from the gold one; 0 is equal.

    In each group: the chi-square of predicted against gold counts, over the gold answers (others
    count nothing). The groups are averaged, weighted by their gold counts, and divided by 100.

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
    """Return the mean times 100; None where there is nothing."""
    values = list(scores)
    return 100 * sum(values) / len(values) if values else None


def _entailed(key: str, question: GqaQuestion, predictions: Mapping[str, str]) -> tuple[str, ...]:
    """Return what a correctly answered, balanced question entails, itself left out."""
    if not question.balanced or predictions.get(key) != question.answer:
        return ()
    return tuple(other for other in question.entailed if other != key)


def _by(scores: Iterable[tuple[Group, bool]]) -> dict[Group, float]:
    """Return accuracy by group in percent, sorted by group."""
    groups: dict[Group, list[bool]] = defaultdict(list)
    for group, score in scores:
        groups[group].append(score)
    return {group: 100 * sum(groups[group]) / len(groups[group]) for group in sorted(groups)}
