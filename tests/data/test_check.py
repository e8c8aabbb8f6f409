"""The data set check: each kind of finding, with its file and line."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import ASSETS
from PIL import Image

from lxmert.data.answers import AnswerVocabulary
from lxmert.data.check import check_data
from lxmert.data.corpus import Corpus
from lxmert.data.image_folder import ImageFolder
from lxmert.data.report import KINDS, MAX_CASES, Finding, Report
from lxmert.data.tokenizer import build_tokenizer


def line(image: str = "a.png", question: str = "What?", **fields: object) -> str:
    return json.dumps({"image": image, "question": question, **fields})


GOOD = [line(answer="red"), line(question="Who?", answer="blue")]
"""Two lines without problems."""


def write(path: Path, *lines: str) -> Path:
    path.write_text("".join(f"{text}\n" for text in lines), encoding="utf-8")
    return path


def random_image(path: Path, seed: int = 0, size: tuple[int, int] = (6, 8)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(256, size=(*size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def find(report: Report, kind: str) -> Finding:
    """Return the only finding of a kind."""
    (finding,) = [finding for finding in report.findings if finding.kind == kind]
    return finding


def cases(report: Report, kind: str) -> list[tuple[str, int]]:
    return [(Path(case.file).name, case.line) for case in find(report, kind).cases]


def check_lines(folder: Path, *lines: str) -> Report:
    return check_data({"train": [write(folder / "t.jsonl", *GOOD, *lines)]})


@pytest.mark.parametrize(
    ("text", "kind", "reported"),
    [
        ("nonsense", "not_json", "not JSON"),
        (line(answer=10**400), "not_json", "an integer of 401 digits"),
        (line(boxes=[[1, 2, 3, 10**400]]), "not_json", "an integer of 401 digits"),
        ("[" * 100_000, "not_json", "nested too deep"),
        (line("x" * (1 << 24)), "not_json", "expected one question per line"),
        (line(""), "no_image", "'image' must be a string, got ''"),
        (line(question="", answer="x"), "no_question", "'question' must be"),
        (line(answer=""), "empty_answer", "'answer' is empty"),
        (line(answer=None), "wrong_answer", "got None"),
        (line(answer={"text": "x"}), "wrong_answer", "got 'x' for 'text'"),
        (line(question_id={}, answer="x"), "wrong_label", "'question_id'"),
        (line(question_type=True, answer="x"), "wrong_label", "got True"),
        (line(question="Is it?", question_type="majority", answer="red"), "reserved_type", "major"),
        (line(split="fold1"), "unknown_split", "'fold1'"),
        (line(boxes=[[1, 2, 0, 4]]), "wrong_boxes", "'boxes' must"),
        (line(question="How many?", answer=3), "number_answer", "read as '3'"),
        (line(question="Is it?", answer=True), "boolean_answer", "read as 'yes'"),
        (line(question="Is it?", answer="Red"), "answer_case", "'red' and 'Red'"),
        (line(question="Is it?", anwser="x"), "misspelled_key", "rename it if you mean 'answer'"),
        (line(question="Is it?", label="x"), "misspelled_key", "rename it if you mean 'answer'"),
        (line(question="Is it?", licence="x", answer="red"), "unknown_key", "'licence'"),
        (
            line(answers={"red": 0, "a": 0.0}),
            "zero_scores",
            "'answers' are 0: {'red': 0, 'a': 0.0}",
        ),
        (line(question="Is it?", answer="red "), "answer_spaces", "read as 'red'"),
        (line(question="Is it?"), "no_answer", "'Is it?' has no answer"),
        (line(question="is " * 19, answer="red"), "long_question", "21 tokens, the model reads 20"),
        (line(answer="green"), "conflict", "t.jsonl:1, with another answer"),
        (line(answer="red"), "repeated_question", "t.jsonl:1, with the same answer"),
    ],
)
def test_each_fault_of_a_line_is_reported_with_its_place(
    tmp_path: Path, text: str, kind: str, reported: str
) -> None:
    report = check_lines(tmp_path, "", text)
    finding = find(report, kind)
    assert (finding.count, cases(report, kind)) == (1, [("t.jsonl", 4)])
    assert reported in finding.cases[0].detail
    assert f"{tmp_path / 't.jsonl'}:4: " in str(finding.cases[0])
    assert finding.severity == KINDS[kind].severity != "stop"
    assert not report.stops()
    assert report.stops(strict=True)


def test_a_tidy_data_set_has_no_finding(tmp_path: Path) -> None:
    report = check_lines(tmp_path)
    assert report.findings == []
    assert not report.stops(strict=True)
    facts = report.splits["train"]
    assert (facts.lines, facts.questions, facts.images, facts.answers) == (2, 2, 1, 2)
    assert (facts.majority_share, facts.left_out) == (0.5, {})
    assert report.lines()[-1] == "findings: none"


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"", "empty_file"),
        (b"image,question,image\na,b,c\n", "csv"),
        (b'{"questions": [{"image": "a"}]}', "json_array"),
        (b'{"data": {"questions": [{"image": "a"}]}}', "json_array"),
        ("\n".join(GOOD).encode("utf-16"), "wrong_encoding"),
        (b"\x1f\x8b\x08\x00\x01\x02", "binary_file"),
    ],
)
def test_a_file_of_another_kind_stops(tmp_path: Path, content: bytes, kind: str) -> None:
    (tmp_path / "t.jsonl").write_bytes(content)
    report = check_data({"train": [tmp_path / "t.jsonl"]})
    assert cases(report, kind) == [("t.jsonl", 1)]
    assert find(report, "no_example").cases[0].detail == "train has no usable question"
    assert report.stops()
    assert report.findings[0].kind == kind


def test_missing_files_and_folders_stop(tmp_path: Path) -> None:
    files = {"train": [write(tmp_path / "t.jsonl", *GOOD)], "valid": [tmp_path / "v.jsonl"]}
    report = check_data(files, images=tmp_path / "nowhere")
    stops = [finding.kind for finding in report.findings if finding.severity == "stop"]
    assert stops == ["missing_file", "no_image_folder", "no_example"]


def test_encodings_and_line_ends_are_reported(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    text = "\r\n".join([*GOOD, line(question="Où?", answer="x")]) + "\r\n"
    path.write_bytes(b"\xef\xbb\xbf" + text.replace("\\u00f9", "ù").encode("latin-1"))
    report = check_data({"train": [path]})
    assert cases(report, "byte_order_mark") == [("t.jsonl", 1)]
    assert cases(report, "not_utf8") == [("t.jsonl", 3)]
    assert find(report, "windows_line_end").count == 3
    assert cases(report, "windows_line_end") == [("t.jsonl", 1)]
    assert report.splits["train"].left_out == {"not_utf8": 1}


def test_answers_of_several_types_are_one_answer(tmp_path: Path) -> None:
    report = check_lines(
        tmp_path, line(question="a", answer=1), line(question="b", answer="1"),
        line(question="c", answer="yes"), line(question="d", answer=True),
        line(question="e", answers=["7", 7]),
    )  # fmt: skip
    details = [case.detail for case in find(report, "mixed_types").cases]
    assert "'1' is given as a number and as a text" in details
    assert "'yes' is given as a text and as true or false" in details


def test_ids_are_reported_when_they_repeat_within_a_split(tmp_path: Path) -> None:
    lines = [line(question=f"{n}?", answer=f"{n % 2}", question_id=i) for n, i in
             enumerate([1, 2, "x", 4, "x", "2", "x"])]  # fmt: skip
    path, other = write(tmp_path / "t.jsonl", *lines), write(tmp_path / "v.jsonl", *lines[:1])
    report = check_data({"train": [path], "valid": [other]})
    places = [("t.jsonl", 5), ("t.jsonl", 6), ("t.jsonl", 7)]
    assert sorted(cases(report, "duplicate_id")) == places
    assert all(c.detail.endswith(("t.jsonl:3", "t.jsonl:2"))
               for c in find(report, "duplicate_id").cases)  # fmt: skip


def test_lines_without_id_have_none_to_repeat(tmp_path: Path) -> None:
    paths = [write(tmp_path / f"{n}.jsonl", line(f"{n}.png", answer=n)) for n in "ab"]
    assert check_data({"train": paths}).findings == []


def test_shared_images_and_unseen_answers_are_reported(tmp_path: Path) -> None:
    train = write(tmp_path / "t.jsonl", *GOOD)
    valid = write(
        tmp_path / "v.jsonl", line("b.png", answer="red"), line("b.png", "Why?", answer="green"),
        line("b.png", "When?", answer="green"), line(question="New?", answer="red"),
    )  # fmt: skip
    report = check_data({"train": [train], "valid": [valid]})
    assert find(report, "shared_image").cases[0].detail == "'a.png' is in train and valid"
    assert cases(report, "unseen_answer") == [("v.jsonl", 2)]
    finding = find(report, "unseen_answer")
    assert (finding.count, finding.share) == (2, 0.5)
    assert "(50.0%)" in str(finding)


def test_a_line_names_its_own_split(tmp_path: Path) -> None:
    lines = [line("b.png", answer="red", split="val"), line("c.png", answer="red", split="test")]
    report = check_lines(tmp_path, *lines)
    assert {name: facts.questions for name, facts in report.splits.items()} == {
        "train": 2, "valid": 1, "test": 1,
    }  # fmt: skip
    assert (find(report, "partly_split").count, cases(report, "partly_split")) == (
        2, [("t.jsonl", 1)],
    )  # fmt: skip


def test_a_misspelled_split_is_not_a_missing_one(tmp_path: Path) -> None:
    """The same lines were also reported as lines without 'split' that are used for train."""
    path = write(tmp_path / "t.jsonl", *GOOD, line(split="train"), line(split="valdation"), "{")
    report = check_data({"train": [path]})
    assert find(report, "unknown_split").count == 1
    assert find(report, "partly_split").count == len(GOOD)


def test_a_long_answer_does_not_fill_the_screen(tmp_path: Path) -> None:
    path = write(tmp_path / "t.jsonl", line(answer="x" * 9000), line("b.png", answer="red"))
    summary = check_data({"train": [path]}).summary()[0]
    assert "'xxx" in summary
    assert len(summary) < 200


def test_answers_that_a_model_cannot_give_are_reported_with_their_share(tmp_path: Path) -> None:
    path = write(tmp_path / "t.jsonl", *GOOD)
    report = check_data({"train": [path]}, answers=AnswerVocabulary(["blue", "green"]))
    finding = find(report, "outside_vocabulary")
    assert (finding.count, finding.share) == (1, 0.5)
    assert cases(report, "outside_vocabulary") == [("t.jsonl", 1)]


def test_texts_are_measured_by_a_tokenizer_if_there_is_one(tmp_path: Path) -> None:
    path = write(tmp_path / "t.jsonl", *GOOD, line(question="What is it, then?", answer="red"))
    tokenizer = build_tokenizer(["what is it , then ?"])
    report = check_data({"train": [path]}, tokenizer=tokenizer, longest=7)
    assert cases(report, "long_question") == [("t.jsonl", 3)]
    assert "has 8 tokens" in find(report, "long_question").cases[0].detail


def test_one_answer_only_stops(tmp_path: Path) -> None:
    path = write(tmp_path / "t.jsonl", GOOD[0], line("b.png", answer="red"))
    report = check_data({"train": [path]})
    assert "'red'" in find(report, "one_class").cases[0].detail
    path = write(tmp_path / "t.jsonl", line(), line("b.png"))
    assert [f.kind for f in check_data({"train": [path]}).findings] == ["no_answers", "no_answer"]


def test_answers_that_all_have_the_score_0_are_no_answers(tmp_path: Path) -> None:
    """The first of them was taught as the right answer, and nothing was reported."""
    path = write(tmp_path / "t.jsonl", line(answers={"red": 0}), line("b.png", answer={"blue": 0}))
    report = check_data({"train": [path]})
    assert [finding.kind for finding in report.findings] == ["no_answers", "zero_scores"]
    assert report.stops()
    assert report.splits["train"].answers == 0


def test_losing_more_than_half_stops(tmp_path: Path) -> None:
    assert not check_lines(tmp_path, "x", "y").stops()
    report = check_lines(tmp_path, "x", "y", "z")
    assert find(report, "mostly_left_out").cases[0].detail == "train loses 3 of 5 lines"


def test_only_the_first_cases_are_kept_but_all_are_counted(tmp_path: Path) -> None:
    lines = [line(question=f"Is it {n}?", answer="red", **{f"more{n}": 3}) for n in range(99)]
    report = check_lines(tmp_path, *lines)
    finding = find(report, "unknown_key")
    assert (finding.count, len(finding.cases)) == (99, MAX_CASES)
    assert "    ... and 96 more" in report.lines()


# Images


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Images in subfolders."""
    for seed, name in enumerate(["a.png", "sub/B.PNG", "sub/c.jpg", "x/d.png", "y/d.png"]):
        random_image(tmp_path / "images" / name, seed)
    return tmp_path / "images"


