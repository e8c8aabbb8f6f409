"""A tokenizer built from the texts at hand."""

from pathlib import Path

import pytest
from transformers import BertTokenizer

from lxmert.data.tokenizer import SPECIAL_TOKENS, LxmertTokenizer, build_tokenizer, unknown_words

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
    assert unknown_words(tokenizer, "What is the Zebra's mug?") == ["Zebra", "'", "s"]
    assert unknown_words(tokenizer, "Is the mug red?") == []


def test_rare_words_can_be_left_out() -> None:
    tokenizer = build_tokenizer(TEXTS, min_count=2)
    assert unknown_words(tokenizer, "the rare mug") == ["rare"]


def test_saved_and_loaded_it_reads_the_same(tokenizer: BertTokenizer, tmp_path: Path) -> None:
    tokenizer.save_pretrained(tmp_path)
    again = LxmertTokenizer.from_pretrained(tmp_path)
    for text in (*TEXTS, "Zebra mug?"):
        assert again(text)["input_ids"] == tokenizer(text)["input_ids"]
