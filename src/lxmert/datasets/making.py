"""Builds one dataset: sentences, joined image names, regions, counts and manifest."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lxmert.data.answer_lists import read_answers
from lxmert.datasets.answer_table import NUM_ANSWERS, AnswerCounts
from lxmert.datasets.build import Build, Sentence
from lxmert.datasets.builders import BUILDERS, Builder
from lxmert.datasets.downloads import Downloads, check_name
from lxmert.datasets.expected import PUBLISHED, PublishedCount, check_splits
from lxmert.datasets.images import StoredImages, held_out, read_partners
from lxmert.datasets.writing import SplitFile, Writer, writing
from lxmert.files import sha256, write_text
from lxmert.model.answers import normalize_answer
from lxmert.names import count

_EVERY = 10_000
"""Sentences between progress reports."""

MISSING = "missing-images.txt"


@dataclass(frozen=True)
class Options:
    """Options of a build.

    Attributes:
        regions: region stores whose ids replace the official image names; empty: keep the names.
        allow_missing: skip and count sentences whose image is in no store.
        minival: file with the images of val2014 to hold out; None: select by hash of the name.
        answers: file with the answer vocabulary; None: the dataset's own.
        num_answers: size of the pretraining vocabulary if no file is given.
    """

    regions: Sequence[Path] = ()
    allow_missing: bool = False
    minival: Path | None = None
    answers: Path | None = None
    num_answers: int = NUM_ANSWERS


@dataclass
class Made:
    """Result of a build.

    Attributes:
        folder: output folder.
        files: `sentences`, `images`, `bytes` and `sha256` by file name.
        checks: comparisons with published numbers: `what`, `found`, `published`, `source`,
            `agrees`.
        left_out: `count` and `first` cases of skipped entries by reason.
        notes: remarks for the user.
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
    """Build the files of a dataset from official downloads.

    Args:
        name: one of `BUILDERS`.
        downloads: folder of the official files.
        target: parent of the output folder, which has the name of the dataset.
        options: see `Options`.
        progress: called with the number of sentences done and expected.

    Returns:
        The result, which is also in the manifest of the folder.

    Raises:
        FileNotFoundError: if an official file is missing.
        ValueError: if a file is damaged or of another release or split; if no sentence can be
            used; if images have no regions and `allow_missing` is off.
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
    """State of one build."""

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
        """Write a sentence, or count the reason for skipping it."""
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
            reason = "text with an unpaired surrogate, which is not a character"
            self.build.left_out.add(reason, sentence.sentence_id)
            return
        if self.builder.mixture and sentence.split == "train" and sentence.answers:
            self.counts.add(sentence.source, sentence.answers)

    def _join(self, sentences: Iterator[Sentence]) -> Iterator[Sentence]:
        """Rename shared images to COCO's names and give sentences the split of their image."""
        for sentence in sentences:
            (image,) = sentence.images
            if not image.startswith("COCO_"):
                if self.partners is None:  # COCO's own sentences need no Visual Genome files
                    self.partners = read_partners(self.build.downloads, self.build.left_out)
                image = self.partners.get(image, image)
            split = "valid" if self.build.minival(image) else "train"
            yield sentence._replace(images=(image,), split=split)

    def check_missing(self, folder: Path) -> None:
        """List images without regions in a file; raise an error unless they are allowed."""
        missing = self.stored.missing
        (folder / MISSING).unlink(missing_ok=True)
        if not missing:
            return
        write_text(folder / MISSING, self.stored.list_missing())
        if not self.options.allow_missing:
            first = ", ".join(sorted(missing)[:5])
            raise ValueError(
                f"no regions of {count(len(missing), 'image')} of "
                f"{count(sum(missing.values()), 'sentence')} (first: {first}; full list in "
                f"{folder / MISSING}): extract or convert those too, or skip these sentences with "
                "--allow-missing"
            )

    def answer_files(self, made: Made) -> dict[str, str]:
        """Return the answer vocabulary as a file, if the dataset has one."""
        if not self.builder.mixture:
            if self.build.answers is None:
                return {}
            return {"answers.json": json.dumps(list(self.build.answers), indent=1) + "\n"}
        answers = self.build.answers or self.counts.most_frequent(self.options.num_answers)
        share = self.counts.coverage(answers)
        made.notes.append(
            f"{100 * share:.1f}% of the training questions accept one of the {len(answers):,} "
            "answers of the vocabulary"
        )
        return {"answers.json": self.counts.table(answers)}

    def describe(self, made: Made, outputs: dict[str, SplitFile]) -> None:
        """Fill in files, checks and skipped entries."""
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

    def _check(self, published: PublishedCount, outputs: dict[str, SplitFile]) -> dict[str, Any]:
        """Compare a count with the published one."""
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
    """Return the message for a build without any sentence: the files and the reasons."""
    files = ", ".join(str(path) for path in build.downloads.used)
    reasons = "".join(
        f"; {number:,} skipped: {reason}" for reason, number in build.left_out.counts.items()
    )
    return f"no sentence in {files} can be used{reasons}: check these files"


def _describe_inputs(downloads: Downloads) -> dict[str, dict[str, Any]]:
    """Return size and checksum of each official file that was read."""
    return {
        str(path.relative_to(downloads.folder)): {
            "bytes": path.stat().st_size,
            "sha256": sha256(path),
        }
        for path in downloads.used
    }
