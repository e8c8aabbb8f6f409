"""Tiny random models of odd sizes, ours and the reference's, and inputs for them."""

from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import LxmertConfig as ReferenceConfig
from transformers.models.lxmert import modeling_lxmert as reference

from lxmert.model import heads, modeling, pretraining
from lxmert.model.configuration import LxmertConfig

SIZES = {
    "vocab_size": 51,
    "hidden_size": 32,
    "num_attention_heads": 4,
    "num_qa_labels": 13,
    "num_object_labels": 11,
    "num_attr_labels": 7,
    "intermediate_size": 48,
    "max_position_embeddings": 19,
    "type_vocab_size": 3,
    "l_layers": 2,
    "x_layers": 3,
    "r_layers": 1,
    "visual_feat_dim": 9,
    "visual_pos_dim": 5,
}
MODELS = {
    "LxmertModel": (modeling.LxmertModel, reference.LxmertModel),
    "LxmertForPreTraining": (pretraining.LxmertForPreTraining, reference.LxmertForPreTraining),
    "LxmertForQuestionAnswering": (
        heads.LxmertForQuestionAnswering,
        reference.LxmertForQuestionAnswering,
    ),
}
PAIRS, MATCHING = "LxmertForImagesAndTextClassification", "LxmertForImageAndTextRetrieval"
OURS = {name: ours for name, (ours, _) in MODELS.items()} | {
    PAIRS: heads.LxmertForImagesAndTextClassification,
    MATCHING: heads.LxmertForImageAndTextRetrieval,
}
BATCH, TEXT_LEN, REGIONS = 3, 7, 5


def config(**changes: object) -> LxmertConfig:
    """Return our configuration of the tiny model."""
    return LxmertConfig(**{**SIZES, **changes})


def randomize(model: nn.Module, seed: int = 8) -> nn.Module:
    """Give every parameter, biases and layer norms too, a value that its absence would change."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)
        for module in model.modules():
            if isinstance(module, nn.LayerNorm):
                module.weight += 1  # else each layer would shrink what the next one gets
    return model.eval()


def build(name: str, *, attention: str = "eager", **changes: object) -> nn.Module:
    """Return our model of that name, randomised and in eval mode."""
    model = OURS[name]._from_config(config(**changes), attn_implementation=attention)
    return randomize(model)


def build_reference(name: str, **changes: object) -> nn.Module:
    """Return the reference model of that name, randomised and in eval mode."""
    _, theirs = MODELS[name]
    return randomize(theirs(ReferenceConfig(**{**SIZES, **changes})))


def pair(name: str, **changes: object):
    """Return ours and the reference with the same weights, in float64."""
    theirs = build_reference(name, **changes)
    ours = build(name, **changes)
    ours.load_state_dict(theirs.state_dict())
    return ours.double(), theirs.double()


def pair_through_files(name: str, folder: Path, *, attention: str):
    """Return ours and the reference, whose weights ours has loaded from its files, in float64."""
    ours, _ = MODELS[name]
    theirs = build_reference(name)
    theirs.save_pretrained(folder)
    model = ours.from_pretrained(folder, attn_implementation=attention)
    return model.double().eval(), theirs.double()


def inputs(*, masked: bool = True, seed: int = 9, dtype: torch.dtype = torch.float32):
    """Return the keyword arguments that every model reads."""
    generator = torch.Generator().manual_seed(seed)
    given = {
        "input_ids": torch.randint(3, 51, (BATCH, TEXT_LEN), generator=generator),
        "visual_feats": torch.randn(BATCH, REGIONS, 9, generator=generator).to(dtype),
        "visual_pos": torch.rand(BATCH, REGIONS, 5, generator=generator).to(dtype),
        "token_type_ids": torch.randint(0, 3, (BATCH, TEXT_LEN), generator=generator),
    }
    if masked:
        given["attention_mask"] = mask(TEXT_LEN, [4, 7, 5])
        given["visual_attention_mask"] = mask(REGIONS, [5, 2, 3])
    return given


def inputs_for(name: str, **changes: object):
    """Return the keyword arguments that the model of that name reads; some read two images."""
    given = inputs(**changes)
    if name != PAIRS:
        return given
    other = inputs(**changes | {"seed": 11})
    return given | {
        key: torch.stack([value, other[key].flip(0)], dim=1)
        for key, value in given.items()
        if key.startswith("visual")
    }


def mask(length: int, lengths: list[int]) -> Tensor:
    """Return `[batch, length]`, 1 for the first positions of each row."""
    return (torch.arange(length)[None] < torch.tensor(lengths)[:, None]).long()


def labels(seed: int = 10, dtype: torch.dtype = torch.float32) -> dict[str, object]:
    """Return labels for every pretraining objective, some of them to be ignored."""
    generator = torch.Generator().manual_seed(seed)
    words = torch.randint(0, 51, (BATCH, TEXT_LEN), generator=generator)
    hidden = torch.rand(BATCH, TEXT_LEN, generator=generator) < 0.6
    weights = torch.rand(3, BATCH, REGIONS, generator=generator).to(dtype)
    weights[2] = (weights[2] > 0.4).to(dtype)
    return {
        "labels": words.masked_fill(hidden, -100),
        "matched_label": torch.tensor([0, 1, 1]),
        "ans": torch.tensor([4, -100, 12]),
        "obj_labels": {
            "obj": (torch.randint(0, 11, (BATCH, REGIONS), generator=generator), weights[0]),
            "attr": (torch.randint(0, 7, (BATCH, REGIONS), generator=generator), weights[1]),
            "feat": (torch.randn(BATCH, REGIONS, 9, generator=generator).to(dtype), weights[2]),
        },
    }


def labels_for(name: str, **changes: object) -> dict[str, object]:
    """Return the labels that the model of that name takes."""
    if name == "LxmertForPreTraining":
        return labels(**changes)
    if name in (PAIRS, MATCHING):
        return {"labels": torch.tensor([1, 0, 1])}
    return {"labels": torch.tensor([4, 0, 12])} if name == "LxmertForQuestionAnswering" else {}
