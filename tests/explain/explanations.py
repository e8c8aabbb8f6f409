"""Explanations of any shape, from a tiny random model, for tests of what shows them."""

import numpy as np
import torch
from model import tiny

from lxmert.explain.explanation import Explanation, Word
from lxmert.explain.maps import attention_maps
from lxmert.explain.methods import QUICK, explain_answers
from lxmert.explain.projection import project_states
from lxmert.schema import Answer, Regions

SHAPE = (120, 160)
BOXES = [
    [20.0, 30, 60, 80],
    [100, 30, 140, 80],
    [90, 10, 150, 110],
    [3, 100, 30, 117],
    [0, 0, 9, 8],
]


def make_explanation(
    *,
    shape: tuple[int, int] = SHAPE,
    boxes: list[list[float]] | None = None,
    words: str = "What color is the ball?",
    answers: tuple[str, ...] = ("black", "red", "mug"),
    unread: str = "",
    label: str = "small black metal ball",
) -> Explanation:
    """Explain answers of a tiny model about random features at the given boxes."""
    network = tiny.build("LxmertForQuestionAnswering", max_position_embeddings=64)
    places = np.array(boxes or BOXES, dtype=np.float32)
    texts = [f"{word}" for word in words.split()]
    generator = torch.Generator().manual_seed(len(places))
    ids = torch.randint(5, 50, (1, len(texts) + 2), generator=generator)
    inputs = {
        "input_ids": ids,
        "visual_feats": torch.rand(1, len(places), 9, generator=generator),
        "visual_pos": torch.rand(1, len(places), 5, generator=generator),
    }
    answer_ids = torch.arange(len(answers)) % 13
    number = len(places)
    return Explanation(
        image=np.random.default_rng(2).integers(60, 200, (*shape, 3)).astype(np.uint8),
        question=words + unread,
        words=[
            Word("[CLS]", "special", joined=False),
            *(Word(text, "word", joined=False) for text in texts),
            Word("[SEP]", "special", joined=False),
        ],
        unread=unread,
        answers=[Answer(text, 0.6 / (i + 1)) for i, text in enumerate(answers)],
        regions=Regions(
            boxes=places,
            features=inputs["visual_feats"][0].numpy(),
            image_size=shape,
            object_ids=np.zeros(number, dtype=np.int64),
            object_scores=np.linspace(0.9, 0.3, number).astype(np.float32),
            attribute_ids=np.zeros((number, 1), dtype=np.int64),
            attribute_scores=np.full((number, 1), 0.5, dtype=np.float32),
        ),
        objects=["ball"] * number,
        labels=[f"{label} {i + 1}" for i in range(number)],
        by_method=explain_answers(network, inputs, answer_ids, QUICK),
        maps=attention_maps(network, inputs),
        model="a tiny model",
        states=project_states(network, inputs),
    )