@pytest.mark.parametrize(
    ("name", "right", "how", "reported"),
    [
        ("a.png", "a.png", "exact", ""),
        ("sub/B.PNG", "sub/B.PNG", "exact", ""),
        ("A.png", "a.png", "renamed", "upper and lower case differ"),
        ("./a.png", "a.png", "renamed", "'a.png'"),
        ("sub\\c.jpg", "sub/c.jpg", "renamed", "'sub/c.jpg'"),
        ("C:\\photos\\c.jpg", "sub/c.jpg", "renamed", "must be relative"),
        ("/elsewhere/sub/b.png", "sub/B.PNG", "renamed", "must be relative"),
        ("c.jpg", "sub/c.jpg", "renamed", "the subfolder is missing"),
        ("images/a.png", "a.png", "renamed", "'a.png'"),
        ("a", "a.png", "renamed", "the suffix is missing"),
        ("y/D.png", "y/d.png", "renamed", "case"),
        ("d.png", None, "ambiguous", "may be 'x/d.png', 'y/d.png'"),
        ("e.png", None, "missing", "is not below"),
        ("https://example.org/a.png", None, "missing", "download it first"),
        ("", None, "missing", "is not below"),
    ],
)
def test_a_name_means_a_file_if_only_one_can_be_meant(
    folder: Path, name: str, right: str | None, how: str, reported: str
) -> None:
    match = ImageFolder(folder).match(name)
    assert (match.name, match.how) == (right, how)
    assert reported in match.detail


