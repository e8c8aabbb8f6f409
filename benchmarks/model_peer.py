"""The baseline of model.py: transformers' LXMERT, as its documentation uses it.

Imports nothing of lxmert.
"""

from pathlib import Path

import torch
from torch import Tensor
from transformers import LxmertConfig, LxmertForPreTraining, LxmertForQuestionAnswering

Batch = dict[str, Tensor]
ANSWERS = 3129


def build(folder: Path, *, pretraining: bool) -> torch.nn.Module:
    """Make a model of the published size with random weights and save it."""
    torch.manual_seed(8)
    config = LxmertConfig() if pretraining else LxmertConfig(num_qa_labels=ANSWERS)
    kind = LxmertForPreTraining if pretraining else LxmertForQuestionAnswering
    model = kind(config)
    model.save_pretrained(folder)
    return model


def answer(model: torch.nn.Module, batch: Batch) -> Tensor:
    """Return the scores of the answers."""
    with torch.inference_mode():
        scores: Tensor = model(**batch).question_answering_score
    return scores


class Trainer:
    """Complete training steps: forward, backward, AdamW."""

    def __init__(self, model: torch.nn.Module) -> None:
        self.model = model.train()
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)

    def step(self, batch: Batch) -> Tensor:
        """Run one step on inputs with labels; return the loss."""
        loss: Tensor = self.model(**batch).loss
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss.detach()
