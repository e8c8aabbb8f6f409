"""Builders on files in the official schemas, against lines worked out by hand."""

import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

import downloads as world
import pytest
import study_sets
from downloads import TRAIN_9, TRAIN_25, VAL_42, VAL_73
from official_files import write_json

from lxmert.data.answer_lists import read_answers
from lxmert.data.corpus import Corpus
from lxmert.data.readers import read_questions
from lxmert.datasets.builders import BUILDERS
from lxmert.datasets.expected import PUBLISHED
from lxmert.datasets.making import Made, Options, make_data


@pytest.fixture(scope="module")
def downloads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return study_sets.write_all(world.write_all(tmp_path_factory.mktemp("downloads")))


def make(name: str, source: Path, target: Path, **options: Any) -> Made:
    minival = target / "minival.txt"
    target.mkdir(exist_ok=True)
    minival.write_text(f"{VAL_42}\n")
    return make_data(name, source, target, Options(minival=minival, **options))


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_vqa_has_soft_scores_for_the_answers_of_its_list(downloads: Path, tmp_path: Path) -> None:
    made = make("vqa", downloads, tmp_path)
    assert read_answers(made.folder / "answers.json").answers == ("mug", "yes")
    train, valid = lines(made.folder / "train.jsonl"), lines(made.folder / "valid.jsonl")
    assert (len(train), len(valid)) == (19, 9)
    assert train[0] == {
        "question_id": 9001, "image": TRAIN_9, "question": "Is it?", "answer": "yes",
        "question_type": "yes/no", "split": "train",
    }  # fmt: skip
    assert train[9] == {
        "question_id": 25001, "image": TRAIN_25, "question": "What?", "answers": {"mug": 0.9},
        "question_type": "other", "split": "train",
    }  # fmt: skip
    assert train[18]["image"] == VAL_73
    assert train[18]["answers"] == {"mug": 0.3}
    assert [row["question_id"] for row in valid] == list(range(42001, 42010))
    assert valid[0]["answers"] == {"mug": 1.0, "yes": 1.0}
    assert lines(made.folder / "test.jsonl") == [
        {"question_id": 8001, "image": "COCO_test2015_000000000008", "question": "Who?",
         "split": "test"}
    ]  # fmt: skip


def test_a_given_list_replaces_the_rule(downloads: Path, tmp_path: Path) -> None:
    answers = write_json(tmp_path / "list.json", ["cup", "two", "no"])
    made = make("vqa", downloads, tmp_path, answers=answers)
    assert read_answers(made.folder / "answers.json").answers == ("cup", "two", "no")
    train = lines(made.folder / "train.jsonl")
    assert train[0]["answers"] == {"no": 0.3}
    assert train[9] | {"question_id": 0} == train[17] | {"question_id": 0}
    assert train[9]["answer"] == "cup"  # five of ten: full score
    assert train[18]["answer"] == "two"


def test_gqa_keeps_its_images_and_lists_its_answers(downloads: Path, tmp_path: Path) -> None:
    made = make("gqa", downloads, tmp_path)
    assert lines(made.folder / "train.jsonl") == [
        {"question_id": "02930152", "image": "1", "question": "What color is the bag?",
         "answer": "yes", "question_type": "verify", "split": "train"}
    ]  # fmt: skip
    assert [row["image"] for row in lines(made.folder / "valid.jsonl")] == ["2", "3"]
    (row,) = lines(made.folder / "testdev.jsonl")
    assert (row["image"], row["answer"], row["split"]) == ("n161313", "bird", "valid")
    assert read_answers(made.folder / "answers.json").answers == ("bag", "red", "yes")
    made = make("gqa-submission", downloads, tmp_path)
    assert lines(made.folder / "test.jsonl") == [
        {"question_id": "20168", "image": "n161313", "question": "What?", "split": "test"}
    ]


def test_nlvr2_has_two_images_a_line(downloads: Path, tmp_path: Path) -> None:
    made = make("nlvr2", downloads, tmp_path)
    assert sorted(made.files) == ["test.jsonl", "train.jsonl", "valid.jsonl"]
    clone = tmp_path / "clones/nlvr/nlvr2"
    clone.mkdir(parents=True)
    (downloads / "nlvr2").rename(clone / "data")
    again = make("nlvr2", tmp_path / "clones", tmp_path / "again")
    (clone / "data").rename(downloads / "nlvr2")
    assert again.files == made.files
    assert lines(made.folder / "valid.jsonl") == [
        {"question_id": f"dev-10-{pair}-1",
         "images": [f"dev-10-{pair}-img0", f"dev-10-{pair}-img1"],
         "question": "Both of dev are red.", "answer": answer, "split": "valid"}
        for pair, answer in enumerate(("True", "False"))
    ]  # fmt: skip


