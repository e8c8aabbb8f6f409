"""Our models in transformers' Trainer, which calls them in its own way."""

import pytest
import torch
from torch.testing import assert_close
from transformers import Trainer, TrainingArguments

from . import tiny


def examples(number=8):
    generator = torch.Generator().manual_seed(9)
    return [
        {
            "input_ids": torch.randint(3, 51, (tiny.TEXT_LEN,), generator=generator),
            "visual_feats": torch.randn(tiny.REGIONS, 9, generator=generator),
            "visual_pos": torch.rand(tiny.REGIONS, 5, generator=generator),
            "labels": torch.randint(0, 13, (), generator=generator),
        }
        for _ in range(number)
    ]


def trainer(folder, **settings):
    model = tiny.build(
        "LxmertForQuestionAnswering", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0
    )
    arguments = TrainingArguments(
        output_dir=str(folder),
        use_cpu=True,
        report_to="none",
        optim="sgd",
        learning_rate=1.0,
        lr_scheduler_type="constant",
        max_grad_norm=0,
        max_steps=1,
        save_strategy="no",
        disable_tqdm=True,
        **settings,
    )
    return Trainer(model=model, args=arguments, train_dataset=examples(), eval_dataset=examples())


def weights_after_one_step(folder, batch_size):
    runner = trainer(
        folder,
        per_device_train_batch_size=batch_size,
        gradient_accumulation_steps=8 // batch_size,
    )
    runner.train()
    return runner.model.state_dict()


def test_accumulated_gradients_are_not_multiplied(tmp_path):
    """A1: with N micro-batches the update was N times too large."""
    start = tiny.build("LxmertForQuestionAnswering").state_dict()
    whole = weights_after_one_step(tmp_path, 8)
    parts = weights_after_one_step(tmp_path, 2)
    moved = max((whole[key] - start[key]).abs().max().item() for key in start)
    assert moved > 0.05
    for key, value in whole.items():
        assert_close(parts[key], value, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["LxmertForPreTraining", "LxmertForQuestionAnswering"])
def test_trainer_evaluates_without_our_further_fields(name, tmp_path):
    runner = trainer(tmp_path, per_device_eval_batch_size=3)
    if name == "LxmertForPreTraining":
        runner.model = tiny.build(name)
        words = {"labels": torch.full((tiny.TEXT_LEN,), 8)}
        runner.eval_dataset = [example | words for example in examples()]
    predicted = runner.predict(runner.eval_dataset)
    assert predicted.metrics["test_loss"] > 0
    shapes = {
        "LxmertForPreTraining": [(8, 7, 51), (8, 2), (8, 13)],
        "LxmertForQuestionAnswering": [(8, 13)],
    }
    found = predicted.predictions
    found = found if isinstance(found, tuple) else (found,)
    assert [array.shape for array in found] == shapes[name]
