"""The files of a dataset; an interrupted run resumes to the same files."""

import itertools
import json
import os
import resource
import signal
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from transformers import BertTokenizer

from lxmert.data.coco import read_coco
from lxmert.data.corpus import Corpus
from lxmert.data.readers import read_questions
from lxmert.lab.scenes import dataset
from lxmert.lab.scenes.captions import caption
from lxmert.lab.scenes.dataset import KINDS, SceneSettings, make_dataset, thing_of
from lxmert.lab.scenes.descriptions import Scene
from lxmert.lab.scenes.image import SPLITS, make_image
from lxmert.lab.scenes.questions import FEWEST_THINGS, QUESTION_TYPES, ask
from lxmert.lab.scenes.statements import make_group
from lxmert.lab.scenes.vocabulary import ATTRIBUTE_GROUPS, OBJECTS
from lxmert.lab.scenes.words import SPECIAL_TOKENS
from lxmert.study.matching import read_foils

from .scenes import judge, judge_pair, make_scenes, rows_of

ARGUMENTS = {"kinds": ("qa", "captions", "pairs", "foils"), "split": "valid", "count": 9, "seed": 3,
             "rounds": 1, "captions": 2, "groups": 5}  # fmt: skip
CONTENTS = SceneSettings(**ARGUMENTS)


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*.*") if path.is_file()}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scenes") / "valid"
    make_dataset(folder, CONTENTS)
    return folder


def test_our_own_readers_read_it(made: Path) -> None:
    split = read_coco(made / "objects.json", image_folder=made / "images")
    assert split.object_names == OBJECTS
    assert dict(split.attribute_groups) == ATTRIBUTE_GROUPS
    assert len(split.records) == 9
    questions, captions, pairs = (
        read_questions(made / "questions.jsonl"),
        list(Corpus.read((), captions=[made / "captions.jsonl"])),
        read_questions(made / "pairs.jsonl"),
    )
    assert len(captions) == 18
    assert len({example.example_id for example in questions}) == len(questions) >= 60
    assert len({example.example_id for example in pairs}) == len(pairs) == 20
    foils, warnings = read_foils(made / "foils.jsonl")
    assert len({foil.pair_id for foil in foils}) == len(foils) >= 20
    assert not warnings
    images = {name for example in questions + captions + pairs for name in example.image_ids}
    images |= {foil.image for foil in foils}
    assert all((made / "images" / name).is_file() for name in images)


def test_every_line_is_right_by_brute_force_over_the_files(made: Path) -> None:
    objects = json.loads((made / "objects.json").read_text())
    names = {image["id"]: image["file_name"] for image in objects["images"]}
    things = defaultdict(list)
    for annotation in objects["annotations"]:
        things[names[annotation["image_id"]]].append(thing_of(annotation))
    rows = {name: rows_of(seen) for name, seen in things.items()}
    for line in (made / "questions.jsonl").read_text().splitlines():
        row = json.loads(line)
        assert judge(row["program"], rows[row["image"]]) == row["answer"]
    for line in (made / "pairs.jsonl").read_text().splitlines():
        row = json.loads(line)
        left, right = (rows[name] for name in row["images"])
        assert judge_pair(row["program"], left, right) == (row["answer"] == "true")


def test_questions_about_one_object_say_where_it_is(made: Path) -> None:
    objects = json.loads((made / "objects.json").read_text())
    names = {image["id"]: image["file_name"] for image in objects["images"]}
    found = set()
    for line in (made / "questions.jsonl").read_text().splitlines():
        row = json.loads(line)
        assert ("boxes" in row) == (row["question_type"] in ("what", "color", "size", "material"))
        if "boxes" in row:
            ((x1, y1, x2, y2),) = row["boxes"]
            (annotation,) = [
                a
                for a in objects["annotations"]
                if names[a["image_id"]] == row["image"] and a["bbox"] == [x1, y1, x2 - x1, y2 - y1]
            ]
            value = {"what": OBJECTS[annotation["category_id"] - 1]}.get(row["question_type"])
            assert row["answer"] in ([value] if value else annotation["attributes"])
            found.add(row["question_type"])
    assert len(found) == 4


@pytest.mark.long
def test_the_word_list_knows_every_word_of_every_kind(made: Path) -> None:
    tokenizer = BertTokenizer(vocab=str(made / "vocab.txt"), do_lower_case=True)
    texts = [
        " ".join(row[key] for key in ("question", "caption", "foil") if key in row)
        for file in KINDS.values()
        for row in map(json.loads, (made / file).read_text().splitlines())
    ]
    generator = np.random.default_rng(5)
    scenes = make_scenes(120)
    texts += [q.text for scene in scenes for q in ask(scene, generator, rounds=6)]
    texts += [caption(scene.things, generator) for scene in scenes for _ in range(3)]
    things = [scene.things for scene in scenes]
    texts += [make_group(things, generator)[0].text for _ in range(300)]
    said = {token for text in texts for token in tokenizer.tokenize(text)}
    assert "[UNK]" not in said
    never = set(tokenizer.get_vocab()) - said - set(SPECIAL_TOKENS)
    assert len(never) < 8, never


