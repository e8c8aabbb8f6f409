"""What the model's thread does: regions for all images of a batch, then every request."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lxmert.explain.answered import QUICK
from lxmert.pipeline import LxmertPipeline
from lxmert.reading import image_warnings
from lxmert.schema import Regions
from lxmert.serve.cache import KnownImage, RegionCache
from lxmert.serve.errors import RequestError
from lxmert.serve.items import answer_items, pack_arrays, region_items
from lxmert.serve.messages import (
    AskRequest,
    AskResponse,
    ExplainRequest,
    ImageRequest,
    ImageResponse,
    MatchRequest,
    MatchResponse,
    RegionsRequest,
    RegionsResponse,
)
from lxmert.serve.uploads import Upload


@dataclass(frozen=True)
class ModelJob:
    """A checked request with its image."""

    request: ImageRequest
    upload: Upload


@dataclass(frozen=True)
class Worked:
    """A response, and the page of a report to save with it."""

    response: ImageResponse
    report: str | None = None


_DID_NOT_LOOK = (
    "the answer does not depend on the image: the model gives it without the image too, and no "
    "region changes it"
)

Pending = tuple[ModelJob, Future[Worked]]


class ModelWorker:
    """Answers requests with one pipeline; all its methods but `__init__` run in one thread."""

    pipeline: LxmertPipeline

    def __init__(
        self, load: Callable[[], LxmertPipeline], cache: RegionCache, *, model_name: str
    ) -> None:
        """Describe the work; nothing is loaded yet.

        Args:
            load: loads the pipeline.
            cache: regions of known images.
            model_name: name of the model in responses, instead of its path.
        """
        self._load, self._cache, self.model_name = load, cache, model_name

    def prepare(self) -> None:
        """Load the model, and find the regions of a blank image to check that it works."""
        self.pipeline = self._load()
        blank = np.full((64, 64, 3), 127, dtype=np.uint8)
        self.pipeline.processor.extractor([blank])

    def process(self, batch: Sequence[Pending]) -> None:
        """Finish every request of a batch; raises if a request fails."""
        found = self._find_regions([job.upload for job, _ in batch])
        asked = [(job, future) for job, future in batch if isinstance(job.request, AskRequest)]
        if asked:
            self._ask(asked, found)
        for job, future in batch:
            if not future.done():
                future.set_result(self._work(job, found[job.upload.image_id]))

    def _find_regions(self, uploads: Sequence[Upload]) -> dict[str, Regions]:
        """Return the regions by image id, from the cache or from one batch of the extractor."""
        found: dict[str, Regions] = {}
        new: dict[str, Upload] = {}
        for upload in uploads:
            known = self._cache.get(upload.image_id)
            if known is not None:
                found[upload.image_id] = known.regions
            else:
                new[upload.image_id] = upload
        if new:
            # An image without pixels was known when it came, and has left the cache since.
            images = [u.data if u.pixels is None else u.pixels for u in new.values()]
            regions = self.pipeline.processor.extractor(images)
            for upload, each in zip(new.values(), regions, strict=True):
                self._cache.put(upload.image_id, KnownImage(upload.data, each))
                found[upload.image_id] = each
        return found

    def _ask(self, asked: Sequence[Pending], found: Mapping[str, Regions]) -> None:
        """Answer questions in one batch; each image is encoded once."""
        requests = [job.request for job, _ in asked if isinstance(job.request, AskRequest)]
        answers = self.pipeline.ask_regions(
            [found[job.upload.image_id] for job, _ in asked],
            [request.question for request in requests],
            top_k=max(request.top_k for request in requests),
        )
        for (job, future), request, ranked in zip(asked, requests, answers, strict=True):
            image_id = job.upload.image_id
            response = AskResponse(
                **self._about_image(image_id, found[image_id], request.question),
                question=request.question,
                answers=answer_items(ranked[: request.top_k]),
            )
            future.set_result(Worked(response))

    def _work(self, job: ModelJob, regions: Regions) -> Worked:
        request, image_id = job.request, job.upload.image_id
        if isinstance(request, RegionsRequest):
            return Worked(self._describe(request, image_id, regions))
        if isinstance(request, MatchRequest):
            scores = self.pipeline.match_regions(regions, list(request.captions))
            about = self._about_image(image_id, regions, *request.captions)
            return Worked(MatchResponse(**about, captions=request.captions, scores=tuple(scores)))
        assert isinstance(request, ExplainRequest)
        return self._explain(request, job.upload, regions)

    def _describe(
        self, request: RegionsRequest, image_id: str, regions: Regions
    ) -> RegionsResponse:
        return RegionsResponse(
            **self._about_image(image_id, regions),
            found=regions.found,
            regions=region_items(
                regions, self.pipeline.objects(regions), self.pipeline.labels(regions)
            ),
            arrays=pack_arrays(regions) if request.arrays else None,
        )

    def _explain(self, request: ExplainRequest, upload: Upload, regions: Regions) -> Worked:
        try:
            found = self.pipeline.explain(
                upload.data,
                request.question,
                top_k=request.top_k,
                answers=list(request.answers),
                methods=list(request.methods) or QUICK,
                regions=regions,
            )
        except ValueError as error:  # an unknown answer or method
            raise RequestError(422, str(error)) from error
        from lxmert.serve.explained import explain_response  # needs PyTorch, as `found` did

        found = replace(found, model=self.model_name)
        about = self._about_image(upload.image_id, regions, request.question)
        if found.did_not_look:
            about["warnings"] = (*about["warnings"], _DID_NOT_LOOK)
        response = explain_response(found, about, attention=request.attention)
        return Worked(response, found.to_html() if request.save else None)

    def _about_image(self, image_id: str, regions: Regions, *texts: str) -> dict[str, Any]:
        height, width = regions.image_size
        processor = self.pipeline.processor
        reader = processor.reader
        warnings = [w for text in texts for w in reader.text_warnings(reader.read(text))]
        return {
            "image_id": image_id,
            "width": width,
            "height": height,
            "warnings": (*image_warnings(processor.extractor, regions), *dict.fromkeys(warnings)),
        }


def unknown_image(image_id: str) -> RequestError:
    """Return the error of an image that is not in the cache."""
    return RequestError(
        404, f"the image {image_id[:12]}... is not in the cache: send the image itself"
    )
