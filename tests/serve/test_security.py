"""Who may use a server: logins, keys, foreign pages, full queues, time limits; and its log."""

import base64
import logging
import threading
from pathlib import Path

import pytest
from servers import RunningServer, bundled, in_base64, running, server

from lxmert.pipeline import LxmertPipeline
from lxmert.serve import security
from lxmert.serve.settings import ServeSettings, read_keys
from lxmert.web import Deadline, open_address

__all__ = ["server"]
KEYS = ("key-of-sixteen-or-more", "another-key-of-sixteen")
PATHS = ("/v1/model", "/metrics", "/openapi.json", "/reports/" + "8" * 22, "/nothing")


def basic(user: str, password: str) -> dict[str, str]:
    value = base64.b64encode(f"{user}:{password}".encode()).decode()
    return {"Authorization": f"Basic {value}"}


def test_without_login_nothing_but_the_health_is_told() -> None:
    with running(user="ada", password="pässword", api_keys=KEYS) as client:
        assert client.get("/health").status_code == 200
        for path in PATHS:
            refused = client.get(path)
            assert (refused.status_code, refused.json()["status"]) == (401, 401)
            assert refused.headers["www-authenticate"].startswith("Basic")
        assert client.ask().status_code == 401


@pytest.mark.parametrize(
    "headers",
    [
        basic("ada", "pässword"),
        basic("anyone", KEYS[0]),
        {"Authorization": f"Bearer {KEYS[1]}"},
        {"Authorization": f"bearer  {KEYS[1]} "},
        {"X-API-Key": KEYS[0]},
    ],
)
def test_valid_credentials_are_accepted(headers: dict[str, str]) -> None:
    settings = ServeSettings(user="ada", password="pässword", api_keys=KEYS)
    security.check_login(httpx_headers(headers), settings)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        basic("ada", "wrong"),
        basic("ada", ""),
        basic("", "pässword"),
        basic("ada:pässword", ""),
        {"Authorization": "Basic !!!"},
        {"Authorization": "Basic " + base64.b64encode(b"\xff:\xff").decode()},
        {"Authorization": "Bearer"},
        {"Authorization": f"Bearer {KEYS[0][:-1]}"},
        {"Authorization": f"Digest {KEYS[0]}"},
        {"X-API-Key": ""},
        {"X-API-Key": "\xe9"},
    ],
)
def test_invalid_credentials_are_refused(headers: dict[str, str]) -> None:
    settings = ServeSettings(user="ada", password="pässword", api_keys=KEYS)
    with pytest.raises(security.RequestError, match="API key"):
        security.check_login(httpx_headers(headers), settings)


def httpx_headers(headers: dict[str, str]) -> security.Headers:
    return security.Headers(headers)


def test_keys_are_compared_with_all_of_them_in_constant_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[bytes] = []
    compare = security.hmac.compare_digest
    monkeypatch.setattr(
        security.hmac, "compare_digest", lambda a, b: (seen.append(b), compare(a, b))[1]
    )
    settings = ServeSettings(api_keys=KEYS)
    security.check_login(httpx_headers({"X-API-Key": KEYS[0]}), settings)
    assert seen == [key.encode() for key in KEYS]


def test_keys_come_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text(f"# of the lab\n{KEYS[0]}\n\n  {KEYS[1]}\n")
    assert read_keys(path) == KEYS
    path.write_text("# none\n\n")
    with pytest.raises(ValueError, match="has no API key"):
        read_keys(path)
    with pytest.raises(ValueError, match="fewer than 16"):
        ServeSettings(api_keys=("short",))


def test_pages_of_other_hosts_are_refused(server: RunningServer) -> None:
    foreign = {"Origin": "https://evil.example"}
    refused = server.post("/v1/ask", json={"image": in_base64(), "question": "a"}, headers=foreign)
    assert refused.status_code == 403
    assert "access-control-allow-origin" not in refused.headers
    assert server.options("/v1/ask", headers=foreign).status_code == 403
    own = {"Origin": str(server.base_url).rstrip("/")}
    assert server.get("/v1/model", headers=own).status_code == 200
    assert server.get("/v1/model", headers={"Origin": "null"}).status_code == 403


def test_another_host_name_is_refused_on_loopback(server: RunningServer) -> None:
    """A page of evil.example may bind its own name to 127.0.0.1 (DNS rebinding)."""
    for host in ("evil.example", "evil.example:80", "", "127.0.0.1.evil.example"):
        assert server.get("/v1/model", headers={"Host": host}).status_code == 421
    for host in ("localhost", "LOCALHOST:80", "127.0.0.1", "[::1]:80"):
        assert server.get("/v1/model", headers={"Host": host}).status_code == 200


def test_allowed_origins_may_read() -> None:
    origin = {"Origin": "https://lab.example"}
    with running(allow_origins=("https://lab.example",)) as client:
        found = client.get("/v1/model", headers=origin)
        assert found.headers["access-control-allow-origin"] == "https://lab.example"
        asked = client.options("/v1/ask", headers=origin)
        assert asked.status_code == 200
        assert "POST" in asked.headers["access-control-allow-methods"]
        other = client.get("/v1/model", headers={"Origin": "https://evil.example"})
        assert other.status_code == 403


def test_responses_have_the_headers_of_a_careful_server(server: RunningServer) -> None:
    for response in (server.get("/v1/model"), server.get("/nothing"), server.ask(b"")):
        assert response.headers["x-content-type-options"] == "nosniff"
        assert "server" not in response.headers
        assert "access-control-allow-origin" not in response.headers


