"""Linear probes of states with a control task: what a layer makes linearly available."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from lxmert.data.lines import scan_lines
from lxmert.metrics.intervals import bootstrap
from lxmert.names import count, unknown_name
from lxmert.predict import Progress
from lxmert.study.states import StatesFile, read_states

PENALTY = 1e-3
"""Weight of half the squared norm of a probe's weights."""

CONTROLS = 3
"""Random control tasks that are averaged."""

PREFIX = 3
"""Words at the beginning of a text that decide its control label."""

_STEPS = 100
_TOO_MANY = 1_000

Labels = npt.NDArray[np.int64]
Hits = npt.NDArray[np.float64]


class ProbeRow(TypedDict):
    """A probe of one layer, on the test half; intervals are 95%, resampling images.

    Attributes:
        accuracy: share of correct labels.
        low: lower limit of its interval.
        high: upper limit.
        control: accuracy on the control task, the mean over `CONTROLS` draws.
        selectivity: accuracy minus control.
        selectivity_low: lower limit of its interval.
        selectivity_high: upper limit.
    """

    accuracy: float
    low: float
    high: float
    control: float
    selectivity: float
    selectivity_low: float
    selectivity_high: float


class ProbeReport(TypedDict):
    """Result of `probe_states`.

    Attributes:
        label: what is predicted.
        classes: number of labels.
        majority: accuracy of the most frequent label of the training half.
        layers: a row for each layer.
        train: number of training examples.
        test: number of test examples.
        seen: share of test examples whose text begins like a training example's, without which the
            control task cannot be learned.
        warnings: what limits the meaning of the numbers.
    """

    label: str
    classes: int
    majority: float
    layers: dict[str, ProbeRow]
    train: int
    test: int
    seen: float
    warnings: list[str]


def probe_states(
    states: Path,
    data: Path,
    label: str,
    *,
    seed: int = 0,
    progress: Progress = lambda done, total: None,  # noqa: ARG005
) -> ProbeReport:
    """Train a linear probe and its control task on each layer of a file of states.

    The images are split at random into a training and a test half. The control task gives all
    texts with the same first `PREFIX` words the same random label, drawn from the labels of the
    training half, so that only memorizing these words solves it. A probe whose accuracy exceeds
    that of its control task by much (selectivity) reads what the states represent, instead of
    memorizing.

    Args:
        states: file of pooled states, as written by `lxmert states`.
        data: JSONL file with the same `question_id`s, which has the labels.
        label: key of the lines: `answer`, `question_type`, or any other key with a text, a number
            or a truth value.
        seed: seed of the split and of the control tasks.
        progress: called with the numbers of finished and of all layers.

    Raises:
        ValueError: if the file has no pooled states, an example has no label, an id belongs to
            several lines, or there are too few examples, images or labels.

    Source: Hewitt & Liang 2019, Designing and Interpreting Probes with Control Tasks, sections 2
    and 3; their control labels belong to word types, ours to beginnings of texts, since whole texts
    rarely recur.
    """
    file = read_states(states)
    if file.of != "pooled":
        raise ValueError(f"{states} has states of {file.of}: expected --of pooled, one per example")
    names = _labels(file, data, label)
    train = _training_rows(file.images, seed)
    classes = sorted({names[row] for row in np.flatnonzero(train)})
    if len(classes) < 2:
        raise ValueError(
            f"all training examples have the label {classes[0]!r}: expected two labels"
        )
    if len(classes) > _TOO_MANY:
        raise ValueError(
            f"{label!r} has {len(classes):,} different values: expected at most {_TOO_MANY:,}"
        )
    places = {name: place for place, name in enumerate(classes)}
    targets = np.array([places.get(name, -1) for name in names])
    types = [" ".join(text.lower().split()[:PREFIX]) for text in file.texts]
    controls = _control_tasks(types, targets[train], seed)
    rows: dict[str, ProbeRow] = {}
    for done, (layer, features) in enumerate(file.states.items()):
        hits = _hits(features, targets, train, len(classes))
        control = np.mean([_hits(features, task, train, len(classes)) for task in controls], axis=0)
        rows[layer] = _row(hits, control, [file.images[row] for row in np.flatnonzero(~train)])
        progress(done + 1, len(file.states))
    return _report(label, len(classes), rows, types, targets, train)


def _report(
    label: str,
    num_classes: int,
    rows: dict[str, ProbeRow],
    types: Sequence[str],
    targets: Labels,
    train: npt.NDArray[np.bool_],
) -> ProbeReport:
    most = int(np.bincount(targets[train]).argmax())
    known = {types[row] for row in np.flatnonzero(train).tolist()}
    seen = float(np.mean([types[row] in known for row in np.flatnonzero(~train).tolist()]))
    warnings = []
    if seen < 0.5:
        warnings.append(
            f"only {seen:.1%} of the test texts begin like a training text, so that the control "
            "task can hardly be learned: its accuracy is too low, and the selectivity too high"
        )
    unknown = int((targets[~train] < 0).sum())
    if unknown:
        warnings.append(f"{count(unknown, 'test example')} with a label that training never shows")
    return {
        "label": label,
        "classes": num_classes,
        "majority": float((targets[~train] == most).mean()),
        "layers": rows,
        "train": int(train.sum()),
        "test": int((~train).sum()),
        "seen": seen,
        "warnings": warnings,
    }


