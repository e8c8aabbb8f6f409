"""Errors for damaged files, other releases or splits, and images without regions."""

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import downloads as world
import numpy as np
import pytest
from downloads import TRAIN_9, TRAIN_25, VAL_42, VAL_73
from official_files import gqa_question, write_json

from lxmert.data.store import RegionStore, StoreHeader
from lxmert.datasets.expected import check_splits
from lxmert.datasets.images import held_out
from lxmert.datasets.making import Made, Options, make_data
from lxmert.schema import Regions

HEADER = StoreHeader(
    fingerprint="fingerprint",
    feature_dim=5,
    dtype="float32",
    precision="fp32",
    object_names=("mug",),
    attribute_names=("red",),
)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return world.write_all(tmp_path / "downloads")


def make(name: str, source: Path, **options: Any) -> Made:
    return make_data(name, source, source.parent / "made", Options(**options))


def change(path: Path, edit: Callable[[Any], None]) -> None:
    content = json.loads(path.read_text())
    edit(content)
    write_json(path, content)


def write_store(folder: Path, image_ids: Sequence[str]) -> Path:
    regions = Regions(
        boxes=np.array([[2, 3, 20, 30]], np.float32),
        features=np.full((1, 5), 3.25, np.float32),
        image_size=(60, 80),
        object_ids=np.array([0]),
        object_scores=np.array([0.75], np.float32),
        attribute_ids=np.array([[0]]),
        attribute_scores=np.array([[0.5]], np.float32),
    )
    RegionStore.write(folder, list(image_ids), lambda ids: ((i, regions) for i in ids), HEADER)
    return folder


