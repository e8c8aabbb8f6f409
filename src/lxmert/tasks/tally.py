"""Scores of pretraining's objectives over validation batches, each beside what chance reaches."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lxmert.schema import IGNORE_INDEX
from lxmert.tasks.task import Batch


class Tally:
    """Collects predictions and targets of masked positions over validation batches."""

    def __init__(self, names: Sequence[str]) -> None:
        """Start with nothing; `names` are those of the objectives."""
        self.right: Counter[str] = Counter()
        self.targets: dict[str, Counter[int]] = {name: Counter() for name in names}
        self.errors: list[Tensor] = []
        self.features: list[Tensor] = []

    def add(self, output: Any, batch: Batch) -> None:
        """Count one batch."""
        chosen, masked = batch["chosen"], batch["labels"] != IGNORE_INDEX
        asked = batch["answers"] != IGNORE_INDEX
        scores = {
            "mask_lm": (output.prediction_logits.cpu()[masked], batch["labels"][masked]),
            "matched": (output.cross_relationship_score.cpu(), batch["matched"]),
            "obj": (output.object_logits.cpu()[chosen], batch["object_ids"][chosen]),
            "qa": (output.question_answering_score.cpu()[asked], batch["answers"][asked]),
        }
        if output.attribute_logits is not None:
            attributes = output.attribute_logits.cpu()[chosen]
            scores["attr"] = (attributes, batch["attribute_ids"][chosen])
        for name, (logits, targets) in scores.items():
            self.right[name] += int((logits.argmax(-1) == targets).sum())
            self.targets[name].update(targets.tolist())
        true = batch["true_features"][chosen]
        predicted = output.feature_predictions.cpu()[chosen].float()
        self.errors.append(nn.functional.smooth_l1_loss(predicted, true, reduction="none").mean(1))
        self.features.append(true)

    def scores(self) -> dict[str, float]:
        """Return accuracies and errors beside chance."""
        result = {}
        for name, targets in self.targets.items():
            total = sum(targets.values())
            if total:
                result[f"{name}_accuracy"] = self.right[name] / total
                result[f"{name}_chance"] = targets.most_common(1)[0][1] / total
        true = torch.cat(self.features)
        mean = true.mean(0, keepdim=True).expand_as(true)
        result["feat_error"] = float(torch.cat(self.errors).mean())
        result["feat_chance"] = float(nn.functional.smooth_l1_loss(mean, true))
        return result
