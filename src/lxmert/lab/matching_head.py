"""Adds a matching head to the bundled model, fitted on captions and foils of scenes.

The encoder does not change, so all answers stay the same to the bit. `make default-model` runs
`python -m lxmert.lab.matching_head MODEL SCENES`.
"""

import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from lxmert.data.collate import collate_images, collate_text
from lxmert.data.preprocessing import PreprocessorConfig
from lxmert.data.tokenizer import load_tokenizer
from lxmert.data.tokens import Tokens
from lxmert.files import atomic_path
from lxmert.model.loading import load_heads
from lxmert.processing import LxmertProcessor
from lxmert.study.matching import FoilPair, read_foils
from lxmert.tensor_files import read_safetensors

_BATCH = 32
_STEPS = 300
_WEIGHT_DECAY = 1e-4


def add_matching_head(model: Path, scenes: Path) -> float:
    """Fit the head and write it into the model's folder.

    Args:
        model: folder of a model that answers questions; changed in place.
        scenes: folder of `lxmert lab make foils`.

    Returns:
        The share of the training texts that are judged correctly.
    """
    pairs, _ = read_foils(scenes / "foils.jsonl")
    pooled = _pooled(model, scenes / "images", pairs)
    truths = torch.tensor([1.0, 0.0], dtype=torch.float64).repeat(len(pairs))
    weight, bias = fit_logistic(pooled, truths)
    _write(model, weight, bias)
    return float((((pooled.double() @ weight + bias) > 0) == (truths > 0)).double().mean())


def fit_logistic(features: Tensor, truths: Tensor) -> tuple[Tensor, Tensor]:
    """Fit a logistic regression; it is convex, so the result does not depend on a seed.

    Args:
        features: `[examples, width]`.
        truths: `[examples]`, 0 or 1.

    Returns:
        Weight `[width]` and bias `[]`, in float64.
    """
    mean, scale = features.double().mean(dim=0), features.double().std(dim=0) + 1e-6
    standard = (features.double() - mean) / scale
    weight = torch.zeros(features.shape[1], dtype=torch.float64, requires_grad=True)
    bias = torch.zeros((), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [weight, bias], max_iter=_STEPS, history_size=20, line_search_fn="strong_wolfe"
    )

    def loss() -> Tensor:
        optimizer.zero_grad()
        logits = standard @ weight + bias
        found = torch.nn.functional.binary_cross_entropy_with_logits(logits, truths)
        found = found + _WEIGHT_DECAY * weight.square().sum()
        found.backward()  # type: ignore[no-untyped-call]
        return found

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    scaled = weight.detach() / scale
    return scaled, bias.detach() - scaled @ mean


@torch.inference_mode()
def _pooled(model: Path, images: Path, pairs: list[FoilPair]) -> Tensor:
    """Return the pooled output for each caption and foil, in turn: `[2 * pairs, hidden]`."""
    answering = load_heads(model).answering
    assert answering is not None
    tokenizer = load_tokenizer(model)
    longest = PreprocessorConfig.load(model).max_text_length
    extractor = LxmertProcessor.from_pretrained(model).extractor
    names = list(dict.fromkeys(pair.image for pair in pairs))
    found: dict[int, Tensor] = {}
    for start in range(0, len(names), _BATCH):
        used = names[start : start + _BATCH]
        rows = [row for row, pair in enumerate(pairs) if pair.image in set(used)]
        owners = [used.index(pairs[row].image) for row in rows for _ in range(2)]
        texts = [text for row in rows for text in (pairs[row].caption, pairs[row].foil)]
        tokens = Tokens(texts, tokenizer, longest=longest)
        text = collate_text([tokens[i] for i in range(len(texts))], pad_id=tokenizer.pad_token_id)
        seen = collate_images(extractor([images / name for name in used]))
        image = (seen["visual_feats"], seen["visual_pos"], seen["visual_attention_mask"])
        encoded = answering.lxmert.encode_image(*image).take(torch.tensor(owners))
        output = answering.lxmert(**text, encoded_image=encoded, return_dict=True)
        for number, row in enumerate(rows):
            found[row] = output.pooled_output[2 * number : 2 * number + 2]
    return torch.cat([found[row] for row in range(len(pairs))])


def _write(model: Path, weight: Tensor, bias: Tensor) -> None:
    """Write the head as the two logits of `cls.seq_relationship`: no match, match."""
    path = model / "model.safetensors"
    state = read_safetensors(path)
    half = torch.stack([-weight / 2, weight / 2]).float()
    state["cls.seq_relationship.weight"] = half
    state["cls.seq_relationship.bias"] = torch.stack([-bias / 2, bias / 2]).float()
    with atomic_path(path) as part:
        save_file(state, part, metadata={"format": "pt"})


if __name__ == "__main__":
    accuracy = add_matching_head(Path(sys.argv[1]), Path(sys.argv[2]))
    print(f"{sys.argv[1]}: matching head with a training accuracy of {accuracy:.1%}")
