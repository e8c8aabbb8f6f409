"""A fleet of replicas on a Ray cluster: each batches questions, Ray spreads and scales them.

Install `ray[serve]`, then `serve run ray_serve:app`, and
`curl -F image=@photo.jpg -F question="What is this?" http://127.0.0.1:8000/ask`.
"""

import asyncio
from typing import Any

from fastapi import FastAPI, Form, HTTPException, UploadFile
from ray import serve

from lxmert import LxmertPipeline
from lxmert.serve.errors import RequestError
from lxmert.serve.uploads import decode_upload

MAX_BYTES, MAX_PIXELS = 20 << 20, 50_000_000
api = FastAPI()


@serve.deployment(
    autoscaling_config={"min_replicas": 1, "max_replicas": 8, "target_ongoing_requests": 16},
    ray_actor_options={"num_cpus": 2},
    max_ongoing_requests=64,
    graceful_shutdown_timeout_s=40,
)
@serve.ingress(api)
class Answers:
    """One replica with one model."""

    def __init__(self) -> None:
        """Load the bundled model."""
        self.pipeline = LxmertPipeline.from_pretrained(cache=False)

    @api.post("/ask")
    async def ask(self, image: UploadFile, question: str = Form(max_length=1000)) -> Any:
        """Answer a question; the image is checked before it enters a batch."""
        data = await image.read(MAX_BYTES + 1)
        try:
            pixels = await asyncio.to_thread(
                decode_upload, data, max_bytes=MAX_BYTES, max_pixels=MAX_PIXELS
            )
        except RequestError as error:
            raise HTTPException(error.status, str(error)) from error
        return await self.answer((pixels, question))

    @serve.batch(max_batch_size=16, batch_wait_timeout_s=0.005)
    async def answer(self, pairs: list[Any]) -> list[Any]:
        """Answer a batch of questions."""
        regions = self.pipeline.processor.regions([pixels for pixels, _ in pairs])
        answers = self.pipeline.ask_regions(regions, [question for _, question in pairs])
        return [[{"answer": a.answer, "score": a.score} for a in found] for found in answers]


app = Answers.bind()
