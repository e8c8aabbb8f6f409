"""The items of responses: answers, regions and arrays."""

import base64
from collections.abc import Sequence

from lxmert.schema import REGION_ARRAYS, Answer, Regions
from lxmert.serve.messages import AnswerItem, Array, RegionItem


def pack_arrays(regions: Regions) -> dict[str, Array]:
    """Return the arrays of regions by the names of their fields."""
    values = {name: getattr(regions, name) for name in REGION_ARRAYS}
    return {
        name: Array(
            dtype="int64" if value.dtype.kind == "i" else "float32",
            shape=value.shape,
            data=base64.b64encode(
                value.astype("<i8" if value.dtype.kind == "i" else "<f4").tobytes()
            ).decode(),
        )
        for name, value in values.items()
    }


def answer_items(answers: Sequence[Answer]) -> tuple[AnswerItem, ...]:
    """Return the items of answers."""
    return tuple(map(answer_item, answers))


def answer_item(answer: Answer) -> AnswerItem:
    """Return the item of an answer."""
    return AnswerItem(answer=answer.answer, score=round(answer.score, 6))


def region_items(
    regions: Regions, objects: Sequence[str], labels: Sequence[str]
) -> tuple[RegionItem, ...]:
    """Return the items of regions, with the object and the label of each."""
    return tuple(
        RegionItem(
            box=(x1, y1, x2, y2),
            label=label,
            object=name,
            score=round(float(score), 4),
        )
        for (x1, y1, x2, y2), label, name, score in zip(
            regions.boxes.astype(float).round(2).tolist(),
            labels,
            objects,
            regions.object_scores,
            strict=True,
        )
    )
