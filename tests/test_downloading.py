"""Downloads from local servers that disconnect, send wrong data, never end or do not exist."""

import errno
import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from file_server import BODY, SHA256, Files
from web_server import Handler, Server, serve

from lxmert import downloading
from lxmert.downloading import FullDiskError, Remote, download


@pytest.fixture
def files() -> Files:
    return Files({"a.bin": BODY})


@pytest.fixture
def server(files: Files) -> Iterator[Server]:
    with serve(files) as running:
        yield running


def remote(*urls: str, **known: object) -> Remote:
    return Remote("set/a.bin", urls, **known)  # type: ignore[arg-type]


def ranges(server: Server) -> list[str]:
    return [asked for _, _, asked in server.requests]


def test_an_interrupted_download_resumes(tmp_path: Path, files: Files, server: Server) -> None:
    files.cuts = [100_000, 250_000]
    reported = []
    url = f"{server.url}/a.bin"
    origin = download(
        remote(url), tmp_path / "a.bin", progress=lambda *now: reported.append(now), pause=0
    )
    assert origin == url
    assert (tmp_path / "a.bin").read_bytes() == BODY
    assert ranges(server) == ["", "bytes=100000-", "bytes=350000-"]
    assert [path.name for path in tmp_path.iterdir()] == ["a.bin"]
    assert reported[-1] == (len(BODY), len(BODY))
    assert [done for done, _ in reported] == sorted(done for done, _ in reported)


def test_another_process_resumes_a_download(tmp_path: Path, files: Files, server: Server) -> None:
    files.cuts = [100_000, 0, 0, 0, 0, 0]
    known = remote(f"{server.url}/a.bin")
    with pytest.raises(OSError, match="failed repeatedly: the connection ended after 100000 of"):
        download(known, tmp_path / "a.bin", pause=0)
    assert not (tmp_path / "a.bin").exists()
    files.cuts, server.requests[:] = [], []
    download(known, tmp_path / "a.bin", pause=0)
    assert ranges(server) == ["bytes=100000-"]
    assert (tmp_path / "a.bin").read_bytes() == BODY


def test_another_version_of_the_file_is_not_joined_to_the_first(
    tmp_path: Path, files: Files, server: Server
) -> None:
    other = BODY[::-1]

    def change() -> None:
        files.files["a.bin"], files.version = other, '"v9"'

    cut_then(files, change)
    download(remote(f"{server.url}/a.bin"), tmp_path / "a.bin", pause=0)
    assert (tmp_path / "a.bin").read_bytes() == other


def test_a_server_that_ignores_the_version_does_not_mix_two_files(
    tmp_path: Path, files: Files
) -> None:
    """Bug: the rest of the new file was appended to the start of the old one."""
    other = BODY[::-1]

    def change() -> None:
        files.files["a.bin"], files.version = other, '"v9"'

    def answer(request: Handler, path: str) -> None:
        del request.headers["If-Range"]
        files(request, path)

    cut_then(files, change)
    with serve(answer) as server:
        download(remote(f"{server.url}/a.bin"), tmp_path / "a.bin", pause=0)
    assert (tmp_path / "a.bin").read_bytes() == other


def test_an_address_with_spaces_and_umlauts_is_quoted(
    tmp_path: Path, files: Files, server: Server
) -> None:
    """Bug: "'ascii' codec can't encode character"."""
    files.files = {"große Dateien/a b.bin": BODY}  # as the server reads it
    download(remote(f"{server.url}/große Dateien/a%20b.bin"), tmp_path / "a.bin", pause=0)
    assert (tmp_path / "a.bin").read_bytes() == BODY


def cut_then(files: Files, change: Callable[[], None]) -> None:
    """Interrupt the first response and change something before the second."""

    class Cuts(list[int]):
        def pop(self, _: object = 0) -> int:
            change()
            self.clear()
            return 100_000

    files.cuts = Cuts([1])


@pytest.mark.parametrize("version", ["", 'W/"8"'])
def test_without_version_or_checksum_the_download_restarts(
    tmp_path: Path, files: Files, server: Server, version: str
) -> None:
    files.cuts, files.version = [100_000], version
    download(remote(f"{server.url}/a.bin"), tmp_path / "a.bin", pause=0)
    assert ranges(server) == ["", ""]
    assert (tmp_path / "a.bin").read_bytes() == BODY


def test_a_server_without_ranges_restarts_the_download(
    tmp_path: Path, files: Files, server: Server
) -> None:
    files.cuts, files.ranges = [100_000], False
    download(remote(f"{server.url}/a.bin", sha256=SHA256), tmp_path / "a.bin", pause=0)
    assert ranges(server) == ["", "bytes=100000-"]
    assert (tmp_path / "a.bin").read_bytes() == BODY