def fit_probe(features: Tensor, labels: Tensor, num_classes: int, *, penalty: float) -> Tensor:
    """Fit multinomial logistic regression; return weights and biases `[classes, dim + 1]`.

    Minimizes the mean cross-entropy plus `penalty` / 2 times the squared norm of the weights; the
    biases, the last column, are not penalized.

    Args:
        features: `[examples, dim]`.
        labels: `[examples]` class ids.
        num_classes: number of classes.
        penalty: weight of the penalty.
    """
    weights = torch.zeros(
        num_classes, features.shape[1] + 1, dtype=features.dtype, requires_grad=True
    )
    optimizer = torch.optim.LBFGS(
        [weights], max_iter=_STEPS, tolerance_grad=1e-6, line_search_fn="strong_wolfe"
    )

    def loss() -> float:
        optimizer.zero_grad()
        logits = functional.linear(features, weights[:, :-1], weights[:, -1])
        value = functional.cross_entropy(logits, labels)
        value = value + penalty / 2 * weights[:, :-1].square().sum()
        value.backward()  # type: ignore[no-untyped-call]
        return float(value.detach())

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    return weights.detach()


def _hits(
    features: Tensor, targets: Labels, train: npt.NDArray[np.bool_], num_classes: int
) -> Hits:
    """Train a probe on the training rows; return whether each test row is correct, 0 or 1."""
    rows, labels = torch.from_numpy(train), torch.from_numpy(targets)
    mean, deviation = features[rows].mean(dim=0), features[rows].std(dim=0)
    scaled = (features - mean) / deviation.clamp(min=1e-6)
    weights = fit_probe(scaled[rows], labels[rows], num_classes, penalty=PENALTY)
    logits = functional.linear(scaled[~rows], weights[:, :-1], weights[:, -1])
    return (logits.argmax(dim=1) == labels[~rows]).double().numpy()


def _control_tasks(types: Sequence[str], labels: Labels, seed: int) -> list[Labels]:
    """Draw a random label for each distinct type, several times; each task `[examples]`."""
    distinct = {name: place for place, name in enumerate(sorted(set(types)))}
    places = [distinct[name] for name in types]
    generator = np.random.default_rng([seed, 1])
    return [generator.choice(labels, size=len(distinct))[places] for _ in range(CONTROLS)]


def _row(hits: Hits, control: Hits, images: Sequence[str]) -> ProbeRow:
    accuracy, selectivity = bootstrap(hits, images), bootstrap(hits - control, images)
    return {
        "accuracy": accuracy.mean,
        "low": accuracy.low,
        "high": accuracy.high,
        "control": float(control.mean()),
        "selectivity": selectivity.mean,
        "selectivity_low": selectivity.low,
        "selectivity_high": selectivity.high,
    }


def _training_rows(images: Sequence[str], seed: int) -> npt.NDArray[np.bool_]:
    """Draw half of the images; True for the examples about them."""
    names = sorted(set(images))
    if len(names) < 4:
        raise ValueError(
            f"the states are about {count(len(names), 'image')}: expected at least 4, half of them "
            "for training"
        )
    order = np.random.default_rng(seed).permutation(len(names))
    chosen = {names[place] for place in order[: len(names) // 2]}
    return np.array([image in chosen for image in images])


def _labels(file: StatesFile, data: Path, label: str) -> list[str]:
    """Return the label of each example of the states."""
    found: dict[str, Any] = {}
    times: Counter[str] = Counter()
    for line in scan_lines(data):
        record: Mapping[str, Any] = line.record or {}
        given = record.get("question_id")
        example_id = line.number if given is None else given
        if isinstance(example_id, float) and example_id.is_integer():
            example_id = int(example_id)
        found[str(example_id)] = record.get(label)
        times[str(example_id)] += 1
    twice = next((example_id for example_id in file.ids if times[example_id] > 1), None)
    if twice is not None:
        raise ValueError(
            f"{data} has the question_id {twice!r} more than once: make the ids unique, and write "
            "the states again"
        )
    missing = [example_id for example_id in file.ids if example_id not in found]
    if missing:
        raise ValueError(
            f"{data} lacks {len(missing):,} of the {count(len(file.ids), 'example')} of the "
            f"states, such as {missing[0]!r}: name the file that the states were made from"
        )
    bare = [e for e in file.ids if not isinstance(found[e], str | int | float)]
    if bare:
        keys = {key for line in scan_lines(data) for key in (line.record or {})}
        hint = f"; {unknown_name(label, sorted(keys))}" if label not in keys else ""
        raise ValueError(
            f"{data}: {len(bare):,} of {count(len(file.ids), 'example')} have no text, number or "
            f"truth value under {label!r}, such as {bare[0]!r}{hint}"
        )
    return [str(found[example_id]) for example_id in file.ids]
