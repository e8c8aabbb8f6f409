"""Requests and responses of the HTTP interface, version 1; they import no torch."""

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

from pydantic import Field, PlainValidator, WithJsonSchema

from lxmert.records import Items, Record

MAX_TEXT = 1000
"""Maximum number of characters of a question or caption."""

MAX_CAPTIONS = 64
MAX_TOP_K = 1000
MAX_REQUESTS = 32
"""Maximum number of requests in a batch."""

Text = Annotated[str, Field(min_length=1, max_length=MAX_TEXT)]
ImageId = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
TopK = Annotated[int, Field(ge=1, le=MAX_TOP_K)]

_BASE64 = {
    "type": "string",
    "contentEncoding": "base64",
    "description": "The image file in base64, with or without a `data:` prefix. PNG, JPEG, WebP, "
    "GIF, BMP or TIFF.",
}


def _check_image(value: object) -> object:
    if not isinstance(value, str | bytes | None):
        raise ValueError("expected the image file in base64")
    return value


class ImageRequest(Record):
    """A request about one image, given in exactly one of three ways."""

    remedy: ClassVar[str] = "correct the request"

    image: Annotated[str | bytes | None, PlainValidator(_check_image), WithJsonSchema(_BASE64)] = (
        None
    )
    image_id: Annotated[
        ImageId | None,
        Field(description="`image_id` of an earlier response, for an image still in the cache."),
    ] = None
    image_url: Annotated[
        str | None,
        Field(max_length=2000, description="Web address; only if the server allows addresses."),
    ] = None

    def problems(self) -> Iterator[str]:
        """Yield an error unless the image is given in exactly one way."""
        given = [n for n in ("image", "image_id", "image_url") if getattr(self, n) is not None]
        if len(given) != 1:
            names = " and ".join(given) or "no image"
            yield f"got {names}, expected exactly one of image, image_id and image_url"
        yield from (
            f"{name} is blank: write a text"
            for name in ("question", "captions")
            for text in _texts(getattr(self, name, ()))
            if not text.strip()
        )


