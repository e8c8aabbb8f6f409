"""Start Python and `lxmert` without the seconds that importing PyTorch and transformers takes.

One server imports them and forks for each start; programs of its folder stand for `python` and
`lxmert`, and pass on arguments, folder, environment, streams, signals and exit code. What is
imported, and what libraries read from the environment while they are imported, is that of the
server: tests of these start a process of their own.
"""

import gc
import json
import os
import runpy
import select
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any

IMPORTED = (
    "accelerate", "lxmert.cli.main", "lxmert.lab.scenes.dataset", "lxmert.pipeline",
    "lxmert.workflows.evaluation", "lxmert.workflows.training", "torch.distributed.launcher",
)  # fmt: skip
PROGRAMS = {"python": (), "lxmert": ("-m", "lxmert")}
"""Programs, with their first arguments."""

_MOST_BYTES = 1 << 17


@contextmanager
def starting(folder: Path) -> Iterator[Path]:
    """Run the server; yield the folder of programs that start processes of it."""
    address = folder / "socket"
    for name, first in PROGRAMS.items():
        command = shlex.join([sys.executable, "-IS", __file__, str(address), *first])
        (folder / name).write_text(f'#!/bin/sh\nexec {command} "$@"\n')
        (folder / name).chmod(0o755)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(str(address))
        listener.listen()
        server = subprocess.Popen(
            [sys.executable, __file__, str(listener.fileno())],
            pass_fds=[listener.fileno()],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            # Background processes inherit that the signal is ignored.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
    try:
        yield folder
    finally:
        server.kill()
        server.wait()


def start(address: str, arguments: list[str]) -> None:
    """Have the server run Python with some arguments; end as it ends."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as server:
        server.connect(address)
        request = json.dumps([arguments, os.getcwd(), dict(os.environ)]).encode()
        socket.send_fds(server, [request], [0, 1, 2])
        process = int(server.recv(_MOST_BYTES))
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda number, _: os.kill(process, number))
        code = int(server.recv(_MOST_BYTES))
    if code < 0:
        signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    sys.exit(code)


def serve(listener: socket.socket) -> list[str]:
    """Fork for each request; return its arguments in the process that is to run them."""
    gc.disable()
    for name in IMPORTED:
        import_module(name)
    gc.enable()
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        client, _ = listener.accept()
        if not os.fork():
            listener.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            request, streams, _, _ = socket.recv_fds(client, _MOST_BYTES, 3)
            process = os.fork()
            if not process:
                client.close()
                return become(streams, *json.loads(request))
            with suppress(OSError):  # the client was killed
                watch(client, process)
            os._exit(0)
        client.close()


def watch(client: socket.socket, process: int) -> None:
    """Tell the client how its process ends; end the process if the client is killed."""
    client.send(str(process).encode())
    ended = os.pidfd_open(process)
    if ended not in select.select([client, ended], [], [])[0]:
        os.kill(process, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    client.send(str(code).encode())


def become(
    streams: list[int], arguments: list[str], folder: str, environment: dict[str, str]
) -> list[str]:
    """Take the place of the client."""
    os.setpgid(0, 0)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.path[1:1] = filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))
    return arguments


def run(arguments: list[str]) -> None:
    """Run what `python ARGUMENTS` runs."""
    first, *rest = arguments[1:] if arguments[0] == "-u" else arguments
    if first == "-m":
        sys.argv, sys.path[0] = rest, os.getcwd()
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    elif first == "-c":
        sys.argv, sys.path[0] = ["-c", *rest[1:]], ""
        names: dict[str, Any] = {"__name__": "__main__"}
        exec(rest[0], names)
    else:
        sys.argv, sys.path[0] = [first, *rest], str(Path(first).parent)
        runpy.run_path(first, run_name="__main__")


if __name__ == "__main__":
    if sys.argv[1].isdigit():
        run(serve(socket.socket(fileno=int(sys.argv[1]))))
    else:
        start(sys.argv[1], sys.argv[2:])
