"""States of a data set to one safetensors file: the input of probes and of your own analyses."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from safetensors import safe_open
from safetensors.numpy import save_file
from torch import Tensor

from lxmert.data.collate import collate_images, collate_text
from lxmert.data.corpus import Corpus
from lxmert.data.preprocessing import FILE_NAME, PreprocessorConfig
from lxmert.data.splits import draw_rows
from lxmert.data.tokenizer import check_words, load_tokenizer
from lxmert.data.tokens import Tokens
from lxmert.files import atomic_path, parse_json
from lxmert.hub import find_model
from lxmert.model.configuration import LxmertConfig
from lxmert.model.heads import LxmertForImagesAndTextClassification
from lxmert.model.loading import load_model
from lxmert.model.modeling import LxmertModel
from lxmert.model.outputs import LxmertModelOutput
from lxmert.names import unknown_name
from lxmert.predict import (
    Progress,
    check_images,
    open_reader,
    refuse_exported,
    region_batches,
)
from lxmert.schema import Regions
from lxmert.tensor_files import read_safetensors, report_write_errors

Of = Literal["pooled", "words", "regions"]

POOLER = "pooler"
"""Name of the output of the pooler, which the heads read."""

MAX_BYTES = 8 << 30
"""Most bytes of states that are collected in memory."""

_FORMAT, _EXAMPLES = "lxmert-states", "examples"
_BATCH = 32


class StatesFile(NamedTuple):
    """A file of states.

    Attributes:
        of: what each row of a tensor is: `pooled` an example, `words` a word piece, `regions` a
            region.
        states: rows by layer, `[rows, hidden]` float32.
        extra: with `words` and `regions`, `bounds` `[examples + 1]`, the first row of each example;
            `input_ids` of the word pieces, or `boxes` (shares of the image's sides) and
            `object_ids` of the regions.
        ids: id of each example.
        images: image of each example.
        texts: text of each example.
    """

    of: str
    states: dict[str, Tensor]
    extra: dict[str, Tensor]
    ids: tuple[str, ...]
    images: tuple[str, ...]
    texts: tuple[str, ...]


def layer_names(config: LxmertConfig) -> list[str]:
    """Return the names of all layers of a model, in the order of computation.

    `language.1` and so on are layers of the language encoder, `vision.1` of the object-relationship
    encoder; `cross.1.language` and `cross.1.vision` are both sides of a cross-modality layer.
    """
    cross = range(1, config.x_layers + 1)
    return [
        *(f"language.{layer}" for layer in range(1, config.l_layers + 1)),
        *(f"vision.{layer}" for layer in range(1, config.r_layers + 1)),
        *(f"cross.{layer}.{side}" for layer in cross for side in ("language", "vision")),
        POOLER,
    ]


def write_states(
    model: str | Path,
    data: Path,
    output: Path,
    *,
    of: Of = "pooled",
    layers: Sequence[str] = (),
    images: Path | None = None,
    stores: tuple[Path, ...] = (),
    limit: int | None = None,
    seed: int = 0,
    device: str = "cpu",
    progress: Progress = lambda done, total: None,  # noqa: ARG005
) -> dict[str, tuple[int, ...]]:
    """Run a model on texts about images and save its states.

    Args:
        model: folder or hub name of a model that reads one image with each text.
        data: JSONL file of questions or captions.
        output: file to write.
        of: `pooled` saves the mean over the words (sides of the text) or regions (sides of the
            image) of each example, and the output of the pooler; `words` all states of words,
            `regions` all states of regions.
        layers: names as in `layer_names`; empty: all that `of` applies to.
        images: image folder.
        stores: region stores to use instead of images.
        limit: number of examples, drawn at random; None: all.
        seed: seed of the draw.
        device: where to compute.
        progress: called with the numbers of finished and of all examples.

    Returns:
        The shapes of the written tensors by name.

    Raises:
        ValueError: if a layer does not exist or does not fit `of`, an image is missing, the model
            reads two images, or the states need more than `MAX_BYTES`.
    """
    folder = find_model(model, check=refuse_exported)
    whole = load_model(folder)
    if isinstance(whole, LxmertForImagesAndTextClassification):
        raise ValueError(
            f"{model} reads two images with each text: expected a model that reads one, such as a "
            "question-answering model"
        )
    encoder = whole if isinstance(whole, LxmertModel) else whole.lxmert
    assert isinstance(encoder, LxmertModel)
    names = _choose(layers, layer_names(encoder.config), of)
    corpus = Corpus.read([data], strict=True)
    corpus = corpus.select(draw_rows(len(corpus), limit, seed=seed))
    tokenizer = load_tokenizer(folder)
    check_words(tokenizer, encoder.config.vocab_size, folder)
    known = (folder / FILE_NAME).is_file()
    longest = PreprocessorConfig.load(folder).max_text_length if known else 20
    read = open_reader(folder, images=images, stores=stores, device=device)
    collected = _Collected(of, names, encoder.config.hidden_size)
    tokens = Tokens(corpus.texts(), tokenizer, longest=longest)
    encoder.to(device)  # type: ignore[arg-type]
    run = _Run(encoder, tokens, tokenizer.pad_token_id, device)
    check_images(corpus, read, 1)
    done = 0
    for indices, regions in region_batches(corpus, read, batch_size=_BATCH):
        collected.add(indices, *run.states(indices, [found for (found,) in regions]))
        done += len(indices)
        progress(done, len(corpus))
    tensors = collected.tensors()
    listed = [[e.example_id, e.image_ids[0], e.text] for e in corpus]
    metadata = {
        "format": _FORMAT,
        "of": of,
        "layers": " ".join(names),
        _EXAMPLES: json.dumps(listed, ensure_ascii=False),
    }
    with atomic_path(output) as part, report_write_errors():
        save_file(tensors, part, metadata=metadata)
    return {name: tensor.shape for name, tensor in tensors.items()}


def read_states(path: Path) -> StatesFile:
    """Read a file of states.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is damaged, or `lxmert states` did not write it.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}: write it with `lxmert states`")
    tensors = read_safetensors(path)
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata() or {}
    if metadata.get("format") != _FORMAT:
        raise ValueError(f"{path} holds no states: expected a file written by `lxmert states`")
    rows = parse_json(metadata[_EXAMPLES], f"the list of examples in {path}")
    ids, images, texts = (tuple(str(row[place]) for row in rows) for place in range(3))
    layers = {name: tensors.pop(name) for name in metadata["layers"].split()}
    return StatesFile(metadata["of"], layers, tensors, ids, images, texts)


