"""Question and caption files, tidy and untidy."""

from pathlib import Path

import pytest

from lxmert.data.readers import read_captions, read_questions


def write(path: Path, *lines: str, encoding: str = "utf-8") -> Path:
    path.write_text("\n".join(lines) + "\n", encoding=encoding)
    return path


def test_all_forms_of_answers_are_read(tmp_path: Path) -> None:
    path = write(
        tmp_path / "q.jsonl",
        '{"image": "a.png", "question": "What?", "answer": "mug", "family": "what"}',
        "",
        '{"image": "b.png", "question": "Who?", "answers": ["he", "he", "she", "he"],'
        ' "question_id": 7}',
        '{"image": "b.png", "question": "Why?", "answers": {"so": 0.3, "because": 1}}',
        '{"image": "b.png", "question": "When?"}',
    )
    first, second, third, fourth = read_questions(path)
    assert (first.example_id, first.image_ids, first.family) == ("1", ("a.png",), "what")
    assert first.answers == {"mug": 1.0}
    assert (second.example_id, second.answers) == ("7", {"he": 0.75, "she": 0.25})
    assert third.answers == {"so": 0.3, "because": 1.0}
    assert fourth.answers == {}


def test_captions_are_examples_without_answers(tmp_path: Path) -> None:
    path = write(tmp_path / "c.jsonl", '{"image": "a.png", "caption": "A mug."}')
    (example,) = read_captions(path)
    assert (example.text, example.image_ids, example.answers) == ("A mug.", ("a.png",), {})


def test_a_byte_order_mark_does_no_harm(tmp_path: Path) -> None:
    path = write(tmp_path / "q.jsonl", '{"image": "a", "question": "é?"}', encoding="utf-8-sig")
    assert read_questions(path)[0].text == "é?"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("image,question,answer", "line 2 is not JSON"),
        ('["a.png", "What?"]', "line 2 is not a JSON object"),
        ('{"image": "a.png"}', "line 2: 'question' must be a text, got None"),
        ('{"image": "a.png", "question": "  "}', "line 2: 'question' must be a text"),
        ('{"image": 3, "question": "What?"}', "line 2: 'image' must be a text, got 3"),
        ('{"image": "a", "question": "What?", "answer": 3}', "line 2: 'answer' must be a text"),
        ('{"image": "a", "question": "?", "answers": {"b": null}}', "line 2: 'answers' must be"),
        ('{"image": "a", "question": "?", "answers": {"b": 3}}', "line 2: 'answers' must be"),
        ('{"image": "a", "question": "What?", "answers": [3]}', "line 2: 'answers' must be a list"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, line: str, message: str) -> None:
    path = write(tmp_path / "q.jsonl", '{"image": "a.png", "question": "What?"}', line)
    with pytest.raises(ValueError, match=message):
        read_questions(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no file .*c\.jsonl"):
        read_captions(tmp_path / "c.jsonl")
