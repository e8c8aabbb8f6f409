"""A client of a server, with the methods of the pipeline; it imports no torch."""

import base64
import hashlib
import io
import os
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self, TypeVar

import httpx
import numpy as np
import numpy.typing as npt
from PIL import Image
from pydantic import BaseModel, TypeAdapter

from lxmert.regions.preprocess import load_image
from lxmert.schema import Answer, Regions
from lxmert.serve.messages import (
    Array,
    AskResponse,
    AskResults,
    ErrorResponse,
    ExplainResponse,
    ImageResponse,
    MatchResponse,
    ModelResponse,
    RegionsResponse,
)
from lxmert.web import SCHEMES

ClientImage = str | os.PathLike[str] | bytes | Image.Image | npt.NDArray[np.uint8]
"""A path, an http(s) URL, the bytes of a file, a PIL image, or a uint8 RGB array."""

_LATER = (429, 503)

T = TypeVar("T", bound=BaseModel)


class ServerError(ValueError):
    """A request that the server refused.

    Attributes:
        status: HTTP status code.
    """

    def __init__(self, status: int, message: str) -> None:
        """Describe the error in the words of the server."""
        super().__init__(message)
        self.status = status


class Client:
    """A client of `lxmert serve`.

    An image is sent once; later requests name it by its content, as long as the server knows it.

    Example:
        >>> from lxmert import Client
        >>> client = Client("http://127.0.0.1:8000")  # doctest: +SKIP
        >>> client.ask("photo.jpg", "What is this?")[0].answer  # doctest: +SKIP
    """

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None = None,
        auth: tuple[str, str] | None = None,
        timeout: float = 60.0,
        patience: float = 30.0,
    ) -> None:
        """Describe the server; nothing is sent yet.

        Args:
            url: address of the server, such as `http://127.0.0.1:8000`.
            api_key: key, if the server requires one.
            auth: user name and password, if the server requires them.
            timeout: seconds to wait for a response.
            patience: seconds during which a request is repeated while the server is busy or loads.
        """
        headers = {} if api_key is None else {"Authorization": f"Bearer {api_key}"}
        self._http = httpx.Client(base_url=url, headers=headers, auth=auth, timeout=timeout)
        self._patience = patience
        self._known: set[str] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def ask(self, image: ClientImage, question: str, *, top_k: int = 5) -> list[Answer]:
        """Answer a question about an image; see `LxmertPipeline.ask`.

        Raises:
            ServerError: if the server refuses the request.
        """
        found = self._about("ask", AskResponse, image, question=question, top_k=top_k)
        return _to_answers(found)

    def ask_many(
        self, pairs: Sequence[tuple[ClientImage, str]], *, top_k: int = 5
    ) -> list[list[Answer] | ServerError]:
        """Answer questions about images in one request, at most 32.

        Returns:
            For each pair its answers, or why it was refused.
        """
        rows = [
            {**_in_json(image), "question": question, "top_k": top_k} for image, question in pairs
        ]
        found = self._post("ask/batch", AskResults, {"requests": rows})
        return [
            ServerError(each.status, each.error)
            if isinstance(each, ErrorResponse)
            else _to_answers(each)
            for each in found.results
        ]

    def match(self, image: ClientImage, captions: Sequence[str]) -> list[float]:
        """Return the probability of each caption; see `LxmertPipeline.match`.

        Raises:
            ServerError: if the server refuses the request, or its model cannot match.
        """
        return list(self._about("match", MatchResponse, image, captions=list(captions)).scores)

    def regions(self, image: ClientImage) -> Regions:
        """Return the regions of an image; see `LxmertPipeline.regions`.

        Raises:
            ServerError: if the server refuses the request.
        """
        found = self._about("regions", RegionsResponse, image, arrays=True)
        arrays = {name: _unpack(each) for name, each in (found.arrays or {}).items()}
        return Regions(**arrays, image_size=(found.height, found.width), found=found.found)

    def explain(
        self,
        image: ClientImage,
        question: str,
        *,
        top_k: int = 5,
        answers: Sequence[str] = (),
        methods: Sequence[str] = (),
        attention: bool = False,
        save: bool = False,
    ) -> ExplainResponse:
        """Answer a question and explain the answers; see `LxmertPipeline.explain`.

        Args:
            image: as for `ask`.
            question: as for `ask`.
            top_k: number of answers to explain.
            answers: further answers to explain.
            methods: relevance methods; none: the quick ones.
            attention: whether to return attention maps and states.
            save: whether the server saves the report, whose path is `report` of the result.

        Raises:
            ServerError: if the server refuses the request.
        """
        return self._about(
            "explain",
            ExplainResponse,
            image,
            question=question,
            top_k=top_k,
            answers=list(answers),
            methods=list(methods),
            attention=attention,
            save=save,
        )

    def model(self) -> ModelResponse:
        """Return what the model can do, and what the server accepts."""
        return _parse(self._send("GET", "/v1/model"), ModelResponse)

    def _about(self, kind: str, response: type[T], image: ClientImage, **fields: object) -> T:
        """Send a request about an image; its content only if the server does not know it."""
        if isinstance(image, str) and image.startswith(SCHEMES):
            return self._post(kind, response, {"image_url": image, **fields})
        data = _to_file(image)
        image_id = hashlib.sha256(data).hexdigest()
        if image_id in self._known:
            try:
                return self._post(kind, response, {"image_id": image_id, **fields})
            except ServerError as error:
                if error.status != 404:
                    raise
        found = self._post(kind, response, {"image": base64.b64encode(data).decode(), **fields})
        self._known.add(image_id)
        return found

    def _post(self, kind: str, response: type[T], body: Mapping[str, object]) -> T:
        found = _parse(self._send("POST", f"/v1/{kind}", body), response)
        if isinstance(found, ImageResponse):
            for warning in found.warnings:
                warnings.warn(warning, stacklevel=4)
        return found

    def _send(
        self, method: str, path: str, body: Mapping[str, object] | None = None
    ) -> httpx.Response:
        """Send a request, again while the server is busy."""
        end = time.monotonic() + self._patience
        while True:
            response = self._http.request(method, path, json=body)
            pause = _pause(response)
            if response.status_code not in _LATER or time.monotonic() + pause > end:
                return response
            time.sleep(pause)


