"""What a recipe may choose in pretraining, each option by itself, and the presets as a table."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional
from world import SMALL, make_world

from lxmert.model.pretraining import LxmertForPreTraining
from lxmert.schema import IGNORE_INDEX
from lxmert.tasks.pretraining import PretrainingTask
from lxmert.tasks.pretraining_settings import (
    NAMES,
    PRESETS,
    ObjectiveSettings,
    PretrainingData,
    PretrainingSettings,
)
from lxmert.tasks.registry import TASKS
from lxmert.tasks.task import Batch
from lxmert.train.recipes import flatten, make_recipe, recipe_table
from lxmert.train.sampling import RankShare, StepBatches, load_batches

World = dict[str, str]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("world")
    return make_world(folder) | {"folder": str(folder)}


def build(world: World, *, data: dict[str, object] | None = None, **options: object):
    questions = (world["questions"],)
    plain = PretrainingData(
        questions=questions,
        regions=world["regions"],
        valid_questions=questions,
        valid_regions=world["regions"],
    )
    objectives = ObjectiveSettings().replace(**options)
    torch.manual_seed(7)
    return PretrainingTask(
        PretrainingSettings(data=plain.replace(**(data or {})), model=SMALL, objectives=objectives),
        seed=7,
    )


def preset(world: World, name: str, **changes: object):
    """Build the task with the objectives of a preset."""
    recipe = make_recipe(recipe_of(name), TASKS)
    assert isinstance(recipe.settings, PretrainingSettings)
    options = {key: getattr(recipe.settings.objectives, key) for key in
               ObjectiveSettings.model_fields}  # fmt: skip
    return build(world, **options | changes)


def recipe_of(name: str | None) -> dict[str, object]:
    table: dict[str, object] = {
        "task": "pretraining",
        "data": {"questions": [], "regions": "", "valid_questions": [], "valid_regions": ""},
        "optim": {"lr": 1e-4, "batch_size": 256, "epochs": 20},
    }
    return table | ({} if name is None else {"preset": name})


def batch_of(task: PretrainingTask) -> Batch:
    return task.collate([task.example(index, 1) for index in range(0, len(task), 3)])


def objective_means(task: PretrainingTask, batch: Batch) -> dict[str, float]:
    losses, counts = task.losses(task.model, batch), task.counts(batch)
    return {
        name: weight * losses[name].item() / counts[name]
        for name, weight in task.loss_weights.items()
    }


def test_released_losses_are_those_of_the_documented_model(world: World) -> None:
    """Its forward, proven equal to transformers', gives the released sum when all is labeled."""
    task = preset(world, "released")
    batch = batch_of(task)
    config = task.model.config
    config.visual_loss_normalizer = 1 / 0.15
    model = LxmertForPreTraining(config)
    model.load_state_dict(task.model.state_dict())
    expected = model(
        **batch["inputs"],
        labels=batch["labels"],
        matched_label=batch["matched"],
        ans=batch["answers"],
        obj_labels={
            "obj": (batch["object_ids"], batch["object_scores"]),
            "attr": (batch["attribute_ids"][..., 0], batch["attribute_scores"][..., 0]),
            "feat": (batch["true_features"], batch["chosen"]),
        },
    )
    means = objective_means(task, batch)
    for name in NAMES:
        assert means[name] == pytest.approx(expected.losses[name].item(), rel=1e-4), name
    assert sum(means.values()) == pytest.approx(expected.loss.item(), rel=1e-4)


def test_paper_losses_are_plain_means_over_masked_regions(world: World) -> None:
    task = preset(world, "paper", region_mask_rate=0.5)
    batch = batch_of(task)
    chosen = batch["chosen"]
    with torch.no_grad():
        output = task.model(**batch["inputs"], output_predictions=True)
    expected = {
        "obj": functional.cross_entropy(output.object_logits[chosen], batch["object_ids"][chosen]),
        "attr": functional.cross_entropy(
            output.attribute_logits[chosen], batch["attribute_ids"][chosen][:, 0]
        ),
        "feat": ((output.feature_predictions - batch["true_features"])[chosen] ** 2).mean(),
    }
    means = objective_means(task, batch)
    for name, value in expected.items():
        assert means[name] == pytest.approx(value.item(), rel=1e-4), name
    hidden = (batch["inputs"]["visual_feats"] == 0).all(-1)
    assert torch.equal(hidden, chosen), "the paper knows zeros only"