def test_shared_images_are_joined_and_held_out_images_validate(
    downloads: Path, tmp_path: Path
) -> None:
    """Visual Genome's 1 is COCO's 9, its 2 is COCO's 42, which is held out; 3 and 4 are its own."""
    made = make("pretraining", downloads, tmp_path)
    found = {
        name.removesuffix(".jsonl"): [row["image"] for row in lines(made.folder / name)]
        for name in made.files
    }
    assert found == {
        "coco-captions-train": 2 * [TRAIN_9] + 2 * [TRAIN_25] + 2 * [VAL_73],
        "coco-captions-valid": 2 * [VAL_42],
        "vg-regions-train": [TRAIN_9, "3", "4"],
        "vg-regions-valid": [VAL_42],
        "vqa-train": 9 * [TRAIN_9] + 9 * [TRAIN_25] + [VAL_73],
        "vqa-valid": 9 * [VAL_42],
        "gqa-train": [TRAIN_9, "3"],
        "gqa-valid": [VAL_42],
        "vg-qa-train": [TRAIN_9, "3", "4"],
        "vg-qa-valid": [VAL_42],
    }
    reason = "COCO number in neither train2014 nor val2014: not joined"
    assert made.left_out[reason] == {"count": 1, "first": ["4"]}
    assert made.left_out["empty answer: the question is kept as a sentence"]["first"] == ["103"]
    assert lines(made.folder / "vg-regions-train.jsonl")[1] == {
        "question_id": "vg-37", "image": "3", "caption": "region of 3", "split": "train",
    }  # fmt: skip
    assert lines(made.folder / "coco-captions-valid.jsonl")[0] == {
        "question_id": "coco-420", "image": VAL_42, "caption": "Caption 0 of it.",
        "split": "valid",
    }  # fmt: skip
    assert "answer" not in lines(made.folder / "vg-qa-train.jsonl")[1]


def test_the_pretraining_table_has_the_most_frequent_normalized_answers(
    downloads: Path, tmp_path: Path
) -> None:
    """Training questions accept: mug 9 + 1 + "A mug." once, yes 9 + 1 of GQA, bag and gray once."""
    made = make("pretraining", downloads, tmp_path, num_answers=3)
    table = json.loads((made.folder / "answers.json").read_text())
    assert table == [
        {"ans": "bag", "dsets": ["gqa"]},
        {"ans": "mug", "dsets": ["vg-qa", "vqa"]},
        {"ans": "yes", "dsets": ["gqa", "vqa"]},
    ]
    joined = next(check for check in made.checks if check["what"] == "joined images")
    assert (joined["found"], joined["published"]) == (2, 51_208)
    # Of 23 questions with an answer, "Grey" has none of these.
    assert made.notes == [
        f"{100 * 22 / 23:.1f}% of the training questions accept one of the 3 answers of the "
        "vocabulary"
    ]
    given = write_json(tmp_path / "all_ans.json", [{"ans": "gray", "dsets": ["vqa"]}])
    made = make("pretraining", downloads, tmp_path, answers=given)
    assert read_answers(made.folder / "answers.json").answers == ("gray",)
    assert made.notes[0].startswith(f"{100 / 23:.1f}% of the training questions")
    assert lines(made.folder / "vqa-train.jsonl")[9]["answers"] == {"mug": 0.9}


def test_single_sources_are_joined_too(downloads: Path, tmp_path: Path) -> None:
    made = make("visual7w", downloads, tmp_path)
    assert lines(made.folder / "train.jsonl") == [
        {"question_id": "v7w-501", "image": TRAIN_9, "question": "Where is it?",
         "answer": "On the table.", "question_type": "where", "split": "train"}
    ]  # fmt: skip
    assert [row["image"] for row in lines(made.folder / "valid.jsonl")] == [VAL_42]
    assert made.left_out["question of the Visual7W test split"]["count"] == 1
    for name, count in (("coco-captions", 8), ("vg-regions", 4), ("vg-qa", 4)):
        made = make(name, downloads, tmp_path)
        assert sum(file["sentences"] for file in made.files.values()) == count


def test_a_release_that_names_the_image_once_is_read_too(tmp_path: Path) -> None:
    """The documentation of Visual Genome has `image_id` at the top and not in each region."""
    source = world.write_all(tmp_path / "downloads")
    region = {"region_id": 1353, "x": 117, "y": 79, "width": 249, "height": 107, "phrase": "a cat"}
    path = source / "visual-genome/region_descriptions.json"
    write_json(path, [{"image_id": 3, "regions": [region]}, {"id": 1, "regions": [region]}])
    made = make("vg-regions", source, tmp_path)
    assert [row["image"] for row in lines(made.folder / "train.jsonl")] == ["3", TRAIN_9]


def test_the_files_of_the_original_code_are_read(tmp_path: Path) -> None:
    world.write_original(tmp_path / "data")
    made = make("original-pretraining", tmp_path / "data", tmp_path)
    found = {name.removesuffix(".jsonl"): lines(made.folder / name) for name in made.files}
    assert {name: len(rows) for name, rows in found.items()} == {
        "mscoco-train": 2, "mscoco-valid": 1, "vg-train": 1, "vqa-train": 2, "gqa-train": 1,
        "visual7w-train": 1,
    }  # fmt: skip
    assert found["vqa-train"] == [
        {"question_id": f"{TRAIN_9}_vqa_000", "image": TRAIN_9, "question": "Is it?",
         "answers": {"yes": 0.9, "no": 0.3}, "split": "train"},
        {"question_id": f"{TRAIN_9}_vqa_001", "image": TRAIN_9, "question": "What?",
         "split": "train"},
    ]  # fmt: skip
    assert found["vg-train"][0]["caption"] == "red mug"
    assert (found["gqa-train"][0]["image"], found["gqa-train"][0]["answer"]) == ("3", "left")
    assert found["mscoco-valid"][0]["image"] == VAL_42


