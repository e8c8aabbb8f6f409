"""Integrated gradients of regions and words (captum)."""

from functools import partial
from typing import Any

import torch
from torch import Tensor

from lxmert.explain.inputs import Inputs, check_answers, real_regions, removable_words
from lxmert.explain.relevance import Relevance
from lxmert.model.heads import LxmertForQuestionAnswering
from lxmert.model.outputs import LxmertForQuestionAnsweringOutput

STEPS = 300
"""Integration steps; on the bundled model, sums are then exact to 0.05 of a score (100: to 0.7)."""

_ROWS = 64
"""Steps per forward pass."""


def integrated_gradients(
    model: LxmertForQuestionAnswering, inputs: Inputs, answer_ids: Tensor
) -> Relevance:
    """Return the contribution of each region and word to an answer's score before softmax.

    Regions are integrated from zero features and boxes with all words present, and words from the
    embedding of `[PAD]` with all regions present. The relevances of one modality add up to the
    difference between the score and that of the baseline.

    Args:
        model: in evaluation mode.
        inputs: a batch of questions.
        answer_ids: `[batch]`, the answer to explain for each question.

    Returns:
        Negative scores speak against the answer; 0 for `[CLS]` and `[SEP]`, which are part of the
        baseline.

    Raises:
        ValueError: if model, inputs or answers cannot be explained.
        ModuleNotFoundError: without captum.

    Source: Sundararajan, Taly, Yan, Axiomatic Attribution for Deep Networks (ICML 2017).
    """
    check_answers(model, inputs, answer_ids)
    captum = _captum()
    with torch.inference_mode(mode=False), torch.enable_grad():
        given = {name: value.detach().clone() for name, value in inputs.items()}
        settings = {
            "target": answer_ids.clone(),
            "n_steps": STEPS,
            "internal_batch_size": max(_ROWS, len(answer_ids)),
        }
        words = _words(captum, model, given, **settings)
        return Relevance(words, _regions(captum, model, given, **settings))


def _words(
    captum: Any, model: LxmertForQuestionAnswering, given: dict[str, Tensor], **settings: object
) -> Tensor:
    """Return `[batch, text_len]`, integrated from the embedding of `[PAD]`."""
    others = {name: value for name, value in given.items() if name != "input_ids"}
    table: Any = model.get_input_embeddings()
    padding = torch.full_like(given["input_ids"], model.config.pad_token_id or 0)
    baseline = torch.where(removable_words(given), padding, given["input_ids"])
    integrate = captum.IntegratedGradients(partial(_score, model, ("inputs_embeds", *others)))
    found: Tensor = integrate.attribute(
        table(given["input_ids"]).detach(),
        table(baseline).detach(),
        additional_forward_args=tuple(others.values()),
        **settings,
    )
    return found.sum(dim=-1).float()


def _regions(
    captum: Any, model: LxmertForQuestionAnswering, given: dict[str, Tensor], **settings: object
) -> Tensor:
    """Return `[batch, regions]`, integrated from zero features and boxes."""
    seen = {name: given[name] for name in ("visual_feats", "visual_pos")}
    others = {name: value for name, value in given.items() if name not in seen}
    integrate = captum.IntegratedGradients(partial(_score, model, (*seen, *others)))
    features, boxes = integrate.attribute(
        tuple(seen.values()),
        tuple(map(torch.zeros_like, seen.values())),
        additional_forward_args=tuple(others.values()),
        **settings,
    )
    found: Tensor = features.sum(dim=-1) + boxes.sum(dim=-1)
    return found.masked_fill(~real_regions(given), 0).float()


def _score(model: LxmertForQuestionAnswering, names: tuple[str, ...], *values: Tensor) -> Tensor:
    """Return `[batch, answers]` for inputs in the order of their names."""
    output = model(**dict(zip(names, values, strict=True)), return_dict=True)
    assert isinstance(output, LxmertForQuestionAnsweringOutput)
    assert output.question_answering_score is not None
    return output.question_answering_score


def _captum() -> Any:
    """Import captum."""
    try:
        from captum import attr  # type: ignore[import-untyped]
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "integrated gradients need captum, which is not installed: run "
            "pip install 'lxmert[explain]' or choose another method"
        ) from error
    return attr
