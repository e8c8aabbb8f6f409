"""Learning to see, on images of colored rectangles."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from lxmert.regions.extract import DetectorExtractor
from lxmert.tasks.detection import (
    DetectionData,
    DetectionSettings,
    DetectionTask,
    DetectorSettings,
    desaturate,
    mirror,
)
from lxmert.workflows.evaluation import evaluate_detector

SIDE = 96
OBJECTS = ("plain", "window", "flag")
"""A rectangle of one color, one with a black middle, one with a white upper half."""
COLORS = {"red": (220, 40, 40), "green": (40, 200, 40), "blue": (40, 40, 220)}
SMALL = DetectorSettings(
    stage_inner_widths=(16, 24, 32),
    stage_widths=(16, 24, 32),
    feature_dim=48,
    shorter_side=SIDE,
    longer_side=2 * SIDE,
)


def draw(generator):
    """Draw up to three rectangles that do not touch; return the pixels and the annotations."""
    pixels = generator.integers(115, 130, (SIDE, SIDE, 3), dtype=np.uint8)
    taken = np.zeros((SIDE, SIDE), dtype=bool)
    annotations = []
    for _ in range(3):
        category, color = generator.integers(len(OBJECTS)), generator.choice(list(COLORS))
        height, width = generator.integers(18, 32, 2)
        x, y = generator.integers(0, SIDE - width), generator.integers(0, SIDE - height)
        if taken[y : y + height, x : x + width].any():
            continue
        taken[max(0, y - 4) : y + height + 4, max(0, x - 4) : x + width + 4] = True
        pixels[y : y + height, x : x + width] = COLORS[color]
        if OBJECTS[category] == "window":
            pixels[y + 6 : y + height - 6, x + 6 : x + width - 6] = 0
        if OBJECTS[category] == "flag":
            pixels[y : y + height // 2, x : x + width] = 255
        annotations.append(
            {
                "category_id": int(category) + 5,
                "bbox": [int(x), int(y), int(width), int(height)],
                "attributes": [str(color)],
            }
        )
    return pixels, annotations


def write(folder, name, count, seed, **changes):
    """Write `count` images and their annotations, and return the path of the latter."""
    (folder / "images").mkdir(exist_ok=True)
    generator = np.random.default_rng(seed)
    images, annotations = [], []
    for index in range(count):
        pixels, objects = draw(generator)
        file_name = f"{name}{index}.png"
        Image.fromarray(pixels).save(folder / "images" / file_name)
        images.append({"id": index, "file_name": file_name, "height": SIDE, "width": SIDE})
        annotations += [
            entry | {"id": len(annotations) + place, "image_id": index}
            for place, entry in enumerate(objects)
        ]
    content = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": index + 5, "name": name} for index, name in enumerate(OBJECTS)],
        "attribute_groups": {"color": list(COLORS), "size": ["small", "large"]},
    }
    path = folder / f"{name}.json"
    path.write_text(json.dumps(content | changes))
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rectangles")
    return DetectionData(
        train=write(folder, "train", 16, seed=1), valid=write(folder, "valid", 5, seed=2)
    )


def make_task(data, seed=3):
    torch.manual_seed(0)
    return DetectionTask(DetectionSettings(data=data, model=SMALL), seed=seed)


def test_task_follows_the_contract(data):
    task = make_task(data)
    assert len(task) == 16
    batch = task.collate([task.example(index, epoch=0) for index in range(4)])
    losses, counts = task.losses(task.model, batch), task.counts(batch)
    assert set(losses) == set(counts) == set(task.loss_weights)
    assert set(counts.values()) == {4.0}
    assert batch["pixel_values"].shape == (4, 3, SIDE, SIDE)
    assert batch["image_sizes"].tolist() == [[SIDE, SIDE]] * 4


def test_examples_are_a_function_of_seed_epoch_and_index(data):
    task, other = make_task(data), make_task(data, seed=4)
    boxes = {epoch: task.example(0, epoch).boxes for epoch in range(12)}
    for epoch, expected in boxes.items():
        torch.testing.assert_close(make_task(data).example(0, epoch).boxes, expected)
    seen = {tuple(values.flatten().tolist()) for values in boxes.values()}
    assert len(seen) == 2  # as it is, and mirrored
    assert any(
        not torch.equal(other.example(0, epoch).boxes, values) for epoch, values in boxes.items()
    )


def test_mirrored_boxes_show_what_they_showed():
    pixels = np.random.default_rng(1).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    mirrored, boxes = mirror(pixels, np.float32([[3, 4, 10, 9]]))
    x1, y1, x2, y2 = boxes[0].astype(int)
    np.testing.assert_array_equal(mirrored[y1:y2, x1:x2][:, ::-1], pixels[4:9, 3:10])


def test_faded_images_keep_their_brightness_and_ask_for_no_color(data):
    """On colors that it had not seen of an object, the detector knew 78% of them, else 97%."""
    task = make_task(data.replace(desaturate=0.5, color_group="color"))
    plain = make_task(data)
    desaturated = 0
    for index in range(16):
        example, whole = task.example(index, 0), plain.example(index, 0)
        torch.testing.assert_close(example.boxes, whole.boxes)
        if (example.attribute_ids[:, 0] == -1).all():
            desaturated += 1
            assert not np.array_equal(example.image.pixel_values, whole.image.pixel_values)
            torch.testing.assert_close(example.attribute_ids[:, 1], whole.attribute_ids[:, 1])
        else:
            np.testing.assert_array_equal(example.image.pixel_values, whole.image.pixel_values)
            torch.testing.assert_close(example.attribute_ids, whole.attribute_ids)
    assert 3 < desaturated < 13


@pytest.mark.parametrize("color", [0.0, 0.3, 1.0])
def test_fading_mixes_an_image_with_its_gray_self(color):
    pixels = np.random.default_rng(1).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    gray = np.asarray(Image.fromarray(pixels).convert("L"), dtype=np.float64)[..., None]
    np.testing.assert_allclose(desaturate(pixels, color), gray + color * (pixels - gray), atol=1.5)


def test_what_cannot_be_faded_is_refused(data):
    with pytest.raises(ValueError, match=r"desaturate: got 1\.5, expected at most 1"):
        data.replace(desaturate=1.5)
    with pytest.raises(ValueError, match=r"data\.color_group is 'hue'.*: color, size"):
        make_task(data.replace(color_group="hue"))


def test_batch_holds_the_objects_and_says_where_there_is_none(data):
    task = make_task(data)
    examples = [task.example(index, epoch=0) for index in range(8)]
    targets = task.collate(examples)["targets"]
    counts = [len(example.boxes) for example in examples]
    assert len(set(counts)) > 1  # otherwise too easy
    assert (targets["object_ids"] >= 0).sum(1).tolist() == counts
    for row, example in enumerate(examples):
        torch.testing.assert_close(targets["boxes"][row, : counts[row]], example.boxes)
        torch.testing.assert_close(targets["object_ids"][row, : counts[row]], example.object_ids)
        assert (targets["attribute_ids"][row, : counts[row], 0] >= 0).all()
    assert (targets["attribute_ids"][..., 1] == -1).all()  # no size is annotated


@pytest.mark.long
def test_detector_learns_a_handful_of_images(data, tmp_path):
    """Trains for some seconds; then all of what the loop and the users do with the result."""
    task = make_task(DetectionData(train=data.train, valid=data.train))
    optimizer = torch.optim.AdamW(task.model.parameters(), lr=3e-3)
    steps = 60
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps)
    before = task.evaluate(device="cpu")
    for step in range(steps):
        batch = task.collate([task.example(index, step) for index in range(step % 4, 16, 4)])
        losses, counts = task.losses(task.model, batch), task.counts(batch)
        optimizer.zero_grad()
        torch.stack([losses[name] / counts[name] for name in losses]).sum().backward()
        optimizer.step()
        schedule.step()
    metrics = task.evaluate(device="cpu")
    assert set(metrics) == {
        "recall",
        "recall_all",
        "object",
        "attribute_color",
        "attribute_size",
        "num_regions",
        "mean_score",
        "map_50",
        "map_50_95",
    }
    assert before["mean_score"] < 0.5
    assert before["map_50"] < 0.1
    assert metrics["map_50"] > 0.3
    assert metrics["map_50"] > metrics["map_50_95"] > 0.1
    assert metrics["recall"] > 0.9
    assert metrics["recall_all"] >= metrics["recall"]
    assert metrics["object"] > 0.9
    assert metrics["attribute_color"] > 0.9
    assert task.model.training

    task.save(tmp_path / "extractor")
    loaded = DetectorExtractor.from_pretrained(tmp_path / "extractor")
    assert loaded.object_names == OBJECTS
    assert loaded.attribute_names == (*COLORS, "small", "large")
    assert loaded.fingerprint == DetectorExtractor(task.detector).fingerprint


def test_evaluation_looks_at_the_first_images_only(data):
    task = make_task(data)
    (data.train.parent / "images" / "valid4.png").rename(data.train.parent / "hidden.png")
    try:
        task.evaluate(device="cpu", limit=4)
        with pytest.raises(FileNotFoundError, match=r"valid4\.png"):
            task.evaluate(device="cpu")
    finally:
        (data.train.parent / "hidden.png").rename(data.train.parent / "images" / "valid4.png")


def test_the_names_of_both_files_are_matched(data, tmp_path, caplog):
    """Numbers were compared: in another order of the categories mAP 0.974 became 0.000."""
    content = json.loads(data.valid.read_text())
    content["categories"].reverse()
    content["attribute_groups"] = {"color": [*reversed(COLORS), "pink"]}
    other = data.valid.with_name("other.json")
    other.write_text(json.dumps(content))
    task, plain = make_task(data.replace(valid=other)), make_task(data)
    for ours, theirs in zip(task.valid.records, plain.valid.records, strict=True):
        np.testing.assert_array_equal(ours.object_ids, theirs.object_ids)
        np.testing.assert_array_equal(ours.attribute_ids, theirs.attribute_ids)
    scores = task.evaluate(device="cpu"), plain.evaluate(device="cpu")
    assert scores[0] == scores[1]


def test_a_detector_is_scored_on_the_names_that_it_knows(data, tmp_path, caplog):
    """A category "zebra" counted as never found, and a file of nothing else scored 0, exit 0."""
    task = make_task(data)
    task.save(tmp_path / "extractor")
    content = json.loads(data.valid.read_text())
    order = list(reversed(content["categories"]))
    content["categories"] = [*order[:-1], order[-1] | {"name": "zebra"}]
    path = tmp_path / "zebra.json"
    path.write_text(json.dumps(content))
    images = data.valid.parent / "images"
    scores = evaluate_detector(tmp_path / "extractor", path, images)
    expected = evaluate_detector(tmp_path / "extractor", data.valid, images)
    names = {name for name in scores if name.startswith("ap_50 ")}
    assert names <= {f"ap_50 {name}" for name in OBJECTS[1:]}
    assert {name: scores[name] for name in names} == {name: expected[name] for name in names}
    assert "categories that the model does not know: 1" in caplog.text
    path.write_text(json.dumps(content | {"categories": [
        entry | {"name": f"zebra {entry['id']}"} for entry in order
    ]}))  # fmt: skip
    with pytest.raises(ValueError, match="files without a category of the model"):
        evaluate_detector(tmp_path / "extractor", path, images)


def test_image_of_another_size_than_annotated_is_refused(data, tmp_path):
    path = write(tmp_path, "wrong", 1, seed=3)
    Image.new("RGB", (SIDE, SIDE + 1)).save(tmp_path / "images" / "wrong0.png")
    with pytest.raises(ValueError, match=r"wrong0\.png has \(97, 96\) pixels"):
        make_task(DetectionData(train=path, valid=data.valid))
