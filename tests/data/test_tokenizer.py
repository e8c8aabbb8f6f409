"""A tokenizer built from given texts."""

from pathlib import Path

import pytest
from transformers import BertTokenizer

from lxmert.data.encoding import cut, encode
from lxmert.data.tokenizer import (
    SPECIAL_TOKENS,
    LxmertTokenizer,
    build_tokenizer,
    check_words,
    load_tokenizer,
)

TEXTS = ["What color is the mug?", "Is the MUG red?", "a rare word"]


@pytest.fixture
def tokenizer() -> BertTokenizer:
    return build_tokenizer(TEXTS)


def test_words_of_the_texts_are_known_whole_and_in_lower_case(tokenizer: BertTokenizer) -> None:
    assert tokenizer.tokenize("The Mug is red?") == ["the", "mug", "is", "red", "?"]
    ids = tokenizer("mug")["input_ids"]
    assert tokenizer.convert_ids_to_tokens(ids) == ["[CLS]", "mug", "[SEP]"]
    assert [tokenizer.convert_ids_to_tokens(i) for i in range(5)] == list(SPECIAL_TOKENS)


def test_unknown_words_are_named_as_they_were_typed(tokenizer: BertTokenizer) -> None:
    assert encode(tokenizer, "What is the Zebra's mug?", longest=20).unknown == ["Zebra", "'", "s"]
    assert encode(tokenizer, "Is the mug red?", longest=20).unknown == []


@pytest.mark.parametrize("text", ["Où est le café?", "猫はどこ", "a_b c", "naïve façade"])
def test_every_word_of_its_own_texts_is_known_in_any_language(text: str) -> None:
    """Bug: the vocabulary kept accents that the tokenizer strips, so that "café" was unknown."""
    tokenizer = build_tokenizer([text])
    assert encode(tokenizer, text, longest=40).unknown == []


def test_what_does_not_fit_is_distinguished_in_the_words_of_the_user(
    tokenizer: BertTokenizer,
) -> None:
    """Bug: unknown words were missing from the count of truncated words."""
    encoded = encode(tokenizer, "Is the Mug red? Zebra zebra", longest=5)
    assert tokenizer.convert_ids_to_tokens(encoded.token_ids.tolist()) == [
        "[CLS]", "is", "the", "mug", "[SEP]"
    ]  # fmt: skip
    assert (encoded.kept, encoded.lost) == ("Is the Mug", " red? Zebra zebra")
    assert cut([7, 8, 9], 3).tolist() == [7, 8, 9]
    assert cut([7, 8, 5, 6, 9], 3).tolist() == [7, 8, 9]


def test_saved_and_loaded_it_reads_the_same(tokenizer: BertTokenizer, tmp_path: Path) -> None:
    tokenizer.save_pretrained(tmp_path)
    again = LxmertTokenizer.from_pretrained(tmp_path)
    for text in (*TEXTS, "Zebra mug?"):
        assert again(text)["input_ids"] == tokenizer(text)["input_ids"]


@pytest.mark.parametrize("name", ["tokenizer.json", "vocab.txt"])
def test_either_file_is_a_tokenizer(name: str, tokenizer: BertTokenizer, tmp_path: Path) -> None:
    tokenizer.save_pretrained(tmp_path)
    if name == "vocab.txt":
        (tmp_path / name).write_text(
            "\n".join(sorted(tokenizer.get_vocab(), key=tokenizer.get_vocab().get))
        )
        (tmp_path / "tokenizer.json").unlink()
        assert load_tokenizer(tmp_path / name).get_vocab() == tokenizer.get_vocab()
    assert load_tokenizer(tmp_path).get_vocab() == tokenizer.get_vocab()


@pytest.mark.parametrize("beside", ["nothing", "config.json", "tokenizer_config.json"])
def test_a_folder_without_tokenizer_is_refused(beside: str, tmp_path: Path) -> None:
    """Bug: the library builds an empty tokenizer, which makes all questions equal."""
    (tmp_path / beside).write_text('{"model_type": "lxmert"}')
    message = rf"{tmp_path.name} has neither tokenizer\.json nor vocab\.txt.*copy it from"
    with pytest.raises(FileNotFoundError, match=message):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("tokenizer.json", "{", "is not valid JSON"),
        ("tokenizer.json", "[" * 100_000, "nested too deep"),
        ("tokenizer.json", "{}", "is damaged"),
        ("tokenizer.json", "[]", "must hold a JSON object"),
        ("vocab.txt", "", "without any word"),
        ("vocab.txt", "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n", "without any word"),
    ],
)
def test_a_tokenizer_that_reads_nothing_is_refused(
    name: str, text: str, message: str, tmp_path: Path
) -> None:
    """Bug: an empty vocabulary tokenized every question as unknown words."""
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=rf"{name}.*{message}.*copy it from where the model"):
        load_tokenizer(tmp_path)


def test_rows_may_be_padded_to_a_multiple(tokenizer: BertTokenizer) -> None:
    """Bug: a model padded to a multiple of 8, as transformers recommends, was rejected."""
    assert len(tokenizer) == 15
    for rows in (15, 16, 32, 64, 128):
        check_words(tokenizer, rows, "model")
    for rows in (14, 17, 24, 40, 256, 30522):
        with pytest.raises(ValueError, match=rf"has 15 words, but model has {rows}"):
            check_words(tokenizer, rows, "model")
