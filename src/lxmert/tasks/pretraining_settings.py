"""What a recipe may say of pretraining, and its presets: `default`, `released`, `paper`.

Presets are parts of recipes. What a recipe says itself wins over them.
"""

from collections.abc import Iterator, Mapping
from typing import Annotated, Literal

from pydantic import Field, Strict

from lxmert.names import unknown_name
from lxmert.records import Items, Probability, Record
from lxmert.tasks.inputs import File, FileList, Files
from lxmert.tasks.texts import ModelSettings

NAMES = ("mask_lm", "matched", "obj", "attr", "feat", "qa")
"""The losses: the pretraining model's own names."""


class PretrainingData(Record):
    """Corpora of texts about images, and the regions of those images.

    Attributes:
        questions: JSONL files of questions with answers; a file that is listed twice counts twice.
        regions: region store of all training images, or several.
        valid_questions: JSONL files of questions for validation.
        valid_regions: region store of all validation images, or several.
        captions: JSONL files of captions.
        valid_captions: JSONL files of captions for validation.
        answers: list of the answers to predict, such as `all_ans.json`; questions whose answers are
            not in it stay as texts. Absent: those of the start, or all of the training questions.
        extractor: folder of the extractor that made the stores, to be saved with the model; absent: the
            model cannot be asked about images, only about regions.
        question_types: types of questions to train on and to be scored by, such as simple ones first;
            absent: all. Texts without a type, such as captions, stay.
        attribute_swap: values of one attribute, such as the colors, that are exchanged for one another at
            random in half of the training examples, so that none is taken for a hint of what it is
            seen with (`tasks.exchange`); absent or empty: none.
    """

    questions: FileList
    regions: Files
    valid_questions: FileList
    valid_regions: Files
    captions: FileList = ()
    valid_captions: FileList = ()
    answers: File | None = None
    extractor: File | None = None
    question_types: Items[str] | None = None
    attribute_swap: Items[str] = ()


class ObjectiveSettings(Record):
    """What is hidden and how much each loss counts.

    Attributes:
        weights: weight of each loss; 0 switches it off.
        word_mask_rate: share of the word pieces to predict.
        region_mask_rate: share of the regions to predict.
        region_mask_shares: of the regions to predict, the shares whose features are set to zero and
            replaced by those of another image; the rest is shown as it is.
        mismatch_rate: share of the pairs that get the text of another image; 0 where `matched`
            weighs nothing.
        labelled_regions: whether the objects and attributes of `masked` regions are predicted, or
            of `all`.
        label_confidence: whether an object or attribute weighs as much as the detector was sure.
        feature_distance: of predicted from true features, `smooth_l1` or `l2`.
        region_losses_over: what the losses of regions are divided by: their `targets`, or all
            `regions`, as in the code of the original code, whose weights of 1 / 0.15 make up for it.
        answer_choice: which answer of several is trained: the `best` one, or one that is `sampled`
            anew in each epoch, in proportion to the scores.
        colliding_answers: which score counts where two answers are the same in the list: the
            highest, or the last one, as in the code of the original code.
    """

    weights: dict[str, float] = Field(default_factory=lambda: dict.fromkeys(NAMES, 1.0))
    word_mask_rate: Probability = 0.15
    region_mask_rate: Probability = 0.15
    region_mask_shares: Annotated[tuple[Probability, Probability], Strict(False)] = (0.8, 0.1)
    mismatch_rate: Probability = 0.5
    labelled_regions: Literal["masked", "all"] = "masked"
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
            "labelled_regions": "all",
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
            "labelled_regions": "masked",
            "label_confidence": False,
            "feature_distance": "l2",
            "region_losses_over": "targets",
        },
        "optim": {"start_at": {"qa": 0.5}, "schedule": "linear"},
    },
}
"""Parts of recipes by name. `released` does what the code of the original code did, `paper` what the paper says
where the two differ, and `default` mends what was wrong; docs/paper.md has the table.
Source: paper sections 3 and 4; facts of the released code."""
