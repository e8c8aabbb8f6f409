"""Question and caption files, valid and invalid."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lxmert.data.lines import scan_lines
from lxmert.data.readers import read_located_questions, read_questions
from lxmert.data.records import read_rows, require
from lxmert.data.tables import MAX_LINE_BYTES


def write(path: Path, *lines: str, encoding: str = "utf-8") -> Path:
    path.write_text("\n".join(lines) + "\n", encoding=encoding)
    return path


def question(**fields: object) -> str:
    return json.dumps({"image": "a.png", "question": "What?", **fields})


def test_questions_come_with_the_boxes_of_what_they_ask_about(tmp_path: Path) -> None:
    path = write(
        tmp_path / "q.jsonl",
        question(boxes=[[1, 2, 3.25, 4], [0, 0, 9, 9]]),
        question(),
        question(answer="mug"),
    )
    first, second, third = read_located_questions(path)
    assert first.boxes.tolist() == [[1, 2, 3.25, 4], [0, 0, 9, 9]]
    assert second.boxes.shape == third.boxes.shape == (0, 4)
    assert third.example.answers == {"mug": 1.0}
    write(path, question(boxes=[[3, 2, 1, 4]]))
    with pytest.raises(ValueError, match="line 1: 'boxes' must be a list of"):
        read_located_questions(path)


def test_all_forms_of_answers_are_read(tmp_path: Path) -> None:
    path = write(
        tmp_path / "q.jsonl",
        '{"image": "a.png", "question": "What?", "answer": "mug", "question_type": "what"}',
        "",
        '{"image": "b.png", "question": "Who?", "answers": ["he", "he", "she", "he"],'
        ' "question_id": 7}',
        '{"image": "b.png", "question": "Why?", "answers": {"so": 0.3, "because": 1}}',
        '{"image": "b.png", "question": "When?"}',
        '{"image": "b.png", "question": "Where?", "answers": [{"answer": "here", '
        '"answer_confidence": "maybe"}, {"answer": "there"}, {"answer": "here"}, "here"]}',
        '{"image": "b.png", "question": "How?", "answers": []}',
    )
    first, second, third, fourth, fifth, sixth = read_questions(path)
    assert (first.example_id, first.image_ids, first.question_type) == ("1", ("a.png",), "what")
    assert first.answers == {"mug": 1.0}
    assert (second.example_id, second.answers) == ("7", {"he": 0.75, "she": 0.25})
    assert third.answers == {"so": 0.3, "because": 1.0}
    assert fourth.answers == sixth.answers == {}
    assert fifth.answers == {"here": 0.75, "there": 0.25}


@pytest.mark.parametrize(
    ("value", "text", "kind"),
    [
        (3, "3", "number_answer"),
        (3.0, "3", "number_answer"),
        (-3.25, "-3.25", "number_answer"),
        (True, "yes", "boolean_answer"),
        (False, "no", "boolean_answer"),
        (" red ", "red", "answer_spaces"),
    ],
)
def test_harmless_answers_become_texts_and_are_reported(
    tmp_path: Path, value: object, text: str, kind: str
) -> None:
    path = write(tmp_path / "q.jsonl", question(answer=value), question(answers=[value, "x"]))
    first, second = read_rows(path)
    assert first.example is not None
    assert second.example is not None
    assert first.example.answers == {text: 1.0}
    assert second.example.answers == {text: 0.5, "x": 0.5}
    assert [problem.kind for problem in first.problems] == [kind]


def test_an_annotator_who_did_not_answer_is_not_counted(tmp_path: Path) -> None:
    path = write(tmp_path / "q.jsonl", question(answers=["a", "", "a", "b", "  "]))
    assert read_questions(path)[0].answers == {"a": 2 / 3, "b": 1 / 3}


@pytest.mark.parametrize(
    ("given", "split"),
    [("train", "train"), ("Training", "train"), (" val ", "valid"), ("validation", "valid"),
     ("dev", "valid"), ("TEST", "test"), (None, ""), ("", "")],
)  # fmt: skip
def test_splits_have_several_spellings(tmp_path: Path, given: str | None, split: str) -> None:
    (row,) = read_rows(write(tmp_path / "q.jsonl", question(split=given)))
    assert (row.split, row.problems) == (split, [])


def test_a_pair_has_two_images_and_two_lists_of_boxes(tmp_path: Path) -> None:
    boxes = [[[2, 3, 5, 7]], [[1, 2, 3, 4], [0, 0, 9.5, 8]]]
    line = {"images": ["l.png", "r.png"], "question": "Same?", "boxes": boxes}
    (row,) = read_rows(write(tmp_path / "q.jsonl", json.dumps(line)))
    assert row.example is not None
    assert row.example.image_ids == ("l.png", "r.png")
    assert [found.tolist() for found in row.boxes] == boxes
    (row,) = read_rows(write(tmp_path / "q.jsonl", question(boxes=boxes[1])))
    assert [found.tolist() for found in row.boxes] == [boxes[1]]


def test_captions_are_examples_without_answers(tmp_path: Path) -> None:
    path = write(tmp_path / "c.jsonl", '{"image": "a.png", "caption": "A mug."}')
    (row,) = read_rows(path, text_key="caption")
    example = require(row, path)
    assert (example.text, example.image_ids, example.answers) == ("A mug.", ("a.png",), {})
    assert example.example_id == "c-1"


def test_a_byte_order_mark_does_no_harm(tmp_path: Path) -> None:
    path = write(tmp_path / "q.jsonl", '{"image": "a", "question": "é?"}', encoding="utf-8-sig")
    assert read_questions(path)[0].text == "é?"


def test_windows_line_ends_do_no_harm_and_line_numbers_are_real(tmp_path: Path) -> None:
    path = tmp_path / "q.jsonl"
    line = '{"image": "a", "question": "\u2028 x\x0b\x85?"}'.replace("\x0b", "\\u000b")
    path.write_bytes("\r\n".join([line, "", "  ", line, ""]).encode())
    assert [row.line for row in read_rows(path)] == [1, 4]
    assert read_questions(path)[1].text == "\u2028 x\x0b\x85?"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("image,question,answer", "line 2: it is not JSON"),
        ('["a.png", "What?"]', "line 2: it is not a JSON object"),
        ("[" * 100_000, "line 2: it is not usable JSON: it is nested too deep"),
        ('{"image": "a.png"}', "line 2: 'question' must be a string, it is missing"),
        ('{"image": "a.png", "question": "  "}', "line 2: 'question' must be a string"),
        (r'{"image": "a", "question": "\ud83d"}', "line 2: 'question' must be a string"),
        ('{"image": 3, "question": "What?"}', "line 2: 'image' must be a string, got 3"),
        ('{"images": [], "question": "What?"}', "line 2: 'images' must be a list of one or two"),
        ('{"images": ["a", 2], "question": "What?"}', "line 2: 'images' must be"),
        ('{"images": ["a"], "image": "b", "question": "?"}', "'image' and 'images' name different"),
        (question(answer=None), "line 2: 'answer' must be a string, got None"),
        (question(answer=[["a"]]), "line 2: an entry of 'answer' must be a string"),
        (question(answer=" "), "line 2: 'answer' is empty"),
        (question(answer=float("nan")), "line 2: it is not usable JSON: it has the number NaN"),
        (
            question(answer=10**400),
            "line 2: it is not usable JSON: it has an integer of 401 digits",
        ),
        (question(boxes=[[1, 2, 3, 10**400]]), "line 2: .* it has an integer of 401 digits"),
        (question(boxes=[[1, 2, 3, 4]]).replace("4]", "1e999]"), "line 2: .* has the number 1e999"),
        (question(question_id=-(10**400)), "line 2: .* has an integer of 40"),
        (question(answers={"b": 10**30}), "line 2: .* has an integer of 31 digits"),
        (question(boxes=[[1, 2, 3, 1e300]]), "line 2: 'boxes' must be a list of"),
        (question(answers={"b": None}), "line 2: 'answers' must have scores in .* for 'b'"),
        (question(answers={"b": 3}), "line 2: 'answers' must have"),
        (question(answers={"b": True}), "line 2: 'answers' must have"),
        (question(answers=[None]), "line 2: an entry of 'answers' must be a string, got None"),
        (question(answers="yes"), "line 2: 'answers' must be a list"),
        (question(answers=["", ""]), "line 2: all entries of 'answers' are empty"),
        (question(split="fold 3"), "line 2: 'split' is 'fold 3'; expected train, val or test"),
        (question(boxes=[[1, 2, 3]]), "line 2: 'boxes' must be a list of"),
        (question(boxes=[[5, 2, 3, 9]]), "line 2: 'boxes' must be a list of"),
        (question(boxes=[]), "line 2: 'boxes' must be a list of"),
        (question(boxes=[["a", 2, 3, 4], 7]), "line 2: 'boxes' must be a list of"),
        (question(question_id=[3]), "line 2: 'question_id' must be a string or a number"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, line: str, message: str) -> None:
    path = write(tmp_path / "q.jsonl", '{"image": "a.png", "question": "What?"}', line)
    with pytest.raises(ValueError, match=message):
        read_questions(path)


@pytest.mark.parametrize(
    ("content", "kind", "remedy"),
    [
        (b"", "empty_file", "one JSON object per line"),
        (b"image,question,image\na.png,What?,b.png\n", "csv", "'image' is there twice"),
        (b"[{]", "json_array", "nothing behind it is read"),
        (b'{\n "image": "a"\n}', "json_array", "one object per line"),
        (b'{"info": 3, "questions": [{"image": "a"}]}', "json_array", "one object per line"),
        ('{"image": "a"}'.encode("utf-16"), "wrong_encoding", "iconv -f UTF-16 -t UTF-8"),
        ('{"image": "a"}'.encode("utf-16-le"), "wrong_encoding", "iconv -f UTF-16LE"),
        ('{"image": "a"}'.encode("utf-32"), "wrong_encoding", "iconv -f UTF-32 -t"),
        (b"\x1f\x8b\x08\x00\x01\x02", "binary_file", "unpack it first"),
    ],
)
def test_a_file_of_another_kind_is_recognized(
    tmp_path: Path, content: bytes, kind: str, remedy: str
) -> None:
    path = tmp_path / "q.jsonl"
    path.write_bytes(content)
    (line,) = scan_lines(path)
    assert (line.number, line.record, line.problems[0].kind) == (1, None, kind)
    with pytest.raises(ValueError, match=remedy):
        read_questions(path)


LINES = (
    {"image": "a.png", "question": "What, \u00e9?", "answer": "mug", "question_id": "7"},
    {"image": "b.png", "question": 'a "red" one?\nor two?', "answer": "[no]", "split": "val"},
    {"image": "c.png", "question": "Which?", "answers": {"mug": 0.3, "cup": 1}},
    {"image": "d.png", "question": "Which?", "answers": ["mug", "cup"], "boxes": [[1, 2, 3, 4]]},
)


def as_jsonl(lines: Sequence[Mapping[str, object]]) -> str:
    return "".join(json.dumps(line) + "\n" for line in lines)


def as_table(lines: Sequence[Mapping[str, object]], mark: str, end: str = "\n") -> str:
    """Write a table with Python's own module; lists and mappings as JSON."""
    names = list(dict.fromkeys(name for line in lines for name in line))
    file = io.StringIO()
    writer = csv.DictWriter(file, names, delimiter=mark, lineterminator=end)
    writer.writeheader()
    for line in lines:
        cells = {n: v if isinstance(v, str) else json.dumps(v) for n, v in line.items()}
        writer.writerow(cells)
    return file.getvalue()


