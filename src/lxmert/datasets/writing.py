"""Write sentences to JSONL files that appear only when all are complete, with statistics."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from lxmert.datasets.build import Sentence
from lxmert.files import read_json_object, write_text
from lxmert.metrics.fields import record_field

_encode = json.JSONEncoder(ensure_ascii=False).encode

_SPLITS = {"testdev": "valid"}
"""Our names of official splits: testdev has answers, so it is used for validation."""


@dataclass
class SplitFile:
    """A file that is being written.

    Attributes:
        sentences: number of lines.
        images: ids of all images.
        size: size in bytes.
        digest: checksum of the bytes.
    """

    stream: BinaryIO
    sentences: int = 0
    images: set[str] = field(default_factory=set)
    size: int = 0
    digest: "hashlib._Hash" = field(default_factory=hashlib.sha256)

    def add(self, line: bytes, images: tuple[str, ...]) -> None:
        """Append a line."""
        self.stream.write(line)
        self.sentences += 1
        self.images.update(images)
        self.size += len(line)
        self.digest.update(line)


class Writer:
    """Writes lines to temporary files, by output name."""

    def __init__(self, folder: Path, files: ExitStack) -> None:
        """Use `writing` to create one."""
        self.outputs: dict[str, SplitFile] = {}
        self._folder, self._files = folder, files
        self._old = _listed(folder)

    def add(self, name: str, sentence: Sentence, images: tuple[str, ...]) -> None:
        """Append a sentence with the ids of its images to a file.

        Raises:
            UnicodeEncodeError: if the text has an unpaired surrogate.
        """
        line = f"{_encode(make_line(sentence, images))}\n".encode()
        if name not in self.outputs:
            stream = _partial(self._folder, name).open("wb")
            self.outputs[name] = SplitFile(self._files.enter_context(stream))
        self.outputs[name].add(line, images)

    def publish(self, extra: Mapping[str, str], manifest: Mapping[str, object]) -> None:
        """Rename all files, write the manifest last, and remove files of an earlier manifest.

        Args:
            extra: contents of further text files, by name.
            manifest: description of all files.
        """
        self._files.close()
        (self._folder / MANIFEST).unlink(missing_ok=True)
        for name in self._old:
            (self._folder / name).unlink(missing_ok=True)
        for name in self.outputs:
            _partial(self._folder, name).replace(self._folder / f"{name}.jsonl")
        for name, text in {**extra, MANIFEST: json.dumps(manifest, indent=1) + "\n"}.items():
            write_text(self._folder / name, text)


MANIFEST = "manifest.json"


@contextmanager
def writing(folder: Path) -> Iterator[Writer]:
    """Create a folder and yield a writer; files that are not published are removed at the end.

    Raises:
        ValueError: if the folder has a manifest that `publish` did not write.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as files:
        writer = Writer(folder, files)
        try:
            yield writer
        finally:
            files.close()
            for name in writer.outputs:
                _partial(folder, name).unlink(missing_ok=True)


def make_line(sentence: Sentence, images: tuple[str, ...]) -> dict[str, object]:
    """Return a line of a question or caption file in the format read by `data.records`."""
    line: dict[str, object] = {"question_id": sentence.sentence_id}
    line |= {"image": images[0]} if len(images) == 1 else {"images": list(images)}
    text = sentence.text.strip()
    answers = sentence.answers
    if answers is None:
        line["caption"] = text
    else:
        line["question"] = text
        (answer, score), *others = answers.items() or [("", 0.0)]
        if answer:
            single = score == 1 and not others
            line |= {"answer": answer} if single else {"answers": dict(answers)}
    if sentence.question_type:
        line["question_type"] = sentence.question_type
    if sentence.group:
        line["group"] = sentence.group
    line["split"] = _SPLITS.get(sentence.split, sentence.split)
    return line


def _listed(folder: Path) -> list[str]:
    """Return the files listed in the manifest of an earlier run, if there is one."""
    path = folder / MANIFEST
    if not path.is_file():
        return []
    try:
        outputs = record_field(read_json_object(path), "outputs")
    except ValueError as error:
        raise ValueError(
            f"{path} is damaged or was written by another program ({error}): remove it, or choose "
            "another folder"
        ) from error
    return [name for name in outputs if name == Path(name).name and name.endswith(".jsonl")]


def _partial(folder: Path, name: str) -> Path:
    return folder / f".{name}.jsonl.partial"
