"""Runs a server: one process, or several that share a socket, until SIGTERM or Ctrl-C."""

import logging
import multiprocessing
import os
import shutil
import signal
import socket
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import FrameType
from typing import Any

from lxmert.hub import find_model, model_name
from lxmert.reading import InputWarning
from lxmert.serve.cache import RegionCache
from lxmert.serve.security import is_loopback
from lxmert.serve.settings import ServeSettings
from lxmert.workers import end_with_parent

_EXAMPLES = Path(__file__).parents[1] / "examples"
"""Example images of the bundled model."""

_BACKLOG = 512
_DRAIN_SECONDS = 5
"""Seconds beyond the time limit of a request within which a server ends."""

_METRICS_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
"""By which prometheus_client finds the files that workers share."""

_logger = logging.getLogger(__name__)


def serve(settings: ServeSettings) -> None:
    """Serve until SIGTERM or Ctrl-C; accepted requests are answered first.

    Raises:
        FileNotFoundError: if there is no such model.
        OSError: if the port is taken.
        ValueError: if the model cannot be loaded.
    """
    find_model(settings.model)
    if not is_loopback(settings.host) and not settings.needs_login:
        _logger.warning(
            "Warning: %s is reached from other machines, and anyone may use this server: add "
            "--auth or --api-key-file",
            settings.host,
        )
    with _shared_folder() as folder, _listen(settings) as listener:
        host, port = listener.getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        _logger.info("lxmert serves http://%s:%d (Ctrl-C ends it)", shown, port)
        settings = settings.replace(
            reports=settings.reports or folder / "reports",
            examples=settings.examples or (_EXAMPLES if settings.model is None else None),
        )
        if settings.workers == 1:
            # uvicorn raises the signal again once it has ended, for this handler.
            with _on_signals(lambda *_: sys.exit(0)):
                _serve_here(settings, listener)
        else:
            _supervise(settings, listener, folder / "metrics")


@contextmanager
def _shared_folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="lxmert-serve-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _listen(settings: ServeSettings) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        listener = socket.create_server(
            (settings.host, settings.port), family=family, backlog=_BACKLOG
        )
    except OSError as error:
        raise OSError(
            f"cannot listen on {settings.host} port {settings.port} ({error.strerror}): choose "
            "another --port or --host"
        ) from error
    # Connections inherit it; asyncio sets it only for sockets that name their protocol. Without it,
    # the second packet of a response waits for the client's acknowledgement: 40 ms.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with listener:
        yield listener


def make_service(settings: ServeSettings, load: Callable[[], Any] | None = None) -> Any:
    """Return the service of a model, which is not loaded yet.

    Args:
        settings: what is served; `reports` names a folder.
        load: returns the pipeline; None: the one that the settings name.
    """
    from lxmert.serve.metrics import ServeMetrics
    from lxmert.serve.reports import SavedReports
    from lxmert.serve.service import Service
    from lxmert.serve.worker import ModelWorker

    assert settings.reports is not None
    cache = RegionCache(settings.cache_mib << 20)
    name = public_name(settings.model)
    worker = ModelWorker(load or (lambda: _load(settings)), cache, model_name=name)
    return Service(worker, cache, settings, ServeMetrics(), SavedReports(settings.reports))


def make_server(service: Any) -> Any:
    """Return the uvicorn server of a service."""
    import uvicorn

    from lxmert.serve.app import build_app
    from lxmert.serve.draining import DrainingServer

    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    config = uvicorn.Config(
        build_app(service),
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=int(service.settings.timeout) + _DRAIN_SECONDS,
    )
    return DrainingServer(config)


def _serve_here(settings: ServeSettings, listener: socket.socket) -> None:
    """Serve in this process."""
    # Responses carry these warnings; the log of a server is not for them.
    warnings.simplefilter("ignore", InputWarning)
    service = make_service(settings)
    server = make_server(service)
    threading.Thread(target=_watch, args=(service, server), daemon=True).start()
    server.run(sockets=[listener])
    if service.queue.failure is not None:
        raise service.queue.failure


def _watch(service: Any, server: Any) -> None:
    """Say when the model is loaded; end the server if it cannot be."""
    service.queue.ready.wait()
    if service.queue.failure is None:
        _logger.info("%s is loaded", service.worker.model_name)
    else:
        server.should_exit = True


def _load(settings: ServeSettings) -> Any:
    from lxmert.pipeline import LxmertPipeline

    return LxmertPipeline.from_pretrained(
        settings.model,
        extractor=settings.extractor,
        answers=settings.answers,
        device=settings.device,
        cache=False,  # what clients send is not written to disk
    )


def public_name(model: str | None) -> str:
    """Return the name of a model for clients: never the path of its folder."""
    folder = find_model(model)
    name = model_name(folder)
    return folder.resolve().name if name == str(folder) else name


def _supervise(settings: ServeSettings, listener: socket.socket, metrics: Path) -> None:
    """Start workers, replace those that die, and end all of them on a signal."""
    from prometheus_client.multiprocess import mark_process_dead

    metrics.mkdir()
    os.environ[_METRICS_VARIABLE] = str(metrics)  # read by the workers' prometheus_client
    context = multiprocessing.get_context("spawn")
    stopping = threading.Event()

    def start() -> BaseProcess:
        worker = context.Process(target=_work, args=(settings, listener))
        worker.start()
        return worker

    workers = [start() for _ in range(settings.workers)]

    def stop(*_: object) -> None:
        stopping.set()
        for worker in workers:
            worker.terminate()

    with _on_signals(stop):
        while not stopping.is_set():
            wait([worker.sentinel for worker in workers], timeout=1)
            dead = [worker for worker in workers if not worker.is_alive()]
            if stopping.is_set() or not dead:
                continue
            if any(worker.exitcode == _FAILED for worker in dead):
                stop()
                raise ValueError("a worker could not load the model; its message is above")
            for worker in dead:
                _logger.error("a worker ended with exit code %s: restarted", worker.exitcode)
                mark_process_dead(worker.pid, metrics)  # type: ignore[no-untyped-call]
                workers[workers.index(worker)] = start()
        listener.close()
        for worker in workers:
            worker.join()


_FAILED = 2
"""Exit code of a worker that cannot load the model, so that another one could not either."""


def _work(settings: ServeSettings, listener: socket.socket) -> None:
    """Serve in a worker process, which ends with its parent."""
    end_with_parent()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        _serve_here(settings, listener)
    except Exception as error:
        from lxmert.serve.guard import describe

        expected = isinstance(error, ImportError | OSError | ValueError)
        _logger.error("%s", error if expected else describe(error))
        raise SystemExit(_FAILED) from error


@contextmanager
def _on_signals(stop: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    previous = {each: signal.signal(each, stop) for each in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for each, handler in previous.items():
            signal.signal(each, handler)
