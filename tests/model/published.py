"""Original checkpoints made from models of transformers."""

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from . import tiny

# The list of names of a pretraining file, as its documentation has it: braces are alternatives.
PRETRAINING_NAMES = """
bert.embeddings.{word,position,token_type}_embeddings.weight
bert.embeddings.LayerNorm.{weight,bias}
bert.encoder.visn_fc.{visn_fc,visn_layer_norm,box_fc,box_layer_norm}.{weight,bias}
bert.encoder.{LANGUAGE,REGION}.attention.self.{query,key,value}.{weight,bias}
bert.encoder.{LANGUAGE,REGION}.attention.output.{dense,LayerNorm}.{weight,bias}
bert.encoder.{LANGUAGE,REGION}.intermediate.dense.{weight,bias}
bert.encoder.{LANGUAGE,REGION}.output.{dense,LayerNorm}.{weight,bias}
bert.encoder.{CROSS}.visual_attention.att.{query,key,value}.{weight,bias}
bert.encoder.{CROSS}.visual_attention.output.{dense,LayerNorm}.{weight,bias}
bert.encoder.{CROSS}.{lang,visn}_self_att.self.{query,key,value}.{weight,bias}
bert.encoder.{CROSS}.{lang,visn}_self_att.output.{dense,LayerNorm}.{weight,bias}
bert.encoder.{CROSS}.{lang,visn}_inter.dense.{weight,bias}
bert.encoder.{CROSS}.{lang,visn}_output.{dense,LayerNorm}.{weight,bias}
bert.pooler.dense.{weight,bias}
cls.predictions.bias
cls.predictions.decoder.weight
cls.predictions.transform.{dense,LayerNorm}.{weight,bias}
cls.seq_relationship.{weight,bias}
obj_predict_head.transform.{dense,LayerNorm}.{weight,bias}
obj_predict_head.decoder_dict.{obj,attr,feat}.{weight,bias}
answer_head.logit_fc.{0,2,3}.{weight,bias}
"""


def pretraining_names(language: int, region: int, cross: int) -> set[str]:
    """Return the names in a pretraining file with so many layers."""
    layers = {"LANGUAGE": ("layer", language), "REGION": ("r_layers", region)}
    layers["CROSS"] = ("x_layers", cross)
    text = PRETRAINING_NAMES
    for word, (name, count) in layers.items():
        text = text.replace(word, ",".join(f"{name}.{number}" for number in range(count)))
    return {name for line in text.split() for name in _expand(line)}


def _expand(line: str) -> list[str]:
    match = re.search(r"\{([^}]*)\}", line)
    if match is None:
        return [line]
    choices = match[1].split(",")
    return [n for c in choices for n in _expand(line[: match.start()] + c + line[match.end() :])]


class PairsOf2019(nn.Module):
    """Two images, each read with the text alone; one head on both pooled vectors."""

    def __init__(self, **changes: object) -> None:
        super().__init__()
        self.lxmert = tiny.build_reference("LxmertModel", **changes)
        width = 2 * self.lxmert.config.hidden_size
        self.logit_fc = nn.Sequential(
            nn.Linear(width, width),
            nn.GELU(),
            nn.LayerNorm(width, eps=1e-12),
            nn.Linear(width, 2),
        )
        tiny.randomize(self)

    def forward(self, visual_feats: Tensor, visual_pos: Tensor, **text: Tensor) -> Tensor:
        masks = text.pop("visual_attention_mask")
        pooled = [
            self.lxmert(
                **text,
                visual_feats=visual_feats[:, image],
                visual_pos=visual_pos[:, image],
                visual_attention_mask=masks[:, image],
            ).pooled_output
            for image in range(2)
        ]
        return self.logit_fc(torch.cat(pooled, dim=1))


def state_of_2019(model: nn.Module, *, outer: str = "", inner: str = "") -> dict[str, Tensor]:
    """Return the state dict of a reference model under the names of the original code."""
    state = model.state_dict()
    if "cls.predictions.bias" in state:
        names = {name: re.sub(r"^lxmert\.", "bert.", name) for name in state}
    elif any(name.startswith(("answer_head.", "logit_fc.")) for name in state):
        body = f"lxrt_encoder.model.{inner}bert."
        names = {
            name: re.sub(r"^lxmert\.", body, name).removeprefix("answer_head.") for name in state
        }
    else:
        names = {name: f"bert.{name}" for name in state}
    return {outer + names[name]: value for name, value in state.items()}


def write(path: Path, state: Mapping[str, Tensor], *, zipped: bool = False) -> Path:
    """Write a file; the older form, which all files of the original code have, is not zipped."""
    torch.save(dict(state), path, _use_new_zipfile_serialization=zipped)
    return path
