"""Settings know which of them name files."""

from pathlib import Path

from pydantic import Field

from lxmert.records import Items, Record
from lxmert.tasks.inputs import File, FileList, FilePath, Files, input_files
from lxmert.tasks.registry import RECIPES


class Inner(Record):
    files: Files
    name: str = "x"
    names: Items[str] = ("y",)


class Outer(Record):
    inner: Inner
    path: FilePath
    absent: File | None = None
    given: File | None = "g"
    several: FileList = ()
    other: dict[str, str] = Field(default_factory=lambda: {"a": "b"})


def test_files_are_found_at_any_depth_and_nothing_else() -> None:
    settings = Outer(inner=Inner(files="f"), path="p", several=("s", "t"))
    assert list(input_files(settings)) == [
        ("inner.files", Path("f")),
        ("path", Path("p")),
        ("given", Path("g")),
        ("several", Path("s")),
        ("several", Path("t")),
    ]
    assert list(input_files(Inner(files=("a", "b")), "i."))[1] == ("i.files", Path("b"))


def test_every_path_of_every_task_is_marked() -> None:
    """A setting that names a file and is not marked shows only when it is read."""
    model = {"model.init_from", "model.tokenizer", "model.init_answers"}
    regions = {"data.regions", "data.valid_regions", "data.extractor"}
    pair = {"data.train", "data.valid"}
    expected = {
        "answering": model | regions | pair | {"data.answers"},
        "detection": pair | {"data.images"},
        "custom": model | pair | {"data.images", "data.extractor"},
        "pairs": model | regions | pair,
        "pretraining": model | regions | {
            "data.questions", "data.valid_questions", "data.captions", "data.valid_captions",
            "data.answers",
        },
        "retrieval": model | regions | pair,
    }  # fmt: skip
    found = {}
    for name, task in RECIPES.items():
        keys = set().union(*expected.values())
        tables: dict[str, dict[str, object]] = {"data": {}, "model": {}}
        for table in tables:
            for key in task.settings_type.model_fields[table].annotation.model_fields:
                if f"{table}.{key}" in keys:
                    a_list = name == "pretraining" and key.endswith(("questions", "captions"))
                    tables[table][key] = ["file"] if a_list else "file"
        found[name] = {key for key, _ in input_files(task.settings_type(**tables))}
    assert found == expected
