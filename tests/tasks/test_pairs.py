"""The pairs task: batches, learning, initialization, scores, and what is refused."""

import json
from pathlib import Path

import pytest
import torch
from world import SMALL, make_pairs, make_world

from lxmert.metrics.nlvr2 import score_nlvr2
from lxmert.model.heads import LxmertForImagesAndTextClassification
from lxmert.tasks.pairs import PairsData, PairsSettings, PairsTask, score_truths
from lxmert.tasks.pretraining import PretrainingTask
from lxmert.tasks.pretraining_settings import PretrainingData, PretrainingSettings
from lxmert.tasks.texts import ModelSettings


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> PairsData:
    folder = tmp_path_factory.mktemp("world")
    regions, pairs = make_world(folder)["regions"], make_pairs(folder)
    return PairsData(train=pairs, valid=pairs, regions=regions, valid_regions=regions)


def make(data: PairsData, model: ModelSettings = SMALL) -> PairsTask:
    torch.manual_seed(5)
    return PairsTask(PairsSettings(data=data, model=model), seed=5)


def test_a_batch_holds_both_images_in_order(data: PairsData) -> None:
    task = make(data)
    rows = [1, 30]
    batch = task.collate([task.example(row, 0) for row in rows])
    assert batch["inputs"]["visual_feats"].shape == (2, 2, 2, 5)
    assert batch["inputs"]["visual_pos"].shape == (2, 2, 2, 4)
    assert batch["inputs"]["visual_attention_mask"].shape == (2, 2, 2)
    for place, row in enumerate(rows):
        for image, image_id in enumerate(task.training.examples.image_ids(row)):
            expected = torch.from_numpy(task.training.store[image_id].features)
            assert torch.equal(batch["inputs"]["visual_feats"][place, image], expected)
    lines = [json.loads(line) for line in Path(data.train[0]).read_text().splitlines()]
    assert batch["truths"].tolist() == [int(lines[row]["answer"]) for row in rows]


@pytest.mark.long
def test_it_is_learned(data: PairsData) -> None:
    task = make(data)
    batch = task.collate([task.example(index, 0) for index in range(len(task))])
    assert task.counts(batch) == {"truth": 72.0}
    optimizer = torch.optim.AdamW(task.model.parameters(), lr=3e-3)
    for _ in range(400):
        loss = task.losses(task.model, batch)["truth"] / 72
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if loss < 0.05:
            break
    scores = task.evaluate(device="cpu")
    assert scores.keys() == {"accuracy", "majority", "consistency"}
    assert scores["accuracy"] > 0.95
    assert scores["consistency"] > 0.8


