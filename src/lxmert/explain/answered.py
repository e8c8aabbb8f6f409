"""An answered question with the relevance of each region; needs no PyTorch."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from lxmert.explain.figures import draw_answer
from lxmert.schema import Answer, Regions

QUICK = (
    "propagation",
    "attention",
    "rollout",
    "gradcam",
    "attnlrp",
    "value_zeroing",
    "occlusion",
)
"""Methods that need at most a few passes, or one for each word and region."""


_RELEVANT = 0.05
"""Change of a probability from which a region counts as relevant."""


@dataclass(frozen=True, repr=False)
class AnsweredQuestion:
    """An answered question with the regions of the image.

    Attributes:
        image: `[height, width, 3]` uint8 RGB.
        question: the question.
        answers: the best ones first.
        regions: the regions found by the extractor.
        objects: name of each region's object class.
        labels: the same with attributes, such as `large red metal ball`.
        relevance: decrease in the probability of the best answer without each region.
        without_image: the best answer if all regions are masked, so that the model reads the
            question only; None if it was not computed.
    """

    image: npt.NDArray[np.uint8]
    question: str
    answers: Sequence[Answer]
    regions: Regions
    objects: Sequence[str]
    labels: Sequence[str]
    relevance: Sequence[float]
    without_image: Answer | None = None

    @property
    def same_without_image(self) -> bool:
        """Whether the best answer stays the same if all regions are masked.

        The image may confirm what the question alone suggests; see `did_not_look`.
        """
        return self.without_image is not None and (
            self.without_image.answer == max(self.answers, key=lambda each: each.score).answer
        )

    @property
    def did_not_look(self) -> bool:
        """Whether the best answer is the same without the image, and no region is relevant to it.

        No region is relevant if leaving out any one changes the probability by less than 0.05.
        """
        return self.same_without_image and max(map(abs, self.relevance)) < _RELEVANT

    def to_dict(self) -> dict[str, object]:
        """Return answers and regions as JSON values.

        Returns:
            `answers`: list of `answer`, `score`. `without_image`: `answer` and `score` of
            `without_image`, or None. `same_without_image`, `did_not_look`. `regions`: list of `box`
            (`[x1, y1, x2, y2]` in pixels), `object`, `score`, `label` (the object with its
            attributes) and `relevance`.
        """
        seen = self.regions
        return {
            "answers": [_pack_answer(answer) for answer in self.answers],
            "without_image": self.without_image and _pack_answer(self.without_image),
            "same_without_image": self.same_without_image,
            "did_not_look": self.did_not_look,
            "regions": [
                {
                    "box": [round(float(side), 1) for side in box],
                    "object": name,
                    "score": round(float(score), 4),
                    "label": label,
                    "relevance": round(relevance, 4),
                }
                for box, name, score, label, relevance in zip(
                    seen.boxes,
                    self.objects,
                    seen.object_scores,
                    self.labels,
                    self.relevance,
                    strict=True,
                )
            ],
        }

    def draw(self) -> Image.Image:
        """Draw the image with regions and answers."""
        return draw_answer(
            self.image,
            question=self.question,
            answers=self.answers,
            boxes=self.regions.boxes,
            labels=self.labels,
            relevance=self.relevance,
        )


def _pack_answer(answer: Answer) -> dict[str, object]:
    return {"answer": answer.answer, "score": round(answer.score, 6)}