@pytest.mark.parametrize("mark", [",", ";", "\t", "|"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("start", ["", "\ufeff"])
def test_a_table_is_read_as_lines_are(tmp_path: Path, mark: str, end: str, start: str) -> None:
    (tmp_path / "q.jsonl").write_text(as_jsonl(LINES))
    (tmp_path / "q.csv").write_bytes((start + as_table(LINES, mark, end)).encode())
    expected = [(row.example, row.split) for row in read_rows(tmp_path / "q.jsonl")]
    rows = list(read_rows(tmp_path / "q.csv"))
    ids = ["7", "2", "3", "4"]  # without a question_id the number of the line
    assert [example.example_id for example, _ in expected if example] == ids
    assert [row.line for row in rows] == [2, 3, 5, 6]  # the second row has two lines
    for (example, split), row in zip(expected, rows, strict=True):
        assert row.problems == []
        assert row.example is not None
        assert (row.split, len(row.boxes)) == (split, int(row.line == 6))
        assert replace(row.example, example_id="") == replace(example, example_id="")


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("count", [1, 900])
def test_an_array_is_read_as_lines_are(tmp_path: Path, indent: int | None, count: int) -> None:
    """900 entries are more than is read at once."""
    lines = [LINES[number % 4] | {"question_type": "x" * (number % 90)} for number in range(count)]
    (tmp_path / "q.jsonl").write_text(as_jsonl(lines))
    (tmp_path / "q.json").write_text(json.dumps(lines, indent=indent, ensure_ascii=False) + "\n")
    assert read_questions(tmp_path / "q.json") == read_questions(tmp_path / "q.jsonl")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"image,question\na.png,Who, me?\n", "line 2: the row has 3 cells, expected 2: quote"),
        (b"image,question,boxes\na,Who?,[1\n", "line 2: the cell of 'boxes' is not JSON"),
        (b"image,question\na,caf\xe9\n", "line 2: it is not UTF-8; if the file is in Latin-1"),
        (b"image,question\n,Who?\n", "line 2: 'image' must be a string, it is missing"),
        (b'[{"image": "a", "question": "caf\xe9"}]', "line 1: it is not UTF-8; if the file"),
        (b'[{"image": "a", "question": "b"}, 7]', "line 2: it is not a JSON object: 7"),
        (b'[{"image": "a", "question": "b"}, {"image', "line 2: it is not JSON: Unterminated"),
        (b'[{"image": "a", "question": "b"},', "line 2: the array has no end after entry 1"),
        (b'[{"image": "a", "question": "b"}, NaN]', r"line 2: it is not usable JSON .*NaN"),
        (b'image,question\na,"b\nc,d\n', r"line 2: the row of 2 lines cannot be read \(unexpected"),
        (b'image,question\na,"b\nc,"d"\n', r"line 2: the row of 2 lines cannot be read"),
        (b'image,question\na,"b', "line 2: the row of 1 line cannot be read"),
        (b'"image,question\na,b\n', r"line 1: the first row cannot be read"),
        (b'"image,question\n' + b"a,b\n" * 40000, r"line 1: the first row cannot be read \(field"),
        (b'[{"image": "a", "question": "b"}]\n[{}]', "line 2: the array ends after entry 1, but"),
        (b"[]" + b" " * 40000 + b"{}", "line 1: the array ends after entry 0, but the file"),
    ],
)
def test_a_wrong_row_or_entry_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "q.csv").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_questions(tmp_path / "q.csv")


