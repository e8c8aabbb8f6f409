"""Servers in this process for the tests: the bundled model behind a real port."""

import base64
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import pytest
from conftest import ROOT

from lxmert.pipeline import LxmertPipeline
from lxmert.serve.run import make_server, make_service
from lxmert.serve.settings import ServeSettings

SCENE = ROOT / "src/lxmert/examples/scene.png"
QUESTION = "What color is the ball?"


@cache
def bundled() -> LxmertPipeline:
    """Return the bundled model without its matching head."""
    pipeline = LxmertPipeline.from_pretrained()
    return LxmertPipeline(pipeline.model, pipeline.processor)


class RunningServer(httpx.Client):
    """A client of a server in this process."""

    service: Any

    def ask(self, image: bytes | None = None, question: str = QUESTION, **fields: Any) -> Any:
        """Send a question as a form."""
        files = {"image": SCENE.read_bytes() if image is None else image}
        return self.post("/v1/ask", files=files, data={"question": question, **fields})


@contextmanager
def running(
    load: Callable[[], Any] = bundled, *, wait: bool = True, **settings: Any
) -> Iterator[RunningServer]:
    """Run a server with a model on a free port."""
    with (
        TemporaryDirectory() as folder,
        socket.create_server(("127.0.0.1", 0)) as listener,
    ):
        settings.setdefault("reports", Path(folder))
        service = make_service(ServeSettings(**settings), load)
        server = make_server(service)
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        try:
            with RunningServer(base_url=url, timeout=60) as client:
                client.service = service
                if wait:
                    assert service.queue.ready.wait(60)
                yield client
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with running() as client:
        yield client


def in_base64(path: Path = SCENE) -> str:
    return base64.b64encode(path.read_bytes()).decode()
