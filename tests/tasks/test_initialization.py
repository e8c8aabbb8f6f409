"""Model initialization: all kinds of checkpoints, what is kept, and what is refused."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import nn
from world import make_pairs, make_world

from lxmert.data.tokenizer import build_tokenizer
from lxmert.model.answers import name_answers
from lxmert.model.heads import LxmertAnsweringModel
from lxmert.model.loading import load_initial, save_original
from lxmert.model.modeling import LxmertPreTrainedModel
from lxmert.tasks.answering import AnsweringData, AnsweringSettings, AnsweringTask
from lxmert.tasks.custom_data import CustomDataSettings, CustomDataTask
from lxmert.tasks.custom_files import CustomData
from lxmert.tasks.pairs import PairsData, PairsSettings, PairsTask
from lxmert.tasks.pretraining import PretrainingTask
from lxmert.tasks.pretraining_settings import PretrainingData, PretrainingSettings
from lxmert.tasks.texts import ModelSettings

SMALL = ModelSettings(
    hidden_size=32,
    num_attention_heads=2,
    intermediate_size=48,
    l_layers=2,
    x_layers=1,
    r_layers=1,
    dropout=0.0,
    max_text_length=9,
)
World = dict[str, str]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("world")
    paths = make_world(folder) | {"pairs": make_pairs(folder), "folder": str(folder)}
    pretrain(paths, SMALL).save(folder / "pretrained")
    return paths | {"pretrained": str(folder / "pretrained")}


def pretrain(world: World, model: ModelSettings) -> PretrainingTask:
    questions = (world["questions"],)
    data = PretrainingData(
        questions=questions,
        regions=world["regions"],
        valid_questions=questions,
        valid_regions=world["regions"],
    )
    torch.manual_seed(2)
    return PretrainingTask(PretrainingSettings(data=data, model=model), seed=2)


def answer(world: World, model: ModelSettings, **changes: str) -> AnsweringTask:
    questions, regions = world["questions"], world["regions"]
    data = AnsweringData(
        train=questions, valid=questions, regions=regions, valid_regions=regions, **changes
    )
    torch.manual_seed(4)
    return AnsweringTask(AnsweringSettings(data=data, model=model), seed=4)


def judge(world: World, model: ModelSettings) -> PairsTask:
    pairs, regions = world["pairs"], world["regions"]
    torch.manual_seed(4)
    return PairsTask(
        PairsSettings(
            data=PairsData(train=pairs, valid=pairs, regions=regions, valid_regions=regions),
            model=model,
        ),
        seed=4,
    )


def weights(model: nn.Module) -> dict[str, torch.Tensor]:
    return dict(model.state_dict())


def same(model: nn.Module, other: dict[str, torch.Tensor], prefix: str = "lxmert.") -> int:
    """Compare the weights below a prefix and return how many there are."""
    shared = [name for name in weights(model) if name.startswith(prefix)]
    for name in shared:
        assert torch.equal(weights(model)[name], other[name]), name
    return len(shared)


def test_an_original_checkpoint_initializes_every_task(world: World, tmp_path: Path) -> None:
    pretrained = pretrain(world, SMALL)
    assert isinstance(pretrained.model, LxmertPreTrainedModel)
    path = tmp_path / "model_LXRT.pth"
    save_original(pretrained.model, path)
    listed = tmp_path / "answers.txt"
    listed.write_text("\n".join(pretrained.answers.answers))
    start = ModelSettings(
        init_from=str(path), tokenizer=world["pretrained"], num_attention_heads=2, max_text_length=7
    )
    task = answer(world, start.replace(init_answers=str(listed)))
    assert same(task.model, weights(pretrained.model)) > 60
    assert same(task.model, weights(pretrained.model), "answer_head.") == 6
    assert task.answers.answers == pretrained.answers.answers
    assert task.parts.preprocessor.max_text_length == 7
    assert same(judge(world, start).model, weights(pretrained.model)) > 60


def test_multi_gpu_checkpoints_are_supported(world: World, tmp_path: Path) -> None:
    """The original LXMERT code stripped `module.` in some loaders only."""
    pretrained = pretrain(world, SMALL)
    assert isinstance(pretrained.model, LxmertPreTrainedModel)
    save_original(pretrained.model, tmp_path / "one.pth")
    state = torch.load(tmp_path / "one.pth", weights_only=True)
    torch.save({f"module.{name}": value for name, value in state.items()}, tmp_path / "many.pth")
    start = ModelSettings(
        init_from=str(tmp_path / "many.pth"), tokenizer=world["pretrained"], num_attention_heads=2
    )
    assert same(judge(world, start).model, weights(pretrained.model)) > 60


def test_a_transformers_folder_initializes_a_task(world: World, tmp_path: Path) -> None:
    """It names no extractor, so the fingerprint is that of the store."""
    config = pretrain(world, SMALL).model.config
    assert isinstance(config, transformers.PreTrainedConfig)
    known = transformers.LxmertConfig(**config.to_diff_dict())
    theirs = transformers.LxmertForPreTraining(known)
    theirs.save_pretrained(tmp_path)
    build_tokenizer(pretrain(world, SMALL).training.examples.texts()).save_pretrained(tmp_path)
    task = judge(world, ModelSettings(init_from=str(tmp_path)))
    assert same(task.model, weights(theirs)) > 60
    assert task.parts.preprocessor.fingerprint == "fingerprint"


@pytest.mark.parametrize("make", [pretrain, answer, judge])
def test_bert_initializes_the_language_layers(
    world: World, tmp_path: Path, make: Callable[[World, ModelSettings], PairsTask]
) -> None:
    texts = Path(world["questions"]).read_text() + Path(world["pairs"]).read_text()
    build_tokenizer([texts]).save_pretrained(tmp_path)
    words = len(build_tokenizer([texts]))
    bert = transformers.BertModel(
        transformers.BertConfig(
            vocab_size=words, hidden_size=24, num_attention_heads=2, intermediate_size=40,
            num_hidden_layers=3, max_position_embeddings=70,
        )
    )  # fmt: skip
    bert.save_pretrained(tmp_path)
    # Sizes come from BERT, numbers of layers from the recipe.
    settings = SMALL.replace(init_from=str(tmp_path), l_layers=2, r_layers=3, allow=("cls",))
    task = make(world, settings)
    config = task.model.config
    assert isinstance(config, transformers.PreTrainedConfig)
    assert (config.hidden_size, config.l_layers, config.r_layers) == (24, 2, 3)
    ours = weights(task.model)
    for layer in range(2):
        name = f"encoder.layer.{layer}.attention.self.query.weight"
        assert torch.equal(ours[f"lxmert.{name}"], weights(bert)[name])
    name = "embeddings.word_embeddings.weight"
    assert torch.equal(ours[f"lxmert.{name}"], weights(bert)[name])
    batch = task.collate([task.example(row, 0) for row in range(4)])
    sum(task.losses(task.model, batch).values()).backward()


def test_answer_weights_are_kept_by_name(
    world: World, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    listed = tmp_path / "answers.json"
    listed.write_text('["green", "Red", "blue"]')  # the pretrained ones are blue and red
    with caplog.at_level("INFO"):
        task = answer(world, ModelSettings(init_from=world["pretrained"]), answers=str(listed))
    assert (
        "2 of 3 answers keep their weights from the checkpoint; new answers, such as: 'green'"
        in caplog.text
    )
    old = load_file(f"{world['pretrained']}/model.safetensors")
    last = "answer_head.logit_fc.3."
    new = weights(task.model)
    for part in ("weight", "bias"):
        assert torch.equal(new[last + part][1], old[last + part][1])
        assert torch.equal(new[last + part][2], old[last + part][0])
        assert not new[last + part][0].any()
    assert task.answers.answers == ("green", "Red", "blue")
    assert same(task.model, old) > 60


def test_unnamed_answers_of_a_checkpoint_are_an_error(world: World, tmp_path: Path) -> None:
    pretrained = pretrain(world, SMALL)
    assert isinstance(pretrained.model, LxmertAnsweringModel)
    name_answers(pretrained.model.config, ["LABEL_0", "LABEL_1"])
    pretrained.save(tmp_path)
    with pytest.raises(ValueError, match=r"does not name its 2 answers: set model\.init_answers"):
        answer(world, ModelSettings(init_from=str(tmp_path)))


def damage(world: World, folder: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> str:
    """Copy the pretrained folder with other weights."""
    folder.mkdir()
    for path in Path(world["pretrained"]).iterdir():
        if path.is_file():
            (folder / path.name).write_bytes(path.read_bytes())
    state = load_file(folder / "model.safetensors")
    change(state)
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    return str(folder)


def test_weights_that_do_not_fit_are_listed_and_refused(world: World, tmp_path: Path) -> None:
    """The original LXMERT code silently trained missing weights from random values."""
    query = "lxmert.encoder.layer.1.attention.self.query.weight"
    norm = "lxmert.encoder.visn_fc.box_layer_norm.bias"

    def lose(state: dict[str, torch.Tensor]) -> None:
        del state[query], state[norm]
        state["lxmert.encoder.adapter.weight"] = torch.ones(2)

    folder = damage(world, tmp_path / "damaged", lose)
    with pytest.raises(ValueError, match="does not fill") as refused:
        judge(world, ModelSettings(init_from=folder))
    for name in (query, norm, "1 unknown: lxmert.encoder.adapter.weight"):
        assert name in str(refused.value)
    allowed = (query, norm, "lxmert.encoder.adapter")
    task = judge(world, ModelSettings(init_from=folder, allow=allowed))
    assert weights(task.model)[query].std() > 0


def test_a_checkpoint_without_answer_head_must_be_allowed(world: World, tmp_path: Path) -> None:
    judge(world, ModelSettings(init_from=world["pretrained"])).save(tmp_path)
    with pytest.raises(ValueError, match="6 missing: answer_head"):
        answer(world, ModelSettings(init_from=str(tmp_path)))
    task = answer(world, ModelSettings(init_from=str(tmp_path), allow=("answer_head",)))
    assert task.answers.answers == ("blue", "red")
    assert same(task.model, load_file(tmp_path / "model.safetensors")) > 60


def test_half_precision_is_trained_in_full(world: World, tmp_path: Path) -> None:
    """Updates of a few millionths are lost in half precision."""

    def halve(state: dict[str, torch.Tensor]) -> None:
        state.update({name: value.half() for name, value in state.items()})

    folder = damage(world, tmp_path / "half", halve)
    assert {value.dtype for value in weights(load_initial(folder, "pairs").model).values()} == {
        torch.float32
    }


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"init_from": "nowhere"}, "model.init_from nowhere does not exist"),
        ({"tokenizer": "{folder}"}, r"has neither tokenizer\.json nor vocab\.txt"),
        ({"tokenizer": "{folder}/short.txt"}, r"has 6 words, but .* has"),
    ],
)
def test_an_incomplete_checkpoint_is_refused(
    world: World, changes: dict[str, str], message: str
) -> None:
    folder = world["folder"]
    Path(folder, "short.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nred\n")
    given = {name: value.format(folder=folder) for name, value in changes.items()}
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        judge(world, ModelSettings(**{"init_from": world["pretrained"], **given}))


def test_a_checkpoint_without_tokenizer_is_refused(world: World, tmp_path: Path) -> None:
    pretrained = pretrain(world, SMALL)
    assert isinstance(pretrained.model, LxmertPreTrainedModel)
    save_original(pretrained.model, tmp_path / "model.pth")
    with pytest.raises(ValueError, match=r"has no tokenizer.*set model\.tokenizer"):
        judge(world, ModelSettings(init_from=str(tmp_path / "model.pth"), num_attention_heads=2))


def test_a_named_tokenizer_is_used_by_a_new_model(world: World) -> None:
    path = Path(world["folder"]) / "vocab.txt"
    path.write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nboth\nshow\na\nball\n##s\n.\n")
    task = judge(world, SMALL.replace(tokenizer=str(path)))
    assert len(task.tokenizer) == task.model.config.vocab_size == 11
    assert task.tokenizer.tokenize("Both balls") == ["both", "ball", "##s"]


def test_overridden_sizes_are_reported(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """A dropout beside init_from was ignored silently."""
    settings = ModelSettings(init_from=world["pretrained"])
    for model in (settings, SMALL.replace(init_from=world["pretrained"])):
        answer(world, model)  # defaults and the sizes of the checkpoint itself give no warning
    assert "overrides" not in caplog.text
    task = answer(world, settings.replace(dropout=0.3, r_layers=4))
    (warning,) = [record.getMessage() for record in caplog.records if "overrides" in record.message]
    for overridden in (
        "r_layers is 1, not 4",
        "hidden_dropout_prob is 0.0, not 0.3",
        "attention_probs_dropout_prob is 0.0, not 0.3",
    ):
        assert overridden in warning
    assert task.model.config.hidden_dropout_prob == 0.0


def test_heads_that_do_not_share_the_width_are_refused() -> None:
    """It was a `StrictDataclassClassValidationError` when the data had been read."""
    with pytest.raises(ValueError, match=r"hidden_size is 15, .*multiple of .*heads \(2\): change"):
        ModelSettings(hidden_size=15, num_attention_heads=2)
    ModelSettings(init_from="folder", num_attention_heads=5)  # the width comes from the folder


def test_modules_can_be_reinitialized(world: World) -> None:
    """A box embedding that pretraining did not use was not learned in fine-tuning either."""
    name = "lxmert.encoder.visn_fc.box_fc"
    start = ModelSettings(init_from=world["pretrained"])
    plain, task = answer(world, start), answer(world, start.replace(reinit=(name,)))
    old, new = weights(plain.model), weights(task.model)
    changed = {key for key in old if not torch.equal(old[key], new[key])}
    # The answer head is new in both, but drawn from different random numbers.
    assert {key for key in changed if key.startswith("lxmert.")} == {
        f"{name}.weight",
        f"{name}.bias",
    }
    torch.testing.assert_close(new[f"{name}.bias"], -new[f"{name}.weight"].sum(dim=1) / 2)
    with pytest.raises(
        ValueError, match=r"model.reinit has 'box_fc', which is not a module of the model"
    ):
        answer(world, start.replace(reinit=("box_fc",)))


def test_first_rows_are_frozen_only_on_request(world: World) -> None:
    """In the original code, their row 0, which is that of [CLS], was a padding row."""
    for frozen in (True, False):
        task = judge(world, SMALL.replace(frozen_first_rows=frozen))
        batch = task.collate([task.example(row, 0) for row in range(6)])
        task.losses(task.model, batch)["truth"].backward()
        for name in ("position", "token_type"):
            parameters = dict(task.model.named_parameters())
            gradient = parameters[f"lxmert.embeddings.{name}_embeddings.weight"].grad
            assert gradient is not None
            assert gradient[0].any() != frozen
            assert name == "token_type" or gradient[1].any()


@pytest.mark.parametrize(
    "change",
    [{"tokenizer": "vocab.txt"}, {"allow": ("cls",)},
     {"init_answers": "list.txt"}, {"frozen_first_rows": True}],
)  # fmt: skip
def test_a_new_extractor_needs_a_new_model(tmp_path: Path, change: dict[str, object]) -> None:
    """These settings were ignored silently."""
    settings = CustomDataSettings(
        data=CustomData(train="train.jsonl", images="images"), model=ModelSettings(**change)
    )
    (name,) = change
    with pytest.raises(ValueError, match=rf"model\.{name} is .*leave it out"):
        CustomDataTask.prepare(settings, seed=1, folder=tmp_path)
