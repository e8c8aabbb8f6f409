"""Downloads from servers on this machine that break off, lie, and are not there."""

import errno
import hashlib
import io
import json
import re
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from conftest import Command
from downloads import write_all
from web_server import Handler, Server, serve

from lxmert.datasets import downloading, fetching
from lxmert.datasets.downloading import download
from lxmert.datasets.fetching import Fetched, fetch, unpack
from lxmert.datasets.sources import SOURCES, Remote
from lxmert.web import SCHEMES

BODY = bytes(range(256)) * 4_000
SHA256 = hashlib.sha256(BODY).hexdigest()


class Files:
    """Files by path, with ranges; each number of `cuts` ends a reply after so many bytes, once."""

    def __init__(self, files: dict[str, bytes], version: str = '"v8"') -> None:
        self.files, self.version = files, version
        self.cuts: list[int] = []
        self.ranges = True
        self.kind = "application/octet-stream"

    def __call__(self, request: Handler, path: str) -> None:
        body = self.files.get(path.removeprefix("/"))
        if body is None:
            request.reply(404)
            return
        start, asked = 0, request.headers.get("Range", "")
        version = request.headers.get("If-Range", self.version)
        if asked and self.ranges and version == self.version:
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
        if start >= len(body):
            request.reply(416, Content_Range=f"bytes */{len(body)}")
            return
        request.send_response(206 if start else 200)
        request.send_header("Content-Length", str(len(body) - start))
        request.send_header("Content-Type", self.kind)
        if self.version:
            request.send_header("ETag", self.version)
        if start:
            request.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        request.end_headers()
        end = start + self.cuts.pop(0) if self.cuts else len(body)
        request.wfile.write(body[start:end])
        request.close_connection = end < len(body)


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


def test_what_breaks_off_goes_on_where_it_was_cut(
    tmp_path: Path, files: Files, server: Server
) -> None:
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


def test_another_process_goes_on_later(tmp_path: Path, files: Files, server: Server) -> None:
    files.cuts = [100_000, 0, 0, 0, 0, 0]
    known = remote(f"{server.url}/a.bin")
    with pytest.raises(OSError, match="failed again and again: it ended after 100000 of"):
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


def cut_then(files: Files, change: Callable[[], None]) -> None:
    """Break off the first reply, and change something before the second."""

    class Cuts(list[int]):
        def pop(self, _: object = 0) -> int:
            change()
            self.clear()
            return 100_000

    files.cuts = Cuts([1])


@pytest.mark.parametrize("version", ["", 'W/"8"'])
def test_without_version_or_checksum_it_begins_again(
    tmp_path: Path, files: Files, server: Server, version: str
) -> None:
    files.cuts, files.version = [100_000], version
    download(remote(f"{server.url}/a.bin"), tmp_path / "a.bin", pause=0)
    assert ranges(server) == ["", ""]
    assert (tmp_path / "a.bin").read_bytes() == BODY


def test_a_server_without_ranges_begins_again(tmp_path: Path, files: Files, server: Server) -> None:
    files.cuts, files.ranges = [100_000], False
    download(remote(f"{server.url}/a.bin", sha256=SHA256), tmp_path / "a.bin", pause=0)
    assert ranges(server) == ["", "bytes=100000-"]
    assert (tmp_path / "a.bin").read_bytes() == BODY


def test_a_dead_first_mirror_is_passed_over(
    tmp_path: Path, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    dead, lacking = "http://127.0.0.1:9/a.bin", f"{server.url}/b.bin"
    url = f"{server.url}/a.bin"
    assert download(remote(dead, lacking, url), tmp_path / "a.bin", pause=0) == url
    assert (
        "http://127.0.0.1:9/a.bin failed again and again: [Errno 111] Connection refused"
        in caplog.text
    )
    assert f"{lacking} answers 404 Not Found; the next address is tried" in caplog.text


def test_with_a_checksum_the_next_mirror_goes_on(
    tmp_path: Path, files: Files, server: Server
) -> None:
    files.cuts = [100_000, 0, 0, 0, 0, 0]
    with serve(Files({"a.bin": BODY}, '"other"')) as second:
        urls = f"{server.url}/a.bin", f"{second.url}/a.bin"
        download(remote(*urls, sha256=SHA256), tmp_path / "a.bin", pause=0)
        assert ranges(second) == ["bytes=100000-"]
    assert (tmp_path / "a.bin").read_bytes() == BODY


def test_without_a_checksum_the_next_mirror_begins_again(
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
        ({"sha256": "8" * 64}, f"has the SHA-256 {SHA256}, expected 8888"),
        ({"size": 999}, "has 1024000 bytes, expected 999"),
        ({"members": ("x",)}, "gives no ZIP file"),
    ],
)
def test_what_is_not_the_file_is_thrown_away(
    tmp_path: Path, server: Server, known: dict[str, object], reason: str
) -> None:
    url = f"{server.url}/a.bin"
    with pytest.raises(OSError, match=rf"set/a.bin was not fetched \({url} {reason}.* --from"):
        download(remote(url, **known), tmp_path / "a.bin", pause=0)
    assert list(tmp_path.glob("*")) == []