def test_an_absolute_path_into_the_folder_is_understood(folder: Path) -> None:
    assert ImageFolder(folder).match(str(folder / "y" / "d.png")).name == "y/d.png"


def test_images_are_reported_by_the_first_line_that_names_them(
    tmp_path: Path, folder: Path
) -> None:
    (folder / "text.png").write_text("no image")
    (folder / "empty.png").touch()
    lines = [
        line(name, f"{name} {turn}?", answer="red" if turn else "blue")
        for turn in range(2)
        for name in ("a.png", "A.png", "d.png", "gone.png", "text.png", "empty.png", "c.jpg")
    ]
    report = check_data({"train": [write(tmp_path / "t.jsonl", *lines)]}, images=folder)
    assert cases(report, "renamed_image") == [("t.jsonl", 2), ("t.jsonl", 7)]
    assert cases(report, "ambiguous_image") == [("t.jsonl", 3)]
    assert cases(report, "missing_image") == [("t.jsonl", 4)]
    assert sorted(cases(report, "broken_image")) == [("t.jsonl", 5), ("t.jsonl", 6)]
    assert [c.detail for c in find(report, "unused_image").cases] == [
        "sub/B.PNG", "x/d.png", "y/d.png",
    ]  # fmt: skip
    assert report.splits["train"].left_out == {
        "missing_image": 2, "ambiguous_image": 2, "broken_image": 4,
    }  # fmt: skip
    assert report.splits["train"].questions == 6
    corpus = Corpus.read([tmp_path / "t.jsonl"], resolve=report.resolve)
    assert (len(corpus), corpus.left_out.total()) == (6, 8)
    assert set(corpus.image_names) == {"a.png", "sub/c.jpg"}