def _pause(response: httpx.Response) -> float:
    """Return the seconds after which to try again: 1 if the header has none, or a date."""
    given = response.headers.get("retry-after", "")
    return float(given) if given.isascii() and given.isdecimal() else 1.0


def _parse(response: httpx.Response, kind: type[T]) -> T:
    if response.status_code != 200:
        try:
            refused = TypeAdapter(ErrorResponse).validate_json(response.content)
        except ValueError:
            raise ServerError(
                response.status_code,
                f"the server answers {response.status_code} {response.reason_phrase}: check its "
                "address",
            ) from None
        raise ServerError(refused.status, refused.error)
    return TypeAdapter(kind).validate_json(response.content)


def _to_answers(found: AskResponse) -> list[Answer]:
    return [Answer(each.answer, each.score) for each in found.answers]


def _in_json(image: ClientImage) -> dict[str, str]:
    if isinstance(image, str) and image.startswith(SCHEMES):
        return {"image_url": image}
    return {"image": base64.b64encode(_to_file(image)).decode()}


def _to_file(image: ClientImage) -> bytes:
    """Return the bytes of an image file.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if a PIL image or an array cannot be read.
    """
    if isinstance(image, bytes):
        return image
    if isinstance(image, str | os.PathLike):
        return Path(image).read_bytes()
    file = io.BytesIO()
    # As the pipeline reads it: upright, in RGB of 8 bits. PNG would lose what says so.
    Image.fromarray(load_image(image)).save(file, "PNG")
    return file.getvalue()


def _unpack(array: Array) -> npt.NDArray[Any]:
    dtype = "<i8" if array.dtype == "int64" else "<f4"
    return np.frombuffer(base64.b64decode(array.data), dtype).reshape(array.shape).copy()