def test_an_unreachable_first_mirror_is_skipped(
    tmp_path: Path, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    dead, lacking = "http://127.0.0.1:9/a.bin", f"{server.url}/b.bin"
    url = f"{server.url}/a.bin"
    assert download(remote(dead, lacking, url), tmp_path / "a.bin", pause=0) == url
    assert (
        "http://127.0.0.1:9/a.bin failed repeatedly: [Errno 111] Connection refused" in caplog.text
    )
    assert f"{lacking} answers 404 Not Found; trying the next address" in caplog.text


def test_with_a_checksum_the_next_mirror_resumes(
    tmp_path: Path, files: Files, server: Server
) -> None:
    files.cuts = [100_000, 0, 0, 0, 0, 0]
    with serve(Files({"a.bin": BODY}, '"other"')) as second:
        urls = f"{server.url}/a.bin", f"{second.url}/a.bin"
        download(remote(*urls, sha256=SHA256), tmp_path / "a.bin", pause=0)
        assert ranges(second) == ["bytes=100000-"]
    assert (tmp_path / "a.bin").read_bytes() == BODY


def test_without_a_checksum_the_next_mirror_restarts(
    tmp_path: Path, files: Files, server: Server
) -> None:
    files.cuts = [100_000, 0, 0, 0, 0, 0]
    with serve(Files({"a.bin": BODY[::-1]}, '"v8"')) as second:
        urls = f"{server.url}/a.bin", f"{second.url}/a.bin"
        download(remote(*urls), tmp_path / "a.bin", pause=0)
        assert ranges(second) == [""]
    assert (tmp_path / "a.bin").read_bytes() == BODY[::-1]


@pytest.mark.parametrize(
    ("known", "reason"),
    [
        ({"sha256": "8" * 64}, f"has SHA-256 {SHA256}, expected 8888"),
        ({"size": 999}, "has 1024000 bytes, expected 999"),
        ({"members": ("x",)}, "does not send a ZIP file"),
    ],
)
def test_a_wrong_file_is_removed(
    tmp_path: Path, server: Server, known: dict[str, object], reason: str
) -> None:
    url = f"{server.url}/a.bin"
    with pytest.raises(OSError, match=rf"set/a.bin was not fetched \({url} {reason}.* --from"):
        download(remote(url, **known), tmp_path / "a.bin", pause=0)
    assert list(tmp_path.glob("*")) == []


def test_a_web_page_is_not_the_file(tmp_path: Path, files: Files, server: Server) -> None:
    files.kind = "text/html; charset=utf-8"
    with pytest.raises(OSError, match="sends a web page instead of the file"):
        download(remote(f"{server.url}/a.bin"), tmp_path / "a.bin", pause=0)


def test_a_complete_partial_file_is_only_verified(
    tmp_path: Path, files: Files, server: Server
) -> None:
    (tmp_path / ".a.bin.part").write_bytes(BODY)
    download(remote(f"{server.url}/a.bin", sha256=SHA256), tmp_path / "a.bin", pause=0)
    assert (tmp_path / "a.bin").read_bytes() == BODY
    (tmp_path / ".a.bin.part").write_bytes(BODY + b"more")
    download(remote(f"{server.url}/a.bin", sha256=SHA256), tmp_path / "a.bin", pause=0)
    assert (tmp_path / "a.bin").read_bytes() == BODY


def trickle(request: Handler, head: bytes, each: bytes) -> None:
    """Send the first bytes, then a few bytes at intervals, until the client disconnects."""
    request.close_connection = True
    try:
        request.wfile.write(head)
        for _ in range(1_000):
            request.wfile.write(each)
            time.sleep(0.01)
    except ConnectionError:
        pass  # the client has had enough


@pytest.mark.parametrize(
    ("head", "each", "reason"),
    [
        (b"HTTP/1.1 200 OK\r\nX-Header: ", b"a", "no complete answer within 0.1 seconds"),
        (b"HTTP/1.1 200", b" ", "no complete answer within 0.1 seconds"),
        (b"HTTP/1.1 100 Continue\r\n", b"A: b\r\n", "no complete answer within 0.1 seconds"),
        (
            b"HTTP/1.1 302 Found\r\nLocation: /b\r\nA: ",
            b"a",
            "no complete answer within 0.1 seconds",
        ),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"0", "within 0.1 seconds"),
        (b"HTTP/1.1 200 OK\r\n\r\n", b"a", r"sent only \d+ bytes in 0.1 seconds"),
        (b"HTTP/1.1 200 OK\r\n\r\n", b"a" * 60_000, "sends more than 250000 bytes"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 18 + b"\r\n\r\n", b"", "bytes free"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n", b"a", "sent only"),
    ],
)
def test_a_server_that_never_ends_is_left_for_the_next(
    tmp_path: Path,
    files: Files,
    server: Server,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    head: bytes,
    each: bytes,
    reason: str,
) -> None:
    """Bug: the client waited forever for slow headers and endless bodies."""
    monkeypatch.setattr(downloading, "_SILENCE", 0.1)
    monkeypatch.setattr(downloading, "_LARGEST", 250_000)
    with serve(lambda request, _: trickle(request, head, each)) as endless:
        urls = f"{endless.url}/a.bin", f"{server.url}/a.bin"
        assert download(remote(*urls), tmp_path / "a.bin", pause=0) == urls[1]
    assert re.search(reason, caplog.text)
    assert (tmp_path / "a.bin").read_bytes() == BODY


def test_an_endless_body_of_a_file_of_known_size_is_thrown_away(
    tmp_path: Path, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    """The bytes of an endless mirror must not be mixed with the file of the next one."""
    head = b"HTTP/1.1 200 OK\r\n\r\n"
    with serve(lambda request, _: trickle(request, head, bytes(400_000))) as endless:
        known = remote(f"{endless.url}/a.bin", f"{server.url}/a.bin", sha256=SHA256)
        known = known._replace(size=len(BODY))
        download(known, tmp_path / "a.bin", pause=0)
    assert f"sends more than {len(BODY)} bytes" in caplog.text
    assert ranges(server) == [""]
    assert (tmp_path / "a.bin").read_bytes() == BODY


def test_a_wrong_first_half_does_not_spoil_the_next_mirror(
    tmp_path: Path, files: Files, server: Server
) -> None:
    """Bug: after a mirror sent wrong bytes and disconnected, a good one failed the checksum."""
    files.files, files.cuts = {"a.bin": BODY[::-1]}, [100_000, 0, 0, 0, 0, 0]
    with serve(Files({"a.bin": BODY})) as second:
        urls = f"{server.url}/a.bin", f"{second.url}/a.bin"
        assert download(remote(*urls, sha256=SHA256), tmp_path / "a.bin", pause=0) == urls[1]
        assert ranges(second) == ["bytes=100000-", ""]
    assert (tmp_path / "a.bin").read_bytes() == BODY


@pytest.mark.parametrize(
    "content_range",
    [
        "bytes 0-{last}/{total}",
        "bytes 100001-{last}/{total}",
        "bytes 100000-99/{total}",
        "bytes 100000-{last}/100000",
        "bytes 100000-200000/{total}",
        "bytes 100000-{nines}/{total}",
        "bytes 100000-",
        "100000-{last}/{total}",
        "",
    ],
)
def test_a_partial_answer_of_another_range_ends(
    tmp_path: Path, server: Server, caplog: pytest.LogCaptureFixture, content_range: str
) -> None:
    """Bug: a mirror that disconnects and then sends another range was retried forever."""
    total = len(BODY)
    header = content_range.format(last=total - 1, total=total, nines="9" * 5000)

    def answer(request: Handler, _: str) -> None:
        start = 100_000 if request.headers.get("Range") else 0
        request.send_response(206 if start else 200)
        request.send_header("Content-Length", str(total - start))
        request.send_header("ETag", '"v8"')
        if start and header:
            request.send_header("Content-Range", header)
        request.end_headers()
        request.wfile.write(BODY[start : start or 100_000])
        request.close_connection = True

    with serve(answer) as wrong:
        urls = f"{wrong.url}/a.bin", f"{server.url}/a.bin"
        assert download(remote(*urls), tmp_path / "a.bin", pause=0) == urls[1]
        assert 5 <= len(wrong.requests) <= 10
    assert "failed repeatedly: " in caplog.text
    assert (tmp_path / "a.bin").read_bytes() == BODY


def test_a_full_disk_is_not_the_fault_of_a_server(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bug: on a full disk, every mirror was tried five times."""

    def fill(*_: object) -> Iterator[bytes]:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(downloading, "_pieces", fill)
    with pytest.raises(OSError, match=r"disk of .* is full after 0 bytes"):
        download(remote(f"{server.url}/a.bin"), tmp_path / "a.bin", pause=0)
    assert len(server.requests) == 1


def test_a_file_for_which_the_disk_has_no_space_is_not_looked_for_elsewhere(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bug: all addresses were tried, and the advice was to get the file elsewhere."""
    usage = type(shutil.disk_usage("."))
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage(99, 90, 9))
    urls = (f"{server.url}/a.bin", f"{server.url}/b.bin")
    with pytest.raises(FullDiskError, match=r"and 9 bytes are free\): free space and rerun"):
        download(remote(*urls), tmp_path / "a.bin", pause=0)
    assert len(server.requests) == 1


@pytest.mark.parametrize("note", ["[" * 100_000, "[]", '{"url": NaN}', '{"url": 1' + "0" * 9_000])
def test_a_damaged_note_beside_a_part_is_no_note(tmp_path: Path, server: Server, note: str) -> None:
    """Bug: a deeply nested note raised a RecursionError."""
    (tmp_path / ".a.bin.part").write_bytes(b"half")
    (tmp_path / ".a.bin.part.json").write_text(note)
    download(remote(f"{server.url}/a.bin"), tmp_path / "a.bin", pause=0)
    assert (tmp_path / "a.bin").read_bytes() == BODY


def test_only_the_web_is_asked(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="file:///etc/hostname is not a web address"):
        download(remote("file:///etc/hostname"), tmp_path / "a.bin")