def test_a_web_page_is_not_the_file(tmp_path: Path, files: Files, server: Server) -> None:
    files.kind = "text/html; charset=utf-8"
    with pytest.raises(OSError, match="gives a web page instead of the file"):
        download(remote(f"{server.url}/a.bin"), tmp_path / "a.bin", pause=0)


def test_what_is_whole_but_has_no_name_yet_is_only_checked(
    tmp_path: Path, files: Files, server: Server
) -> None:
    (tmp_path / ".a.bin.part").write_bytes(BODY)
    download(remote(f"{server.url}/a.bin", sha256=SHA256), tmp_path / "a.bin", pause=0)
    assert (tmp_path / "a.bin").read_bytes() == BODY
    (tmp_path / ".a.bin.part").write_bytes(BODY + b"more")
    download(remote(f"{server.url}/a.bin", sha256=SHA256), tmp_path / "a.bin", pause=0)
    assert (tmp_path / "a.bin").read_bytes() == BODY


def trickle(request: Handler, head: bytes, each: bytes) -> None:
    """Send a beginning, and then a little now and then, for as long as anyone listens."""
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
        (b"HTTP/1.1 200 OK\r\nX-Header: ", b"a", "no end of it, within 0.1 seconds"),
        (b"HTTP/1.1 200", b" ", "no end of it, within 0.1 seconds"),
        (b"HTTP/1.1 100 Continue\r\n", b"A: b\r\n", "no end of it, within 0.1 seconds"),
        (b"HTTP/1.1 302 Found\r\nLocation: /b\r\nA: ", b"a", "no end of it, within 0.1 seconds"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"0", "within 0.1 seconds"),
        (b"HTTP/1.1 200 OK\r\n\r\n", b"a", r"sent only \d+ bytes in 0.1 seconds"),
        (b"HTTP/1.1 200 OK\r\n\r\n", b"a" * 60_000, "sends more than 250000 bytes"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 18 + b"\r\n\r\n", b"", "is too full"),
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
    """Headers that trickle and bodies without end were awaited for ever."""
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
    """What an endless mirror had sent would be joined to the file of the next one."""
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
    """A mirror that sent other bytes and broke off made the good one fail the checksum."""
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
    """A mirror that breaks off and then sends another range was asked again for ever."""
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
    assert "failed again and again: " in caplog.text
    assert (tmp_path / "a.bin").read_bytes() == BODY