def test_a_pair_is_left_out_once(tmp_path: Path, folder: Path) -> None:
    lines = [
        json.dumps({"images": images, "question": f"{images}?", "answer": answer})
        for images, answer in ((["no", "neither"], "yes"), (["a.png", "sub/c.jpg"], "yes"),
                               (["a.png", "no"], "no"), (["a.png", "a.png"], "no"))
    ]  # fmt: skip
    report = check_data({"train": [write(tmp_path / "t.jsonl", *lines)]}, images=folder)
    assert report.splits["train"].left_out == {"missing_image": 2}


def test_an_image_that_is_cut_short_is_found_by_decoding(tmp_path: Path, folder: Path) -> None:
    cut = random_image(folder / "cut.png", size=(60, 80))
    cut.write_bytes(cut.read_bytes()[:-3000])
    path = write(tmp_path / "t.jsonl", *GOOD, line("cut.png", answer="red"))
    seen: list[tuple[str, int, int]] = []

    def kinds(decode: bool) -> set[str]:
        report = check_data(
            {"train": [path]},
            images=folder,
            decode=decode,
            progress=lambda *step: seen.append(step),
        )
        return {finding.kind for finding in report.findings}

    assert kinds(decode=False) == {"unused_image"}
    assert kinds(decode=True) == {"unused_image", "broken_image"}
    assert seen == 2 * [("t.jsonl", 3, 0), ("images", 2, 2)]


