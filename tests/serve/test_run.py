"""The command `lxmert serve` in processes of its own: start, SIGTERM, workers, refused settings."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest
import toy_worker
from conftest import Command
from prometheus_client import CollectorRegistry
from prometheus_client.multiprocess import MultiProcessCollector
from servers import QUESTION, SCENE

from lxmert.serve import run
from lxmert.serve.run import _listen
from lxmert.serve.settings import ServeSettings

LIMIT = 120


class Served(NamedTuple):
    """A server, its address, and the lines that it has printed since it listens."""

    process: subprocess.Popen[str]
    url: str
    lines: list[str]

    def ask(self) -> httpx.Response:
        files = {"image": SCENE.read_bytes()}
        return httpx.post(
            f"{self.url}/v1/ask", files=files, data={"question": QUESTION}, timeout=60
        )

    def end(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


@contextmanager
def serving(*arguments: str, python: str | Path = sys.executable) -> Iterator[Served]:
    """Run `lxmert serve` on a free port until it is ready, and end it."""
    command = [python, "-m", "lxmert", "serve", "--port", "0", *arguments]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    lines: list[str] = []
    try:
        for line in process.stderr:
            lines.append(line)
            if match := re.search(r"http://\S+", line):
                break
        else:
            pytest.fail("".join(lines))
        threading.Thread(target=lambda: lines.extend(process.stderr or ()), daemon=True).start()
        wait_until_ready(match[0], process)
        yield Served(process, match[0], lines)
    finally:
        process.kill()
        process.wait(60)


def wait_until_ready(url: str, process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + LIMIT
    while time.monotonic() < end and process.poll() is None:
        try:
            if httpx.get(f"{url}/health", timeout=60).status_code == 200:
                return
        except httpx.TransportError:
            continue
    pytest.fail("the server was never ready")


def is_free(url: str) -> bool:
    address = httpx.URL(url)
    try:
        socket.create_server((address.host, address.port or 0)).close()
    except OSError:
        return False
    return True


def children(process: int) -> list[int]:
    path = Path(f"/proc/{process}/task/{process}/children")
    return [int(child) for child in path.read_text().split()]


def is_running(process: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{process}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def load_until_sigterm(served: Served, *, clients: int) -> tuple[int, list[str]]:
    """Send requests, SIGTERM amid them; return the answered ones, and what was wrong."""
    answered, wrong, enough = [], [], threading.Event()

    def client() -> None:
        while True:
            try:
                response = served.ask()
            except (httpx.ConnectError, httpx.ReadError, httpx.RemoteProtocolError) as error:
                # Refused, or reset in the queue of the kernel: never accepted.
                if isinstance(error, httpx.ReadError | httpx.RemoteProtocolError):
                    wrong.append(repr(error)) if "reset" not in repr(error).lower() else None
                return
            if response.status_code != 200:
                wrong.append(response.text)
            answered.append(response.status_code)
            if len(answered) >= 2 * clients:
                enough.set()

    threads = [threading.Thread(target=client) for _ in range(clients)]
    for thread in threads:
        thread.start()
    assert enough.wait(60)
    served.process.send_signal(signal.SIGTERM)
    for thread in threads:
        thread.join()
    served.process.wait(60)
    return len(answered), wrong


@pytest.mark.long
def test_accepted_requests_are_answered_before_the_end(programs: Path) -> None:
    with serving(python=programs / "python") as served:
        assert served.ask().json()["answers"][0]["answer"] == "yellow"
        _, wrong = load_until_sigterm(served, clients=6)
        assert wrong == []
        assert served.process.returncode in (0, -signal.SIGTERM)
        assert is_free(served.url)


@pytest.mark.long
def test_a_request_on_its_way_is_answered_before_the_end(programs: Path) -> None:
    """A connection was closed if nothing had arrived on it when the server was to end."""
    with serving(python=programs / "python") as served:
        address = httpx.URL(served.url)
        with socket.create_connection((address.host, address.port or 0), timeout=60) as connection:
            assert served.ask().status_code == 200  # so that the connection above is accepted too
            served.process.send_signal(signal.SIGTERM)
            wait_for(lambda: is_free(served.url))
            connection.sendall(b"GET /v1/model HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            assert connection.recv(12) == b"HTTP/1.1 200"
        assert served.process.wait(60) in (0, -signal.SIGTERM)


@pytest.mark.slow
@pytest.mark.parametrize("attempt", range(3))
def test_sigterm_under_load_loses_no_accepted_request(attempt: int) -> None:
    with serving() as served:
        _, wrong = load_until_sigterm(served, clients=32)
        assert wrong == []
        assert is_free(served.url)
        wait_for(lambda: any(line.startswith("ended:") for line in served.lines))
        (counts,) = re.findall(r"ended: (\d+) of (\d+) accepted", "".join(served.lines))
        assert counts[0] == counts[1]


def test_responses_are_sent_without_delay() -> None:
    """Each response but the first of a connection took 40 ms longer than the model."""
    with (
        _listen(ServeSettings(port=0)) as listener,
        socket.create_connection(listener.getsockname()),
        listener.accept()[0] as connection,
    ):
        assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


@pytest.mark.slow
def test_workers_share_the_port_and_end_with_their_parent() -> None:
    with serving("--workers", "2") as served:

        def wait_for_loaded(number: int) -> None:
            wait_for(lambda: sum(line.endswith("is loaded\n") for line in served.lines) == number)

        wait_for_loaded(2)
        workers = [each for each in children(served.process.pid) if is_server(each)]
        assert len(workers) == 2
        assert {served.ask().status_code for _ in range(6)} == {200}
        metrics = httpx.get(f"{served.url}/metrics").text
        (found,) = re.findall(r'requests_total\{path="/v1/ask",status="200"\} (\S+)', metrics)
        assert float(found) == 6  # of both workers
        os.kill(workers[0], signal.SIGKILL)
        # Bug: while the new worker loaded the model, it refused requests.
        assert {served.ask().status_code for _ in range(20)} == {200}
        wait_for_loaded(3)
        assert {served.ask().status_code for _ in range(6)} == {200}
        workers = children(served.process.pid)
        assert served.end() == 0
        assert is_free(served.url)
        # The process that cleans up after them ends once it sees that its parent has ended.
        wait_for(lambda: not any(map(is_running, workers)))


def test_the_requests_of_a_dead_worker_are_no_longer_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bug: the gauges of a worker that had died were added to those of the others for ever."""
    monkeypatch.setattr(run, "_work", toy_worker.work)
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", "")  # restored afterwards
    found: list[float] = []

    def look() -> None:
        try:
            wait_for((tmp_path / "ready").exists)
            registry = CollectorRegistry()
            MultiProcessCollector(registry, tmp_path / "metrics")  # type: ignore[no-untyped-call]
            found.append(registry.get_sample_value("lxmert_active_requests") or 0.0)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)

    settings = ServeSettings(port=0, reports=tmp_path)
    with _listen(settings) as listener:
        threading.Thread(target=look).start()
        run._supervise(settings, listener, tmp_path / "metrics")
    assert found == [2]


