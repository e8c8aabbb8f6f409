"""Which regions an answer rests on, by leaving each of them out: needs no gradients."""

import torch
from torch import Tensor

from lxmert.model.heads import LxmertForQuestionAnswering


@torch.inference_mode()
def region_relevance(
    model: LxmertForQuestionAnswering, inputs: dict[str, Tensor], answer_id: int
) -> Tensor:
    """Return how much less probable an answer is without each region.

    Args:
        model: in evaluation mode.
        inputs: arguments of its forward for one example, all regions real.
        answer_id: the answer to explain.

    Returns:
        `[regions]` in `[-1, 1]`, on the CPU; negative where a region spoke against the answer.
        A single region is left out by an empty mask, so that the model answers blindly.
    """
    regions = inputs["visual_feats"].shape[1]
    batch = {name: value.expand(regions + 1, *value.shape[1:]) for name, value in inputs.items()}
    mask = torch.ones(regions + 1, regions, dtype=torch.long, device=batch["input_ids"].device)
    mask[1:].fill_diagonal_(0)
    batch["visual_attention_mask"] = mask
    probabilities = model(**batch).question_answering_score.float().softmax(-1)[:, answer_id]
    return torch.as_tensor(probabilities[0] - probabilities[1:]).cpu()
