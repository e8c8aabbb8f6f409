"""Model folders in the layout and under the file names in which LXMERT was published."""

import json
from pathlib import Path

import torch
from model import tiny
from torch import nn

SENTENCE = "a ball black book color how is many mug of on image red table the there what are books"
WORDS = ["[PAD]", "[unused0]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *SENTENCE.split(), "##s", "?"]
ANSWERS = [f"answer {index}" for index in range(13)]
SIZES = {
    "vocab_size": len(WORDS),
    "type_vocab_size": 2,
    "visual_feat_dim": 256,  # that of the bundled extractor
    "visual_pos_dim": 4,
    "max_position_embeddings": 24,
}
CONFIG = {
    "attention_probs_dropout_prob": 0.1,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "initializer_range": 0.02,
    "layer_norm_eps": 1e-12,
    "model_type": "lxmert",
    "task_mask_lm": True,
    "task_matched": True,
    "task_obj_predict": True,
    "task_qa": True,
    "use_cache": False,
    "visual_attr_loss": True,
    "visual_feat_loss": True,
    "visual_loss_normalizer": 6.67,
    "visual_obj_loss": True,
}
"""What every published config.json says; none of them names answers."""


def build(name: str = "LxmertForQuestionAnswering", **changes: object) -> nn.Module:
    """Return transformers' own model of the sizes of these files."""
    return tiny.build_reference(name, **{**SIZES, **changes})


def write(folder: Path, model: nn.Module, *, safetensors: bool = False) -> Path:
    """Write a model as on the hub, without answers, extractor and preprocessor."""
    folder.mkdir(parents=True)
    sizes = {name: getattr(model.config, name) for name in tiny.SIZES}
    layers = {
        "cross_encoder": sizes["x_layers"],
        "language": sizes["l_layers"],
        "vision": sizes["r_layers"],
    }
    config = {**CONFIG, **sizes, "num_hidden_layers": layers}
    config["architectures"] = [type(model).__name__]
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    (folder / "vocab.txt").write_text("\n".join(_words(model)) + "\n")
    (folder / "tokenizer_config.json").write_text('{"do_lower_case": true}')
    (folder / "README.md").write_text("# LXMERT\n")
    (folder / "tf_model.h5").write_bytes(b"weights for another library")
    if safetensors:
        from safetensors.torch import save_file

        state = {name: value.contiguous() for name, value in model.state_dict().items()}
        state.pop("cls.predictions.decoder.weight", None)
        save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    else:
        state = model.state_dict()
        if "cls.predictions.decoder.weight" in state:  # stored a second time, not shared
            state["cls.predictions.decoder.weight"] = state[
                "cls.predictions.decoder.weight"
            ].clone()
        torch.save(state, folder / "pytorch_model.bin", _use_new_zipfile_serialization=False)
    return folder


def _words(model: nn.Module) -> list[str]:
    return WORDS + [
        f"[unused{index}]" for index in range(1, model.config.vocab_size - len(WORDS) + 1)
    ]