def test_default_losses_are_masked_and_weighted_by_confidence(world: World) -> None:
    task = build(world, region_mask_rate=0.5)
    batch = batch_of(task)
    chosen = batch["chosen"]
    with torch.no_grad():
        output = task.model(**batch["inputs"], output_predictions=True)
    surprise = functional.cross_entropy(
        output.object_logits[chosen], batch["object_ids"][chosen], reduction="none"
    )
    expected = (surprise * batch["object_scores"][chosen]).mean()
    assert objective_means(task, batch)["obj"] == pytest.approx(expected.item(), rel=1e-4)


def test_padding_is_no_region_to_label(world: World) -> None:
    task = build(world, labeled_regions="all", label_confidence=False, region_mask_rate=0.0)
    item = task.example(0, 0)
    cut = {name: value[:1] for name, value in item._asdict().items() if name in (
        "features", "true_features", "boxes", "chosen", "object_ids",
        "object_scores", "attribute_ids", "attribute_scores", "group",
    )}  # fmt: skip
    batch = task.collate([item._replace(**cut), item])
    assert task.counts(batch)["obj"] == task.counts(batch)["attr"] == 3
    assert task.counts(batch)["feat"] == 0
    parts = [task.collate([item._replace(**cut)]), task.collate([item])]
    whole = task.losses(task.model, batch)["obj"].item()
    alone = sum(task.losses(task.model, part)["obj"].item() for part in parts)
    assert whole == pytest.approx(alone, rel=1e-4)


def test_texts_are_mismatched_only_if_matching_is_learned(world: World) -> None:
    weights = dict.fromkeys(NAMES, 1.0) | {"matched": 0.0}
    task = build(world, weights=weights, mismatch_rate=1.0)
    assert {task.example(index, 0).matched for index in range(len(task))} == {1}
    task = build(world)
    share = np.mean([task.example(i, e).matched for i in range(len(task)) for e in range(20)])
    assert share == pytest.approx(0.5, abs=0.05)


def with_answers(world: World, name: str, answers: dict[str, float]) -> tuple[str, ...]:
    """Write the questions with other answers."""
    rows = [json.loads(line) for line in Path(world["questions"]).read_text().splitlines()]
    path = Path(world["folder"]) / f"{name}.jsonl"
    lines = [json.dumps({k: v for k, v in row.items() if k != "answer"} | {"answers": answers})
             for row in rows]  # fmt: skip
    path.write_text("\n".join(lines))
    return (str(path),)


def test_answers_are_sampled_by_score_again_in_each_epoch(world: World) -> None:
    questions = with_answers(world, "soft", {"red": 0.9, "blue": 0.3})
    task = build(world, data={"questions": questions}, mismatch_rate=0.0)
    drawn = Counter(task.example(i, e).answer for i in range(len(task)) for e in range(30))
    red = task.answers.answers.index("red")
    assert drawn[red] / drawn.total() == pytest.approx(0.75, abs=0.03)
    best = build(world, data={"questions": questions}, mismatch_rate=0.0, answer_choice="best")
    assert {best.example(i, e).answer for i in range(9) for e in range(9)} == {red}


def test_answers_that_are_the_same_in_the_list_collide(world: World) -> None:
    """In the released code the last score won: one annotator in ten outweighed the majority."""
    questions = with_answers(world, "same", {"red": 0.9, "The red.": 0.1, "blue": 0.3})
    listed = Path(world["folder"]) / "two.json"
    listed.write_text('["red", "blue"]')
    given = {"questions": questions, "answers": str(listed)}
    for rule, score in {"max": 0.9, "last": 0.1}.items():
        task = build(world, data=given, mismatch_rate=0.0, colliding_answers=rule)
        drawn = [task.example(i, e).answer for i in range(len(task)) for e in range(30)]
        assert np.mean(np.equal(drawn, 0)) == pytest.approx(score / (score + 0.3), abs=0.03)