def test_a_full_disk_is_not_the_fault_of_a_server(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a full disk every mirror was asked five times."""

    def fill(*_: object) -> Iterator[bytes]:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(downloading, "_pieces", fill)
    with pytest.raises(OSError, match=r"disk of .* is full after 0 bytes"):
        download(remote(f"{server.url}/a.bin"), tmp_path / "a.bin", pause=0)
    assert len(server.requests) == 1


@pytest.mark.parametrize("note", ["[" * 100_000, "[]", '{"url": NaN}', '{"url": 1' + "0" * 9_000])
def test_a_damaged_note_beside_a_part_is_no_note(tmp_path: Path, server: Server, note: str) -> None:
    """A deeply nested note was a RecursionError."""
    (tmp_path / ".a.bin.part").write_bytes(b"half")
    (tmp_path / ".a.bin.part.json").write_text(note)
    download(remote(f"{server.url}/a.bin"), tmp_path / "a.bin", pause=0)
    assert (tmp_path / "a.bin").read_bytes() == BODY


def test_only_the_web_is_asked(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="file:///etc/hostname is no address of the web"):
        download(remote("file:///etc/hostname"), tmp_path / "a.bin")


def pack(members: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return stream.getvalue()


def test_packed_files_are_unpacked_and_listed_last(tmp_path: Path) -> None:
    packed = pack({"deep/x.json": b"[1]", "y.json": b"{}", "__MACOSX/._x.json": b"?"})
    served = Files({"p.zip": packed, "b.json": b"[8]"})
    with serve(served) as server:
        remotes = [
            Remote("set/p.zip", (f"{server.url}/p.zip",), members=("x.json", "y.json")),
            Remote("other/b.json", (f"{server.url}/b.json",)),
        ]
        found = list(fetch(remotes, tmp_path))
        assert [each.new for each in found] == [True, True]
        assert found[0].files == {"set/x.json": 3, "set/y.json": 2}
        assert listed(tmp_path) == ["other/b.json", "set/x.json", "set/y.json"]
        manifest = json.loads((tmp_path / "fetched.json").read_text())
        assert manifest["set/p.zip"]["files"]["set/x.json"] == {
            "bytes": 3, "sha256": hashlib.sha256(b"[1]").hexdigest(),
        }  # fmt: skip
        server.requests.clear()
        assert [each.new for each in fetch(remotes, tmp_path)] == [False, False]
        assert server.requests == []
        (tmp_path / "set/y.json").unlink()
        assert [each.new for each in fetch(remotes, tmp_path)] == [True, False]
        assert (tmp_path / "set/y.json").read_bytes() == b"{}"


def listed(folder: Path) -> list[str]:
    names = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return sorted(str(name) for name in names if name.name not in (".lock", "fetched.json"))


@pytest.mark.parametrize(
    "name", ["../x.json", "/x.json", "a/../../x.json", "c:\\x.json", "a\\..\\x"]
)
def test_a_name_that_leads_out_of_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "p.zip"
    path.write_bytes(pack({"x.json": b"[1]", name: b"[2]"}))
    with pytest.raises(ValueError, match="which leads out of its folder"):
        unpack(path, ["x.json"], tmp_path)
    assert listed(tmp_path) == ["p.zip"]


def test_a_link_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "p.zip"
    with zipfile.ZipFile(path, "w") as archive:
        info = zipfile.ZipInfo("x.json")
        info.external_attr = 0o120777 << 16
        archive.writestr(info, "/etc/hostname")
    with pytest.raises(ValueError, match="which leads out of its folder"):
        unpack(path, ["x.json"], tmp_path)


@pytest.mark.parametrize("kind", [0o010000, 0o020000, 0o060000, 0o140000])
def test_a_pipe_or_device_is_refused(tmp_path: Path, kind: int) -> None:
    """Only links were refused, not other entries that are no plain files."""
    path = tmp_path / "p.zip"
    with zipfile.ZipFile(path, "w") as archive:
        info = zipfile.ZipInfo("x.json")
        info.external_attr = (kind | 0o644) << 16
        archive.writestr(info, "[1]")
    with pytest.raises(ValueError, match="is no plain file"):
        unpack(path, ["x.json"], tmp_path)
    assert listed(tmp_path) == ["p.zip"]


@pytest.mark.parametrize("marked", [False, True])
def test_a_folder_is_not_taken_for_the_file_of_its_name(tmp_path: Path, marked: bool) -> None:
    """A folder `x.json/` was unpacked as an empty file, or counted as a second one."""
    path = tmp_path / "p.zip"
    folder = zipfile.ZipInfo("x.json" if marked else "x.json/")
    folder.external_attr = 0o040755 << 16 if marked else 0x10
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(folder, "")
    with pytest.raises(ValueError, match=r"holds 0 files x.json, expected one"):
        unpack(path, ["x.json"], tmp_path)
    assert listed(tmp_path) == ["p.zip"]
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("data/x.json", "[1]")
    assert [found.read_bytes() for found in unpack(path, ["x.json"], tmp_path)] == [b"[1]"]


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_nothing_is_unpacked_where_the_second_of_two_is_refused(tmp_path: Path) -> None:
    """Entries of one name: which of them holds, nobody can tell."""
    path = tmp_path / "p.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("w.json", "x.json", "x.json"):
            archive.writestr(name, "[1]")
    with pytest.raises(ValueError, match=r"holds 2 files x.json, expected one"):
        unpack(path, ["w.json", "x.json"], tmp_path)
    assert listed(tmp_path) == ["p.zip"]


def test_a_byte_changed_anywhere_in_a_zip_is_one_sentence(tmp_path: Path) -> None:
    """Damage in names, extra fields and places were errors of other kinds."""
    packed = pack({"é/x.json": b"[1, 2, 3]"})
    path = tmp_path / "p.zip"
    for place in range(len(packed)):
        path.write_bytes(packed[:place] + bytes([packed[place] ^ 0xFF]) + packed[place + 1 :])
        try:
            (found,) = unpack(path, ["x.json"], tmp_path)
        except (ValueError, OSError) as error:
            message = str(error)
            found = None
        if found is None:
            assert re.search("p.zip|bytes are needed", message), place
        else:
            assert found.read_bytes() == b"[1, 2, 3]"


@pytest.mark.parametrize("method", [zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_methods_of_which_damage_is_no_zip_error_are_refused(tmp_path: Path, method: int) -> None:
    """A damaged LZMA stream was a traceback of its own kind."""
    path = tmp_path / "p.zip"
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("x.json", b"[1, 2, 3]")
    with pytest.raises(ValueError, match=r"p.zip is packed by another method"):
        unpack(path, ["x.json"], tmp_path)


def test_a_damaged_or_different_zip_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "p.zip"
    packed = pack({"x.json": bytes(range(256)) * 99})
    path.write_bytes(packed[:60] + b"?????" + packed[65:])
    with pytest.raises(ValueError, match=r"p.zip is damaged"):
        unpack(path, ["x.json"], tmp_path)
    assert listed(tmp_path) == ["p.zip"]
    path.write_bytes(pack({"a/x.json": b"1", "b/x.json": b"2"}))
    with pytest.raises(ValueError, match=r"holds 2 files x.json, expected one"):
        unpack(path, ["x.json"], tmp_path)


def test_a_local_folder_stands_for_the_web(tmp_path: Path) -> None:
    """Packed, or unpacked already; the files of the builders' tests have the official names."""
    local = write_all(tmp_path / "local")
    out = tmp_path / "out"
    expected = {
        f"{remote.name.partition('/')[0]}/{member}"
        for remote in SOURCES["pretraining"]
        for member in remote.members
    }
    found = list(fetch(SOURCES["pretraining"], out, local=local))
    assert {name for each in found for name in each.files} == expected == set(listed(out))
    for name in expected:
        assert (out / name).read_bytes() == (local / name).read_bytes()
    packed = tmp_path / "packed"
    packed.mkdir()
    content = pack({"dataset_v7w_telling.json": b"{}"})
    (packed / "dataset_v7w_telling.zip").write_bytes(content)
    telling = [remote for remote in SOURCES["visual7w"] if "telling" in remote.name]
    (each,) = fetch(telling, out, local=packed)
    assert each.files == {"visual7w/dataset_v7w_telling.json": 2}
    assert (packed / "dataset_v7w_telling.zip").read_bytes() == content


def test_what_a_local_folder_lacks_is_named(tmp_path: Path) -> None:
    (tmp_path / "local").mkdir()
    with pytest.raises(FileNotFoundError, match=r"has no questions1.2.zip or train_balanced_q"):
        list(fetch(SOURCES["gqa"], tmp_path / "out", local=tmp_path / "local"))
    packed = tmp_path / "local/v2_Questions_Train_mscoco.zip"
    packed.write_bytes(b"PK")
    with pytest.raises(ValueError, match=r"_mscoco.zip has 2 bytes, expected 7239401"):
        list(fetch(SOURCES["vqa"], tmp_path / "out", local=tmp_path / "local"))


def test_a_file_of_another_data_set_with_the_same_name_is_not_taken(
    tmp_path: Path, server: Server, files: Files
) -> None:
    """Bug: VQA's answer list was taken for GQA's too, from a mirror and from a local folder."""
    label_lists = [known for known in SOURCES["original-answers"] if "label2ans" in known.name]
    vqa, gqa = (known._replace(urls=()) for known in label_lists)
    local = tmp_path / "local"
    local.mkdir()
    (local / "trainval_label2ans.json").write_bytes(b"of which?")
    with pytest.raises(FileNotFoundError, match=r"local has no vqa/trainval_label2ans.json, nor"):
        list(fetch([vqa, gqa], tmp_path / "out", local=local))
    for own in ("vqa", "gqa"):
        (local / own).mkdir()
        (local / own / "trainval_label2ans.json").write_bytes(own.encode())
        files.files[f"{own}/trainval_label2ans.json"] = own.encode()
    files.files["trainval_label2ans.json"] = b"of which?"
    list(fetch([vqa, gqa], tmp_path / "out", local=local))
    list(fetch([gqa], tmp_path / "alone", local=local / "gqa"))
    list(fetch([vqa, gqa], tmp_path / "web", mirrors=[server.url]))
    list(fetch([gqa], tmp_path / "within", mirrors=[f"{server.url}/gqa/"]))
    for out in ("out", "alone", "web", "within"):
        content = (tmp_path / out / gqa.name).read_bytes()
        assert content == b"gqa", out
    assert (tmp_path / "web" / vqa.name).read_bytes() == b"vqa"


def test_what_was_cut_off_while_it_was_unpacked_is_not_downloaded_again(
    tmp_path: Path, server: Server, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bug: a full disk or a kill while 17 GB were unpacked cost the 17 GB."""
    files.files["a.zip"] = pack({"a.tsv": BODY})
    packed = Remote("set/a.zip", (f"{server.url}/a.zip",), members=("a.tsv",))
    with monkeypatch.context() as full:
        full.setattr(fetching, "_check_space", lambda _, size: size and _raise(OSError("full")))
        with pytest.raises(OSError, match="full"):
            list(fetch([packed], tmp_path))
    assert (tmp_path / "set/a.zip").is_file()
    (found,) = fetch([packed], tmp_path)
    assert len(server.requests) == 1
    assert found.files == {"set/a.tsv": len(BODY)}
    assert (tmp_path / "set/a.tsv").read_bytes() == BODY
    assert not (tmp_path / "set/a.zip").exists()


def _raise(error: Exception) -> None:
    raise error


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "[]",
        "[" * 100_000,
        '{"a.bin": 7}',
        '{"a.bin": {}}',
        '{"a.bin": {"files": {}}}',
        '{"a.bin": {"origin": "x", "files": {"x": 7}}}',
        '{"a.bin": {"origin": "x", "files": {"x": {"bytes": "7"}}}}',
        '{"a.bin": {"origin": "x", "files": {"x": {"bytes": 1' + "0" * 400 + "}}}}",
        '{"a.bin": {"origin": "x", "files": {"../x": {"bytes": 7}}}}',
    ],
)
def test_a_damaged_manifest_is_named(tmp_path: Path, content: str) -> None:
    """Bug: one of another form ended in a `TypeError`, a `KeyError` or a `RecursionError`."""
    (tmp_path / fetching.MANIFEST).write_text(content)
    with pytest.raises(ValueError, match=r"fetched\.json .*: remove it, and fetch again"):
        list(fetch([remote()], tmp_path))


def test_two_processes_do_not_fetch_into_one_folder(tmp_path: Path, server: Server) -> None:
    known = [remote(f"{server.url}/a.bin")]
    first = fetch([*known, Remote("set/b.bin", (f"{server.url}/a.bin",))], tmp_path)
    assert isinstance(next(first), Fetched)
    with pytest.raises(ValueError, match="being written by another process"):
        next(fetch(known, tmp_path))
    list(first)
    assert not next(fetch(known, tmp_path)).new


def names(remotes: Sequence[Remote]) -> set[str]:
    return {remote.name for remote in remotes}


def test_the_table_of_sources_is_whole() -> None:
    remotes = {remote for group in SOURCES.values() for remote in group}
    assert len(remotes) == len(names(list(remotes)))
    for known in remotes:
        assert all(url.startswith(SCHEMES) for url in known.urls)
        assert known.name.endswith(".zip") == bool(known.members)
        assert known.sha256 is None or len(known.sha256) == 64
        assert {url.rpartition("/")[2] for url in known.urls} == {known.name.rpartition("/")[2]}
    for part in ("vqa", "gqa", "coco-captions", "vg-regions", "vg-qa"):
        assert names(SOURCES[part]) <= names(SOURCES["pretraining"])


def test_the_command_fetches_from_a_mirror(lxmert: Command, tmp_path: Path) -> None:
    """NLVR2's files have no published size: any content will do."""
    parts = ("train", "dev", "test1")
    served = Files({f"nlvr2/{name}.json": f'{{"{name}": 1}}\n'.encode() for name in parts})
    with serve(served) as server:
        result = lxmert("fetch", "nlvr2", "-o", tmp_path, "--mirror", f"{server.url}/")
        assert result.code == 0, result
        assert result.out.splitlines()[1] == (
            f"{tmp_path}/nlvr2/dev.json: 11 bytes, from {server.url}/nlvr2/dev.json"
        )
    result = lxmert("fetch", "nlvr2", "-o", tmp_path)
    assert result.out.splitlines()[1] == f"{tmp_path}/nlvr2/dev.json: 11 bytes, is there"


def test_the_command_names_what_it_does_not_know(lxmert: Command, tmp_path: Path) -> None:
    result = lxmert("fetch", "nlvr", "-o", tmp_path / "new")
    assert (result.code, result.out) == (2, "")
    assert "no download 'nlvr': did you mean nlvr2? There are vqa, gqa" in result.err
    assert not (tmp_path / "new").exists()
    result = lxmert("fetch", "vqa", "-o", tmp_path, "--from", tmp_path, "--mirror", "http://x")
    assert result.code == 2
    assert "leave one out" in result.err
