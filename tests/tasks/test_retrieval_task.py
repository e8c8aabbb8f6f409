"""The retrieval task: its captions and negatives, learning, and its scores against brute force."""

from pathlib import Path

import numpy as np
import pytest
import torch
from world import SMALL, make_world

from lxmert.metrics.retrieval import score_retrieval
from lxmert.model.heads import LxmertForImageAndTextRetrieval
from lxmert.tasks.retrieval import RetrievalData, RetrievalSettings, RetrievalTask
from lxmert.tasks.texts import ModelSettings


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> RetrievalData:
    paths = make_world(tmp_path_factory.mktemp("world"))
    captions, regions = paths["captions"], paths["regions"]
    return RetrievalData(
        train=captions, valid=captions, regions=regions, valid_regions=regions, negatives=3
    )


def make(data: RetrievalData, model: ModelSettings = SMALL) -> RetrievalTask:
    torch.manual_seed(5)
    return RetrievalTask(RetrievalSettings(data=data, model=model), seed=5)


def test_the_own_caption_comes_first_and_the_others_are_of_other_images(
    data: RetrievalData,
) -> None:
    task = make(data)
    own = {row: task.training.examples.image_ids(row) for row in range(len(task))}
    texts: dict[str, set[tuple[str, ...]]] = {}
    for row, image in own.items():
        texts.setdefault(str(task.training.token_ids[row]), set()).add(image)
    for row in range(len(task)):
        item = task.example(row, 1)
        assert len(item.captions) == 4
        assert np.array_equal(item.captions[0], task.training.token_ids[row])
        for caption in item.captions[1:]:
            assert texts[str(caption)] - {own[row]}
    again, other = task.example(7, 1), task.example(7, 2)
    assert str(task.example(7, 1).captions) == str(again.captions) != str(other.captions)


def test_every_pair_of_a_batch_is_scored_as_if_alone(data: RetrievalData) -> None:
    task = make(data)
    task.model.eval()
    items = [task.example(row, 0) for row in (0, 9, 30)]
    batch = task.collate(items)
    assert batch["owners"].tolist() == [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2]
    assert batch["matched"].tolist() == [1, 0, 0, 0] * 3
    assert task.counts(batch) == {"matched": 12.0}
    assert isinstance(task.model, LxmertForImageAndTextRetrieval)
    expected = 0.0
    for item in items:
        for place, caption in enumerate(item.captions):
            one = task.model(
                input_ids=torch.from_numpy(caption)[None],
                visual_feats=torch.from_numpy(item.features)[None],
                visual_pos=torch.from_numpy(item.boxes)[None],
                labels=torch.tensor([int(place == 0)]),
            )
            expected += one.loss.item()
    assert task.losses(task.model, batch)["matched"].item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.long
def test_it_is_learned_and_scored_in_both_directions(data: RetrievalData, tmp_path: Path) -> None:
    """Six images, no two of which look alike."""
    few = tmp_path / "few.jsonl"
    few.write_text("".join(Path(data.train[0]).read_text().splitlines(keepends=True)[:12:2]))
    task = make(
        data.replace(train=str(few), valid=str(few), negatives=1),
        SMALL.replace(initializer_range=0.2),
    )
    before = task.evaluate(device="cpu")
    optimizer = torch.optim.AdamW(task.model.parameters(), lr=1e-3)
    for step in range(600):
        batch = task.collate([task.example(row, step) for row in range(len(task))])
        loss = task.losses(task.model, batch)["matched"] / task.counts(batch)["matched"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if loss < 0.05:
            break
    after = task.evaluate(device="cpu")
    assert (after["images"], after["captions"]) == (6, 6)
    assert task.best_metric in after
    assert after["image_to_text_1"] == after["text_to_image_1"] == 1 > before["mean_recall"]


def test_scores_equal_those_of_all_pairs_one_by_one(data: RetrievalData) -> None:
    task = make(data)
    task.model.eval()
    assert isinstance(task.model, LxmertForImageAndTextRetrieval)
    rows = range(10)  # of five images
    scores = np.zeros((5, 10))
    for image in range(5):
        regions, boxes = task.validation.regions(2 * image)
        for row in rows:
            logits = task.model(
                input_ids=torch.from_numpy(task.validation.token_ids[row])[None],
                visual_feats=torch.from_numpy(regions.features)[None],
                visual_pos=torch.from_numpy(boxes)[None],
            ).logits[0]
            scores[image, row] = logits.softmax(-1)[1].item()
    expected = score_retrieval(scores, [row // 2 for row in rows])
    found = task.evaluate(device="cpu", limit=10)
    assert (found["images"], found["captions"]) == (5, 10)
    for k in (1, 5, 10):
        assert found[f"image_to_text_{k}"] == expected["image_to_text"][k]
        assert found[f"text_to_image_{k}"] == expected["text_to_image"][k]


def test_without_negatives_it_is_refused(data: RetrievalData) -> None:
    with pytest.raises(ValueError, match=r"negatives: got 0, expected above 0"):
        RetrievalData(
            train=data.train,
            valid=data.valid,
            regions=data.regions,
            valid_regions=data.valid_regions,
            negatives=0,
        )


def test_captions_of_one_image_are_refused(data: RetrievalData, tmp_path: Path) -> None:
    """The search for a caption of another image would never end."""
    one = tmp_path / "one.jsonl"
    one.write_text("\n".join(Path(data.train[0]).read_text().splitlines()[:2]))
    with pytest.raises(ValueError, match="all texts are about the image '0'"):
        make(
            RetrievalData(
                train=str(one), valid=data.valid, regions=data.regions, valid_regions=data.regions
            )
        )