def test_the_body_comes_from_pretraining_and_the_head_is_reported_to_be_new(
    data: PairsData, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    world = make_world(tmp_path)
    questions = (world["questions"],)
    pretraining = PretrainingTask(
        PretrainingSettings(
            data=PretrainingData(
                questions=questions,
                regions=data.regions,
                valid_questions=questions,
                valid_regions=data.regions,
            ),
            model=SMALL,
        ),
        seed=2,
    )
    pretraining.save(tmp_path / "start")
    with caplog.at_level("INFO"):
        task = make(data, ModelSettings(init_from=str(tmp_path / "start")))
    assert "6 weights are initialized randomly: classifier" in caplog.text
    pretrained = pretraining.model.state_dict()
    assert isinstance(task.model, LxmertForImagesAndTextClassification)
    shared = [name for name in task.model.state_dict() if name.startswith("lxmert.")]
    assert len(shared) > 50
    for name in shared:
        assert torch.equal(task.model.state_dict()[name], pretrained[name])


def test_random_weights_are_reported_first(
    data: PairsData, caplog: pytest.LogCaptureFixture
) -> None:
    """Users of the original code's code trained for days on weights that were never loaded."""
    make(data)
    assert "RANDOM weights" in caplog.records[0].message


def test_scores_are_the_official_ones(data: PairsData) -> None:
    ids = ["dev-1-0-0", "dev-1-1-0", "dev-2-0-0", "dev-2-0-1"]
    truths, predictions = [1, 0, 1, 1], [1, 1, 1, 0]
    scores = score_truths(ids, truths, predictions)
    official = score_nlvr2(
        dict(zip(ids, map(bool, truths), strict=True)),
        dict(zip(ids, map(bool, predictions), strict=True)),
    )
    assert scores == {"majority": 0.75, **official}
    assert (scores["accuracy"], scores["consistency"]) == (0.5, 1 / 3)
    assert "consistency" not in score_truths(["7", *ids[1:]], truths, predictions)


def test_a_constant_prediction_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    """50.86% on NLVR2 means that nothing was learned; three users reported it as a result."""
    ids = ["dev-1-0-0", "dev-1-1-0", "dev-2-0-0"]
    score_truths(ids, [1, 0, 1], [1, 0, 1])
    assert not caplog.records
    scores = score_truths(ids, [1, 0, 1], [1, 1, 1])
    assert scores["accuracy"] == scores["majority"]
    assert "all 3 predictions are True" in caplog.text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": ["3"]}, "1 statement about one image; the first is 'dev-0-0-0'"),
        ({"answer": "maybe"}, r"the answer to 'dev-0-0-0' is \['maybe'\]; expected true or false"),
        ({"answer": None, "answers": {}}, r"the answer to 'dev-0-0-0' is \[\]"),
        ({"answer": "", "answers": {"yes": 1, "no": 1}}, r"is \['no', 'yes'\]"),
    ],
)
def test_statements_that_are_neither_true_nor_false_are_refused(
    data: PairsData, tmp_path: Path, change: dict[str, object], message: str
) -> None:
    lines = Path(data.train[0]).read_text().splitlines()
    row = json.loads(lines[0]) | change
    path = tmp_path / "wrong.jsonl"
    path.write_text("\n".join([json.dumps(row), *lines[1:]]))
    with pytest.raises(ValueError, match=message):
        make(
            PairsData(
                train=str(path), valid=data.valid, regions=data.regions, valid_regions=data.regions
            )
        )


@pytest.mark.parametrize("answer", [True, "True", "yes", "true"])
def test_truths_may_be_written_in_several_ways(
    data: PairsData, tmp_path: Path, answer: object
) -> None:
    row = json.loads(Path(data.train[0]).read_text().splitlines()[0])
    path = tmp_path / "one.jsonl"
    path.write_text(json.dumps(row | {"answer": answer}))
    task = make(
        PairsData(
            train=str(path), valid=str(path), regions=data.regions, valid_regions=data.regions
        )
    )
    assert task.example(0, 0).truth == 1


def test_a_limit_leaves_fewer_statements_with_their_truths(data: PairsData) -> None:
    task = make(data.replace(limit=7))
    whole = make(data)
    truths = {whole.training.examples.example_id(i): whole.truths[0][i] for i in range(len(whole))}
    assert len(task) == len(task.truths[0]) == 7
    for row in range(7):
        assert task.truths[0][row] == truths[task.training.examples.example_id(row)]
    with pytest.raises(ValueError, match=r"limit: got -3, expected above 0"):
        data.replace(limit=-3)


def test_one_modality_is_left_out(data: PairsData) -> None:
    for modality, regions in (("text", 0), ("image", 2)):
        task = make(data.replace(modality=modality))
        batch = task.collate([task.example(index, 0) for index in range(3)])
        assert batch["inputs"]["visual_feats"].shape == (3, 2, regions, 5)
        assert (batch["inputs"]["input_ids"].shape[1] == 2) == (modality == "image")
        task.losses(task.model, batch)["truth"].backward()
        assert 0 <= task.evaluate(device="cpu", limit=8)["accuracy"] <= 1