def _texts(value: str | tuple[str, ...]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else value


class AskRequest(ImageRequest):
    """A question about an image."""

    question: Annotated[Text, Field(description="Question about the image.")]
    top_k: Annotated[TopK, Field(description="Number of answers.")] = 5


class RegionsRequest(ImageRequest):
    """A request for the regions of an image."""

    arrays: Annotated[
        bool, Field(description="Whether to include features, class ids and scores.")
    ] = False


class ExplainRequest(ImageRequest):
    """A question whose answers are explained."""

    question: Annotated[Text, Field(description="Question about the image.")]
    top_k: Annotated[TopK, Field(description="Number of answers to explain.")] = 5
    answers: Annotated[
        Items[Text], Field(max_length=MAX_CAPTIONS, description="Further answers to explain.")
    ] = ()
    methods: Annotated[
        Items[Text], Field(max_length=16, description="Relevance methods; none: the quick ones.")
    ] = ()
    attention: Annotated[
        bool, Field(description="Whether to include attention maps and states.")
    ] = False
    save: Annotated[bool, Field(description="Whether to save the report for a link.")] = False


class MatchRequest(ImageRequest):
    """Captions to compare with an image."""

    captions: Annotated[
        Items[Text], Field(min_length=1, max_length=MAX_CAPTIONS, description="Captions.")
    ]


class AnswerItem(Record):
    """An answer with its probability."""

    answer: str
    score: float


class RegionItem(Record):
    """A region: its box `[x1, y1, x2, y2]` in pixels of the upright image, and what it shows."""

    box: Annotated[tuple[float, float, float, float], Field(strict=False)]
    label: Annotated[str, Field(description="Object with its attributes.")]
    object: str
    score: Annotated[float, Field(description="Confidence of the object class, 0 to 1.")]


class WordItem(Record):
    """A word piece of the question as the model reads it."""

    text: str
    kind: Literal["word", "special", "unknown"]
    joined: Annotated[bool, Field(description="Whether no space precedes it.")]


class ImageResponse(Record):
    """What every response about an image has."""

    image_id: ImageId
    width: int
    height: int
    warnings: Annotated[
        Items[str],
        Field(description="Why the answer may be unreliable: unknown words, unusual images."),
    ] = ()


class AskResponse(ImageResponse):
    """Answers to a question, best first."""

    question: str
    answers: Items[AnswerItem]


class Array(Record):
    """A numeric array."""

    dtype: Literal["float32", "int64"]
    shape: Items[int]
    data: Annotated[str, Field(description="Little-endian values in row order, in base64.")]


class RegionsResponse(ImageResponse):
    """The regions of an image."""

    found: Annotated[bool, Field(description="False: the only region is the whole image.")]
    regions: Items[RegionItem]
    arrays: Annotated[
        dict[str, Array] | None, Field(description="The arrays of `lxmert.Regions`, by name.")
    ] = None


class MethodItem(Record):
    """Relevance by one method: a row of scores per answer, or one row for all answers."""

    name: str
    title: str
    about: str
    words: Items[Items[float]]
    regions: Items[Items[float]]


class MapItem(Record):
    """Attention maps of one kind, `[layers, heads, rows, columns]`."""

    name: str
    title: str
    rows: Literal["words", "regions"]
    columns: Literal["words", "regions"]
    layers: int
    heads: int
    values: Annotated[str, Field(description="Little-endian uint16 in steps of 1/65535, base64.")]


class StateItem(Record):
    """States of words and regions after one layer, in a plane."""

    title: str
    words: Annotated[Items[Items[float]], Field(description="`[words, 2]`, in [-1, 1].")]
    regions: Annotated[Items[Items[float]], Field(description="`[regions, 2]`, likewise.")]
    shown: Annotated[float, Field(description="Share of the variance that the plane shows.")]


class ExplainResponse(ImageResponse):
    """Answers with the relevance of every region and word."""

    question: str
    model: str
    answers: Items[AnswerItem]
    regions: Items[RegionItem]
    words: Items[WordItem]
    unread: Annotated[str, Field(description="End of the question beyond the text length.")]
    cells: Annotated[bool, Field(description="Whether the regions are cells of a grid.")]
    methods: Items[MethodItem]
    without_image: Annotated[
        AnswerItem | None, Field(description="The best answer if the model sees no region.")
    ] = None
    did_not_look: Annotated[
        bool, Field(description="Whether the best answer does not depend on the image.")
    ] = False
    maps: Annotated[
        Items[MapItem], Field(description="Attention maps, if `attention` is true.")
    ] = ()
    states: Annotated[
        Items[StateItem], Field(description="States by layer, if `attention` is true.")
    ] = ()
    report: Annotated[
        str | None, Field(description="Path of the saved report, if `save` is true.")
    ] = None


class MatchResponse(ImageResponse):
    """Probability of each caption that it describes the image; they do not add up to 1."""

    captions: Items[str]
    scores: Items[float]


class ErrorResponse(Record):
    """An error, in one sentence."""

    status: Annotated[int, Field(description="HTTP status code.")]
    error: str


class ExampleItem(Record):
    """An example image of the page."""

    image: Annotated[str, Field(description="Path of the image on this server.")]
    questions: Items[str]


class ExamplesResponse(Record):
    """The example images of the page."""

    examples: Items[ExampleItem]


class ModelResponse(Record):
    """What the served model can do, and what the server accepts."""

    model: str
    version: Annotated[str, Field(description="Version of lxmert.")]
    answers: Annotated[int, Field(description="Number of answers it chooses from.")]
    can_ask: bool
    can_explain: Annotated[bool, Field(description="False for exported models.")]
    can_match: bool
    missing: Annotated[str, Field(description="What the model lacks, in one sentence.")]
    max_image_bytes: int
    max_pixels: int
    allows_urls: bool


class HealthResponse(Record):
    """Whether the server answers."""

    status: Literal["ready", "loading", "stopping"]


class AskBatch(Record):
    """Several questions, each answered or refused by itself."""

    requests: Annotated[Items[AskRequest], Field(min_length=1, max_length=MAX_REQUESTS)]


class RegionsBatch(Record):
    """Several images, each answered or refused by itself."""

    requests: Annotated[Items[RegionsRequest], Field(min_length=1, max_length=MAX_REQUESTS)]


class ExplainBatch(Record):
    """Several questions to explain, each answered or refused by itself."""

    requests: Annotated[Items[ExplainRequest], Field(min_length=1, max_length=MAX_REQUESTS)]


class MatchBatch(Record):
    """Several images with captions, each answered or refused by itself."""

    requests: Annotated[Items[MatchRequest], Field(min_length=1, max_length=MAX_REQUESTS)]


class AskResults(Record):
    """Results in the order of the requests."""

    results: Items[AskResponse | ErrorResponse]


class RegionsResults(Record):
    """Results in the order of the requests."""

    results: Items[RegionsResponse | ErrorResponse]


class ExplainResults(Record):
    """Results in the order of the requests."""

    results: Items[ExplainResponse | ErrorResponse]


class MatchResults(Record):
    """Results in the order of the requests."""

    results: Items[MatchResponse | ErrorResponse]


KINDS: list[tuple[str, type[ImageRequest], type[Record], type[Record], type[Record]]] = [
    ("ask", AskRequest, AskResponse, AskBatch, AskResults),
    ("regions", RegionsRequest, RegionsResponse, RegionsBatch, RegionsResults),
    ("explain", ExplainRequest, ExplainResponse, ExplainBatch, ExplainResults),
    ("match", MatchRequest, MatchResponse, MatchBatch, MatchResults),
]
"""Path, request, response, and both of a batch."""