def test_beyond_the_queue_requests_are_told_to_come_later() -> None:
    go, loaded = threading.Event(), bundled()
    extractor = loaded.processor.extractor

    class Waiting:
        def __getattr__(self, name: str) -> object:
            return getattr(extractor, name)

        def __call__(self, images: list[object]) -> object:
            go.wait(60)
            return extractor(images)

    with running(max_queue=2) as client:
        loaded.processor.extractor = Waiting()  # type: ignore[assignment]
        statuses: list[int] = []
        threads = [
            threading.Thread(target=lambda: statuses.append(client.ask().status_code))
            for _ in range(2)
        ]
        try:
            for thread in threads:
                thread.start()
            while b"lxmert_active_requests 2.0" not in client.get("/metrics").content:
                pass
            refused = client.ask()
            assert refused.status_code == 429
            assert int(refused.headers["retry-after"]) >= 1
            assert client.get("/health").status_code == 200
        finally:
            go.set()
            loaded.processor.extractor = extractor
        for thread in threads:
            thread.join()
        assert statuses == [200, 200]
        assert client.ask().status_code == 200


def test_a_request_that_takes_too_long_is_told_so() -> None:
    go, loaded = threading.Event(), bundled()
    extractor = loaded.processor.extractor

    class Waiting:
        def __getattr__(self, name: str) -> object:
            return getattr(extractor, name)

        def __call__(self, images: list[object]) -> object:
            go.wait(60)
            return extractor(images)

    with running(timeout=0.5) as client:
        loaded.processor.extractor = Waiting()  # type: ignore[assignment]
        try:
            late = client.ask()
            assert late.status_code == 503
            assert "0.5 seconds" in late.json()["error"]
            assert late.headers["retry-after"]
        finally:
            go.set()
            loaded.processor.extractor = extractor


def test_addresses_are_refused_unless_allowed(server: RunningServer) -> None:
    body = {"image_url": f"{server.base_url}/health", "question": "a"}
    refused = server.post("/v1/ask", json=body)
    assert refused.status_code == 403
    assert "--allow-urls" in refused.json()["error"]


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:{port}/x",
        "http://localhost:{port}/x",
        "http://2130706433:{port}/x",
        "http://0x7f.1:{port}/x",
        "http://0.0.0.0:{port}/x",
        "http://[::1]:{port}/x",
        "http://[::ffff:127.0.0.1]:{port}/x",
        "http://[::ffff:7f00:1]/x",
        "http://[2002:7f00:1::]/x",
        "http://[64:ff9b::7f00:1]/x",
        "http://10.0.0.1/x",
        "http://172.16.0.1/x",
        "http://192.168.1.1/x",
        "http://169.254.169.254/latest/meta-data",
        "http://100.64.0.1/x",
        "http://224.0.0.1/x",
        "http://[fe80::1]/x",
        "http://[fc00::1]/x",
        "file:///etc/passwd",
        "ftp://127.0.0.1/x",
        "http://user@127.0.0.1:{port}/x",
        "gopher://127.0.0.1/x",
        "/etc/passwd",
        "",
        "http://",
        "http://[",
    ],
)
def test_private_addresses_are_never_opened(url: str, urls: RunningServer) -> None:
    body = {"image_url": url.format(port=urls.base_url.port), "question": "a"}
    refused = urls.post("/v1/ask", json=body)
    assert refused.status_code == 400, refused.text
    assert "address is refused" in refused.json()["error"]


@pytest.fixture(scope="module")
def urls() -> "RunningServer":
    with running(allow_urls=True) as client:
        yield client


def test_public_only_is_what_refuses(server: RunningServer) -> None:
    """Without it the same address is opened: the test above does not pass by chance."""
    url = f"{server.base_url}/health"
    with open_address(url, {}, Deadline(20)) as response:
        assert response.status == 200
    with pytest.raises(OSError, match="not a public address"):
        open_address(url, {}, Deadline(20), public_only=True)


def test_a_redirect_to_a_private_address_is_refused(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first host counts as public here, and leads to a private one."""
    from web_server import serve

    from lxmert import web

    with serve(lambda request, _: request.reply(302, Location=f"{server.base_url}/health")) as evil:
        public = web._is_public
        asked: list[str] = []

        def first_is_public(place: str) -> bool:
            asked.append(place)
            return len(asked) == 1 or public(place)

        monkeypatch.setattr(web, "_is_public", first_is_public)
        with pytest.raises(OSError, match="not a public address"):
            open_address(f"{evil.url}/x", {}, Deadline(20), public_only=True)
        assert evil.paths("GET") == ["/x"]


def test_nothing_of_a_client_is_in_the_log(
    server: RunningServer, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG, logger="lxmert"):
        forged = "x\r\nforged: line\x1b[31m"
        server.ask(question=forged)
        server.get("/forged%0d%0aline?a=forged")
        server.request("FORGED", "/v1/ask")
        server.post("/v1/forged", headers={"User-Agent": "forged", "X-Forwarded-For": "forged"})
        server.get("/reports/forged%0aline")
    text = "\n".join(record.getMessage() for record in caplog.records)
    assert "POST /v1/ask 200" in text
    assert "forged" not in text.lower()


def test_an_unexpected_error_is_escaped_and_tells_the_client_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Broken(LxmertPipeline):
        def __init__(self) -> None:
            self.__dict__ |= bundled().__dict__

        def ask_regions(self, *_: object, **__: object) -> object:  # type: ignore[override]
            raise RuntimeError("secret /home/ada\r\nforged: line\x1b[31m")

    with running(Broken) as client:
        response = client.ask()
    assert response.status_code == 500
    assert "secret" not in response.text
    (line,) = [r.getMessage() for r in caplog.records if "unexpected" in r.getMessage()]
    assert "\n" not in line
    assert "\x1b" not in line
    assert "test_security.py" in line
