"""The service behind every interface: checks requests, queues them, and returns responses."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Literal

from lxmert.files import shorten
from lxmert.serve.batching import BatchQueue
from lxmert.serve.budget import Budget
from lxmert.serve.cache import RegionCache
from lxmert.serve.errors import RequestError, failed
from lxmert.serve.guard import describe
from lxmert.serve.messages import (
    AskRequest,
    ErrorResponse,
    ExplainRequest,
    ExplainResponse,
    ImageRequest,
    ImageResponse,
    MatchRequest,
    ModelResponse,
)
from lxmert.serve.metrics import ServeMetrics
from lxmert.serve.reports import SavedReports
from lxmert.serve.settings import ServeSettings
from lxmert.serve.uploads import Upload, decode_upload, fetch_public, from_base64, image_id_of
from lxmert.serve.worker import ModelJob, ModelWorker, Worked, unknown_image
from lxmert.version import __version__

_logger = logging.getLogger(__name__)

_DECODERS = 2
"""Images that are decoded at the same time."""

_HELD_IMAGES = 4
"""Images of the maximum size that may wait in memory at the same time."""


class Service:
    """Answers requests about images, for the HTTP interface and the MCP tools."""

    def __init__(
        self,
        worker: ModelWorker,
        cache: RegionCache,
        settings: ServeSettings,
        metrics: ServeMetrics,
        reports: SavedReports,
    ) -> None:
        """Combine the parts; `start` loads the model."""
        self.settings, self.metrics, self.reports = settings, metrics, reports
        self.worker, self._cache = worker, cache
        self._decoders = asyncio.Semaphore(_DECODERS)
        self._memory = Budget(_HELD_IMAGES * 3 * settings.max_pixels)
        self._stopping = False
        self.queue: BatchQueue[ModelJob, Worked] = BatchQueue(
            worker.process,
            max_batch=settings.max_batch,
            max_wait=settings.batch_wait,
            prepare=worker.prepare,
            observe=metrics.count_batch,
        )

    def start(self) -> None:
        """Start to load the model."""
        self.queue.start()

    async def stop(self) -> None:
        """Answer what is waiting, and end the thread of the model."""
        self._stopping = True
        await asyncio.to_thread(self.queue.stop)
        _logger.info(
            "ended: %d of %d accepted requests answered",
            self.metrics.answered,
            self.metrics.accepted,
        )

    @property
    def status(self) -> Literal["ready", "loading", "stopping"]:
        """State of the server."""
        if self._stopping or self.queue.failure is not None:
            return "stopping"
        return "ready" if self.queue.ready.is_set() else "loading"

    def describe(self) -> ModelResponse:
        """Return what the model can do."""
        self._check_ready()
        pipeline, settings = self.worker.pipeline, self.settings
        return ModelResponse(
            model=self.worker.model_name,
            version=__version__,
            answers=len(pipeline.answers),
            can_ask=self._missing(AskRequest) == "",
            can_explain=self._missing(ExplainRequest) == "",
            can_match=self._missing(MatchRequest) == "",
            missing=self._missing(AskRequest) or self._missing(MatchRequest),
            max_image_bytes=settings.max_image_bytes,
            max_pixels=settings.max_pixels,
            allows_urls=settings.allow_urls,
        )

    async def answer(self, request: ImageRequest) -> ImageResponse:
        """Answer a request.

        Raises:
            RequestError: if the request is refused.
        """
        self._check_ready()
        if missing := self._missing(type(request)):
            raise RequestError(422, missing)
        self._check_answers(request)
        async with self._open(request) as upload:
            self.metrics.queue_length.inc()
            future = self.queue.submit(ModelJob(request, upload))
            worked = await asyncio.wrap_future(future)
            self.metrics.cache_bytes.set(self._cache.nbytes)
        if worked.report is not None and isinstance(worked.response, ExplainResponse):
            name = await asyncio.to_thread(self.reports.save, worked.report)
            return worked.response.replace(report=f"/reports/{name}")
        return worked.response

    async def answer_all(
        self, requests: tuple[ImageRequest | ErrorResponse, ...]
    ) -> tuple[ImageResponse | ErrorResponse, ...]:
        """Answer every request, or say why not."""
        return tuple(await asyncio.gather(*map(self._answer_or_refuse, requests)))

    async def _answer_or_refuse(
        self, request: ImageRequest | ErrorResponse
    ) -> ImageResponse | ErrorResponse:
        if isinstance(request, ErrorResponse):
            return request
        try:
            return await self.answer(request)
        except RequestError as error:
            refused = error
        except Exception as error:  # of the model, for this request alone
            _logger.error("unexpected error: %s", describe(error))
            refused = failed()
        return ErrorResponse(status=refused.status, error=str(refused))

    def _check_ready(self) -> None:
        if self.status != "ready":
            raise RequestError(
                503, f"the server is {self.status}: try again in a moment", retry_after=2
            )

    def _missing(self, request: type[ImageRequest]) -> str:
        """Return what the model lacks for a kind of request; empty if nothing."""
        pipeline = self.worker.pipeline
        if issubclass(request, MatchRequest) and pipeline.matching is None:
            return (
                f"{self.worker.model_name} has no matching head, so it cannot compare captions: "
                "serve a pretrained model, such as unc-nlp/lxmert-base-uncased or the output of a "
                "pretraining or retrieval recipe"
            )
        if issubclass(request, AskRequest | ExplainRequest) and not pipeline.answers:
            return (
                f"{self.worker.model_name} has no answer head with named answers, so it cannot "
                "answer questions: serve a question-answering model, or the bundled one"
            )
        if issubclass(request, ExplainRequest) and pipeline.answering is None:
            return (
                f"{self.worker.model_name} is an exported model, which has no gradients to explain "
                "an answer: serve the model that it was exported from"
            )
        return ""

    def _check_answers(self, request: ImageRequest) -> None:
        if isinstance(request, ExplainRequest):
            known = self.worker.pipeline.answers
            unknown = next((answer for answer in request.answers if answer not in known), None)
            if unknown is not None:
                raise RequestError(
                    422,
                    f"{shorten(unknown)} is not among the {len(known)} answers of "
                    f"{self.worker.model_name}: choose one of them",
                )

    @asynccontextmanager
    async def _open(self, request: ImageRequest) -> AsyncIterator[Upload]:
        """Return the image of a request, decoded and checked unless its regions are known."""
        if request.image_id is not None:
            known = self._cache.get(request.image_id)
            self.metrics.count_lookup(hit=known is not None)
            if known is None:
                raise unknown_image(request.image_id)
            yield Upload(request.image_id, known.data, None)
            return
        data = await self._read(request)
        image_id = await asyncio.to_thread(image_id_of, data)
        known = self._cache.get(image_id)
        self.metrics.count_lookup(hit=known is not None)
        if known is not None:
            yield Upload(image_id, data, None)
            return
        async with self._decoders:
            pixels = await asyncio.to_thread(
                decode_upload,
                data,
                max_bytes=self.settings.max_image_bytes,
                max_pixels=self.settings.max_pixels,
            )
            held = self._memory.hold(pixels.nbytes)
            await held.__aenter__()
        try:
            yield Upload(image_id, data, pixels)
        finally:
            await held.__aexit__(None, None, None)

    async def _read(self, request: ImageRequest) -> bytes:
        """Return the image file of a request."""
        if isinstance(request.image, bytes):
            return request.image
        if request.image is not None:
            return await asyncio.to_thread(from_base64, request.image)
        assert request.image_url is not None
        if not self.settings.allow_urls:
            raise RequestError(
                403,
                "this server does not fetch images from addresses: send the image itself, or start "
                "the server with --allow-urls",
            )
        return await asyncio.to_thread(
            fetch_public, request.image_url, max_bytes=self.settings.max_image_bytes
        )
