"""Custom data: a model and its region extractor are trained from images and questions."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from squares import read_lines, write_lines, write_squares
from torch.testing import assert_close

from lxmert.data.corpus import Corpus
from lxmert.hub import DRAWINGS
from lxmert.pipeline import LxmertPipeline
from lxmert.schema import IGNORE_INDEX, Example
from lxmert.tasks.custom_data import (
    CustomDataSettings,
    CustomDataTask,
    ExtractorSettings,
    answers_by_image,
    group_by_image,
    shift_images,
)
from lxmert.tasks.custom_files import CustomData, load_report, open_custom_files
from lxmert.tasks.texts import ModelSettings

SMALL = ModelSettings(
    hidden_size=32,
    num_attention_heads=4,
    intermediate_size=64,
    l_layers=1,
    x_layers=1,
    r_layers=1,
    dropout=0.0,
    initializer_range=0.05,
)


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    return write_squares(tmp_path_factory.mktemp("world"))


def task(world, folder, *, seed=8, **data):
    settings = CustomDataSettings(
        data=CustomData(train=str(world / "train.jsonl"), images=str(world / "images"), **data),
        model=SMALL,
        extractor=ExtractorSettings(questions=2),
    )
    torch.manual_seed(seed)
    return CustomDataTask.prepare(settings, seed=seed, folder=folder)


def test_every_question_belongs_to_one_group_of_its_image(world, tmp_path):
    own = task(world, tmp_path)
    groups = [own.groups.row(index).tolist() for index in range(len(own))]
    assert sorted(row for group in groups for row in group) == list(range(len(own.training)))
    assert Counter(map(len, groups)) == {2: 27, 1: 27}
    for group in groups:
        assert len({own.training.image_ids(row) for row in group}) == 1


@pytest.mark.parametrize("seed", range(5))
def test_groups_equal_those_of_a_loop_over_the_questions(seed):
    generator = np.random.default_rng(seed)
    images = generator.integers(7, size=40).tolist()
    corpus = Corpus.of(Example(str(n), "?", (f"{image}.png",)) for n, image in enumerate(images))
    by_image: dict[int, list[int]] = {}
    for row, image in enumerate(images):
        by_image.setdefault(image, []).append(row)
    expected = [
        rows[start : start + 3] for rows in by_image.values() for start in range(0, len(rows), 3)
    ]
    groups = group_by_image(corpus, 3)
    assert [groups.row(index).tolist() for index in range(len(expected))] == expected
    assert len(groups.bounds) == len(expected) + 1


def test_questions_without_an_answer_are_not_used(world, tmp_path):
    lines = read_lines(world / "train.jsonl")
    for number in range(0, len(lines), 3):
        del lines[number]["answer"]
    write_lines(world / "some.jsonl", lines)
    data = CustomData(train=str(world / "some.jsonl"), images=str(world / "images"), targets="soft")
    own = CustomDataTask.prepare(
        CustomDataSettings(data=data, model=SMALL), seed=8, folder=tmp_path
    )
    assert len(own.training) + len(own.validation) == 60


def test_splits_share_no_image_and_lose_none(world, tmp_path):
    own = task(world, tmp_path)
    training, validation = (
        {corpus.image_ids(row)[0] for row in range(len(corpus))}
        for corpus in (own.training, own.validation)
    )
    assert len(training) == 27
    assert len(validation) == 3
    assert not training & validation


def test_lines_may_name_their_split(world, tmp_path):
    lines = read_lines(world / "train.jsonl")
    for number, line in enumerate(lines):
        line["split"] = ["train", "val", "test"][number // 3 % 3]
    write_lines(world / "marked.jsonl", lines)
    data = CustomData(train=str(world / "marked.jsonl"), images=str(world / "images"))
    own = CustomDataTask.prepare(
        CustomDataSettings(data=data, model=SMALL), seed=8, folder=tmp_path
    )
    assert (len(own.training), len(own.validation)) == (30, 30)
    # Every third image is of one color, so that each split knows only its own.
    assert {own.training[row].answers.get("blue") for row in range(30)} == {None}


def test_a_file_with_splits_may_be_given_twice(world, tmp_path):
    """Bug: all of its lines were validated on, also those of training."""
    lines = read_lines(world / "train.jsonl")
    marked = [line | {"split": "val" if n >= 60 else "train"} for n, line in enumerate(lines)]
    path = write_lines(world / "both.jsonl", marked)
    data = CustomData(train=str(path), valid=str(path), images=str(world / "images"))
    training, validation, _ = open_custom_files(data, tmp_path, seed=8, longest=48)
    assert (len(training), len(validation)) == (60, 30)


def test_questions_of_training_do_not_validate(world, tmp_path):
    path = str(world / "train.jsonl")
    data = CustomData(train=path, valid=path, images=str(world / "images"))
    with pytest.raises(ValueError, match=r"are the same file .*leave data\.valid out"):
        open_custom_files(data, tmp_path, seed=8, longest=48)


@pytest.mark.parametrize("split", ["val", None])
def test_validation_without_answers_stops_the_run(world, tmp_path, split):
    """Bug: it ended in a KeyError after the first steps, or after all of them."""
    lines = read_lines(world / "train.jsonl")
    marked = [
        line if n < 6 else line | {"answers": []} | ({"split": split} if split else {})
        for n, line in enumerate(lines)
    ]
    path = write_lines(world / "unanswered.jsonl", marked)
    data = CustomData(train=str(path), images=str(world / "images"))
    with pytest.raises(ValueError, match=r"no validation question of .*unanswered.jsonl has an an"):
        open_custom_files(data, tmp_path, seed=8, longest=48)


@pytest.mark.parametrize("init_from", [None, str(DRAWINGS)])
def test_long_questions_are_read_to_their_end(world, tmp_path, init_from):
    """Bug: what was asked behind the 48th word was not read."""
    preface = "in this drawing , which a child made on a rainy afternoon , " * 8
    lines = [
        line | {"question": preface + line["question"]}
        for line in read_lines(world / "train.jsonl")
    ]
    path = write_lines(world / "long.jsonl", lines)
    given = CustomData(train=str(path), images=str(world / "images"))
    model = SMALL.replace(init_from=init_from, max_text_length=150)
    settings = CustomDataSettings(data=given, model=model, extractor=ExtractorSettings(questions=2))
    own = CustomDataTask.prepare(settings, seed=8, folder=tmp_path)
    assert min(len(own.tokens[0][row]) for row in range(3)) > 100
    losses = own.losses(own.model, own.collate([own.example(0, 0)]))
    assert all(torch.isfinite(loss) for loss in losses.values())


def test_fewer_images_on_request(world, tmp_path):
    own = task(world, tmp_path, limit_images=7)
    assert len({own.training.image_ids(row) for row in range(len(own.training))}) == 7
    assert len(own.training) == 21


def test_examples_depend_on_seed_epoch_and_number_only(world, tmp_path):
    own = task(world, tmp_path)
    first, again = own.example(4, 2), task(world, tmp_path).example(4, 2)
    assert (first.pixels == again.pixels).all()
    assert first.shift == again.shift
    assert any(own.example(4, epoch).shift != first.shift for epoch in range(3, 8))
    assert first.targets == again.targets


def test_shifted_images_repeat_their_edges():
    generator = np.random.default_rng(5)
    images = list(generator.integers(0, 256, (6, 9, 9, 3), dtype=np.uint8))
    shifts = [(0, 0), (2, 0), (0, -3), *map(tuple, generator.integers(-4, 5, (3, 2)).tolist())]
    shifted = shift_images(images, shifts)
    for image, moved, (up, left) in zip(images, shifted, shifts, strict=True):
        for y, x in np.ndindex(9, 9):
            source = image[min(max(y + up, 0), 8), min(max(x + left, 0), 8)]
            assert (moved[y, x] == source).all()


def test_batches_keep_questions_with_their_images(world, tmp_path):
    own = task(world, tmp_path)
    batch = own.collate([own.example(index, 0) for index in (0, 1, 5)])
    assert batch["inputs"]["owners"].tolist() == [0, 0, 1, 2]
    assert batch["inputs"]["pixels"].shape == (3, 112, 144, 3)
    own.model.eval()  # in training, the batch norms of the extractor use the full batch
    assert own.counts(batch) == {"qa": 4.0, "image_only": 3.0}
    full = own.losses(own.model, batch)
    parts = [own.losses(own.model, own.collate([own.example(i, 0)])) for i in (0, 1, 5)]
    for name in own.loss_weights:
        assert_close(full[name], sum(part[name] for part in parts), rtol=1e-4, atol=1e-5)
        own.model.zero_grad()
        full[name].backward(retain_graph=True)
        assert own.model.extractor.stages[0][0].weight.grad.abs().max() > 0


def test_unknown_answers_do_not_count(world, tmp_path):
    own = task(world, tmp_path)
    batch = own.collate([own.example(0, 0)])
    batch["targets"][0] = IGNORE_INDEX
    assert own.counts(batch) == {"qa": 1.0, "image_only": 1.0}


def test_soft_targets_where_annotators_disagree(world, tmp_path):
    lines = read_lines(world / "train.jsonl")
    for line in lines:
        line["answers"] = [str(line.pop("answer")), "maybe"]
    write_lines(world / "soft.jsonl", lines)
    data = CustomData(train=str(world / "soft.jsonl"), images=str(world / "images"))
    own = CustomDataTask.prepare(
        CustomDataSettings(data=data, model=SMALL), seed=8, folder=tmp_path
    )
    batch = own.collate([own.example(0, 0)])
    assert batch["targets"].shape == (3, len(own.answers))
    assert_close(batch["targets"].sum(1), torch.ones(3))


@pytest.mark.parametrize("seed", range(5))
def test_an_image_has_the_answers_of_all_its_questions(seed):
    """Against a loop over the questions, for one answer each and for scores."""
    random = np.random.default_rng(seed)
    owners = torch.from_numpy(np.sort(random.integers(0, 4, 9)))
    ids = torch.from_numpy(random.choice([IGNORE_INDEX, 0, 1, 2, 3, 4], 9))
    scores = torch.from_numpy(random.random((9, 5), dtype=np.float32))
    scores[ids == IGNORE_INDEX] = IGNORE_INDEX
    of_ids, of_scores = torch.zeros(4, 5), torch.zeros(4, 5)
    for question, owner in enumerate(owners.tolist()):
        if ids[question] != IGNORE_INDEX:
            of_ids[owner, ids[question]] = 1
            of_scores[owner] = torch.maximum(of_scores[owner], scores[question])
    assert torch.equal(answers_by_image(ids, owners, (4, 5)), of_ids)
    assert torch.equal(answers_by_image(scores, owners, (4, 5)), of_scores)


def train(own, steps):
    optimizer = torch.optim.AdamW(own.model.parameters(), lr=2e-3)
    for step in range(steps):
        batch = own.collate([own.example((step * 9 + i) % len(own), step) for i in range(9)])
        (own.losses(own.model, batch)["qa"] / own.counts(batch)["qa"]).backward()
        optimizer.step()
        optimizer.zero_grad()
    own.model.eval()


def test_the_saved_model_answers_as_the_task_does(world, tmp_path):
    own = task(world, tmp_path)
    train(own, 3)
    own.save(tmp_path / "model")
    pipeline = LxmertPipeline.from_pretrained(tmp_path / "model")
    rows = list(range(3))  # the questions about one image
    batch = own.collate([own.validation_example(rows)])
    with torch.inference_mode():
        scores = own.model(**batch["inputs"])[0].softmax(-1)
    image = world / "images" / own.validation.image_ids(0)[0]
    for row in rows:
        for answer in pipeline.ask(image, own.validation.text(row), top_k=3):
            expected = scores[row, own.answers.answers.index(answer.answer)].item()
            assert answer.score == pytest.approx(expected, abs=1e-4)


@pytest.mark.slow
def test_the_extractor_learns(world, tmp_path):
    own = task(world, tmp_path)
    train(own, 100)
    scores = own.evaluate(device="cpu")
    assert scores["overall"] > scores["question_only"] >= scores["majority"] > 0


def test_data_that_cannot_be_trained_on_stop_the_run(world, tmp_path):
    write_lines(world / "bad.jsonl", [{"image": "0.png", "question": "what?", "answer": ""}] * 3)
    data = CustomData(train=str(world / "bad.jsonl"), images=str(world / "images"))
    with pytest.raises(ValueError, match=r"cannot be used for training: fix .*data-report\.json"):
        CustomDataTask.prepare(CustomDataSettings(data=data, model=SMALL), seed=8, folder=tmp_path)
    assert json.loads((tmp_path / "data-report.json").read_text())["findings"]


def test_questions_that_changed_do_not_resume_a_run(world, tmp_path):
    """A run went on with other answers than it had begun with."""
    data = CustomData(train=str(world / "changing.jsonl"), images=str(world / "images"))
    lines = read_lines(world / "train.jsonl")

    def opened():
        return open_custom_files(data, tmp_path, seed=8, longest=48)

    write_lines(world / "changing.jsonl", [line | {"answer": "1"} for line in lines])
    with pytest.raises(ValueError, match="cannot be used"):
        opened()
    write_lines(world / "changing.jsonl", lines)
    first, again = opened(), opened()
    assert list(first[0]) == list(again[0])
    assert load_report(tmp_path) == first[2]
    (tmp_path / "trials").mkdir()
    (tmp_path / "trials/recipe.toml").touch()
    write_lines(world / "changing.jsonl", [lines[0] | {"answer": "blue"}, *lines[1:]])
    with pytest.raises(ValueError, match=r"changing\.jsonl or data\.valid have changed"):
        opened()


@pytest.fixture
def boxed(world, tmp_path):
    """A task of which the first two questions about each image have the box of the square."""
    lines = read_lines(world / "train.jsonl")
    for line in lines:
        with Image.open(world / "images" / str(line["image"])) as image:
            top, left = np.argwhere((np.asarray(image) != 200).any(-1)).min(axis=0).tolist()
        if line["question"] != "how many?":
            line["boxes"] = [[left, top, left + 20, top + 20]]
    write_lines(world / "boxed.jsonl", lines)
    data = CustomData(train=str(world / "boxed.jsonl"), images=str(world / "images"))
    torch.manual_seed(8)
    settings = CustomDataSettings(
        data=data, model=SMALL, extractor=ExtractorSettings(shift=0.2, questions=3)
    )
    return CustomDataTask.prepare(settings, seed=8, folder=tmp_path)


def test_boxes_are_found_again_in_shifted_images(boxed):
    for index in range(len(boxed)):
        item = boxed.example(index, epoch=index)
        (image,) = boxed.collate([item])["inputs"]["pixels"].numpy()
        rows, columns = boxed.cells
        cells = image.reshape(rows, len(image) // rows, columns, -1, 3).swapaxes(1, 2)
        is_square = np.ptp(cells, axis=-1) > 50  # the background is gray
        share = is_square.mean(axis=(2, 3)).ravel()
        first, second, unknown = item.shown
        assert not unknown.any()
        np.testing.assert_array_equal(first, second)
        # Shifts are whole pixels, and the borders of resized squares are blurred.
        assert (share[first] > 0.4).all()
        assert (share[~first] < 0.6).all()


@pytest.mark.long
def test_boxes_guide_the_attention_of_their_questions(boxed):
    batch = boxed.collate([boxed.example(index, epoch=0) for index in range(8)])
    assert boxed.counts(batch)["boxes"] == 16
    optimizer = torch.optim.Adam(boxed.model.parameters(), lr=3e-3)
    losses = []
    for _ in range(25):
        loss = boxed.losses(boxed.model, batch)["boxes"]
        losses.append(loss.item() / 16)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < 0.5 * losses[0]


def test_boxes_change_nothing_but_their_loss(boxed):
    batch = boxed.collate([boxed.example(index, epoch=0) for index in range(4)])
    boxed.model.eval()
    with_boxes = boxed.losses(boxed.model, batch)
    del batch["inputs"]["shown"]
    without = boxed.losses(boxed.model, batch)
    assert with_boxes.keys() - without.keys() == {"boxes"}
    for name, value in without.items():
        assert_close(with_boxes[name], value, rtol=1e-5, atol=1e-5)


def test_a_batch_without_known_boxes_has_no_box_loss(boxed):
    item = boxed.example(0, epoch=0)
    batch = boxed.collate([item._replace(shown=[np.zeros_like(cells) for cells in item.shown])])
    assert boxed.counts(batch)["boxes"] == 0
    loss = boxed.losses(boxed.model, batch)["boxes"]
    loss.backward()
    assert loss.item() == 0
