"""What text tasks share: tokenised examples with their regions, and the model folder they write."""

import logging
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import numpy as np
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveInt
from transformers import BertTokenizer, PreTrainedModel

from lxmert.data.collate import normalize_boxes
from lxmert.data.corpus import Corpus
from lxmert.data.preprocessing import EXTRACTOR_FOLDER, PreprocessorConfig
from lxmert.data.stores import RegionSource, open_regions
from lxmert.data.tokens import Tokens
from lxmert.files import write_text
from lxmert.names import count
from lxmert.records import Fraction, Items, Record
from lxmert.regions.extractor import RegionExtractor, load_extractor
from lxmert.schema import Example, FloatArray, Regions
from lxmert.tasks.baselines import FILE_NAME as BASELINES_NAME
from lxmert.tasks.inputs import File, Files

_logger = logging.getLogger(__name__)


class ModelSettings(Record):
    """Sizes of a new model, or the model to start from.

    Attributes:
        init_from: what the weights are taken from: a model folder, ours or Hugging Face's, a file that
            the code of the original code wrote (`.pth`), or the folder of a BERT for the language layers; sizes
            then come from it, and those below do not count, but for numbers of layers beside a
            BERT and attention heads of a file of the original code, which does not tell them.
        tokenizer: folder or `vocab.txt` of the tokenizer; absent: that of the start, or one built
            from the training texts.
        init_answers: list of the answers that the start was trained with, where its folder or file
            does not name them.
        allow: names of weights, or their beginnings up to a dot, that may be missing in the start
            and so begin at random, or be left over in it.
        reinit: modules of the start that begin at random all the same, such as
            `lxmert.encoder.visn_fc.box_fc`, where it has learned to do without what is needed now.
        frozen_first_rows: whether the embeddings of position 0 and segment 0 get no gradient, as in
            the code of the original code; where everything decays, they do.
        hidden_size: width of all states.
        num_attention_heads: attention heads in each layer.
        intermediate_size: width inside the feed-forward blocks.
        l_layers: language layers.
        x_layers: cross-modality layers.
        r_layers: object-relationship layers.
        dropout: of states and of attention probabilities, in `[0, 1)`.
        max_text_length: longest text in tokens; longer ones are cut and counted.
        initializer_range: standard deviation of the initial weights.
    """

    init_from: File | None = None
    tokenizer: File | None = None
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
        """Yield a width that the attention heads of a new model cannot share."""
        heads, width = self.num_attention_heads, self.hidden_size
        if self.init_from is None and width % heads:
            yield (
                f"hidden_size is {width}, expected a multiple of num_attention_heads ({heads}): "
                "change one of them, such as num_attention_heads = 1"
            )


def refuse_initial(settings: ModelSettings) -> None:
    """Refuse what a model that starts from nothing, with eyes of its own, would not read.

    Raises:
        ValueError: naming the setting.
    """
    for name in ("init_from", "tokenizer", "init_answers", "allow", "reinit", "frozen_first_rows"):
        if getattr(settings, name):
            raise ValueError(
                f"model.{name} is {getattr(settings, name)!r}, but eyes that are trained along "
                "start from nothing, and so does their model: leave it out, or name eyes that are "
                "ready with data.extractor"
            )


class TextCorpus:
    """Examples whose texts are tokenised once and whose regions come from a store.

    Attributes:
        examples: in flat arrays.
        store: the regions of their images.
        token_ids: of each text.
    """

    def __init__(
        self,
        examples: Sequence[Example],
        store: RegionSource,
        tokenizer: BertTokenizer,
        *,
        max_text_length: PositiveInt,
    ) -> None:
        """Tokenise all texts.

        Raises:
            ValueError: if there is no example, or one's image has no regions in the store.
        """
        if not examples:
            raise ValueError("the data set holds no example: at least one is needed")
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
        if self.token_ids.num_cut:
            _logger.warning(
                "%d of %s (%.2f %%) cut to %d tokens: raise max_text_length",
                self.token_ids.num_cut,
                count(len(examples), "text"),
                100 * self.token_ids.num_cut / len(examples),
                max_text_length,
            )

        if self.token_ids.num_unknown:
            _logger.warning(
                "%d of %s with a word that the tokenizer does not know, which is read as [UNK]",
                self.token_ids.num_unknown,
                count(len(examples), "text"),
            )

    def __len__(self) -> int:
        return len(self.examples)

    def regions(self, index: int, image: int = 0) -> tuple[Regions, FloatArray]:
        """Return the regions of an example's image, or of one of two, with normalised boxes."""
        image_id = self.examples.image_ids(index)[image]
        regions = self.store[image_id]
        return regions, normalize_boxes(regions, name=f"image {image_id!r}")


