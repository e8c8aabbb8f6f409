"""Conversions there and back: the same outputs, the same bits, nothing overwritten."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from conftest import ROOT
from model import published, tiny
from torch.testing import assert_close

from lxmert.model.answers import answers_of
from lxmert.model.configuration import LxmertConfig
from lxmert.model.loading import load_folder
from lxmert.workflows.conversion import CONVERSIONS, Choices, convert
from lxmert.workflows.inspection import INSPECTORS

DEFAULT = ROOT / "src/lxmert/default"


@pytest.fixture
def best(tmp_path):
    """A fine-tuned file of 2019, of a width from which its heads can be told."""
    model = tiny.build_reference(
        "LxmertForQuestionAnswering", hidden_size=128, num_attention_heads=2
    )
    published.write(tmp_path / "BEST.pth", published.state_of_2019(model, inner="module."))
    return tmp_path / "BEST.pth", model


def write_answers(path: Path, count: int = 13) -> Path:
    path.write_text(json.dumps([f"answer {index}" for index in range(count)]))
    return path


def test_a_file_of_2019_becomes_a_folder_for_transformers_too(best, tmp_path):
    path, theirs = best
    notes, _ = convert(
        path, tmp_path / "out", Choices(answers=write_answers(tmp_path / "list.json"))
    )
    folder = tmp_path / "out"
    assert {"config.json", "model.safetensors"} <= {file.name for file in folder.iterdir()}
    loaded, found = type(theirs).from_pretrained(folder, output_loading_info=True)
    assert not any(found[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    given = tiny.inputs()
    expected = theirs(**given).question_answering_score
    assert_close(loaded.eval()(**given).question_answering_score, expected)
    assert_close(load_folder(folder)(**given).question_answering_score, expected)
    config = LxmertConfig.from_pretrained(folder)
    assert answers_of(config) == tuple(f"answer {index}" for index in range(13))
    assert config.architectures == ["LxmertForQuestionAnswering"]
    assert any("2 attention heads, by its width" in note for note in notes)
    assert any("tokenizer and eyes" in note for note in notes)


def test_the_way_back_gives_the_same_bits(best, tmp_path):
    path, model = best
    convert(path, tmp_path / "out")
    convert(tmp_path / "out", tmp_path / "back.pth")
    back = torch.load(tmp_path / "back.pth", weights_only=True)
    expected = published.state_of_2019(model)
    assert back.keys() == expected.keys()
    assert all(torch.equal(back[name], value) for name, value in expected.items())


def test_without_answers_a_note_says_what_to_do(best, tmp_path):
    notes, _ = convert(best[0], tmp_path / "out")
    assert "its 13 answers have no names: convert again with --answers LIST" in notes[0]
    named = Choices(answers=write_answers(tmp_path / "list.json"))
    assert convert(tmp_path / "out", tmp_path / "named", named) == ([], [])
    assert answers_of(LxmertConfig.from_pretrained(tmp_path / "named"))[12] == "answer 12"


def test_a_bin_folder_becomes_a_safetensors_folder_with_all_that_lies_in_it(tmp_path):
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    model = tiny.build_reference("LxmertForPreTraining")
    model.config.save_pretrained(source)
    torch.save(model.state_dict(), source / "pytorch_model.bin")
    (source / "vocab.txt").write_text("[PAD]\n")
    (source / "tf_model.h5").write_text("weights of another library")
    shutil.copytree(DEFAULT / "eyes", source / "eyes")
    convert(source, target)
    found = {str(path.relative_to(target)) for path in target.rglob("*") if path.is_file()}
    assert found == {
        "README.md",
        "config.json",
        "model.safetensors",
        "vocab.txt",
        "eyes/config.json",
        "eyes/model.safetensors",
    }
    given = tiny.inputs()
    expected = model(**given).prediction_logits
    ours = load_folder(target)(**given).prediction_logits
    assert_close(ours, expected, rtol=1e-5, atol=1e-5)


def test_heads_and_allowed_weights_are_choices(tmp_path):
    state = published.state_of_2019(tiny.build_reference("LxmertForPreTraining"))
    del state["cls.seq_relationship.bias"]
    published.write(tmp_path / "a.pth", state)
    with pytest.raises(ValueError, match="--heads N"):
        convert(tmp_path / "a.pth", tmp_path / "out")
    with pytest.raises(ValueError, match=r"missing: cls\.seq_relationship\.bias"):
        convert(tmp_path / "a.pth", tmp_path / "out", Choices(heads=4))
    convert(tmp_path / "a.pth", tmp_path / "out", Choices(heads=4, allow=("cls.seq_relationship",)))
    assert LxmertConfig.from_pretrained(tmp_path / "out").num_attention_heads == 4
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.pth", "out"]


def test_nothing_is_overwritten_and_nothing_half_written_is_left(best, tmp_path, monkeypatch):
    path, _ = best
    (tmp_path / "mine.pth").write_text("mine")
    (tmp_path / "full").mkdir()
    for name in ("mine.pth", "full"):
        with pytest.raises(FileExistsError, match=f"{name} is there already"):
            convert(path if name == "full" else DEFAULT, tmp_path / name)
    assert (tmp_path / "mine.pth").read_text() == "mine"
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*nowhere"):
        convert(path, tmp_path / "nowhere" / "out")
    with pytest.raises(ValueError, match="Got 2 answers for a model with 13"):
        convert(path, tmp_path / "out", Choices(answers=write_answers(tmp_path / "list", 2)))

    def fail(*_: object, **__: object) -> None:
        raise OSError("no space left")

    for name, source, target in [
        ("transformers.PreTrainedModel.save_pretrained", path, "out"),
        ("torch.save", DEFAULT, "out.pth"),
    ]:
        monkeypatch.setattr(name, fail)
        with pytest.raises(OSError, match="no space left"):
            convert(source, tmp_path / target)
    assert {file.name for file in tmp_path.iterdir()} == {"BEST.pth", "mine.pth", "full", "list"}


@pytest.mark.parametrize(
    ("source", "target", "choices", "message"),
    [
        ("eyes", "out", Choices(), "a detector folder, which cannot become"),
        (".", "out.pth", Choices(heads=4), "--heads does not apply to a model folder"),
        (".", "out.pth", Choices(answers=Path("list")), "--answers does not apply"),
        (".", "out", Choices(heads=4), "--heads does not apply"),
    ],
)
def test_what_does_not_apply_is_refused(source, target, choices, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        convert(DEFAULT / source, tmp_path / target, choices)
    assert list(tmp_path.iterdir()) == []


def test_answers_for_a_model_without_any_are_refused(tmp_path):
    tiny.build(tiny.PAIRS).save_pretrained(tmp_path / "pairs")
    choices = Choices(answers=write_answers(tmp_path / "list.json"))
    with pytest.raises(ValueError, match="has no answers to name"):
        convert(tmp_path / "pairs", tmp_path / "out", choices)


def test_a_file_of_2019_that_should_stay_one_is_refused_with_what_it_can_become(best, tmp_path):
    with pytest.raises(ValueError, match="it can become a folder"):
        convert(best[0], tmp_path / "again.pth")


def test_every_conversion_starts_from_a_kind_that_is_recognised():
    assert len(CONVERSIONS) >= 6
    for (kind, form), conversion in CONVERSIONS.items():
        assert kind in INSPECTORS
        assert form == "folder" or form.startswith(".")
        assert set(conversion.choices) <= set(Choices.__dataclass_fields__)
