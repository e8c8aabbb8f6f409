"""Validation metrics of the pretraining objectives, with chance levels.

A region has one attribute in each group of the detector (color, size, ...), but the model has a
single attribute head. With n groups, the accuracy is the share of a region's attributes among its
n most probable classes.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lxmert.schema import IGNORE_INDEX
from lxmert.tasks.task import Batch


class PretrainingMetrics:
    """Accumulates predictions and targets of masked positions over validation batches."""

    def __init__(self, names: Sequence[str]) -> None:
        """Start empty; `names` are those of the objectives."""
        self.right: Counter[str] = Counter()
        self.several: dict[str, int] = {}
        self.targets: dict[str, Counter[int]] = {name: Counter() for name in names}
        self.answered: Counter[str] = Counter()
        self.answered_right: Counter[str] = Counter()
        self.errors: list[Tensor] = []
        self.features: list[Tensor] = []

    def add(self, output: Any, batch: Batch, sources: Sequence[str]) -> None:
        """Add one batch.

        Args:
            output: the output of the pretraining model.
            batch: the batch of the task.
            sources: name of the file of each text.
        """
        chosen, masked = batch["chosen"], batch["labels"] != IGNORE_INDEX
        asked = batch["answers"] != IGNORE_INDEX
        scores = {
            "mask_lm": (_pick(output.prediction_logits, masked), batch["labels"][masked]),
            "matched": (output.cross_relationship_score.cpu(), batch["matched"]),
            "obj": (_pick(output.object_logits, chosen), batch["object_ids"][chosen]),
            "qa": (_pick(output.question_answering_score, asked), batch["answers"][asked]),
        }
        for name, (logits, targets) in scores.items():
            self._count(name, logits, targets[:, None])
        if output.attribute_logits is not None:
            attributes = batch["attribute_ids"][chosen]
            self._count("attr", _pick(output.attribute_logits, chosen), attributes)
        given = output.question_answering_score.argmax(-1).cpu() == batch["answers"]
        for row in asked.nonzero()[:, 0].tolist():
            self.answered[sources[row]] += 1
            self.answered_right[sources[row]] += int(given[row])
        true = batch["true_features"][chosen]
        predicted = _pick(output.feature_predictions, chosen)
        self.errors.append(nn.functional.smooth_l1_loss(predicted, true, reduction="none").mean(1))
        self.features.append(true)

    def _count(self, name: str, logits: Tensor, targets: Tensor) -> None:
        """Count the targets `[rows, several]` that are among as many most probable classes."""
        self.several[name] = several = targets.shape[1]
        best = logits.topk(several).indices
        self.right[name] += int((targets[:, :, None] == best[:, None]).sum())
        self.targets[name].update(targets.flatten().tolist())

    def scores(self) -> dict[str, float]:
        """Return accuracies and errors with their chance levels."""
        result = {}
        for name, targets in self.targets.items():
            total = sum(targets.values())
            if total:
                result[f"{name}_accuracy"] = self.right[name] / total
                frequent = targets.most_common(self.several[name])
                result[f"{name}_chance"] = sum(count for _, count in frequent) / total
        if len(self.answered) > 1:
            for source, count in sorted(self.answered.items()):
                result[f"qa_accuracy_{source}"] = self.answered_right[source] / count
        true = torch.cat(self.features)
        mean = true.mean(0, keepdim=True).expand_as(true)
        result["feat_error"] = float(torch.cat(self.errors).mean())
        result["feat_chance"] = float(nn.functional.smooth_l1_loss(mean, true))
        return result


def _pick(scores: Tensor, rows: Tensor) -> Tensor:
    """Select rows before copying them to the host: the logits of all words take gigabytes."""
    return scores[rows.to(scores.device)].float().cpu()
