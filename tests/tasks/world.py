"""A tiny world without images, for tests of text tasks: regions contain what the texts describe.

Region features are one-hot in the object class and the color, so that a model can learn from them.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from lxmert.data.store import RegionStore, StoreHeader
from lxmert.schema import Regions
from lxmert.tasks.texts import ModelSettings

NOUNS, COLORS = ("ball", "mug", "hat"), ("red", "blue")
HEADER = StoreHeader(
    fingerprint="fingerprint",
    feature_dim=5,
    dtype="float32",
    precision="fp32",
    object_names=NOUNS,
    attribute_names=COLORS,
)
NUM_IMAGES = 24
SMALL = ModelSettings(
    hidden_size=32,
    num_attention_heads=2,
    intermediate_size=48,
    l_layers=1,
    x_layers=1,
    r_layers=1,
    dropout=0.0,
    initializer_range=0.1,
    max_text_length=9,
)
"""Sizes of a model that learns this world within seconds."""


def make_regions(image_id: str) -> Regions:
    """Two objects of different classes, in colors that the image id decides."""
    number = int(image_id)
    object_ids = np.array([number % 3, (number + 1) % 3])
    color_ids = np.array([number // 3 % 2, number // 6 % 2])
    features = np.zeros((2, 5), dtype=np.float32)
    features[[0, 1], object_ids] = 1
    features[[0, 1], 3 + color_ids] = 1
    corners = np.array([[2, 3, 20, 30], [40, 30, 70, 50]], dtype=np.float32)
    return Regions(
        boxes=corners,
        features=features,
        image_size=(60, 80),
        object_ids=object_ids,
        object_scores=np.array([0.75, 0.5], dtype=np.float32),
        attribute_ids=color_ids[:, None],
        attribute_scores=np.array([[0.9], [0.25]], dtype=np.float32),
    )


def make_world(folder: Path, *, attributes: bool = True) -> dict[str, str]:
    """Write store, questions and captions; return their paths by name."""
    header = HEADER if attributes else HEADER.replace(attribute_names=())
    none = {"attribute_ids": np.zeros((2, 0), int), "attribute_scores": np.zeros((2, 0))}
    changes = {} if attributes else none
    image_ids = [str(number) for number in range(NUM_IMAGES)]

    def extract(remaining: Sequence[str]) -> Iterator[tuple[str, Regions]]:
        return ((i, replace(make_regions(i), **changes)) for i in remaining)

    RegionStore.write(folder / "regions", image_ids, extract, header)
    questions, captions = [], []
    for image_id in image_ids:
        regions = make_regions(image_id)
        colors = [COLORS[color_id] for color_id in regions.attribute_ids[:, 0]]
        nouns = [NOUNS[object_id] for object_id in regions.object_ids]
        for noun, color in zip(nouns, colors, strict=True):
            text = f"What color is the {noun}?"
            row = {"image": image_id, "question": text, "answer": color, "question_type": "color"}
            questions.append(json.dumps(row))
        text = f"{colors[0]} {nouns[0]} {colors[1]} {nouns[1]}"
        captions += 2 * [json.dumps({"image": image_id, "caption": text})]
    (folder / "questions.jsonl").write_text("\n".join(questions) + "\n")
    (folder / "captions.jsonl").write_text("\n".join(captions) + "\n")
    return {name.split(".")[0]: str(folder / name) for name in
            ("regions", "questions.jsonl", "captions.jsonl")}  # fmt: skip


def make_pairs(folder: Path) -> str:
    """Write statements about two images each, with NLVR2's identifiers; return the path.

    A sentence is said of four pairs each time.
    """
    rows = []
    for sentence, noun in enumerate(NOUNS):
        for pair in range(NUM_IMAGES):
            left, right = pair, (pair * 5 + 3) % NUM_IMAGES
            shown = [make_regions(str(image)).object_ids for image in (left, right)]
            rows.append(
                {
                    "images": [str(left), str(right)],
                    "question": f"Both show a {noun}.",
                    "answer": all(sentence in object_ids for object_ids in shown),
                    "question_id": f"dev-{pair // 4}-{pair % 4}-{sentence}",
                }
            )
    path = folder / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)
