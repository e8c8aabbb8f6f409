"""The answering task: targets, learning, and initialization from a pretrained model."""

import json
import re
from pathlib import Path

import pytest
import torch
from torch.nn import functional
from world import COLORS, SMALL, make_world

from lxmert.data.store import RegionStore
from lxmert.model.heads import LxmertForQuestionAnswering
from lxmert.regions.grid import GridConfig, GridExtractor, GridNetwork
from lxmert.tasks.answering import AnsweringData, AnsweringSettings, AnsweringTask
from lxmert.tasks.answering_objectives import AnsweringObjectives
from lxmert.tasks.pretraining import PretrainingTask
from lxmert.tasks.pretraining_settings import PretrainingData, PretrainingSettings
from lxmert.tasks.texts import ModelSettings


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> AnsweringData:
    paths = make_world(tmp_path_factory.mktemp("world"))
    questions, regions = paths["questions"], paths["regions"]
    return AnsweringData(
        train=questions, valid=questions, regions=regions, valid_regions=regions, targets="single"
    )


def make(data: AnsweringData, model: ModelSettings = SMALL) -> AnsweringTask:
    torch.manual_seed(5)
    return AnsweringTask(AnsweringSettings(data=data, model=model), seed=5)


@pytest.mark.long
@pytest.mark.parametrize("targets", ["single", "soft"])
def test_it_is_learned(data: AnsweringData, targets: str) -> None:
    task = make(data.replace(targets=targets))
    batch = task.collate([task.example(index, 0) for index in range(len(task))])
    shape = (48,) if targets == "single" else (48, 2)
    assert batch["targets"].shape == shape
    assert task.counts(batch) == {"qa": 48.0}
    optimizer = torch.optim.AdamW(task.model.parameters(), lr=2e-3)
    for _ in range(800):
        loss = task.losses(task.model, batch)["qa"] / 48
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if loss < 0.1:
            break
    scores = task.evaluate(device="cpu")
    assert scores.keys() == {"overall", "color", "question_only", "majority"}
    assert scores["overall"] > 0.9
    assert task.evaluate(device="cpu", limit=5)["overall"] in (0.8, 1.0)


def test_it_initializes_from_a_pretrained_model(data: AnsweringData, tmp_path: Path) -> None:
    """Weights, tokenizer, answers and text length come from the folder, not from the recipe."""
    pretraining = PretrainingTask(
        PretrainingSettings(
            data=PretrainingData(
                regions=data.regions,
                valid_regions=data.regions,
                questions=data.train,
                valid_questions=data.train,
            ),
            model=SMALL,
        ),
        seed=2,
    )
    pretraining.save(tmp_path)
    task = make(data, ModelSettings(init_from=str(tmp_path)))
    assert isinstance(task.model, LxmertForQuestionAnswering)
    assert task.answers.answers == tuple(sorted(COLORS))
    assert task.parts.preprocessor.max_text_length == 9
    pretrained = pretraining.model.state_dict()
    for name, value in task.model.state_dict().items():
        torch.testing.assert_close(value, pretrained[name], rtol=0, atol=0)