def test_a_missing_file_is_named_with_the_command_that_gets_it(source: Path) -> None:
    (source / "vqa/v2_mscoco_val2014_annotations.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"no file v2_mscoco_val2014.*`lxmert fetch vqa -o"):
        make("vqa", source)
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        make("vqa", source / "elsewhere")


def test_a_truncated_file_is_named_with_the_byte(source: Path) -> None:
    path = source / "gqa/val_balanced_questions.json"
    path.write_bytes(path.read_bytes()[:700])
    with pytest.raises(ValueError, match=r"val_balanced.* truncated or damaged at byte \d+ of 700"):
        make("gqa", source)
    path = source / "nlvr2/dev.json"
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ValueError, match=r"dev.json line 2 is not valid JSON .*truncated"):
        make("nlvr2", source)
    assert not (source.parent / "made/gqa/manifest.json").exists()
    assert list((source.parent / "made").glob("*/*")) == []


def test_files_appear_only_when_all_are_complete_and_are_kept_otherwise(
    source: Path,
) -> None:
    made = make("nlvr2", source)
    before = {path.name: path.read_bytes() for path in made.folder.iterdir()}
    assert sorted(before) == ["manifest.json", "test.jsonl", "train.jsonl", "valid.jsonl"]
    path = source / "nlvr2/test1.json"
    path.write_text(path.read_text().replace("False", "Maybe"))
    with pytest.raises(
        ValueError, match=r"test1.json line 2: 'label' is 'Maybe', expected True or False"
    ):
        make("nlvr2", source)
    assert {path.name: path.read_bytes() for path in made.folder.iterdir()} == before


def test_another_part_of_coco_is_refused_with_both_names(source: Path) -> None:
    vqa = source / "vqa"
    val, train = (vqa / f"v2_mscoco_{part}_annotations.json" for part in ("val2014", "train2014"))
    train.write_bytes(val.read_bytes())
    with pytest.raises(
        ValueError, match=r"train2014_annotations.* val2014, but train2014 is expected"
    ):
        make("vqa", source)
    coco = source / "coco-captions"
    (coco / "captions_val2014.json").write_bytes((coco / "captions_train2014.json").read_bytes())
    with pytest.raises(ValueError, match=r"captions_val2014.* train2014, but val2014 is expected"):
        make("coco-captions", source)


def test_another_release_is_refused_with_both_names(source: Path) -> None:
    path = source / "vqa/v2_OpenEnded_mscoco_train2014_questions.json"
    change(path, lambda content: content["info"].update(version="1.0"))
    with pytest.raises(ValueError, match="declares VQA v1, but v2 is expected"):
        make("vqa", source)
    path = source / "gqa/train_balanced_questions.json"
    change(path, lambda content: content.update(x=gqa_question(isBalanced=False)))
    with pytest.raises(ValueError, match=r"\['x'\]: 'isBalanced' is not true: use the balanced"):
        make("gqa", source)
    path = source / "visual7w/dataset_v7w_telling.json"
    change(path, lambda content: content.update(dataset="visual7w-pointing"))
    with pytest.raises(ValueError, match="visual7w-pointing, but visual7w-telling is expected"):
        make("visual7w", source)


def test_another_split_is_refused_with_both_names(source: Path) -> None:
    path = source / "gqa/train_balanced_questions.json"
    path.write_bytes((source / "gqa/testdev_balanced_questions.json").read_bytes())
    with pytest.raises(
        ValueError, match="the image belongs to testdev, but the file is named train"
    ):
        make("gqa", source)
    path = source / "nlvr2/dev.json"
    path.write_bytes((source / "nlvr2/test1.json").read_bytes())
    with pytest.raises(ValueError, match=r"dev.json declares NLVR2's test1, but dev is expected"):
        make("nlvr2", source)
    with pytest.raises(ValueError, match=r"gqa train has 132,062 .* published size of valid"):
        check_splits("gqa", {"train": 132_062})
    check_splits("gqa", {"train": 943_000, "valid": 132_062, "testdev": 3})


@pytest.mark.parametrize("score", [None, "1", True, -0.5, 7, 10**17])
def test_an_answer_of_the_original_with_an_absurd_score_is_named(
    tmp_path: Path, score: object
) -> None:
    """Bug: invalid scores were reported without a file name, or written unchanged."""
    world.write_original(tmp_path / "data")
    for file, edit in (
        ("lxmert/mscoco_train", lambda rows: rows[0]["labelf"]["vqa"][0].update(yes=score)),
        ("vqa/train", lambda rows: rows[0]["label"].update(mug=score)),
    ):
        change(tmp_path / f"data/{file}.json", edit)
    for name, file in (("original-pretraining", "mscoco_train"), ("original-vqa", "vqa/train")):
        with pytest.raises(ValueError, match=rf"{file}\.json: \[0\]: .*('yes'|'mug')"):
            make(name, tmp_path / "data")


@pytest.mark.parametrize("value", ["1" * 400, "-" + "9" * 10_000, "NaN", "1e999", "[" * 100_000])
@pytest.mark.parametrize(
    ("name", "file", "member"),
    [
        ("vqa", "vqa/v2_OpenEnded_mscoco_train2014_questions.json", "question_id"),
        ("coco-captions", "coco-captions/captions_val2014.json", "id"),
        ("nlvr2", "nlvr2/train.json", "identifier"),
        ("vg-qa", "visual-genome/question_answers.json", "qa_id"),
        ("visual7w", "visual7w/dataset_v7w_telling.json", "image_id"),
    ],
)
def test_numbers_and_lists_without_end_are_one_sentence(
    source: Path, name: str, file: str, member: str, value: str
) -> None:
    """Bug: ids of 10,000 digits, NaN and deeply nested lists raised internal Python errors."""
    path = source / file
    text = re.sub(rf'"{member}": ("[^"]*"|\d+)', f'"{member}": {value}', path.read_text(), count=1)
    assert text != path.read_text()
    path.write_text(text)
    with pytest.raises(ValueError, match=re.escape(path.name)) as error:
        make(name, source)
    assert len(str(error.value)) < 500


def test_files_of_the_original_code_in_the_place_of_another_are_refused(tmp_path: Path) -> None:
    world.write_original(tmp_path / "data")
    data = tmp_path / "data"
    (data / "gqa/train.json").write_bytes((data / "vqa/train.json").read_bytes())
    with pytest.raises(
        ValueError, match=r"\[0\]: the record belongs to the original vqa files, but gqa is exp"
    ):
        make("original-gqa", data)
    lxmert = data / "lxmert"
    (lxmert / "mscoco_train.json").write_bytes((lxmert / "mscoco_minival.json").read_bytes())
    with pytest.raises(ValueError, match="COCO_val2014, but COCO_train2014 is expected"):
        make("original-pretraining", data)
    (lxmert / "mscoco_train.json").write_bytes((data / "nlvr2/train.json").read_bytes())
    with pytest.raises(ValueError, match="original nlvr2 files, but pretraining is expected"):
        make("original-pretraining", data)


def test_labels_that_do_not_fit_their_sentences_are_refused(tmp_path: Path) -> None:
    world.write_original(tmp_path / "data")
    path = tmp_path / "data/lxmert/vgnococo.json"
    change(path, lambda content: content[0]["labelf"].update(gqa=[]))
    with pytest.raises(ValueError, match="image '3' has 0 labels for 1 sentences of gqa"):
        make("original-pretraining", tmp_path / "data")


def test_a_category_that_would_name_a_file_elsewhere_is_refused(tmp_path: Path) -> None:
    world.write_original(tmp_path / "data")
    path = tmp_path / "data/lxmert/vgnococo.json"
    change(path, lambda content: content[0]["sentf"].update({"../gqa": ["Where?"]}))
    with pytest.raises(ValueError, match=r"\[0\]: 'sentf' has '../gqa', expected mscoco, vg,"):
        make("original-pretraining", tmp_path / "data")


@pytest.mark.parametrize("content", [[], [{"id": 2, "regions": []}]])
def test_files_without_a_sentence_are_refused(source: Path, content: list[object]) -> None:
    """Bug: the message named none of the files."""
    path = write_json(source / "visual-genome/region_descriptions.json", content)
    with pytest.raises(ValueError, match=f"no sentence in .*{re.escape(str(path))}.* can be used"):
        make("vg-regions", source)
    assert not (source.parent / "vg-regions/manifest.json").exists()


@pytest.mark.parametrize("content", ["", "\ufeff", " \n\n"])
def test_an_empty_file_is_called_empty(source: Path, content: str) -> None:
    """Bug: it was called truncated or damaged at byte 0 of 0."""
    path = source / "visual-genome/region_descriptions.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=f"{re.escape(str(path))} is empty, expected JSON"):
        make("vg-regions", source)


def test_files_of_an_earlier_run_go_and_those_of_others_stay(source: Path) -> None:
    minival = source.parent / "minival.txt"
    minival.write_text(VAL_42)
    folder = make("vg-regions", source, minival=minival).folder
    (folder / "mine.jsonl").write_text("{}\n")
    assert (folder / "valid.jsonl").is_file()
    minival.write_text(VAL_73)
    made = make("vg-regions", source, minival=minival)
    assert list(made.files) == ["train.jsonl"]
    assert sorted(path.name for path in folder.iterdir()) == [
        "manifest.json", "mine.jsonl", "train.jsonl",
    ]  # fmt: skip


def test_questions_and_annotations_without_each_other_are_counted_and_listed(
    source: Path,
) -> None:
    path = source / "vqa/v2_OpenEnded_mscoco_train2014_questions.json"
    change(path, lambda content: content["questions"].pop(3))
    path = source / "vqa/v2_mscoco_val2014_annotations.json"
    change(path, lambda content: content["annotations"].pop(0))
    made = make("vqa", source)
    assert made.left_out == {
        "annotation of train2014 without a question": {"count": 1, "first": ["9004"]},
        "question of val2014 without an annotation": {"count": 1, "first": ["42001"]},
    }
    assert json.loads((made.folder / "manifest.json").read_text())["left_out"] == made.left_out


@pytest.mark.parametrize("manifest", ["{", "[]", '{"version": 1}'])
def test_a_folder_of_another_program_is_refused_before_anything_is_read(
    source: Path, manifest: str
) -> None:
    """Bug: it was a `KeyError` after everything had been read, and the output was removed."""
    (source.parent / "made/nlvr2").mkdir(parents=True)
    (source.parent / "made/nlvr2/manifest.json").write_text(manifest)
    (source / "nlvr2/dev.json").unlink()
    with pytest.raises(
        ValueError, match=r"manifest.json is damaged or was written by another program"
    ):
        make("nlvr2", source)


@pytest.mark.parametrize(
    ("name", "file", "twice"),
    [
        ("vqa", "vqa/v2_mscoco_train2014_annotations.json", "9001"),
        ("vqa", "vqa/v2_OpenEnded_mscoco_val2014_questions.json", "42001"),
        ("vqa", "vqa/v2_OpenEnded_mscoco_test2015_questions.json", "8001"),
        ("gqa", "gqa/val_balanced_questions.json", "'05451384'"),
        ("nlvr2", "nlvr2/dev.json", "'dev-10-0-1'"),
    ],
)
def test_an_id_that_is_there_twice_is_refused(
    source: Path, name: str, file: str, twice: str
) -> None:
    """Bug: of two annotations the last one won, and questions were trained and asked twice."""
    path = source / file
    if name == "vqa":
        kind = "annotations" if "annotations" in file else "questions"
        change(path, lambda content: content[kind].append(content[kind][0]))
    elif name == "gqa":
        path.write_text(path.read_text().replace("05451385", "05451384"))
    else:
        path.write_text(path.read_text() * 2)
    with pytest.raises(ValueError, match=f"{path.name} has {twice} more than once"):
        make(name, source)


def test_a_file_of_another_data_set_is_not_taken_for_an_unbalanced_one(source: Path) -> None:
    """Bug: VQA questions in place of GQA questions were reported as the unbalanced release."""
    write_json(source / "gqa/train_balanced_questions.json", {"info": {"version": "2.0"}})
    with pytest.raises(
        ValueError, match=r"'info'\]: 'isBalanced' is missing, expected an official"
    ):
        make("gqa", source)


def test_texts_that_no_reader_takes_are_left_out_and_counted(source: Path) -> None:
    path = source / "visual-genome/region_descriptions.json"

    def edit(content: Any) -> None:
        content[0]["regions"][0]["phrase"] = " \n"
        content[2]["regions"][0]["phrase"] = "half \ud83d"

    change(path, edit)
    made = make("vg-regions", source)
    assert made.left_out["empty text"] == {"count": 1, "first": ["vg-17"]}
    reason = "text with an unpaired surrogate, which is not a character"
    assert made.left_out[reason]["first"] == ["vg-37"]


def test_images_without_regions_are_an_error_that_lists_them(source: Path) -> None:
    store = write_store(source.parent / "store", [f"train2014/{TRAIN_9}.jpg", "3.jpg", "4"])
    other = write_store(source.parent / "other", [VAL_42])
    with pytest.raises(ValueError, match=rf"2 images of 4 sentences \(first: {TRAIN_25}, "):
        make("coco-captions", source, regions=(store, other))
    folder = source.parent / "made/coco-captions"
    assert (folder / "missing-images.txt").read_text() == f"{TRAIN_25}\n{VAL_73}\n"
    assert [path.name for path in folder.iterdir()] == ["missing-images.txt"]


def test_a_flag_leaves_their_sentences_out_and_the_others_get_the_ids_of_the_store(
    source: Path,
) -> None:
    store = write_store(source.parent / "store", [f"train2014/{TRAIN_9}.jpg", "3.jpg", "4"])
    minival = source.parent / "minival.txt"
    minival.write_text(f"{VAL_42}.jpg\n")
    made = make("vg-regions", source, regions=(store,), allow_missing=True, minival=minival)
    images = [
        json.loads(line)["image"] for line in (made.folder / "train.jsonl").read_text().splitlines()
    ]
    assert images == [f"train2014/{TRAIN_9}.jpg", "3.jpg", "4"]
    assert made.left_out["image without regions"] == {"count": 1, "first": [VAL_42]}
    assert (made.folder / "missing-images.txt").read_text() == f"{VAL_42}\n"
    made = make("vg-regions", source, minival=minival)
    assert not (made.folder / "missing-images.txt").exists()


def test_two_ids_of_one_image_are_refused(source: Path) -> None:
    store = write_store(source.parent / "store", ["a/3.jpg", "b/3.png"])
    with pytest.raises(ValueError, match=r"'a/3.jpg' and 'b/3.png' for the image '3'"):
        make("vg-regions", source, regions=(store,))


def test_what_is_held_out_without_a_list_is_an_eighth_of_val2014_by_name() -> None:
    """5,000 of 40,504, decided independently for each image."""
    chosen = held_out(None)
    names = [f"COCO_val2014_{number:012d}" for number in range(40_504)]
    found = [name for name in names if chosen(name)]
    assert abs(len(found) - 5_000) < 4 * 66  # four standard deviations
    assert found[0] == next(name for name in names if chosen(name))
    assert not any(chosen(f"COCO_train2014_{number:012d}") for number in range(1000))


@pytest.mark.parametrize(
    "content",
    [
        f"{VAL_42}\n{VAL_73}.jpg\n",
        json.dumps([{"img_id": VAL_42, "sentf": {}}, {"img_id": VAL_73}]),
        json.dumps({"info": {}, "images": [{"file_name": f"{n}.jpg"} for n in (VAL_42, VAL_73)]}),
    ],
)
def test_a_list_of_held_out_images_may_have_several_forms(tmp_path: Path, content: str) -> None:
    path = tmp_path / "minival"
    path.write_text(content)
    chosen = held_out(path)
    assert [chosen(name) for name in (VAL_42, VAL_73, TRAIN_9)] == [True, True, False]


def test_only_images_of_val2014_may_be_held_out(tmp_path: Path) -> None:
    path = tmp_path / "minival.txt"
    path.write_text(f"{VAL_42}\n{TRAIN_9}\n")
    with pytest.raises(ValueError, match=f"names {TRAIN_9}, expected images of val2014"):
        held_out(path)
    path.write_text("\n")
    with pytest.raises(ValueError, match="names no image"):
        held_out(path)


def test_the_same_file_in_two_places_is_refused(source: Path) -> None:
    (source / "more").mkdir()
    write_json(source / "more/captions_train2014.json", {})
    with pytest.raises(ValueError, match=r"several files are named captions_train2014.json"):
        make("coco-captions", source)