def test_copies_and_other_names_of_an_image_are_seen_through(tmp_path: Path, folder: Path) -> None:
    shutil.copy(folder / "a.png", folder / "z.png")
    train = write(tmp_path / "t.jsonl", *GOOD, line("sub/c.jpg", answer="red"))
    valid = write(tmp_path / "v.jsonl", line("z.png", answer="red"), line("c.jpg", answer="red"))
    report = check_data({"train": [train], "valid": [valid]}, images=folder)
    assert find(report, "image_copy").cases[0].detail == (
        "'z.png' (valid) is a copy of 'a.png' (train)"
    )
    assert find(report, "shared_image").cases[0].detail == "'sub/c.jpg' is in train and valid"


def test_a_box_that_leaves_its_image_is_reported(tmp_path: Path, folder: Path) -> None:
    lines = [line(question=f"{n}?", answer=str(n), boxes=[[0, 1, *far]]) for n, far in
             enumerate([(8, 6), (2, 3), (80, 5), (7, 60)])]  # fmt: skip
    report = check_data({"train": [write(tmp_path / "t.jsonl", *lines)]}, images=folder)
    finding = find(report, "box_outside")
    assert cases(report, "box_outside") == [("t.jsonl", 4)]
    assert finding.cases[0].detail.endswith("x 80, y 60; the image has 8 x 6 pixels")


# The report


def test_the_report_as_json_has_the_keys_of_its_docstring(tmp_path: Path) -> None:
    report = check_lines(tmp_path, "x")
    record = json.loads(json.dumps(report.to_dict()))
    assert set(record) == {"findings", "splits", "image_names"}
    (finding,) = record["findings"]
    assert set(finding) == {"kind", "severity", "count", "share", "text", "cases"}
    assert set(finding["cases"][0]) == {"file", "line", "detail"}
    assert record["splits"]["train"]["left_out"] == {"not_json": 1}
    text = "\n".join(report.lines())
    assert "1 of 3 lines left out (1 not_json)" in text
    assert "findings: 1 warn" in text
    assert f"{tmp_path / 't.jsonl'}:3: it is not JSON" in text


def test_a_report_survives_being_written(tmp_path: Path, folder: Path) -> None:
    path = write(tmp_path / "t.jsonl", *GOOD, line("A.PNG", answer=1), line("z.png", answer="x"))
    report = check_data({"train": [path]}, images=folder)
    again = Report.from_dict(json.loads(json.dumps(report.to_dict())))
    assert again == report
    assert (again.resolve("A.PNG"), again.resolve("z.png")) == ("a.png", None)


def test_images_without_questions_do_not_disturb_the_strict(tmp_path: Path, folder: Path) -> None:
    report = check_data({"train": [write(tmp_path / "t.jsonl", *GOOD)]}, images=folder)
    assert [finding.kind for finding in report.findings] == ["unused_image"]
    assert not report.stops(strict=True)


def test_what_is_left_out_agrees_with_the_corpus(tmp_path: Path) -> None:
    generator = np.random.default_rng(3)
    bad = ["x", line(answer=None), line(""), line(split="q"), line(boxes=3), "[]"]
    lines = [bad[i] if i < len(bad) else line(question=f"{n}?", answer=f"{i}") for n, i in
             enumerate(generator.integers(2 * len(bad), size=400).tolist())]  # fmt: skip
    path = write(tmp_path / "t.jsonl", *lines)
    facts = check_data({"train": [path]}).splits["train"]
    corpus = Corpus.read([path])
    assert facts.left_out == corpus.left_out
    assert (facts.lines, facts.questions) == (400, len(corpus))


def test_a_published_data_set_passes(tmp_path: Path) -> None:
    files = {split: [ASSETS / f"easy_vqa_{split}.jsonl"] for split in ("train", "valid", "test")}
    names = {json.loads(text)["image"] for (file,) in files.values() for text in file.open()}
    for seed, name in enumerate(sorted(names)):
        random_image(tmp_path / name, seed, (64, 64))
    report = check_data(files, images=tmp_path)
    # The last line of the test answers "yellow", which nothing in training is.
    assert [(finding.kind, finding.count) for finding in report.findings] == [("unseen_answer", 1)]
    assert not report.stops()
    facts = report.splits["train"]
    assert (facts.questions, facts.images, facts.answers) == (38, 4, 7)
    assert [report.splits[name].questions for name in ("valid", "test")] == [12, 12]
