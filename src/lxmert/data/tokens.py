"""The token ids of many texts in two flat arrays."""

from collections.abc import Iterable
from logging import Logger

import numpy as np

from lxmert.data.columns import RaggedWriter, in_batches
from lxmert.data.encoding import UNKNOWN, TextTokenizer, backend_of
from lxmert.names import count
from lxmert.schema import IntArray


class Tokens:
    """Texts that are tokenized once.

    Attributes:
        num_cut: number of truncated texts.
        num_unknown: number of texts with a word unknown to the tokenizer.
    """

    def __init__(self, texts: Iterable[str], tokenizer: TextTokenizer, *, longest: int) -> None:
        """Tokenize all texts in bounded memory.

        Args:
            texts: the texts, in the order of the indices.
            tokenizer: any BERT tokenizer.
            longest: maximum number of tokens, including `[CLS]` and `[SEP]`.
        """
        self._longest = longest
        backend = backend_of(tokenizer)
        unknown = backend.token_to_id(UNKNOWN)
        writer = RaggedWriter(np.min_scalar_type(backend.get_vocab_size()))
        self.num_cut = self.num_unknown = 0
        for batch in in_batches(texts):
            rows = token_ids(batch, tokenizer)
            for index, row in enumerate(rows):
                self.num_unknown += unknown in row
                if len(row) > longest:
                    self.num_cut += 1
                    rows[index] = [*row[: longest - 1], row[-1]]
            writer.add(rows)
        self._rows = writer.finish()

    def __len__(self) -> int:
        return len(self._rows.bounds) - 1

    def __getitem__(self, index: int) -> IntArray:
        """Return the token ids of a text, `[length]`, from `[CLS]` to `[SEP]`."""
        return self._rows.row(index).astype(np.int64)

    def log_losses(self, logger: Logger) -> None:
        """Warn about texts that are truncated, or contain unknown words."""
        texts = count(len(self), "text")
        if self.num_cut:
            logger.warning(
                "%d of %s (%.2f%%) truncated to %d tokens: raise max_text_length",
                self.num_cut,
                texts,
                100 * self.num_cut / len(self),
                self._longest,
            )
        if self.num_unknown:
            logger.warning(
                "%d of %s contain words that the tokenizer does not know; they become [UNK]",
                self.num_unknown,
                texts,
            )

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        return self._rows.bounds.nbytes + self._rows.values.nbytes


def token_ids(texts: Iterable[str], tokenizer: TextTokenizer) -> list[list[int]]:
    """Return the token ids of a batch of texts without truncation.

    Calls the backend directly: the tokenizer's own call spends most of its time on masks that
    collation creates again.
    """
    return [encoding.ids for encoding in backend_of(tokenizer).encode_batch_fast(list(texts))]
