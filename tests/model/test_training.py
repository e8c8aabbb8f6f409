"""Our models in transformers' Trainer, which calls them in its own way."""

import pytest
import torch
from torch.testing import assert_close
from torch.utils.data import default_collate
from transformers import Trainer, TrainingArguments

from . import tiny

HEADS = [name for name in tiny.OURS if name != "LxmertModel"]
QA, PRETRAINING = "LxmertForQuestionAnswering", "LxmertForPreTraining"
FEWEST_LAYERS = {"l_layers": 1, "x_layers": 1, "r_layers": 1}
ALL_LABELS = ["labels", "obj_labels", "matched_label", "ans"]
SCORES = {
    PRETRAINING: [(8, 7, 51), (8, 2), (8, 13)],
    QA: [(8, 13)],
    tiny.PAIRS: [(8, 2)],
    tiny.MATCHING: [(8, 2)],
}


def examples(name, number=8):
    """Return examples in float64, all with as many labels, so that any cut of them is fair."""
    generator = torch.Generator().manual_seed(9)
    text, regions = tiny.TEXT_LEN, tiny.REGIONS
    images = (2,) if name == tiny.PAIRS else ()

    def example():
        given = {
            "input_ids": torch.randint(3, 51, (text,), generator=generator),
            "visual_feats": torch.randn(*images, regions, 9, generator=generator).double(),
            "visual_pos": torch.rand(*images, regions, 5, generator=generator).double(),
        }
        if name != PRETRAINING:
            classes = 13 if name == QA else 2
            return given | {"labels": torch.randint(0, classes, (), generator=generator)}
        words = torch.randint(0, 51, (text,), generator=generator)
        weights = torch.rand(regions, generator=generator).double()
        return given | {
            "labels": torch.where(torch.arange(text) < 3, words, -100),
            "matched_label": torch.randint(0, 2, (), generator=generator),
            "ans": torch.randint(0, 13, (), generator=generator),
            "obj_labels": {
                "obj": (torch.randint(0, 11, (regions,), generator=generator), weights),
                "attr": (torch.randint(0, 7, (regions,), generator=generator), weights),
                "feat": (torch.randn(regions, 9, generator=generator).double(), weights),
            },
        }

    return [example() for _ in range(number)]


def trainer(name, folder, *, data=None, **settings):
    sizes = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, **FEWEST_LAYERS}
    model = tiny.build(name, attention="sdpa", **sizes).double()
    arguments = TrainingArguments(
        output_dir=str(folder),
        use_cpu=True,
        report_to="none",
        optim="sgd",
        learning_rate=0.125,
        lr_scheduler_type="constant",
        max_grad_norm=0,
        max_steps=1,
        save_strategy="no",
        disable_tqdm=True,
        **settings,
    )
    data = examples(name) if data is None else data
    return Trainer(
        model=model,
        args=arguments,
        train_dataset=data,
        eval_dataset=data,
        data_collator=default_collate,
    )


def weights_after_one_step(name, folder, batch_size):
    runner = trainer(
        name,
        folder,
        per_device_train_batch_size=batch_size,
        gradient_accumulation_steps=8 // batch_size,
    )
    before = {key: value.clone() for key, value in runner.model.state_dict().items()}
    runner.train()
    return {key: value - before[key] for key, value in runner.model.state_dict().items()}


@pytest.mark.long
@pytest.mark.parametrize(
    "name",
    [
        name if name in (PRETRAINING, QA) else pytest.param(name, marks=pytest.mark.slow)
        for name in HEADS
    ],
)
def test_accumulated_gradients_are_not_multiplied(name, tmp_path):
    """A1: with N micro-batches the update was N times too large."""
    whole = weights_after_one_step(name, tmp_path, 8)
    parts = weights_after_one_step(name, tmp_path, 2)
    largest = max(update.abs().max().item() for update in whole.values())
    assert largest > 0.01
    for key, update in whole.items():
        assert_close(parts[key], update, rtol=1e-6, atol=1e-9 * largest)


@pytest.mark.parametrize("name", HEADS)
def test_trainer_evaluates(name, tmp_path):
    """All labels count and come back; our further fields, which are no scores, do not."""
    runner = trainer(name, tmp_path, per_device_eval_batch_size=4)
    with torch.no_grad():
        expected = runner.model(**default_collate(runner.eval_dataset)).loss
    assert runner.evaluate()["eval_loss"] == pytest.approx(expected.item(), rel=1e-6)
    predicted = runner.predict(runner.eval_dataset)
    found = predicted.predictions
    found = found if isinstance(found, tuple) else (found,)
    assert [array.shape for array in found] == SCORES[name]
    assert runner.label_names == (ALL_LABELS[:3] if name == PRETRAINING else ["labels"])


def test_label_names_select_the_labels(tmp_path):
    """C11: the Trainer knows labels by their name, and `ans` has none that it knows."""
    data = examples(PRETRAINING)
    only_answers = [
        {k: v for k, v in example.items() if k not in ALL_LABELS[:3]} for example in data
    ]
    runner = trainer(PRETRAINING, tmp_path, data=only_answers, label_names=["ans"])
    expected = runner.model(**default_collate(only_answers)).losses
    assert set(expected) == {"qa"}
    predicted = runner.predict(only_answers)
    assert predicted.metrics["test_loss"] == pytest.approx(expected["qa"].item(), rel=1e-6)
    assert predicted.label_ids.tolist() == [example["ans"] for example in data]
    assert [array.shape for array in predicted.predictions] == SCORES[PRETRAINING]

    runner = trainer(PRETRAINING, tmp_path, label_names=ALL_LABELS)
    words, regions, matched, answers = runner.predict(data).label_ids
    assert words.shape == (8, 7)
    assert regions["feat"][0].shape == (8, 5, 9)
    assert matched.shape == answers.shape == (8,)
