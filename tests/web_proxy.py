"""A proxy of this machine that plays all of the web: programs need only its address.

It ends the encryption itself, with a certificate for the hosts that it plays.
"""

import ssl
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from web_server import Handler, Server, run


class _Proxied(Handler):
    """Answers requests to any host; the answering function gets `/HOST/PATH`."""

    server: "Proxy"
    host = "localhost"

    def do_CONNECT(self) -> None:  # noqa: N802
        self.send_response(200)
        self.end_headers()
        self.wfile.flush()
        host = self.path.split(":")[0]
        if host in self.server.dead:
            self.close_connection = True
            return
        self.connection = self.server.context.wrap_socket(self.connection, server_side=True)
        self.rfile, self.wfile = self.connection.makefile("rb"), self.connection.makefile("wb")
        self.host, self.close_connection = host, False

    def do_GET(self) -> None:  # noqa: N802
        self.path = f"/{self.host}{self.path}"
        super().do_GET()


class Proxy(Server):
    """The server of the proxy.

    Attributes:
        context: its certificate.
        dead: hosts that end every connection.
    """

    handler = _Proxied

    def __init__(self, answer: Callable[[Handler, str], None], certificate: Path) -> None:
        super().__init__(answer)
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(certificate)
        self.dead: set[str] = set()


def write_certificate(path: Path, hosts: set[str]) -> Path:
    """Write a certificate for hosts with its key, which is its own authority."""
    names = ",".join(f"DNS:{host}" for host in sorted(hosts))
    key = path.with_suffix(".key")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj",
         "/CN=tests", "-addext", f"subjectAltName={names}", "-keyout", key, "-out", path],
        check=True, capture_output=True,
    )  # fmt: skip
    path.write_bytes(path.read_bytes() + key.read_bytes())
    return path


@contextmanager
def serve_web(
    answer: Callable[[Handler, str], None], certificate: Path
) -> Iterator[tuple[Proxy, dict[str, str]]]:
    """Serve hosts; yield the server, and the environment in which programs use it."""
    server = Proxy(answer, certificate)
    with run(server):
        yield server, {"HTTPS_PROXY": server.url, "SSL_CERT_FILE": str(certificate)}
