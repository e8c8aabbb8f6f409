"""The lists in the package: equal to the published files, which the tests have copies of."""

import json
from pathlib import Path

import pytest
from conftest import ASSETS

from lxmert import vocabularies
from lxmert.data.answer_lists import read_answers
from lxmert.regions.published import read_names


@pytest.mark.parametrize(
    ("name", "published", "count"),
    [
        ("vqa", "vqa_trainval_label2ans.json", 3129),
        ("gqa", "gqa_trainval_label2ans.json", 1842),
        ("pretraining", "lxmert_all_ans_texts.json", 9500),
    ],
)
def test_answers_are_the_published_ones_in_their_order(
    name: str, published: str, count: int
) -> None:
    answers = read_answers(name).answers
    assert list(answers) == json.loads((ASSETS / published).read_text())
    assert len(answers) == count


def test_a_file_is_preferred_to_a_published_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("vqa").write_text("mug\nball\n")
    assert read_answers("vqa").answers == ("mug", "ball")
    with pytest.raises(FileNotFoundError, match=r"no answer list vqa2.*one of vqa, gqa, pretrain"):
        read_answers("vqa2")


def test_names_are_the_published_ones_in_their_order() -> None:
    for path, published, count in (
        (vocabularies.OBJECTS, "vg_objects_vocab.txt", vocabularies.NUM_OBJECTS),
        (vocabularies.ATTRIBUTES, "vg_attributes_vocab.txt", vocabularies.NUM_ATTRIBUTES),
    ):
        names = read_names(path)
        assert names == read_names(ASSETS / published)
        assert len(names) == count


def test_each_list_names_its_source() -> None:
    folder = vocabularies.OBJECTS.parent
    rows = (folder / "README.md").read_text()
    lists = sorted(path.name for path in folder.iterdir() if path.suffix != ".md")
    assert lists == ["attributes.txt", "gqa.json", "objects.txt", "pretraining.json", "vqa.json"]
    for name in lists:
        assert f"| `{name}` |" in rows