def test_the_task_files_of_the_original_code_are_read(tmp_path: Path) -> None:
    world.write_original(tmp_path / "data")
    made = make("original-vqa", tmp_path / "data", tmp_path)
    assert [row["question_id"] for row in lines(made.folder / "train.jsonl")] == [9001, 73001]
    assert lines(made.folder / "train.jsonl")[0]["answers"] == {"mug": 1, "cup": 0.3}
    assert lines(made.folder / "valid.jsonl")[0]["answers"] == {"2": 0.6}
    assert "answers" not in lines(made.folder / "test.jsonl")[0]
    assert read_answers(made.folder / "answers.json").answers == ("2", "cup", "mug")
    made = make("original-gqa", tmp_path / "data", tmp_path)
    assert read_answers(made.folder / "answers.json").answers == ("bag", "yes")
    assert lines(made.folder / "testdev.jsonl")[0]["answer"] == "bird"
    made = make("original-nlvr2", tmp_path / "data", tmp_path)
    assert lines(made.folder / "valid.jsonl") == [
        {"question_id": "dev-10-0-1", "images": ["dev-10-0-img0", "dev-10-0-img1"],
         "question": "Both.", "answer": "False", "split": "valid"}
    ]  # fmt: skip


@pytest.mark.parametrize("name", BUILDERS)
def test_every_file_is_read_by_the_tasks_readers(
    name: str, downloads: Path, tmp_path: Path
) -> None:
    source = downloads
    if name.startswith("original"):
        world.write_original(source := tmp_path / "data")
    made = make(name, source, tmp_path)
    captions = ("coco", "vg-regions", "mscoco", "vg-train", "vg-valid")
    for file, described in made.files.items():
        path, text = made.folder / file, (made.folder / file).read_bytes()
        key = "captions" if f"{name}-{file}".startswith("coco-c") else "questions"
        key = "captions" if name == "vg-regions" or file.startswith(captions) else key
        corpus = Corpus.read(**{"questions": (), key: [path]}, strict=True)  # type: ignore[arg-type]
        assert len(corpus) == described["sentences"]
        assert len(set(corpus.image_names)) == described["images"]
        assert described["bytes"] == len(text)
        assert described["sha256"] == hashlib.sha256(text).hexdigest()
        assert list(corpus.split_rows()) == [
            "valid" if "testdev" in file else Path(file).stem.rpartition("-")[2]
        ]


def test_the_manifest_says_all_that_was_made(downloads: Path, tmp_path: Path) -> None:
    made = make("gqa", downloads, tmp_path)
    manifest = json.loads((made.folder / "manifest.json").read_text())
    assert set(manifest) == {
        "data_set", "inputs", "options", "outputs", "checks", "left_out", "notes",
    }  # fmt: skip
    inputs = manifest["inputs"]
    assert sorted(inputs) == [
        f"gqa/{split}_balanced_questions.json" for split in ("testdev", "train", "val")
    ]
    for name, described in inputs.items():
        assert described["sha256"] == hashlib.sha256((downloads / name).read_bytes()).hexdigest()
    assert manifest["outputs"] == made.files
    assert manifest["checks"][0] == {
        "what": "sentences in train", "found": 1, "published": 943_000, "source": "GQA, balanced",
        "agrees": False,
    }  # fmt: skip


def test_published_numbers_name_files_that_are_made(downloads: Path, tmp_path: Path) -> None:
    assert set(PUBLISHED) == set(BUILDERS)
    world.write_original(original := tmp_path / "data")
    for name, numbers in PUBLISHED.items():
        source = original if name.startswith("original") else downloads
        made = make(name, source, tmp_path)
        files = {file.removesuffix(".jsonl") for file in made.files}
        for published in numbers:
            assert files & set(published.files) or not published.files, (name, published)


def test_counts_of_both_ways_to_vqa_agree() -> None:
    """The original's parts sum to the official number of questions."""
    totals: Counter[str] = Counter()
    for name in ("vqa", "original-vqa"):
        for published in PUBLISHED[name]:
            if published.unit == "sentences" and "test" not in published.files:
                totals[name] += published.number
    assert totals["vqa"] == totals["original-vqa"] == 658_111


def test_questions_and_captions_of_a_real_reader(downloads: Path, tmp_path: Path) -> None:
    made = make("vqa", downloads, tmp_path)
    example = read_questions(made.folder / "valid.jsonl")[0]
    assert (example.example_id, example.image_ids) == ("42001", (VAL_42,))
    assert (dict(example.answers), example.question_type) == ({"mug": 1.0, "yes": 1.0}, "other")