def test_lines_of_a_group_share_the_statement_and_the_parts_of_its_name(made: Path) -> None:
    rows = [json.loads(line) for line in (made / "pairs.jsonl").read_text().splitlines()]
    for number, row in enumerate(rows):
        assert row["question_id"] == f"valid-{number // 4}-{number % 4}-0"
        assert row["question"] == rows[number // 4 * 4]["question"]
    assert sorted(row["answer"] for row in rows[:4]) == ["false", "false", "true", "true"]


def test_texts_of_one_kind_do_not_depend_on_the_others(made: Path, tmp_path: Path) -> None:
    make_dataset(tmp_path / "qa", SceneSettings(**(ARGUMENTS | {"kinds": ("qa",)})))
    assert set(content(tmp_path / "qa")) == set(content(made)) - {
        "captions.jsonl",
        "pairs.jsonl",
        "foils.jsonl",
    }
    alone = (tmp_path / "qa" / "questions.jsonl").read_bytes()
    assert alone == (made / "questions.jsonl").read_bytes()


def test_an_interrupted_run_ends_in_the_same_files(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "valid"

    def stop(done: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_dataset(folder, CONTENTS, progress=stop)
    assert not folder.exists()
    records = folder.with_name("valid.partial") / dataset._RECORDS
    records.write_text(records.read_text() + '{"image": "half a li')
    seen: list[int] = []
    make_dataset(folder, CONTENTS, progress=seen.append)
    assert seen[0] == 3
    assert content(folder) == content(made)


def test_a_run_that_is_made_shorter_keeps_no_image_of_the_longer_one(tmp_path: Path) -> None:
    """Bug: images of the interrupted run remained without boxes and texts."""

    def stop(done: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    kinds = {"kinds": ("captions",), "split": "test"}
    with pytest.raises(KeyboardInterrupt):
        make_dataset(tmp_path / "x", SceneSettings(**(ARGUMENTS | kinds)), progress=stop)
    counts = make_dataset(tmp_path / "x", SceneSettings(**(ARGUMENTS | kinds | {"count": 2})))
    assert counts == {"captions": 4}
    assert len(list((tmp_path / "x" / "images").iterdir())) == 2


def test_questions_that_no_image_allows_are_refused(tmp_path: Path) -> None:
    """Bug: an empty file was written, and the error only appeared in training."""
    few = {"kinds": ("qa",), "question_types": ("two-step",), "count": 1, "seed": 9, "most": 3}
    with pytest.raises(ValueError, match="of 1 with 3 to 3 objects gives a question of two-step"):
        make_dataset(tmp_path / "x", SceneSettings(**(ARGUMENTS | few)))
    assert not (tmp_path / "x").exists()


@pytest.mark.long
def test_question_types_need_as_many_things_as_is_said() -> None:
    """Bug: impossible requests were only reported after all images were made."""
    generator, fewest = np.random.default_rng(0), dict.fromkeys(QUESTION_TYPES, 9)
    for number, index in itertools.product((1, 2, 3), range(40)):
        image = make_image("train", index, seed=7, fewest=number, most=number)
        scene = Scene(tuple(item.as_thing() for item in image.objects), SPLITS["train"])
        for question_type in QUESTION_TYPES:
            if ask(scene, generator, rounds=9, question_types=(question_type,)):
                fewest[question_type] = min(fewest[question_type], len(scene.things))
    assert fewest == FEWEST_THINGS


def test_a_killed_process_is_reported_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bug: it was a traceback that ended in `BrokenProcessPool`."""
    monkeypatch.setattr(dataset, "_write_image", _die)
    with pytest.raises(OSError, match=r"x\.partial cannot be .*check whether memory.*same command"):
        make_dataset(tmp_path / "x", CONTENTS)


def _die(folder: Path, contents: SceneSettings, index: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_question_type_that_no_image_allows_is_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Bug: an empty question type was only noticed in training, unless all of them were empty."""
    some = {
        "kinds": ("qa",),
        "question_types": ("two-step", "what", "same"),
        "fewest": 1,
        "most": 2,
    }
    make_dataset(tmp_path / "x", SceneSettings(**(ARGUMENTS | some)))
    (reported,) = caplog.messages
    assert reported.startswith(
        "no image of 9 with 1 to 2 objects gives a question of two-step or sa"
    )


def test_two_processes_do_not_make_one_data_set(made: Path, tmp_path: Path) -> None:
    """Bug: the second process removed files of the first one."""
    few = SceneSettings(**(ARGUMENTS | {"count": 8}))
    refused = []

    def again(done: int) -> None:
        if done == 5:
            with pytest.raises(ValueError, match=r"valid\.partial is being written by another pro"):
                make_dataset(tmp_path / "valid", few)
            refused.append(done)

    make_dataset(tmp_path / "valid", CONTENTS, progress=again)
    assert refused == [5]
    assert content(tmp_path / "valid") == content(made)


def test_a_file_in_the_place_of_a_folder_is_not_called_a_full_disk(tmp_path: Path) -> None:
    """Bug: the message was `[Errno 20] Not a directory` or suggested a full disk."""
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"x\.partial cannot be completed .*Not a dir.*: fix this"):
        make_dataset(tmp_path / "file" / "x", CONTENTS)


@pytest.mark.long
@pytest.mark.parametrize(
    ("arguments", "most"),
    [
        (["qa", "--count", "3"], 10_000),  # no image fits into 10 kB
        (["pairs", "--count", "8", "--groups", "600"], 70_000),  # nor the statements into 70 kB
    ],
)
def test_a_full_disk_is_reported_with_what_to_do(
    tmp_path: Path, arguments: list[str], most: int
) -> None:
    """Bug: the message named neither the folder nor the command that resumes.

    Later it still said no more than that where the disk was full only when texts were written.
    """
    command = [sys.executable, "-m", "lxmert", "lab", "make", *arguments]
    done = subprocess.run(
        [*command, "-o", str(tmp_path / "x")],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (most, most)),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert f"{tmp_path}/x.partial cannot be completed" in done.stderr
    assert done.stderr.endswith("free disk space and rerun the same command to resume\n")
    assert (tmp_path / "x.partial/objects.json").exists() == ("pairs" in arguments)


def test_an_existing_folder_is_never_overwritten(made: Path) -> None:
    before = content(made)
    with pytest.raises(FileExistsError, match="already exists"):
        make_dataset(made, CONTENTS)
    assert content(made) == before


def test_a_link_to_nowhere_is_not_overwritten(tmp_path: Path) -> None:
    """Bug: the error only appeared after all images were made."""
    (tmp_path / "x").symlink_to("nowhere")
    with pytest.raises(FileExistsError, match="already exists"):
        make_dataset(tmp_path / "x", CONTENTS)


def test_resuming_with_other_arguments_is_refused(tmp_path: Path) -> None:
    work = tmp_path / "x.partial"
    work.mkdir()
    (work / dataset._RECORDS).write_text(json.dumps({"split": "valid", "seed": 4}) + "\n")
    with pytest.raises(ValueError, match=r"started with .*seed 4, not .*: remove it first"):
        make_dataset(tmp_path / "x", CONTENTS)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"kinds": ("vqa",)}, "unknown kind 'vqa': expected one of qa, captions, pairs"),
        ({"split": "dev"}, "unknown split 'dev': expected one of train, valid, test, comp"),
        (
            {"question_types": ("colour",)},
            "unknown question type 'colour': expected one of what, color",
        ),
        ({"count": 0}, "count is 0, expected at least 8 for pairs"),
        ({"kinds": ("qa",), "count": -1}, "count is -1, expected at least 1"),
        ({"seed": -1}, "seed is -1, expected at least 0"),
        ({"seed": 2**32}, "seed is 4294967296, expected at most 4294967295"),
        (
            {"question_types": ("two-step", "same", "two-step"), "fewest": 1, "most": 2},
            "no question of two-step or same can be asked of at most 2 objects: allow at least 3",
        ),
        ({"rounds": 0}, "rounds is 0, expected at least 1"),
        ({"captions": -1}, "captions is -1, expected at least 1"),
        ({"groups": 0}, "groups is 0, expected at least 1"),
        ({"most": 9}, "got 3 to 9 objects, expected two numbers from 1 to 8"),
        ({"fewest": 5, "most": 4}, "got 5 to 4 objects, expected two numbers from 1 to 8"),
    ],
)
def test_impossible_requests_are_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SceneSettings(**(ARGUMENTS | wrong))


def test_settings_of_what_is_not_made_are_not_looked_at() -> None:
    """Bug: without pairs, their number was rejected."""
    assert SceneSettings(**(ARGUMENTS | {"kinds": ("qa",), "groups": 0, "captions": 0})).groups == 0


def test_tables_hold_as_many_objects_as_asked_for(tmp_path: Path) -> None:
    contents = SceneSettings(kinds=("qa",), split="test", count=8, rounds=1, fewest=1, most=2)
    make_dataset(tmp_path / "few", contents)
    objects = json.loads((tmp_path / "few" / "objects.json").read_text())
    per_image = [annotation["image_id"] for annotation in objects["annotations"]]
    assert {per_image.count(number) for number in range(1, 9)} == {1, 2}
