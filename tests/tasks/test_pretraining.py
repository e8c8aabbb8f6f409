"""The pretraining task: what is hidden, what is counted, and that all of it can be learned."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from world import COLORS, HEADER, NUM_IMAGES, make_regions, make_world

from lxmert.data.store import RegionStore
from lxmert.model import objectives
from lxmert.schema import IGNORE_INDEX, Regions
from lxmert.tasks.pretraining import PretrainingTask
from lxmert.tasks.pretraining_settings import (
    NAMES,
    ObjectiveSettings,
    PretrainingData,
    PretrainingSettings,
)
from lxmert.tasks.texts import ModelSettings

SMALL = ModelSettings(
    hidden_size=32,
    num_attention_heads=2,
    intermediate_size=48,
    l_layers=2,
    x_layers=1,
    r_layers=1,
    dropout=0.0,
    initializer_range=0.1,
    max_text_length=8,
)
Make = Callable[..., PretrainingTask]


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Make:
    paths = make_world(tmp_path_factory.mktemp("world"))

    def build(seed: int = 3, **rates: float) -> PretrainingTask:
        data = PretrainingData(
            regions=paths["regions"],
            valid_regions=paths["regions"],
            questions=(paths["questions"],),
            captions=(paths["captions"],),
            valid_questions=(paths["questions"],),
            valid_captions=(paths["captions"],),
        )
        torch.manual_seed(seed)
        settings = PretrainingSettings(
            data=data, model=SMALL, objectives=ObjectiveSettings().replace(**rates)
        )
        return PretrainingTask(settings, seed=seed)

    return build


def test_an_example_is_decided_by_seed_epoch_and_index_alone(make: Make) -> None:
    def text(task: PretrainingTask, index: int, epoch: int) -> str:
        return str([value.tolist() if isinstance(value, np.ndarray) else value
                    for value in task.example(index, epoch)])  # fmt: skip

    first, again, other = make(), make(), make(seed=4)
    for index in (0, 40, 17):
        assert text(first, index, 2) == text(again, index, 2)
    indices = range(len(first))
    for task, epoch in ((first, 3), (other, 2)):
        assert [text(task, i, epoch) for i in indices] != [text(first, i, 2) for i in indices]


def test_a_mismatched_pair_has_another_text_and_no_answer(make: Make) -> None:
    task = make(mismatch_rate=1.0)
    for index in range(len(task)):
        item = task.example(index, 0)
        assert (item.matched, item.answer) == (0, IGNORE_INDEX)
        assert np.array_equal(item.true_features, task.training.regions(index)[0].features)


def test_matched_questions_keep_their_answer_and_captions_have_none(make: Make) -> None:
    task = make(mismatch_rate=0.0)
    items = [task.example(index, 0) for index in range(len(task))]
    assert [item.matched for item in items] == [1] * len(task)
    questions, captions = items[:48], items[48:]
    assert {item.answer for item in captions} == {IGNORE_INDEX}
    for index, item in enumerate(questions):
        regions = make_regions(str(index // 2))
        assert task.answers.answers[item.answer] == COLORS[regions.attribute_ids[index % 2, 0]]


def test_counts_are_those_of_the_losses(make: Make) -> None:
    task = make(word_mask_rate=0.4, region_mask_rate=0.4)
    batch = task.collate([task.example(index, 1) for index in range(0, len(task), 5)])
    counts = task.counts(batch)
    assert counts["mask_lm"] == (batch["labels"] != IGNORE_INDEX).sum() > 0
    assert counts["matched"] == len(batch["matched"])
    assert counts["obj"] == counts["attr"] == counts["feat"] == batch["chosen"].sum() > 0
    output = task.model(**batch["inputs"], output_predictions=True)
    loss, count = objectives.answering(output.question_answering_score, batch["answers"])
    assert counts["qa"] == count
    losses = task.losses(task.model, batch)
    assert tuple(losses) == NAMES == tuple(counts) == tuple(task.loss_weights)
    torch.testing.assert_close(losses["qa"], loss)


def test_padding_regions_are_never_targets(make: Make) -> None:
    task = make(region_mask_rate=1.0)
    item = task.example(0, 0)
    shorter = item._replace(
        **{
            name: getattr(item, name)[:1]
            for name in (
                "features", "true_features", "boxes", "chosen", "object_ids",
                "object_scores", "attribute_ids", "attribute_scores", "group",
            )
        }
    )  # fmt: skip
    batch = task.collate([shorter, item])
    assert batch["chosen"].tolist() == [[True, False], [True, True]]
    assert batch["inputs"]["visual_attention_mask"].tolist() == [[1, 0], [1, 1]]


def test_only_the_inputs_of_masked_regions_are_hidden(make: Make) -> None:
    task = make(region_mask_rate=1.0)
    hidden = 0
    for index in range(len(task)):
        item = task.example(index, 0)
        assert item.chosen.all()
        hidden += int((item.features == 0).all(axis=1).sum())
        np.testing.assert_array_equal(item.true_features.sum(axis=1), [2, 2])
    assert hidden / (2 * len(task)) == pytest.approx(0.8, abs=0.1)


@pytest.mark.parametrize("name", NAMES)
def test_each_loss_trains_both_sides(make: Make, name: str) -> None:
    task = make(mismatch_rate=0.3)
    batch = task.collate([task.example(index, 0) for index in range(0, len(task), 2)])
    task.losses(task.model, batch)[name].backward()
    trained = {n for n, p in task.model.named_parameters() if p.grad is not None and p.grad.any()}
    assert "lxmert.embeddings.word_embeddings.weight" in trained
    assert "lxmert.encoder.visn_fc.visn_fc.weight" in trained


@pytest.mark.long
def test_objectives_are_learned_together(make: Make) -> None:
    """Matching and attributes are left out: too little here tells them, the world is too small."""
    task = make(mismatch_rate=0.3)
    optimizer = torch.optim.AdamW(task.model.parameters(), lr=3e-3)
    curve: list[dict[str, float]] = []
    for step in range(150):
        batch = task.collate([task.example(i, step) for i in range(step % 2, len(task), 2)])
        losses, counts = task.losses(task.model, batch), task.counts(batch)
        means = {name: losses[name] / max(1.0, counts[name]) for name in NAMES}
        optimizer.zero_grad()
        torch.stack(list(means.values())).sum().backward()
        optimizer.step()
        curve.append({name: value.item() for name, value in means.items()})
    for name in ("mask_lm", "obj", "feat", "qa"):
        start = np.mean([row[name] for row in curve[:5]])
        end = np.mean([row[name] for row in curve[-10:]])
        assert end < 0.8 * start, (name, start, end)


def test_evaluation_reports_each_objective_beside_chance(make: Make) -> None:
    task = make()
    task.model.eval()
    scores = task.evaluate(device="cpu")
    pairs = [name for name in NAMES if name != "feat"]
    expected = {f"{name}_{kind}" for name in pairs for kind in ("accuracy", "chance")}
    assert set(scores) == expected | {"feat_error", "feat_chance"}
    assert scores == task.evaluate(device="cpu"), "validation masks are not fixed"
    assert scores["matched_chance"] >= 0.5
    assert task.best_metric in scores
    assert all(0 <= score <= 1 for name, score in scores.items() if name[:4] != "feat")


def test_images_without_regions_are_named(tmp_path: Path) -> None:
    paths = make_world(tmp_path)
    with (tmp_path / "captions.jsonl").open("a") as lines:
        lines.write('{"image": "far.png", "caption": "a red hat"}\n')
    data = PretrainingData(
        regions=paths["regions"],
        valid_regions=paths["regions"],
        questions=(paths["questions"],),
        valid_questions=(paths["questions"],),
        captions=(paths["captions"],),
    )
    with pytest.raises(ValueError, match=r"1 image .*such as 'far\.png'"):
        PretrainingTask(PretrainingSettings(data=data, model=SMALL), seed=1)


def test_texts_about_a_single_image_are_refused(tmp_path: Path) -> None:
    """Looking for the text of another image went on forever."""
    paths = make_world(tmp_path)
    one = tmp_path / "one.jsonl"
    one.write_text("\n".join((tmp_path / "questions.jsonl").read_text().splitlines()[:2]))
    data = PretrainingData(
        questions=(str(one),),
        regions=paths["regions"],
        valid_questions=(str(one),),
        valid_regions=paths["regions"],
    )
    with pytest.raises(ValueError, match="all texts are about the image '0'"):
        PretrainingTask(PretrainingSettings(data=data, model=SMALL), seed=1)


def test_regions_without_attributes_are_pretrained_on(tmp_path: Path) -> None:
    """Boxes without attributes, as in plain COCO files, gave a model with no attribute to name."""
    paths = make_world(tmp_path, attributes=False)
    data = PretrainingData(
        questions=(paths["questions"],),
        regions=paths["regions"],
        valid_questions=(paths["questions"],),
        valid_regions=paths["regions"],
    )
    task = PretrainingTask(PretrainingSettings(data=data, model=SMALL), seed=1)
    batch = task.collate([task.example(index, 0) for index in range(8)])
    losses = task.losses(task.model, batch)
    assert tuple(losses) == tuple(task.counts(batch)) == tuple(n for n in NAMES if n != "attr")
    torch.stack(list(losses.values())).sum().backward()
    assert "attr_accuracy" not in task.evaluate(device="cpu", limit=8)


def test_every_attribute_group_is_sampled(tmp_path: Path) -> None:
    """Only the first group was, so pretraining did not learn the material of regions."""
    header = HEADER.replace(attribute_names=(*HEADER.attribute_names, "metal", "plastic"))
    metal = len(HEADER.attribute_names)

    def extract(remaining: Sequence[str]) -> Iterator[tuple[str, Regions]]:
        for image_id in remaining:
            regions = make_regions(image_id)
            materials = metal + (regions.attribute_ids + int(image_id)) % 2
            ids = np.concatenate([regions.attribute_ids, materials], axis=1)
            scores = np.repeat(regions.attribute_scores, 2, axis=1)
            yield image_id, replace(regions, attribute_ids=ids, attribute_scores=scores)

    paths = make_world(tmp_path)
    RegionStore.write(tmp_path / "two", [str(i) for i in range(NUM_IMAGES)], extract, header)
    two = str(tmp_path / "two")
    data = PretrainingData(
        questions=(paths["questions"],),
        regions=two,
        valid_questions=(paths["questions"],),
        valid_regions=two,
    )
    task = PretrainingTask(PretrainingSettings(data=data, model=SMALL), seed=1)
    batch = task.collate([task.example(index, 0) for index in range(len(task))])
    assert batch["attribute_ids"].shape == (len(task), 2, 2)
    assert 0.3 < batch["group"].float().mean() < 0.7
    whole = task.losses(task.model, batch)["attr"].item()
    parts = []
    for group in (0, 1):
        asked = batch["group"] == group
        alone = batch | {"chosen": batch["chosen"] & asked}
        alone |= {"group": torch.full_like(batch["group"], group)}
        parts.append(task.losses(task.model, alone)["attr"].item())
    assert all(part > 0 for part in parts)
    assert sum(parts) == pytest.approx(whole, rel=1e-4)
    scores = task.evaluate(device="cpu")
    assert 0 <= scores["attr_accuracy"] <= 1
    assert 0.4 < scores["attr_chance"] < 0.8


def test_question_types_of_questions_can_be_chosen(make: Make, tmp_path: Path) -> None:
    """Captions and the answers of other question types are kept, for fine-tuning."""
    paths = make_world(tmp_path)
    lines = [json.loads(line) for line in Path(paths["questions"]).read_text().splitlines()]
    for number, line in enumerate(lines):
        line |= {"question_type": "number", "answer": str(number % 3)} if number % 4 == 0 else {}
    path = tmp_path / "question types.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    data = PretrainingData(
        questions=(str(path),),
        regions=paths["regions"],
        valid_questions=(str(path),),
        valid_regions=paths["regions"],
        captions=(paths["captions"],),
        question_types=("color",),
    )
    task = PretrainingTask(PretrainingSettings(data=data, model=SMALL), seed=1)
    assert len(task) == len(make()) - len(lines) // 4
    assert {"0", "1", "2", *COLORS} <= set(task.answers.answers)
    with pytest.raises(ValueError, match=r"has 'size', but no training question has this type"):
        PretrainingTask(
            PretrainingSettings(data=data.replace(question_types=("size",)), model=SMALL), seed=1
        )


def test_unknown_objectives_are_refused() -> None:
    with pytest.raises(ValueError, match="weights: matching is unknown"):
        ObjectiveSettings(weights={"matching": 1.0})
