"""The settings of pretraining recipes, and their presets: `default`, `released`, `paper`.

A preset is a partial recipe; the settings of a recipe override those of its preset.
"""

from collections.abc import Iterator, Mapping
from typing import Annotated, Literal

from pydantic import Field, Strict

from lxmert.names import unknown_name
from lxmert.records import Items, Positive, Probability, Record
from lxmert.tasks.inputs import File, FileList, RegionData
from lxmert.tasks.texts import ModelSettings

NAMES = ("mask_lm", "matched", "obj", "attr", "feat", "qa")
"""Names of the losses, as in the pretraining model."""


class PretrainingData(RegionData):
    """Corpora of texts about images, and the regions of those images.

    Attributes:
        questions: JSONL files of questions with answers; a file listed twice is used twice.
        regions: one or several region stores of the training images.
        valid_questions: JSONL files of questions for validation.
        valid_regions: one or several region stores of the validation images.
        captions: JSONL files of captions.
        valid_captions: JSONL files of captions for validation.
        answers: list of the answers to predict, such as `all_ans.json`; questions whose answers are
            not in it are used as texts only. Absent: the answers of `model.init_from`, or all
            answers of the training questions.
        extractor: folder of the extractor that made the stores, saved with the model; absent: the
            saved model accepts regions only, not images.
        question_types: question types to train and validate on; absent: all. Texts without a
            type, such as captions, are kept.
        attribute_swap: values of one attribute, such as the colors, to swap at random in half of
            the training examples (`tasks.attribute_swap`); absent or empty: no swaps.
        mix: weight of each training file by its name without folder and suffix, such as
            `{vqa = 2, gqa = 1}`: the files are drawn by weight, and an epoch has as many draws as
            there are examples; absent: every example is drawn once in an epoch.
    """

    questions: FileList
    valid_questions: FileList
    captions: FileList = ()
    valid_captions: FileList = ()
    answers: File | None = None
    question_types: Items[str] | None = None
    attribute_swap: Items[str] = ()
    mix: dict[str, Positive] | None = None


class ObjectiveSettings(Record):
    """Masking rates, loss weights and variants of the objectives.

    Attributes:
        weights: weight of each loss; 0 disables it.
        word_mask_rate: share of the word pieces to predict.
        region_mask_rate: share of the regions to predict.
        region_mask_shares: of the regions to predict, the shares whose features are set to zero
            and replaced by those of another image; the others are left unchanged.
        mismatch_rate: share of the pairs with the text of another image; taken as 0 if the weight
            of `matched` is 0.
        labeled_regions: regions whose objects and attributes are predicted, `masked` or `all`.
        label_confidence: whether the losses of objects and attributes are weighted by the
            detector's confidence.
        feature_distance: distance of predicted and true features, `smooth_l1` or `l2`.
        region_losses_over: divisor of the region losses: the number of their `targets`, or of all
            `regions` as in the original LXMERT code, whose weights of 1 / 0.15 compensate for it.
        answer_choice: target if a question has several answers: the `best` one, or one `sampled`
            in each epoch in proportion to the scores.
        colliding_answers: score if two answers are the same after normalization: the highest, or
            the last one as in the original LXMERT code.
    """

    weights: dict[str, float] = Field(default_factory=lambda: dict.fromkeys(NAMES, 1.0))
    word_mask_rate: Probability = 0.15
    region_mask_rate: Probability = 0.15
    region_mask_shares: Annotated[tuple[Probability, Probability], Strict(False)] = (0.8, 0.1)
    mismatch_rate: Probability = 0.5
    labeled_regions: Literal["masked", "all"] = "masked"
    label_confidence: bool = True
    feature_distance: Literal["smooth_l1", "l2"] = "smooth_l1"
    region_losses_over: Literal["targets", "regions"] = "targets"
    answer_choice: Literal["sampled", "best"] = "sampled"
    colliding_answers: Literal["max", "last"] = "max"

    def problems(self) -> Iterator[str]:
        """Yield unknown objectives, and shares that add up to more than all regions."""
        for name in self.weights:
            if name not in NAMES:
                yield f"weights: {unknown_name(name, NAMES)}"
        if sum(self.region_mask_shares) > 1:
            yield (
                f"region_mask_shares is {list(self.region_mask_shares)}, expected two shares that "
                "add up to at most 1: try [0.8, 0.1]"
            )


class PretrainingSettings(Record):
    """The task's tables in a recipe: `[data]`, `[model]`, `[objectives]`."""

    data: PretrainingData
    model: ModelSettings = ModelSettings()
    objectives: ObjectiveSettings = ObjectiveSettings()


PRESETS: Mapping[str, Mapping[str, object]] = {
    "default": {},
    "released": {
        "model": {"frozen_first_rows": True},
        "objectives": {
            "weights": {
                "mask_lm": 1.0,
                "matched": 1.0,
                "obj": 1 / 0.15,
                "attr": 1 / 0.15,
                "feat": 1 / 0.15,
                "qa": 1.0,
            },
            "region_mask_shares": [0.8, 0.1],
            "labeled_regions": "all",
            "label_confidence": True,
            "feature_distance": "smooth_l1",
            "region_losses_over": "regions",
            "answer_choice": "sampled",
            "colliding_answers": "last",
        },
        "optim": {
            "name": "bert-adam",
            "weight_decay": 0.01,
            "betas": [0.9, 0.999],
            "eps": 1e-6,
            "warmup_share": 0.05,
            "schedule": "linear",
            "clip_norm": 1.0,
        },
    },
    "paper": {
        "objectives": {
            "region_mask_shares": [1.0, 0.0],
            "labeled_regions": "masked",
            "label_confidence": False,
            "feature_distance": "l2",
            "region_losses_over": "targets",
        },
        "optim": {"start_at": {"qa": 0.5}, "schedule": "linear"},
    },
}
"""Partial recipes by name. `released` follows the original LXMERT code, `paper` follows the paper
where the two differ, and `default` corrects the mistakes of both; docs/paper.md has the table.
Source: paper sections 3 and 4; the released code."""