GAUGES = """
import re, threading, time
from servers import bundled, running

pipeline, go = bundled(), threading.Event()
extractor = pipeline.processor.extractor

class Held:
    def __getattr__(self, name):
        return getattr(extractor, name)

    def __call__(self, images):
        go.wait(60)
        return extractor(images)

pipeline.processor.extractor = Held()
go.set()
with running(max_batch=1) as client:
    def gauge(name):
        return float(re.search(rf"^lxmert_{name} (\\S+)", client.get("/metrics").text, re.M)[1])

    go.clear()
    threads = [threading.Thread(target=client.ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    while gauge("queue_length") != 2:
        time.sleep(0.01)
    assert gauge("active_requests") == 3
    go.set()
    for thread in threads:
        thread.join()
    assert gauge("queue_length") == 0
    assert gauge("region_cache_bytes") == client.service._cache.nbytes > 0
"""


@pytest.mark.long
def test_queue_and_cache_are_measured_if_workers_share_files(
    programs: Path, tmp_path: Path
) -> None:
    """Bug: both were 0 if several workers shared the files of their metrics."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    environment["PROMETHEUS_MULTIPROC_DIR"] = str(tmp_path)
    command = [programs / "python", "-c", GAUGES]
    done = subprocess.run(command, env=environment, timeout=LIMIT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "error",
    [RuntimeError("no memory"), ModuleNotFoundError("openvino"), KeyError("x"), ValueError("bad")],
)
def test_any_error_of_the_model_ends_a_worker_as_one_that_others_would_have(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
) -> None:
    """Bug: after most errors, workers that could not load the model were restarted for ever."""

    def load(settings: ServeSettings) -> None:
        raise error

    monkeypatch.setattr(run, "end_with_parent", lambda: None)
    monkeypatch.setattr(run, "_load", load)
    settings = ServeSettings(port=0, reports=tmp_path)
    with _listen(settings) as listener, pytest.raises(SystemExit) as ended:
        run._work(settings, listener)
    assert ended.value.code == run._FAILED
    assert str(error) in caplog.text


def is_server(process: int) -> bool:
    return b"spawn_main" in Path(f"/proc/{process}/cmdline").read_bytes()


def wait_for(condition: object) -> None:
    end = time.monotonic() + LIMIT
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere/model"], "nowhere/model"),
        (["--auth", "ada"], "USER:PASSWORD"),
        (["--api-key-file", "nowhere"], "nowhere"),
        (["--port", "70000"], "70000"),
        (["--workers", "0"], "workers"),
        (["--timeout", "0"], "timeout"),
        (["--host", "203.0.113.8"], "cannot listen"),
    ],
)
def test_wrong_settings_are_named(lxmert: Command, arguments: list[str], message: str) -> None:
    result = lxmert("serve", *arguments)
    assert result.code == 2
    assert message in result.err
    assert len(result.err.strip().splitlines()) == 1


def test_the_device_is_left_to_the_model(lxmert: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bug: where there is a GPU, exported models, which compute on the CPU, were refused."""
    chosen: list[ServeSettings] = []
    monkeypatch.setattr(run, "serve", chosen.append)
    monkeypatch.setattr("lxmert.devices._available", lambda: {"cpu": 1, "cuda": 1})
    assert lxmert("serve").code == 0
    assert lxmert("serve", "--device", "cuda").code == 0
    assert [each.device for each in chosen] == [None, "cuda"]
    result = lxmert("serve", "--device", "mps")
    assert (result.code, len(chosen)) == (2, 2)
    assert "'mps' is not available" in result.err


def test_a_taken_port_is_named(lxmert: Command) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = lxmert("serve", "--port", port)
    assert result.code == 2
    assert f"port {port}" in result.err


def test_a_damaged_model_ends_the_server(lxmert: Command, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "lxmert"}))
    result = lxmert("serve", tmp_path, "--port", "0")
    assert result.code == 2
    assert str(tmp_path) in result.err


@pytest.mark.slow
def test_workers_without_a_model_end_the_server(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "lxmert"}))
    command = [sys.executable, "-m", "lxmert", "serve", str(tmp_path), "--port", "0"]
    ended = subprocess.run(
        [*command, "--workers", "2"], capture_output=True, text=True, timeout=LIMIT
    )
    assert ended.returncode == 2, ended.stderr
    assert "Traceback" not in ended.stderr
    assert str(tmp_path) in ended.stderr
