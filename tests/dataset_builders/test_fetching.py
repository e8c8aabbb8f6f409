"""Downloads into a folder: unpacked, listed, taken from elsewhere."""

import hashlib
import io
import json
import re
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from conftest import Command
from downloads import write_all
from file_server import BODY, Files
from web_server import Server, serve

from lxmert.datasets import fetching
from lxmert.datasets.fetching import Fetched, fetch, unpack
from lxmert.datasets.sources import SOURCES
from lxmert.downloading import Remote
from lxmert.web import SCHEMES


@pytest.fixture
def files() -> Files:
    return Files({"a.bin": BODY})


@pytest.fixture
def server(files: Files) -> Iterator[Server]:
    with serve(files) as running:
        yield running


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
def test_an_unsafe_path_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "p.zip"
    path.write_bytes(pack({"x.json": b"[1]", name: b"[2]"}))
    with pytest.raises(ValueError, match="which is an unsafe path"):
        unpack(path, ["x.json"], tmp_path)
    assert listed(tmp_path) == ["p.zip"]


def test_a_link_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "p.zip"
    with zipfile.ZipFile(path, "w") as archive:
        info = zipfile.ZipInfo("x.json")
        info.external_attr = 0o120777 << 16
        archive.writestr(info, "/etc/hostname")
    with pytest.raises(ValueError, match="which is an unsafe path"):
        unpack(path, ["x.json"], tmp_path)


@pytest.mark.parametrize("kind", [0o010000, 0o020000, 0o060000, 0o140000])
def test_a_pipe_or_device_is_refused(tmp_path: Path, kind: int) -> None:
    """Bug: only links were rejected, not other entries that are not regular files."""
    path = tmp_path / "p.zip"
    with zipfile.ZipFile(path, "w") as archive:
        info = zipfile.ZipInfo("x.json")
        info.external_attr = (kind | 0o644) << 16
        archive.writestr(info, "[1]")
    with pytest.raises(ValueError, match="or not a regular file"):
        unpack(path, ["x.json"], tmp_path)
    assert listed(tmp_path) == ["p.zip"]


@pytest.mark.parametrize("marked", [False, True])
def test_a_folder_is_not_taken_for_the_file_of_its_name(tmp_path: Path, marked: bool) -> None:
    """Bug: a folder `x.json/` was extracted as an empty file, or counted as a second one."""
    path = tmp_path / "p.zip"
    folder = zipfile.ZipInfo("x.json" if marked else "x.json/")
    folder.external_attr = 0o040755 << 16 if marked else 0x10
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(folder, "")
    with pytest.raises(ValueError, match=r"contains 0 files x.json, expected one"):
        unpack(path, ["x.json"], tmp_path)
    assert listed(tmp_path) == ["p.zip"]
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("data/x.json", "[1]")
    assert [found.read_bytes() for found in unpack(path, ["x.json"], tmp_path)] == [b"[1]"]


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_nothing_is_unpacked_where_the_second_of_two_is_refused(tmp_path: Path) -> None:
    """Of several entries with the same name, it is unknown which one is right."""
    path = tmp_path / "p.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("w.json", "x.json", "x.json"):
            archive.writestr(name, "[1]")
    with pytest.raises(ValueError, match=r"contains 2 files x.json, expected one"):
        unpack(path, ["w.json", "x.json"], tmp_path)
    assert listed(tmp_path) == ["p.zip"]


def test_a_byte_changed_anywhere_in_a_zip_is_one_sentence(tmp_path: Path) -> None:
    """Bug: damage in names, extra fields and offsets raised other exceptions."""
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
    """Bug: a damaged LZMA stream raised another exception."""
    path = tmp_path / "p.zip"
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("x.json", b"[1, 2, 3]")
    with pytest.raises(ValueError, match=r"p.zip uses an unsupported compression method"):
        unpack(path, ["x.json"], tmp_path)


def test_a_damaged_or_different_zip_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "p.zip"
    packed = pack({"x.json": bytes(range(256)) * 99})
    path.write_bytes(packed[:60] + b"?????" + packed[65:])
    with pytest.raises(ValueError, match=r"p.zip is damaged"):
        unpack(path, ["x.json"], tmp_path)
    assert listed(tmp_path) == ["p.zip"]
    path.write_bytes(pack({"a/x.json": b"1", "b/x.json": b"2"}))
    with pytest.raises(ValueError, match=r"contains 2 files x.json, expected one"):
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
    with pytest.raises(FileNotFoundError, match=r"have no questions1.2.zip or train_balanced_q"):
        list(fetch(SOURCES["gqa"], tmp_path / "out", local=tmp_path / "local"))
    packed = tmp_path / "local/v2_Questions_Train_mscoco.zip"
    packed.write_bytes(b"PK")
    with pytest.raises(ValueError, match=r"_mscoco.zip has 2 bytes, expected 7239401"):
        list(fetch(SOURCES["vqa"], tmp_path / "out", local=tmp_path / "local"))


def test_a_file_of_another_data_set_with_the_same_name_is_not_taken(
    tmp_path: Path, server: Server, files: Files
) -> None:
    """Bug: VQA's answer list was used for GQA, too, from a mirror and from a local folder."""
    label_lists = [known for known in SOURCES["original-answers"] if "label2ans" in known.name]
    vqa, gqa = (known._replace(urls=()) for known in label_lists)
    local = tmp_path / "local"
    local.mkdir()
    (local / "trainval_label2ans.json").write_bytes(b"of which?")
    with pytest.raises(
        FileNotFoundError, match=r"local and its subfolders have no vqa/trainval_label2ans.json"
    ):
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


def test_interrupted_unpacking_does_not_download_again(
    tmp_path: Path, server: Server, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bug: a full disk or a kill during the extraction of 17 GB required a new download."""
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
    """Bug: an unexpected form raised a `TypeError`, a `KeyError` or a `RecursionError`."""
    (tmp_path / fetching.MANIFEST).write_text(content)
    with pytest.raises(ValueError, match=r"fetched\.json .*: remove it and fetch again"):
        list(fetch([Remote("set/a.bin", ())], tmp_path))


def test_two_processes_do_not_fetch_into_one_folder(tmp_path: Path, server: Server) -> None:
    known = [Remote("set/a.bin", (f"{server.url}/a.bin",))]
    first = fetch([*known, Remote("set/b.bin", (f"{server.url}/a.bin",))], tmp_path)
    assert isinstance(next(first), Fetched)
    with pytest.raises(ValueError, match="being written by another process"):
        next(fetch(known, tmp_path))
    list(first)
    assert not next(fetch(known, tmp_path)).new


def names(remotes: Sequence[Remote]) -> set[str]:
    return {remote.name for remote in remotes}


def test_the_table_of_sources_is_complete() -> None:
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
    assert result.out.splitlines()[1] == f"{tmp_path}/nlvr2/dev.json: 11 bytes, already there"


def test_the_command_names_what_it_does_not_know(lxmert: Command, tmp_path: Path) -> None:
    result = lxmert("fetch", "nlvr", "-o", tmp_path / "new")
    assert (result.code, result.out) == (2, "")
    assert "no download 'nlvr': did you mean 'nlvr2'? choose one of vqa, gqa" in result.err
    assert not (tmp_path / "new").exists()
    result = lxmert("fetch", "vqa", "-o", tmp_path, "--from", tmp_path, "--mirror", "http://x")
    assert result.code == 2
    assert "leave one out" in result.err