def test_questions_with_answers_outside_of_the_list_are_texts(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    listed = Path(world["folder"]) / "all_ans.json"
    listed.write_text('[{"ans": "green", "dsets": []}, {"ans": "red", "dsets": ["vqa"]}]')
    with caplog.at_level("INFO"):
        task = build(world, data={"answers": str(listed)}, mismatch_rate=0.0)
    assert task.answers.answers == ("green", "red")
    given = [task.training.examples.answers(row) for row in range(len(task))]
    blue = [row for row, answers in enumerate(given) if "blue" in answers]
    assert f"{len(blue)} of {len(task)} questions have no answer in the list" in caplog.text
    for row in range(len(task)):
        assert task.example(row, 0).answer == (IGNORE_INDEX if row in blue else 1)
    assert len(task) == 48


def test_question_accuracy_counts_matched_pairs_only(world: World) -> None:
    """Mismatched questions were scored against the answers of the original questions."""
    task = build(world, mismatch_rate=0.5)
    task.model.eval()
    masks = [np.random.default_rng([7, index]) for index in range(len(task.validation))]
    items = [task._mask(task.validation, row, mask) for row, mask in enumerate(masks)]
    batch = task.collate(items)
    asked = batch["answers"] != IGNORE_INDEX
    assert torch.equal(asked, batch["matched"] == 1)
    with torch.no_grad():
        given = task.model(**batch["inputs"]).question_answering_score.argmax(-1)
    right = (given == batch["answers"])[asked].float().mean().item()
    assert task.evaluate(device="cpu")["qa_accuracy"] == pytest.approx(right)


def test_question_accuracy_is_reported_by_file(world: World) -> None:
    """As the released code reports those of VQA, GQA and Visual Genome separately."""
    other = with_answers(world, "vg-qa", {"blue": 1.0})
    task = build(world, data={"valid_questions": (world["questions"], *other)}, mismatch_rate=0.0)
    task.model.eval()
    scores = task.evaluate(device="cpu")
    both = [scores["qa_accuracy_questions"], scores["qa_accuracy_vg-qa"]]
    assert scores["qa_accuracy"] == pytest.approx(np.mean(both))
    assert {"red", "blue"} == set(task.answers.answers)


def test_a_corpus_without_validation_answers_is_judged_by_its_words(world: World) -> None:
    """The run stopped at its first evaluation: there was no `qa_accuracy` to compare."""
    questions = with_answers(world, "other", {"purple": 1.0})
    task = build(world, data={"valid_questions": questions})
    assert task.best_metric == "mask_lm_accuracy"
    assert task.best_metric in task.evaluate(device="cpu")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weights": {"matching": 1.0}}, "weights: matching is unknown"),
        ({"mismatch_rate": 1.5}, r"mismatch_rate: got 1\.5"),
        ({"region_mask_shares": (0.8, 0.3)}, r"is \[0\.8, 0\.3\], expected two shares"),
    ],
)
def test_impossible_objectives_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ObjectiveSettings(**options)


TABLE = {
    # key: (default, released, paper); what is not here is the same in all three
    "objectives.weights.obj": (1.0, 1 / 0.15, 1.0),
    "objectives.weights.attr": (1.0, 1 / 0.15, 1.0),
    "objectives.weights.feat": (1.0, 1 / 0.15, 1.0),
    "objectives.region_mask_shares": ([0.8, 0.1], [0.8, 0.1], [1.0, 0.0]),
    "objectives.labeled_regions": ("masked", "all", "masked"),
    "objectives.label_confidence": (True, True, False),
    "objectives.feature_distance": ("smooth_l1", "smooth_l1", "l2"),
    "objectives.region_losses_over": ("targets", "regions", "targets"),
    "objectives.colliding_answers": ("max", "last", "max"),
    "model.frozen_first_rows": (False, True, False),
    "optim.name": ("adamw", "bert-adam", "adamw"),
    "optim.start_at.qa": (None, None, 0.5),
    "optim.warmup_share": (0.0, 0.05, 0.0),
    "optim.clip_norm": (None, 1.0, None),
}
SAME = {
    "objectives.weights.mask_lm": 1.0,
    "objectives.weights.matched": 1.0,
    "objectives.weights.qa": 1.0,
    "objectives.word_mask_rate": 0.15,
    "objectives.region_mask_rate": 0.15,
    "objectives.mismatch_rate": 0.5,
    "objectives.answer_choice": "sampled",
    "model.max_text_length": 20,
    "model.dropout": 0.1,
    "model.initializer_range": 0.02,
    "optim.weight_decay": 0.01,
    "optim.betas": [0.9, 0.999],
    "optim.eps": 1e-6,
    "optim.schedule": "linear",
}