def test_gaps_and_odd_quotation_marks_do_no_harm(tmp_path: Path) -> None:
    """Bug: below a blank line no row was read, and a long gap in an array counted as its end."""
    (tmp_path / "q.csv").write_text('\n\nimage,question\na,5" pipes?\nb,"so" he said?\n')
    assert [each.text for each in read_questions(tmp_path / "q.csv")] == [
        '5" pipes?',
        "so he said?",
    ]
    entry, gap = '{"image": "a", "question": "b"}', " " * 40000
    (tmp_path / "q.json").write_text(f"[{gap}{entry},{gap}{entry}{gap}]{gap}")
    assert len(read_questions(tmp_path / "q.json")) == 2


def test_an_entry_without_end_is_refused(tmp_path: Path) -> None:
    (tmp_path / "q.json").write_text('[{"image": "' + "a" * 3 * MAX_LINE_BYTES)
    (line,) = scan_lines(tmp_path / "q.json")
    assert (line.record, line.problems[0].kind) == (None, "json_array")


@pytest.mark.parametrize("answers", [["mug", "cup", "mug", "mug"], {"mug": 0.5}, [{"answer": "a"}]])
def test_answer_may_be_what_answers_may_be(tmp_path: Path, answers: object) -> None:
    path = write(tmp_path / "q.jsonl", question(answer=answers), question(answers=answers))
    one, other = read_questions(path)
    assert one.answers == other.answers != {}


