"""Makes one data set: builder, joined names, regions, files, counts, manifest."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lxmert.data.answer_lists import read_answers
from lxmert.datasets.answer_table import NUM_ANSWERS, AnswerCounts
from lxmert.datasets.build import Build, Sentence
from lxmert.datasets.builders import BUILDERS, Builder
from lxmert.datasets.downloads import Downloads, check_name, file_checksum
from lxmert.datasets.expected import PUBLISHED, Published, check_splits
from lxmert.datasets.images import StoredImages, held_out, read_partners
from lxmert.datasets.writing import Output, Writer, writing
from lxmert.files import write_text
from lxmert.model.answers import normalize_answer
from lxmert.names import count

_EVERY = 10_000
"""Sentences after which progress is reported."""

MISSING = "missing-images.txt"


@dataclass(frozen=True)
class Options:
    """What can be chosen.

    Attributes:
        regions: region stores whose ids the images get; none: they keep their official names.
        allow_missing: leave sentences out, and count them, whose image is in no store.
        minival: file with the images of val2014 to hold out; None: a share of them, by their names.
        answers: list of answers to choose from; None: the data set's own.
        num_answers: length of the pretraining table where no list is given.
    """

    regions: Sequence[Path] = ()
    allow_missing: bool = False
    minival: Path | None = None
    answers: Path | None = None
    num_answers: int = NUM_ANSWERS


@dataclass
class Made:
    """What was made.

    Attributes:
        folder: where it is.
        files: by name, with `sentences` and `images`.
        checks: numbers beside those that were published: `what`, `found`, `published`, `source`,
            `agrees`.
        left_out: by reason, with `count` and `first` cases.
        notes: sentences to be read.
    """

    folder: Path
    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    checks: list[dict[str, Any]] = field(default_factory=list)
    left_out: dict[str, dict[str, Any]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def make_data(
    name: str,
    downloads: str | Path,
    target: str | Path,
    options: Options,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> Made:
    """Make the files of a data set from official downloads, in a folder of its name.

    Args:
        name: one of `BUILDERS`.
        downloads: folder of the official files.
        target: folder in which the folder is made.
        options: what can be chosen.
        progress: called with sentences done and expected.

    Returns:
        What was made; the manifest of the folder holds it too.

    Raises:
        FileNotFoundError: if an official file is not there.
        ValueError: if one is damaged, or of another release or split; if no sentence of them can
            be used; if images have no regions and that is not allowed.
    """
    check_name(name, BUILDERS, "data set")
    given = None if options.answers is None else read_answers(options.answers).answers
    build = Build(Downloads(downloads), held_out(options.minival), given)
    making = _Making(name, build, StoredImages(options.regions), options)
    made = Made(Path(target) / name)
    with writing(made.folder) as writer:
        making.write(writer, progress)
        making.check_missing(made.folder)
        if not writer.outputs:
            raise ValueError(_no_sentence(build))
        check_splits(name, {file: out.sentences for file, out in writer.outputs.items()})
        lists = making.answer_files(made)
        making.describe(made, writer.outputs)
        manifest = {
            "data_set": name,
            "inputs": _describe_inputs(build.downloads),
            "options": json.loads(json.dumps(vars(options), default=str)),
            "outputs": made.files,
            "checks": made.checks,
            "left_out": made.left_out,
            "notes": made.notes,
        }
        writer.publish(lists, manifest)
    return made


class _Making:
    """The state while one data set is made."""

    def __init__(self, name: str, build: Build, stored: StoredImages, options: Options) -> None:
        self.name, self.build, self.stored, self.options = name, build, stored, options
        self.builder: Builder = BUILDERS[name]
        self.counts = AnswerCounts(normalize_answer)
        self.partners: dict[str, str] | None = None

    def write(self, writer: Writer, progress: Callable[[int, int], None] | None) -> None:
        """Write all sentences."""
        total = sum(p.number for p in PUBLISHED[self.name] if p.unit == "sentences")
        sentences = self.builder.read(self.build)
        if self.builder.joined:
            sentences = self._join(sentences)
        for done, sentence in enumerate(sentences):
            if progress is not None and done % _EVERY == 0:
                progress(done, max(done, total))
            self._write(writer, sentence)

    def _write(self, writer: Writer, sentence: Sentence) -> None:
        """Write a sentence, or count why not."""
        images = sentence.images
        if self.options.regions:
            found = tuple(map(self.stored.resolve, images))
            images = tuple(image for image in found if image is not None)
            if len(images) < len(found):
                self.build.left_out.add("image without regions", ", ".join(sentence.images))
                return
        if not sentence.text.strip():
            self.build.left_out.add("empty text", sentence.sentence_id)
            return
        file = f"{sentence.source}-{sentence.split}" if self.builder.mixture else sentence.split
        try:
            writer.add(file, sentence, images)
        except UnicodeEncodeError:
            reason = "text with half of a surrogate pair, which is no character"
            self.build.left_out.add(reason, sentence.sentence_id)
            return
        if self.builder.mixture and sentence.split == "train" and sentence.answers:
            self.counts.add(sentence.source, sentence.answers)

    def _join(self, sentences: Iterator[Sentence]) -> Iterator[Sentence]:
        """Give shared images COCO's name, and sentences the split of their image."""
        for sentence in sentences:
            (image,) = sentence.images
            if not image.startswith("COCO_"):
                if self.partners is None:  # COCO's own sentences need no files of Visual Genome
                    self.partners = read_partners(self.build.downloads, self.build.left_out)
                image = self.partners.get(image, image)
            split = "valid" if self.build.minival(image) else "train"
            yield sentence._replace(images=(image,), split=split)

    def check_missing(self, folder: Path) -> None:
        """Refuse images without regions, unless that is allowed; list them in a file."""
        missing = self.stored.missing
        (folder / MISSING).unlink(missing_ok=True)
        if not missing:
            return
        write_text(folder / MISSING, self.stored.list_missing())
        if not self.options.allow_missing:
            first = ", ".join(sorted(missing)[:5])
            raise ValueError(
                f"no regions of {count(len(missing), 'image')} of "
                f"{count(sum(missing.values()), 'sentence')} (first: {first}; all are listed in {folder / MISSING}): extract or convert those "
                "too, or leave these sentences out with --allow-missing"
            )

    def answer_files(self, made: Made) -> dict[str, str]:
        """Return the file of the answer list, where the data set has one."""
        if not self.builder.mixture:
            if self.build.answers is None:
                return {}
            return {"answers.json": json.dumps(list(self.build.answers), indent=1) + "\n"}
        answers = self.build.answers or self.counts.most_frequent(self.options.num_answers)
        share = self.counts.coverage(answers)
        made.notes.append(
            f"{100 * share:.1f} % of the training questions accept one of the {len(answers):,} "
            "answers of the table"
        )
        return {"answers.json": self.counts.table(answers)}

    def describe(self, made: Made, outputs: dict[str, Output]) -> None:
        """Fill in files, checks and what was left out."""
        for name, output in sorted(outputs.items()):
            made.files[f"{name}.jsonl"] = {
                "sentences": output.sentences,
                "images": len(output.images),
                "bytes": output.size,
                "sha256": output.digest.hexdigest(),
            }
        made.checks += [self._check(published, outputs) for published in PUBLISHED[self.name]]
        for reason, number in sorted(self.build.left_out.counts.items()):
            first = self.build.left_out.cases[reason]
            made.left_out[reason] = {"count": number, "first": first}

    def _check(self, published: Published, outputs: dict[str, Output]) -> dict[str, Any]:
        """Put a number beside the published one."""
        found = [outputs[file] for file in published.files if file in outputs]
        number = {
            "sentences": sum(output.sentences for output in found),
            "images": sum(len(output.images) for output in found),
            "answers": len(self.build.answers or ()),
            "joined images": len(self.partners or ()),
        }[published.unit]
        of = f" in {' + '.join(published.files)}" if published.files else ""
        return {
            "what": f"{published.unit}{of}",
            "found": number,
            "published": published.number,
            "source": published.source,
            "agrees": abs(number - published.number) <= published.within,
        }


def _no_sentence(build: Build) -> str:
    """Return the message for official files of which nothing is left: which, and why."""
    files = ", ".join(str(path) for path in build.downloads.used)
    reasons = "".join(
        f"; {number:,} left out: {reason}" for reason, number in build.left_out.counts.items()
    )
    return f"no sentence in {files} can be used{reasons}: check these files"


def _describe_inputs(downloads: Downloads) -> dict[str, dict[str, Any]]:
    """Return size and checksum of each official file that was read."""
    return {
        str(path.relative_to(downloads.folder)): {
            "bytes": path.stat().st_size,
            "sha256": file_checksum(path),
        }
        for path in downloads.used
    }