def test_the_presets_are_as_written() -> None:
    assert tuple(PRESETS) == ("default", "released", "paper")
    resolved = [flatten(recipe_table(make_recipe(recipe_of(name), TASKS))) for name in PRESETS]
    plain = flatten(recipe_table(make_recipe(recipe_of(None), TASKS)))
    assert resolved[0] == plain
    for key, expected in TABLE.items():
        assert tuple(table.get(key) for table in resolved) == expected, key
    for key, value in SAME.items():
        assert [table[key] for table in resolved] == [value] * 3, key
    keys = {key for table in resolved for key in table}
    assert {k for k in keys if len({str(table.get(k)) for table in resolved}) > 1} == set(TABLE)
    reported = {key for key in keys if key.startswith("objectives.")}
    assert reported <= TABLE.keys() | SAME.keys()


def test_a_recipe_wins_over_its_preset() -> None:
    table = recipe_of("released") | {
        "objectives": {"weights": {"qa": 2.0}},
        "optim": {"lr": 1e-4, "batch_size": 256, "steps": 9, "name": "adamw"},
    }
    resolved = flatten(recipe_table(make_recipe(table, TASKS)))
    assert resolved["objectives.weights.qa"] == 2.0
    assert resolved["objectives.weights.obj"] == 1 / 0.15
    assert resolved["optim.name"] == "adamw"
    assert resolved["optim.clip_norm"] == 1.0


def test_an_unknown_preset_is_refused() -> None:
    with pytest.raises(ValueError, match=r"preset: papers is unknown.*did you mean 'paper"):
        make_recipe(recipe_of("papers"), TASKS)
    with pytest.raises(ValueError, match="unknown key 'preset'"):
        make_recipe({"task": "pairs", "preset": "paper"}, TASKS)


def batches_of(task: PretrainingTask, *, ranks: int, workers: int) -> list[list[int]]:
    """Return words, mismatched texts, regions and answers of three steps of 12 examples."""
    steps: list[list[list[int]]] = [[], [], []]
    for rank in range(ranks):
        share = RankShare(len(task), 7, 12, 1, rank, ranks)
        batches = StepBatches(share, first_step=3, last_step=6)
        loader = load_batches(task, batches, workers=workers, pin_memory=False)
        for step, batch in enumerate(loader):
            inputs = batch["inputs"]
            rows = functional.pad(inputs["input_ids"], (0, 8 - inputs["input_ids"].shape[1]))
            for row in range(len(rows)):
                hidden = inputs["visual_feats"][row].sum(-1).tolist()
                one = [*rows[row].tolist(), *hidden, batch["matched"][row], batch["answers"][row]]
                steps[step].append([int(value) for value in one])
    return [example for step in steps for example in step]


@pytest.mark.long
@pytest.mark.parametrize(("ranks", "workers"), [(1, 2), (2, 0), (3, 2)])
def test_masks_are_the_same_for_any_number_of_workers_and_ranks(
    world: World, ranks: int, workers: int
) -> None:
    questions = with_answers(world, "drawn", {"red": 0.9, "blue": 0.3})
    task = build(world, data={"questions": questions}, word_mask_rate=0.4, region_mask_rate=0.4)
    expected = batches_of(task, ranks=1, workers=0)
    assert len(expected) == 36
    assert batches_of(task, ranks=ranks, workers=workers) == expected
