"""Models exported to ONNX graphs: the manifest of their folder, and how they answer.

An exported folder is read without PyTorch; `lxmert.workflows.exporting` writes it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field
from tokenizers import Tokenizer

from lxmert.data.arrays import Arrays
from lxmert.files import read_json_object
from lxmert.reading import TextReader
from lxmert.records import Items, NonNegative, Record
from lxmert.regions.cache import DiskCache
from lxmert.regions.cells import CellLayout
from lxmert.regions.exported import ExportedDetector, ExportedDetectorConfig, ExportedGrid
from lxmert.regions.preprocess import ImageInput
from lxmert.runtimes import Graph, Precision, RuntimeName, open_graph
from lxmert.schema import FloatArray, IntArray, Regions

MANIFEST = "export.json"
VERSION: Literal[3] = 3
IMAGE_GRAPH, TEXT_GRAPH = "image.onnx", "text.onnx"
TRUNK_GRAPH, HEADS_GRAPH = "trunk.onnx", "heads.onnx"
"""Graphs of a detector."""

CELLS_GRAPH = "cells.onnx"
"""Graph of a grid extractor."""

TOKENIZER, EXTRACTOR = "tokenizer.json", "extractor.json"
IMAGE_INPUTS = ("visual_feats", "visual_pos", "visual_attention_mask")
TEXT_INPUTS = ("input_ids", "attention_mask", "token_type_ids")
STATE = "image_state"
"""Output of the image graph and input of the text graph: the encoded regions."""

TEXTS_AT_ONCE = 64
"""Maximum number of texts per call of a graph, to bound memory."""


class ExportedFile(Record):
    """Size in bytes and SHA-256 of a file of an exported folder."""

    size: Annotated[int, Field(ge=0)]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class ExportManifest(Record):
    """What is known of an exported model; saved as `export.json`, after all other files.

    Attributes:
        model_type: kind of folder.
        version: version of the layout.
        runtime: library that the graphs were compared in, and are loaded by.
        precision: numeric precision.
        source: name or folder of the model that was exported.
        weights: SHA-256 of its weight files.
        answers: name of each answer; empty if the model only matches captions.
        matches: whether the model matches captions.
        max_text_length: maximum number of tokens of a text.
        fingerprint: that of the region extractor.
        layers_in_fp32: layers of each graph that an int8 export leaves in fp32.
        differences: measured differences from the PyTorch model, by name.
        tolerances: largest differences that were allowed, by name.
        files: all other files of the folder.
    """

    remedy = "export the model again with `lxmert export`"

    model_type: Literal["lxmert-export"] = "lxmert-export"
    version: Literal[3] = VERSION
    runtime: RuntimeName
    precision: Precision
    source: str
    weights: Items[str]
    answers: Items[str]
    matches: bool
    max_text_length: Annotated[int, Field(ge=3, le=100_000)]
    fingerprint: str
    layers_in_fp32: Mapping[str, Items[str]] = Field(default_factory=dict)
    differences: Mapping[str, NonNegative]
    tolerances: Mapping[str, NonNegative]
    files: Mapping[str, ExportedFile]


def is_exported(folder: Path) -> bool:
    """Return whether a folder holds an exported model."""
    return (folder / MANIFEST).is_file()


def read_manifest(folder: Path) -> ExportManifest:
    """Read the manifest of an exported folder and check that its files are there.

    Raises:
        ValueError: if the folder is of another version, or a file is missing or has another size.
    """
    path = folder / MANIFEST
    version = read_json_object(path, remedy=ExportManifest.remedy).get("version")
    if version != VERSION:
        raise ValueError(
            f"{path} has version {version!r}, but this version of lxmert reads {VERSION}: "
            f"{ExportManifest.remedy}"
        )
    manifest = ExportManifest.from_file(path)
    for name, known in manifest.files.items():
        if Path(name).name != name or not (folder / name).is_file():
            raise ValueError(f"{folder} lacks its file {name!r}: {ExportManifest.remedy}")
        size = (folder / name).stat().st_size
        if size != known.size:
            raise ValueError(
                f"{folder / name} has {size} bytes, but {MANIFEST} says {known.size}: "
                f"{ExportManifest.remedy}"
            )
    return manifest


def check_complete(
    folder: Path,
    *,
    extractor: str | Path | None = None,
    answers: str | Path | None = None,
    device: str | None = None,
) -> None:
    """Raise `ValueError` for parts that an exported model has already, and for other devices."""
    if extractor is not None or answers is not None:
        raise ValueError(
            f"{folder} is an exported model, which has its own region extractor and answers: leave "
            "--extractor and --answers out"
        )
    if device not in (None, "cpu"):
        raise ValueError(
            f"{folder} is an exported model, which computes on the CPU, not on {device!r}: leave "
            "the device out"
        )


class ExportedModel:
    """An exported model with its tokenizer and region extractor.

    Attributes:
        folder: where it is.
        manifest: what is known of it.
        reader: tokenizes texts.
        cache: where the regions of images are kept; None: nowhere.
        answering: scores answers, as a `lxmert.predict.Runtime`; None if the model has no answers.
        matching: scores captions, likewise.
    """

    def __init__(
        self,
        folder: Path,
        *,
        threads: int | None = None,
        cache: DiskCache | None = None,
        opener: Callable[..., Graph] = open_graph,
    ) -> None:
        """Read the manifest; graphs are loaded when they are first used.

        Args:
            folder: an exported folder.
            threads: number of threads; None: as many as there are cores.
            cache: where the regions of images are kept; None: nowhere.
            opener: loads a graph; its arguments are those of `open_graph`.

        Raises:
            ModuleNotFoundError: if the runtime is not installed.
            ValueError: as for `read_manifest`.
        """
        self.folder = folder
        self.cache = cache
        self.manifest = read_manifest(folder)
        self._threads, self._opener = threads, opener
        self.reader = TextReader(
            Tokenizer.from_file(str(folder / TOKENIZER)), longest=self.manifest.max_text_length
        )
        graphs = _Graphs(self)
        heads = [_Head(graphs, place) for place in range(self._num_heads)]
        self.answering = heads[0] if self.manifest.answers else None
        self.matching = heads[-1] if self.manifest.matches else None

    @property
    def _num_heads(self) -> int:
        return bool(self.manifest.answers) + self.manifest.matches

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer."""
        return self.reader.backend

    @cached_property
    def extractor(self) -> ExportedDetector | ExportedGrid:
        """The region extractor; its graphs are loaded when an image is first extracted."""
        manifest, path = self.manifest, self.folder / EXTRACTOR
        if CELLS_GRAPH in manifest.files:
            return ExportedGrid(
                CellLayout.from_file(path),
                self._open_later(CELLS_GRAPH),
                fingerprint=manifest.fingerprint,
                precision=manifest.precision,
            )
        return ExportedDetector(
            ExportedDetectorConfig.from_file(path),
            self._open_later(TRUNK_GRAPH),
            self._open_later(HEADS_GRAPH),
            fingerprint=manifest.fingerprint,
            precision=manifest.precision,
        )

    def regions(self, images: Sequence[ImageInput]) -> list[Regions]:
        """Return the regions of images, from the cache if there is one."""
        if self.cache is None:
            return self.extractor(images)
        # Those of the PyTorch model are equal up to rounding only.
        fingerprint = f"{self.manifest.fingerprint} in {self.manifest.runtime}"
        return self.cache.extract(self.extractor, fingerprint, images)

    def _open_later(self, name: str) -> Graph:
        """Return a graph that is loaded when it is first called."""
        opened = cache(self.open_graph)
        return lambda inputs: opened(name)(inputs)

    def open_graph(self, name: str) -> Graph:
        """Load one of the graphs."""
        manifest = self.manifest
        return self._opener(
            self.folder / name,
            manifest.runtime,
            precision=manifest.precision,
            threads=self._threads,
        )