def test_answers_that_the_model_cannot_give_are_reported(
    data: AnsweringData, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """They were trained on as if the question had no right answer, without a word."""
    make(data).save(tmp_path / "model")
    other = tmp_path / "other.jsonl"
    lines = Path(data.train[0]).read_text().splitlines()
    start = ModelSettings(init_from=str(tmp_path / "model"))
    other.write_text("\n".join([*lines[:3], *(line.replace("red", "pink") for line in lines[3:])]))
    make(data.replace(train=str(other)), start)
    assert "of 48 questions have no answer in the model's list" in caplog.text
    foreign = [line.replace('"red"', '"pink"').replace('"blue"', '"grey"') for line in lines]
    other.write_text("\n".join(foreign))
    with pytest.raises(ValueError, match="none of the 48 questions has an answer"):
        make(data.replace(train=str(other)), start)


def test_a_model_of_another_extractor_is_refused(data: AnsweringData, tmp_path: Path) -> None:
    task = make(data)
    task.save(tmp_path)
    task.parts.preprocessor.replace(fingerprint="other").save(tmp_path)
    with pytest.raises(ValueError, match=r"was made by extractor fingerprint, but .* other"):
        make(data, ModelSettings(init_from=str(tmp_path)))


def test_texts_that_are_too_long_are_truncated_and_counted(
    data: AnsweringData, caplog: pytest.LogCaptureFixture
) -> None:
    task = make(data, SMALL.replace(max_text_length=5))
    assert "48 of 48 texts (100.00%) truncated to 5 tokens" in caplog.text
    sentence = task.training.token_ids[0]
    words = task.tokenizer.convert_ids_to_tokens(sentence.tolist())
    assert words == ["[CLS]", "what", "color", "is", "[SEP]"]


def of_another_extractor(folder: str, copy: Path) -> tuple[str, str]:
    """Copy a store as if another extractor had made it; return the copy and the first maker."""
    store = RegionStore(folder)
    header = store.header.replace(fingerprint="0123456789abcdef")
    RegionStore.write(copy, store.image_ids, lambda ids: ((i, store[i]) for i in ids), header)
    return str(copy), store.header.fingerprint


def test_validation_regions_of_another_extractor_are_refused(
    data: AnsweringData, tmp_path: Path
) -> None:
    """They have the right width, and would give a score that means nothing."""
    other, maker = of_another_extractor(data.regions[0], tmp_path / "other")
    both = f"{re.escape(other)} was made by extractor 0123456789abcdef, .* is extractor {maker}"
    with pytest.raises(ValueError, match=both):
        make(data.replace(valid_regions=other))
    pretraining = PretrainingData(
        regions=data.regions,
        valid_regions=other,
        questions=data.train,
        valid_questions=data.valid,
    )
    with pytest.raises(ValueError, match=both):
        PretrainingTask(PretrainingSettings(data=pretraining, model=SMALL), seed=5)


def test_an_extractor_that_did_not_make_the_store_is_refused(
    data: AnsweringData, tmp_path: Path
) -> None:
    extractor = GridExtractor(
        GridNetwork(GridConfig(height=16, width=16, widths=(8,), feature_dim=4))
    )
    extractor.save_pretrained(tmp_path / "extractor")
    maker = RegionStore(data.regions[0]).header.fingerprint
    both = (
        f"made by extractor {maker}, but the extractor in .* is extractor {extractor.fingerprint}"
    )
    with pytest.raises(ValueError, match=both):
        make(data.replace(extractor=str(tmp_path / "extractor")))


def test_only_some_question_types_are_trained_on_and_scored(
    data: AnsweringData, tmp_path: Path
) -> None:
    lines = [json.loads(line) for line in Path(data.train[0]).read_text().splitlines()]
    for number, line in enumerate(lines):
        line["question_type"] = ("first", "second", "third")[number % 3]
    path = tmp_path / "questions.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    both = data.replace(train=str(path), valid=str(path), question_types=("third", "first"))
    task = make(both)
    images = [task.training.examples.image_ids(row) for row in range(len(task))]
    assert images == [(line["image"],) for line in lines if line["question_type"] != "second"]
    scores = task.evaluate(device="cpu")
    assert "second" not in scores
    assert {"first", "third"} <= scores.keys()
    with pytest.raises(ValueError, match=r"has 'fourth', but no .*'second', 'third'"):
        make(both.replace(question_types=("first", "fourth")))


def test_a_limit_draws_the_same_questions_for_the_same_seed(data: AnsweringData) -> None:
    few = [make(data.replace(limit=9)) for _ in range(2)]
    texts = [list(task.training.examples.texts()) for task in few]
    assert texts[0] == texts[1]
    assert len(few[0]) == 9
    assert len(few[0].validation) == 48
    torch.manual_seed(5)
    other = AnsweringTask(AnsweringSettings(data=data.replace(limit=9), model=SMALL), seed=6)
    ids = [[t.training.examples.example_id(row) for row in range(9)] for t in (few[0], other)]
    assert ids[0] != ids[1]
    assert len(make(data.replace(limit=99999))) == 48
    with pytest.raises(ValueError, match=r"limit: got 0, expected above 0"):
        data.replace(limit=0)


def test_one_modality_is_left_out(data: AnsweringData) -> None:
    both = make(data)
    for modality, lengths in (("text", (9, 0)), ("image", (2, 2))):
        task = make(data.replace(modality=modality))
        inputs = task.collate([task.example(index, 0) for index in (0, 5)])["inputs"]
        whole = both.collate([both.example(index, 0) for index in (0, 5)])["inputs"]
        length, regions = lengths
        length = min(length, whole["input_ids"].shape[1])
        assert inputs["input_ids"].shape == (2, length)
        assert inputs["visual_feats"].shape == inputs["visual_feats"][:, :regions].shape
        assert inputs["visual_pos"].shape == (2, regions, 4)
        assert inputs["attention_mask"].all()
        if modality == "image":
            ends = [task.tokenizer.cls_token_id, task.tokenizer.sep_token_id]
            assert inputs["input_ids"].tolist() == [ends, ends]
            torch.testing.assert_close(inputs["visual_feats"], whole["visual_feats"])
        batch = task.collate([task.example(index, 0) for index in range(6)])
        task.losses(task.model, batch)["qa"].backward()
        assert 0 <= task.evaluate(device="cpu")["overall"] <= 1
        # Colors are drawn independently of the nouns, so neither side alone is enough.
        assert task.evaluate(device="cpu")["overall"] < 0.9


def with_objectives(data: AnsweringData, **settings: object) -> AnsweringTask:
    torch.manual_seed(5)
    objectives = AnsweringObjectives.from_dict(settings)
    return AnsweringTask(AnsweringSettings(data=data, model=SMALL, objectives=objectives), seed=5)


@pytest.mark.long
@pytest.mark.parametrize("targets", ["single", "soft"])
@pytest.mark.parametrize(
    ("settings", "weights"),
    [
        ({"debias": "lmh"}, {"qa": 1.0, "entropy": 0.36}),
        ({"debias": "lpf"}, {"qa": 1.0, "question_only": 1.0}),
        ({"debias": "rubi"}, {"qa": 1.0, "question_only": 1.0}),
        ({"adversarial_steps": 2}, {"qa": 1.0, "adversarial": 1.0, "divergence": 1.5}),
        (
            {"adversarial_steps": 2, "adversarial_modality": "image", "adversarial_norm": 0.1},
            {"qa": 1.0, "adversarial": 1.0, "divergence": 1.5},
        ),
    ],
)
def test_each_objective_learns_and_saves_an_ordinary_model(
    data: AnsweringData,
    tmp_path: Path,
    settings: dict[str, object],
    weights: dict[str, float],
    targets: str,
) -> None:
    task = with_objectives(data.replace(targets=targets), **settings)
    assert task.loss_weights == weights
    batch = task.collate([task.example(index, 0) for index in range(16)])
    assert task.counts(batch) == dict.fromkeys(weights, 16.0)
    optimizer = torch.optim.AdamW(task.model.parameters(), lr=2e-3)
    found = []
    for _ in range(10):
        losses = task.losses(task.model, batch)
        loss = sum(weights[name] * value / 16 for name, value in losses.items())
        found.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert min(found) < found[0]
    task.model.eval()
    assert 0 <= task.evaluate(device="cpu")["overall"] <= 1
    task.save(tmp_path / "model")
    again = LxmertForQuestionAnswering.from_pretrained(tmp_path / "model")
    inputs = batch["inputs"]
    with torch.no_grad():
        torch.testing.assert_close(
            again(**inputs).question_answering_score,
            task.model(**inputs).question_answering_score,
        )


def test_perturbations_raise_the_loss(data: AnsweringData) -> None:
    """The mean over the steps exceeds the clean loss, since every step ascends."""
    for modality in ("text", "image"):
        task = with_objectives(
            data, adversarial_steps=3, adversarial_modality=modality, adversarial_step_size=0.05
        )
        task.model.eval()
        batch = task.collate([task.example(index, 0) for index in range(len(task))])
        losses = task.losses(task.model, batch)
        assert losses["adversarial"] > losses["qa"]
        assert losses["divergence"] > 0
        one = with_objectives(data, adversarial_steps=1)
        one.model.eval()
        losses = one.losses(one.model, batch)  # the first perturbation is 0
        torch.testing.assert_close(losses["adversarial"], losses["qa"])
        assert losses["divergence"].item() == pytest.approx(0, abs=1e-5)


@pytest.mark.long
@pytest.mark.parametrize("targets", ["single", "soft"])
@pytest.mark.parametrize(("modality", "size", "norm"), [("text", 0.05, None), ("image", 2.0, 2.5)])
def test_adversarial_training_follows_its_algorithm(
    data: AnsweringData, targets: str, modality: str, size: float, norm: float | None
) -> None:
    """Losses and gradients are those of algorithm 1 of Gan et al. 2020, one example at a time."""
    task = with_objectives(
        data.replace(targets=targets),
        adversarial_steps=3,
        adversarial_modality=modality,
        adversarial_step_size=size,
        **({} if norm is None else {"adversarial_norm": norm}),
    )
    task.model.eval()
    batch = task.collate([task.example(index, 0) for index in (0, 5, 11, 12)])
    losses = task.losses(task.model, batch)
    parameters = list(task.model.answer_head.parameters())
    total = losses["qa"] + losses["adversarial"] + 1.5 * losses["divergence"]
    gradients = torch.autograd.grad(total, parameters)
    expected = torch.stack(
        [
            _adversarial_losses(
                task.model,
                {name: value[row : row + 1] for name, value in batch["inputs"].items()},
                batch["targets"][row : row + 1],
                modality,
                size,
                norm,
            )
            for row in range(4)
        ]
    ).sum(dim=0)
    assert expected[2] > 1e-4
    found = torch.stack([losses[name] for name in ("qa", "adversarial", "divergence")])
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    again = torch.autograd.grad(expected @ torch.tensor([1.0, 1.0, 1.5]), parameters)
    for own, other in zip(gradients, again, strict=True):
        torch.testing.assert_close(own, other, atol=1e-5, rtol=1e-3)


def _adversarial_losses(
    model: torch.nn.Module,
    inputs: dict[str, torch.Tensor],
    target: torch.Tensor,
    modality: str,
    size: float,
    norm: float | None,
) -> torch.Tensor:
    """Return the clean loss, and the means of the perturbed one and of both divergences, `[3]`."""

    def logits(delta: torch.Tensor) -> torch.Tensor:
        if modality == "image":
            changed = {**inputs, "visual_feats": inputs["visual_feats"] + delta}
            return model(**changed).question_answering_score
        words = model.lxmert.embeddings.word_embeddings
        hook = words.register_forward_hook(lambda module, given, found: found + delta)
        try:
            return model(**inputs).question_answering_score
        finally:
            hook.remove()

    def loss(scores: torch.Tensor) -> torch.Tensor:
        if target.dim() == 1:
            return functional.cross_entropy(scores, target, reduction="sum")
        return functional.binary_cross_entropy_with_logits(scores, target, reduction="sum")

    shape = (1, inputs["input_ids"].shape[1], model.config.hidden_size)
    delta = torch.zeros(shape if modality == "text" else inputs["visual_feats"].shape)
    clean = logits(delta)
    sums = torch.zeros(2)
    for _ in range(3):
        delta = delta.detach().requires_grad_()
        perturbed = logits(delta)
        divergence = kl(clean, perturbed) + kl(perturbed, clean)
        sums = sums + torch.stack([loss(perturbed), divergence])
        ascent = loss(perturbed) + 1.5 * divergence
        (gradient,) = torch.autograd.grad(ascent, delta, retain_graph=True)
        delta = delta + size * gradient / gradient.norm()
        if norm is not None and delta.norm() > norm:
            delta = delta * norm / delta.norm()
    return torch.stack([loss(clean), *(sums / 3)])


def kl(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Return KL(p, q) of two distributions, from their logits."""
    return functional.kl_div(second.log_softmax(-1), first.softmax(-1), reduction="sum")


def test_a_teacher_is_imitated(data: AnsweringData, tmp_path: Path) -> None:
    teacher = make(data)
    batch = teacher.collate([teacher.example(index, 0) for index in range(len(teacher))])
    teacher.save(tmp_path / "teacher")
    teacher.model.eval()
    student = with_objectives(data, teacher=str(tmp_path / "teacher"), teacher_weight=3.0)
    assert student.loss_weights == {"qa": 1.0, "teacher": 3.0}
    student.model.load_state_dict(teacher.model.state_dict())
    assert student.losses(student.model, batch)["teacher"].item() == pytest.approx(0, abs=1e-5)
    torch.nn.init.zeros_(student.parts.model.answer_head.logit_fc[3].weight)
    assert student.losses(student.model, batch)["teacher"].item() > 0.01


def test_objectives_that_do_not_fit_are_refused(data: AnsweringData, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="debias and adversarial_steps are set"):
        AnsweringObjectives.from_dict({"debias": "lmh", "adversarial_steps": 2})
    make(data).save(tmp_path / "teacher")
    other = tmp_path / "other.jsonl"
    other.write_text(Path(data.train[0]).read_text().replace('"red"', '"pink"'))
    with pytest.raises(ValueError, match=r"objectives.teacher: .* has other answers than"):
        with_objectives(data.replace(train=str(other)), teacher=str(tmp_path / "teacher"))