def test_a_line_without_end_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "q.jsonl"
    """Bug: a line of 16 MB took 99 s and 4.9 GB; lines after a longer one were not read."""
    long = question(question="a " * MAX_LINE_BYTES).encode()
    fits = question(question="a " * (MAX_LINE_BYTES // 2 - 100)).encode()
    path.write_bytes(b"\n".join([question().encode(), long, fits, b"x" * 3 * MAX_LINE_BYTES]))
    good, bad, longest, end = scan_lines(path)
    assert good.record is not None
    assert longest.record is not None
    for line, number in ((bad, 2), (end, 4)):
        assert (line.number, line.record, line.problems[0].kind) == (number, None, "not_json")
        assert "the line has 262144 bytes or more" in line.problems[0].detail


def test_latin_1_is_refused_with_the_column(tmp_path: Path) -> None:
    line = '{"image": "a", "question": "é?"}'
    path = write(tmp_path / "q.jsonl", question(), line, encoding="latin-1")
    with pytest.raises(ValueError, match=r"line 2: byte 0xe9 at column 29 is not UTF-8.*iconv"):
        read_questions(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no file .*c\.jsonl"):
        read_questions(tmp_path / "c.jsonl")


@pytest.mark.parametrize("seed", range(5))
def test_no_line_stops_the_reader_or_is_lost(tmp_path: Path, seed: int) -> None:
    """Any bytes of a line give a row: with an example, or with a reason."""
    generator = np.random.default_rng(seed)
    good = question(answer="é").encode()
    lines = []
    for _ in range(300):
        line = bytearray(good)
        for place in generator.integers(len(line), size=generator.integers(4)):
            line[place] = generator.integers(256)
        lines.append(bytes(line).replace(b"\n", b"?").replace(b"\0", b"?"))
    path = tmp_path / "q.jsonl"
    path.write_bytes(good + b"\n" + b"\n".join(lines))
    rows = list(read_rows(path))
    assert [row.line for row in rows] == list(range(1, 302))
    for row in rows:
        assert (row.example is None) == any(problem.refused for problem in row.problems)
