"""Measure `lxmert serve` on loopback: load, known images, start, SIGTERM under load.

In the load, every hundredth image is bad: empty, truncated, HTML, PDF or half a JPEG file.

Everything is bounded. The bodies are JPEG files of 320x240 pixels. Each differs in bytes behind its
end, so that the server does not know it unless it is sent again. The client uses the same cores.

    python benchmarks/serve.py load --requests 10000 --users 32
    python benchmarks/serve.py known
    python benchmarks/serve.py start fast
    python benchmarks/serve.py term --rounds 20
"""

import argparse
import io
import json
import os
import re
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException
from itertools import count
from pathlib import Path

from PIL import Image

EXAMPLES = Path(__file__).parents[1] / "src/lxmert/examples"
QUESTION = "What is the number of metallic things?"
BOUNDARY = "lxmert-benchmark"
BAD = (b"", b"<html></html>", b"\xff\xd8\xff\xe0" + bytes(400), b"%PDF-1.7")


class Server:
    """`lxmert serve` in a process of its own."""

    def __init__(self, *options: str) -> None:
        command = [sys.executable, "-m", "lxmert", "serve", "--port", "0", *options]
        self.started = time.perf_counter()
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert self.process.stderr is not None
        self.lines: list[str] = []
        self.polls = 0
        for line in self.process.stderr:
            self.lines.append(line)
            if found := re.search(r"http://[^:]+:(\d+)", line):
                self.port = int(found[1])
                break
        else:
            sys.exit("".join(self.lines))
        self._drained = threading.Event()
        threading.Thread(target=self._drain, daemon=True).start()
        while self.get("/health")[0] != 200:
            time.sleep(0.05)

    def _drain(self) -> None:
        for line in self.process.stderr or ():
            self.lines.append(line)
            del self.lines[:-50]
        self._drained.set()

    def get(self, path: str) -> tuple[int, str]:
        """Return status and text of a path."""
        self.polls += 1
        connection = HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()

    def resident_mib(self) -> float:
        """Return the resident memory."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(r"VmRSS:\s+(\d+)", status)
        assert found is not None
        return int(found[1]) / 1024

    def end(self) -> tuple[float, float]:
        """Send SIGTERM; return the seconds until the port is free, and until the process ends."""
        begun = time.perf_counter()
        self.process.send_signal(signal.SIGTERM)
        while not is_free(self.port):
            time.sleep(0.02)
        free = time.perf_counter() - begun
        self.process.wait(60)
        ended = time.perf_counter() - begun
        self._drained.wait(60)
        return free, ended


@contextmanager
def served(*options: str) -> Iterator[Server]:
    server = Server(*options)
    try:
        yield server
    finally:
        server.process.kill()
        server.process.wait()


def make_images() -> list[bytes]:
    images = []
    for path in sorted(EXAMPLES.glob("*.png")):
        file = io.BytesIO()
        Image.open(path).convert("RGB").resize((320, 240)).save(file, "JPEG", quality=90)
        images.append(file.getvalue())
    return images


def form(image: bytes) -> bytes:
    head = (
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="question"\r\n\r\n{QUESTION}\r\n'
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="image"; filename="x"\r\n\r\n'
    )
    return head.encode() + image + f"\r\n--{BOUNDARY}--\r\n".encode()


def post(connection: HTTPConnection, body: bytes, kind: str) -> tuple[int, bytes]:
    connection.request("POST", "/v1/ask", body, {"Content-Type": kind})
    response = connection.getresponse()
    return response.status, response.read()


def run_load(
    port: int, *, users: int, requests: int, body: Callable[[int], bytes]
) -> tuple[float, list[float], Counter[tuple[int, int]], list[str]]:
    """Send requests from several users, each over one connection.

    Returns:
        Seconds; the latency of each request; the number of requests by (index modulo 100, status);
        the errors of connections.
    """
    numbers, latencies, errors = count(), list[float](), list[str]()
    statuses: Counter[tuple[int, int]] = Counter()

    def user() -> None:
        connection = HTTPConnection("127.0.0.1", port, timeout=120)
        while (number := next(numbers)) < requests:
            begun = time.perf_counter()
            try:
                status, _ = post(
                    connection, body(number), f"multipart/form-data; boundary={BOUNDARY}"
                )
            except (OSError, HTTPException) as error:
                errors.append(repr(error))
                connection.close()
                continue
            latencies.append(time.perf_counter() - begun)
            statuses[number % 100, status] += 1

    threads = [threading.Thread(target=user) for _ in range(users)]
    begun = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - begun, latencies, statuses, errors


def unique(images: list[bytes], salt: int) -> Callable[[int], bytes]:
    """Return a function that makes body n; every tenth image was sent before."""

    def body(number: int) -> bytes:
        number -= 9 if number % 10 == 9 else 0
        image = images[number % len(images)]
        return form(image + salt.to_bytes(4, "big") + number.to_bytes(4, "big"))

    return body


def some_bad(images: list[bytes], salt: int) -> Callable[[int], bytes]:
    """Return a function that makes body n as `unique`, but every hundredth has a bad image."""
    good, bad = unique(images, salt), [*BAD, images[0][: len(images[0]) // 2]]

    def body(number: int) -> bytes:
        return form(bad[number // 100 % len(bad)]) if number % 100 == 50 else good(number)

    return body


def quantile(values: list[float], share: float) -> float:
    return 1000 * sorted(values)[min(int(share * len(values)), len(values) - 1)]


def measure_load(arguments: argparse.Namespace) -> None:
    images = make_images()
    tenth = max(arguments.requests // 10, 1)
    with served("--cache", str(arguments.cache)) as server:
        run_load(server.port, users=1, requests=20, body=unique(images, 1))
        alone, single, _, _ = run_load(
            server.port, users=1, requests=arguments.alone, body=unique(images, 2)
        )
        rates, memory, latencies, broken = [], [], list[float](), 0
        good, bad = Counter[int](), Counter[int]()
        for part in range(10):
            seconds, found, statuses, errors = run_load(
                server.port, users=arguments.users, requests=tenth, body=some_bad(images, 8 + part)
            )
            rates.append(tenth / seconds)
            memory.append(server.resident_mib())
            latencies += found
            broken += len(errors)
            print(f"part {part + 1}: {rates[-1]:.1f} requests/s, {memory[-1]:.0f} MiB", flush=True)
            for (place, code), number in statuses.items():
                (bad if place == 50 else good)[code] += number
        again, _, _, _ = run_load(
            server.port, users=1, requests=arguments.alone, body=unique(images, 3)
        )
        batch = re.findall(r"batch_size_(?:sum|count) (\S+)", server.get("/metrics")[1])
    one = 2 * arguments.alone / (alone + again)
    print(f"{10 * tenth} requests of {arguments.users} users; statuses of good images: ", end="")
    print(f"{dict(good)}, of bad ones: {dict(bad)}; broken connections: {broken}")
    print(f"{statistics.mean(rates):.1f} requests/s; one at a time {one:.1f} (before and after)")
    print(f"ratio {statistics.mean(rates) / one:.2f}")
    print(
        f"p50 {quantile(latencies, 0.5):.0f} ms, p95 {quantile(latencies, 0.95):.0f} ms; ", end=""
    )
    print(f"one at a time p50 {quantile(single, 0.5):.0f} ms, p95 {quantile(single, 0.95):.0f} ms")
    print(f"memory after each tenth: {', '.join(f'{each:.0f}' for each in memory)} MiB; ", end="")
    print(f"last to first {memory[-1] / memory[0]:.3f}")
    print(f"items per batch {float(batch[1]) / float(batch[0]):.1f}")


def measure_known(arguments: argparse.Namespace) -> None:
    """One user asks about the same image, by its id and by sending it again."""
    image = make_images()[0]
    with served() as server:
        connection = HTTPConnection("127.0.0.1", server.port, timeout=60)
        multipart = f"multipart/form-data; boundary={BOUNDARY}"
        image_id = json.loads(post(connection, form(image), multipart)[1])["image_id"]
        named = json.dumps({"image_id": image_id, "question": QUESTION}).encode()
        for name, body, kind in (
            ("by its id", named, "application/json"),
            ("sent again", form(image), multipart),
        ):
            seconds = []
            for _ in range(arguments.requests):
                begun = time.perf_counter()
                status, _ = post(connection, body, kind)
                seconds.append(time.perf_counter() - begun)
                assert status == 200
            print(f"known image {name}: p50 {quantile(seconds, 0.5):.1f} ms, ", end="")
            print(f"p95 {quantile(seconds, 0.95):.1f} ms")


def measure_start(arguments: argparse.Namespace) -> None:
    """From the command to the first answer."""
    body, seconds = form(make_images()[0]), []
    model = [] if arguments.model is None else [arguments.model]
    for _ in range(arguments.rounds):
        with served(*model) as server:
            connection = HTTPConnection("127.0.0.1", server.port, timeout=60)
            status, _ = post(connection, body, f"multipart/form-data; boundary={BOUNDARY}")
            assert status == 200
            seconds.append(time.perf_counter() - server.started)
    listed = ", ".join(f"{each:.1f}" for each in seconds)
    print(f"start to first answer: {listed} s; median {statistics.median(seconds):.1f} s")


def measure_term(arguments: argparse.Namespace) -> None:
    """SIGTERM under load: every request that the server has accepted must have been answered."""
    images, lost, ends = make_images(), 0, []
    for number in range(arguments.rounds):
        received: list[Counter[tuple[int, int]]] = []

        def load(port: int, salt: int, received: list[Counter[tuple[int, int]]] = received) -> None:
            body = unique(images, salt)
            received.append(run_load(port, users=arguments.users, requests=2000, body=body)[2])

        with served() as server:
            clients = threading.Thread(target=load, args=(server.port, 100 + number))
            clients.start()
            time.sleep(1.5)
            ends.append(server.end())
            clients.join()
            (found,) = re.findall(r"(\d+) of (\d+) accepted", "".join(server.lines))
        answered, accepted = (int(number) - server.polls for number in found)
        good = sum(number for (_, status), number in received[0].items() if status == 200)
        lost += accepted - good
        print(f"questions: accepted {accepted}, answered {answered}, ", end="")
        print(f"answers at the clients {good}; ended in {ends[-1][1]:.1f} s")
    free, ended = (max(times) for times in zip(*ends, strict=True))
    print(f"{arguments.rounds} rounds: {lost} accepted requests lost, ", end="")
    print(f"port free after {free:.1f} s at most, process ended after {ended:.1f} s at most")


def is_free(port: int) -> bool:
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["load", "known", "start", "term"])
    parser.add_argument("model", nargs="?", help="for start; default: the bundled model")
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--users", type=int, default=32)
    parser.add_argument("--alone", type=int, default=100, help="requests one at a time")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cache", type=int, default=16, help="region cache of the server in MiB")
    arguments = parser.parse_args()
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    globals()[f"measure_{arguments.what}"](arguments)


if __name__ == "__main__":
    main()
