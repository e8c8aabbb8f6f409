"""Tokenized texts with their regions, and the model settings that all text tasks share."""

import logging
from collections.abc import Collection, Iterator, Sequence

import numpy as np
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveInt
from transformers import BertTokenizer

from lxmert.data.arrays import normalize_boxes
from lxmert.data.corpus import Corpus
from lxmert.data.splits import draw_rows
from lxmert.data.stores import RegionSource
from lxmert.data.tokens import Tokens
from lxmert.names import count
from lxmert.records import Fraction, Items, Record
from lxmert.schema import Example, FloatArray, Regions
from lxmert.tasks.inputs import File

_logger = logging.getLogger(__name__)


class ModelSettings(Record):
    """Sizes of a new model, or the checkpoint that initializes it.

    Attributes:
        init_from: checkpoint to initialize from: a model folder (lxmert or Hugging Face), a file
            of the original LXMERT code (`.pth`), or a BERT folder for the language layers. The
            sizes come from the checkpoint and override those below, except the numbers of layers
            with a BERT, and the attention heads with an original checkpoint, which does not
            record them.
        tokenizer: folder or `vocab.txt` of the tokenizer; absent: that of `init_from`, or one
            built from the training texts.
        new_words: whether to add the words of the training texts to the tokenizer of `init_from`.
        init_answers: list of the answers that `init_from` was trained with, if its folder or file
            does not name them.
        allow: names of weights, or dot-separated prefixes, that may be missing from the
            checkpoint (they are initialized randomly) or unused.
        reinit: modules to reinitialize after loading, such as
            `lxmert.encoder.visn_fc.box_fc`, e.g. when the checkpoint never used them.
        frozen_first_rows: whether the embeddings of position 0 and segment 0 get no gradient, as
            in the original LXMERT code; weight decay still applies to them.
        hidden_size: width of all states.
        num_attention_heads: attention heads in each layer.
        intermediate_size: inner width of the feed-forward blocks.
        l_layers: language layers.
        x_layers: cross-modality layers.
        r_layers: object-relationship layers.
        dropout: of states and of attention probabilities, in `[0, 1)`.
        max_text_length: maximum text length in tokens; longer texts are truncated and counted.
        initializer_range: standard deviation of the initial weights.
    """

    init_from: File | None = None
    tokenizer: File | None = None
    new_words: bool = False
    init_answers: File | None = None
    allow: Items[str] = ()
    reinit: Items[str] = ()
    frozen_first_rows: bool = False
    hidden_size: PositiveInt = 768
    num_attention_heads: PositiveInt = 12
    intermediate_size: PositiveInt = 3072
    l_layers: NonNegativeInt = 9
    x_layers: NonNegativeInt = 5
    r_layers: NonNegativeInt = 5
    dropout: Fraction = 0.1
    max_text_length: PositiveInt = 20
    initializer_range: NonNegativeFloat = 0.02

    def problems(self) -> Iterator[str]:
        """Yield a width of a new model that is not a multiple of its attention heads."""
        heads, width = self.num_attention_heads, self.hidden_size
        if self.init_from is None and width % heads:
            yield (
                f"hidden_size is {width}, expected a multiple of num_attention_heads ({heads}): "
                "change one of them, such as num_attention_heads = 1"
            )


def refuse_initial(settings: ModelSettings) -> None:
    """Reject settings that have no effect if a region extractor is trained with the model.

    Raises:
        ValueError: naming the setting.
    """
    for name in ("tokenizer", "init_answers", "allow", "reinit", "frozen_first_rows"):
        if getattr(settings, name):
            raise ValueError(
                f"model.{name} is {getattr(settings, name)!r}, but this recipe trains a region "
                "extractor with the model: leave it out, or set data.extractor to use an existing "
                "extractor"
            )


class TextCorpus:
    """Examples with texts tokenized in advance and regions read from a store.

    Attributes:
        examples: the examples, stored in flat arrays.
        store: regions of their images.
        token_ids: token ids of each text.
    """

    def __init__(
        self,
        examples: Sequence[Example],
        store: RegionSource,
        tokenizer: BertTokenizer,
        *,
        max_text_length: PositiveInt,
    ) -> None:
        """Tokenize all texts.

        Raises:
            ValueError: if there is no example, or the store lacks the regions of an image.
        """
        if not examples:
            raise ValueError("the data set has no examples; expected at least one")
        self.examples = examples if isinstance(examples, Corpus) else Corpus.of(examples)
        self.store = store
        names = self.examples.image_names
        used = (names[image] for image in self.examples.used_images)
        missing = [name for name in used if name not in store]
        if missing:
            raise ValueError(
                f"the region store {store.folder} lacks {count(len(missing), 'image')} of the data "
                f"set, such as {min(missing)!r}: extract their regions first"
            )
        self.token_ids = Tokens(self.examples.texts(), tokenizer, longest=max_text_length)
        self.token_ids.log_losses(_logger)

    def __len__(self) -> int:
        return len(self.examples)

    def regions(self, index: int, image: int = 0) -> tuple[Regions, FloatArray]:
        """Return the regions of an example's first or second image, and their normalized boxes."""
        image_id = self.examples.image_ids(index)[image]
        regions = self.store[image_id]
        return regions, normalize_boxes(regions, name=f"image {image_id!r}")


def check_several_images(*corpora: TextCorpus) -> None:
    """Reject corpora with a single image, for which no mismatched text can be drawn."""
    for corpus in corpora:
        images = np.unique(corpus.examples.image_pairs[:, 0])
        if len(images) < 2:
            name = corpus.examples.image_names[int(images[0])]
            raise ValueError(
                f"all texts are about the image {name!r}; expected texts about at least two images "
                "for the matching objective: add examples about other images"
            )


def other_text(corpus: TextCorpus, index: int, generator: np.random.Generator) -> int:
    """Draw a text about another image, uniformly from all such texts."""
    own = corpus.examples.images(index)
    while True:
        other = int(generator.integers(len(corpus)))
        if corpus.examples.images(other) != own:
            return other


def draw_examples(corpus: Corpus, limit: int | None, *, seed: int) -> Corpus:
    """Return a random subset of at most `limit` examples in their order; None returns all."""
    if limit is None or limit >= len(corpus):
        return corpus
    return corpus.select(draw_rows(len(corpus), limit, seed=[seed, len(corpus)]))


def choose_question_types(
    corpus: Corpus, question_types: Collection[str] | None, *, name: str = "training"
) -> Corpus:
    """Keep the examples of the given question types and those without a type; None keeps all.

    Raises:
        ValueError: if no example has one of the types.
    """
    if question_types is None:
        return corpus
    known = corpus.question_types
    for question_type in question_types:
        if question_type not in known:
            raise ValueError(
                f"data.question_types has {question_type!r}, but no {name} question has this type; "
                f"expected some of {list(filter(None, known))}"
            )
    return corpus.of_question_types({*question_types, ""})


def check_extractor(store: RegionSource, fingerprint: str, owner: str) -> None:
    """Reject a store whose extractor fingerprint differs from the one of `owner`."""
    if store.header.fingerprint != fingerprint:
        raise ValueError(
            f"the region store {store.folder} was made by extractor {store.header.fingerprint}, "
            f"but {owner} is extractor {fingerprint}: extract the regions again with that extractor"
        )