def check_several_images(*corpora: TextCorpus) -> None:
    """Refuse corpora in which no text could be exchanged for one about another image."""
    for corpus in corpora:
        images = np.unique(corpus.examples.image_pairs[:, 0])
        if len(images) < 2:
            name = corpus.examples.image_names[int(images[0])]
            raise ValueError(
                f"all texts are about the image {name!r}, but matching needs texts about at least "
                "two images: add some to the data set"
            )


def other_text(corpus: TextCorpus, index: int, generator: np.random.Generator) -> int:
    """Draw a text about another image, uniformly from all of them."""
    own = corpus.examples.images(index)
    while True:
        other = int(generator.integers(len(corpus)))
        if corpus.examples.images(other) != own:
            return other


def draw_examples(corpus: Corpus, limit: int | None, *, seed: int) -> Corpus:
    """Draw at most `limit` examples by the seed, in their order; None leaves all of them."""
    if limit is None or limit >= len(corpus):
        return corpus
    drawn = np.random.default_rng([seed, len(corpus)]).permutation(len(corpus))[:limit]
    return corpus.select(np.sort(drawn))


def choose_question_types(
    corpus: Corpus, question_types: Collection[str] | None, *, name: str = "training"
) -> Corpus:
    """Keep the examples of some types of questions, and those of no type; None leaves all of them.

    Raises:
        ValueError: if there is no example of a type.
    """
    if question_types is None:
        return corpus
    there = corpus.question_types
    for question_type in question_types:
        if question_type not in there:
            raise ValueError(
                f"data.question_types has {question_type!r}, of which there is no {name} question; "
                f"expected some of {[known for known in there if known]}"
            )
    return corpus.of_question_types({*question_types, ""})


def load_eyes(folder: str | None, store: RegionSource) -> RegionExtractor | None:
    """Load the extractor that made a store, to be saved with the model; None where none is named.

    Raises:
        ValueError: if the store was made by another extractor.
    """
    if folder is None:
        return None
    extractor = load_extractor(folder)
    check_extractor(store, extractor.fingerprint, f"the eyes in {folder}")
    return extractor


def check_extractor(store: RegionSource, fingerprint: str, owner: str) -> None:
    """Refuse a store that was made by another fingerprint than `owner` has or expects."""
    if store.header.fingerprint != fingerprint:
        raise ValueError(
            f"the region store {store.folder} was made by extractor {store.header.fingerprint}, "
            f"but {owner} is extractor {fingerprint}: extract the regions again with those eyes"
        )


def open_stores(regions: Files, valid_regions: Files) -> tuple[RegionSource, RegionSource]:
    """Open the regions of training and of validation images.

    Raises:
        FileNotFoundError: if there are none.
        ValueError: if the eyes of the one did not make the other.
    """
    store, valid_store = open_regions(regions), open_regions(valid_regions)
    owner = f"the maker of the training store {store.folder}"
    check_extractor(valid_store, store.header.fingerprint, owner)
    return store, valid_store


def save_model(
    folder: Path,
    model: PreTrainedModel,
    tokenizer: BertTokenizer,
    preprocessor: PreprocessorConfig,
    extractor: RegionExtractor | None,
    baselines: str = "",
) -> None:
    """Write everything that inference needs into one folder, and `Blind.to_text` if given."""
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    preprocessor.save(folder)
    if baselines:
        write_text(folder / BASELINES_NAME, baselines)
    if extractor is not None:
        extractor.save_pretrained(folder / EXTRACTOR_FOLDER)