@dataclass
class _Graphs:
    """The two graphs of a model, loaded on first use."""

    model: ExportedModel

    @cached_property
    def image(self) -> Graph:
        return self.model.open_graph(IMAGE_GRAPH)

    @cached_property
    def text(self) -> Graph:
        return self.model.open_graph(TEXT_GRAPH)


class _Head:
    """One head of an exported model, as a `lxmert.predict.Runtime`."""

    def __init__(self, graphs: _Graphs, place: int) -> None:
        self._graphs = graphs
        self._place = place

    def __call__(self, text: Arrays, image: Arrays, rows: IntArray) -> FloatArray:
        """Return logits; each image is encoded once for its texts."""
        (state,) = self._graphs.image({name: image[name] for name in IMAGE_INPUTS})
        mask = image["visual_attention_mask"]
        logits = []
        for start in range(0, len(rows), TEXTS_AT_ONCE):
            part = slice(start, start + TEXTS_AT_ONCE)
            about = rows[part, 0]
            inputs = {name: text[name][part] for name in TEXT_INPUTS}
            inputs |= {STATE: state[about], "visual_attention_mask": mask[about]}
            logits.append(self._graphs.text(inputs)[self._place])
        return np.concatenate(logits)


def no_gradients(name: str, model: ExportedModel) -> ValueError:
    """Return the error for explanations of an exported model."""
    return ValueError(
        f"{name} is an exported model, which has no gradients to explain an answer: use the model "
        f"that it was exported from, {model.manifest.source}"
    )