def _choose(given: Sequence[str], known: Sequence[str], of: Of) -> list[str]:
    """Return the layers to save; raise `ValueError` for one that does not exist or fit."""
    side = {"words": "language", "regions": "vision"}.get(of)
    fitting = [name for name in known if side is None or side in name.split(".")]
    for name in given:
        if name not in known:
            raise ValueError(f"--layers: {unknown_name(name, known)}")
        if name not in fitting:
            raise ValueError(
                f"--layers: {name} has no states of {of}: choose some of {', '.join(fitting)}, or "
                "--of pooled"
            )
    return [name for name in known if name in given] if given else fitting


@dataclass
class _Run:
    """Runs the encoder on batches of texts with the regions of their images."""

    encoder: LxmertModel
    tokens: Tokens
    pad_id: int
    device: str

    @torch.inference_mode()
    def states(
        self, indices: Sequence[int], regions: Sequence[Regions]
    ) -> tuple[dict[str, Tensor], dict[str, Tensor], Sequence[Regions]]:
        """Return the states by layer, the inputs, and the regions."""
        inputs = collate_text([self.tokens[index] for index in indices], pad_id=self.pad_id)
        inputs |= collate_images(regions)
        on_device = {name: value.to(self.device) for name, value in inputs.items()}
        output = self.encoder(**on_device, output_hidden_states=True)
        return _by_layer(output, self.encoder.config), inputs, regions


def _by_layer(output: LxmertModelOutput, config: LxmertConfig) -> dict[str, Tensor]:
    """Name the states of all layers."""
    sides = {"language": output.language_hidden_states, "vision": output.vision_hidden_states}
    alone = {"language": config.l_layers, "vision": config.r_layers}
    named: dict[str, Tensor] = {}
    for side, states in sides.items():
        for place, state in enumerate(states or ()):
            layer = place - alone[side]
            name = f"cross.{layer + 1}.{side}" if layer >= 0 else f"{side}.{place + 1}"
            named[name] = state.float().cpu()
    assert output.pooled_output is not None
    return named | {POOLER: output.pooled_output.float().cpu()}


class _Collected:
    """The states of all examples."""

    def __init__(self, of: Of, names: Sequence[str], hidden: int) -> None:
        self._of, self._names = of, names
        self._rows: dict[int, dict[str, npt.NDArray[Any]]] = {}  # by example
        self._room = MAX_BYTES // (4 * hidden * max(1, len(names)))  # rows that fit

    def add(
        self,
        indices: Sequence[int],
        states: dict[str, Tensor],
        inputs: dict[str, Tensor],
        regions: Sequence[Regions],
    ) -> None:
        """Add a batch."""
        for place, index in enumerate(indices):
            masks = {
                "language": inputs["attention_mask"][place].bool(),
                "vision": inputs["visual_attention_mask"][place].bool(),
            }
            found: dict[str, npt.NDArray[Any]] = {}
            for name in self._names:
                row = states[name][place]
                if name != POOLER:
                    row = row[masks["vision" if "vision" in name else "language"]]
                    if self._of == "pooled":
                        row = row.mean(dim=0)
                found[name] = np.atleast_2d(row.numpy())
            if self._of == "words":
                found["input_ids"] = inputs["input_ids"][place][masks["language"]].numpy()
            elif self._of == "regions":
                found["boxes"] = inputs["visual_pos"][place][masks["vision"]].numpy()
                found["object_ids"] = regions[place].object_ids.astype(np.int64)
            self._rows[index] = found
            self._room -= len(found[self._names[0]])
        if self._room < 0:
            raise ValueError(
                f"the states need more than {MAX_BYTES >> 30} GB: choose fewer --layers, a smaller "
                "--limit, or --of pooled"
            )

    def tensors(self) -> dict[str, npt.NDArray[Any]]:
        """Return everything that is saved, in the order of the examples."""
        rows = [self._rows[index] for index in sorted(self._rows)]
        found = {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}
        if self._of != "pooled":
            lengths = [len(row[self._names[0]]) for row in rows]
            found["bounds"] = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        return found
