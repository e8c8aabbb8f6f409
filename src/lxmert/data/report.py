"""Findings of a data set check, by kind and severity, and the report."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, NamedTuple

from pydantic import TypeAdapter

from lxmert.names import count

Severity = Literal["stop", "warn", "note"]
"""`stop`: training would be useless; `warn`: something is left out or read differently from how it
is written; `note`: harmless."""

SEVERITIES: tuple[Severity, ...] = ("stop", "warn", "note")

MAX_CASES = 20
"""Maximum number of cases kept for a finding."""


class Kind(NamedTuple):
    """A kind of finding.

    Attributes:
        severity: severity of all findings of the kind.
        title: what was counted, to be shown before the number.
        remedy: the consequence, or what to do.
    """

    severity: Severity
    title: str
    remedy: str


_LEFT_OUT = "left out: correct the lines"
_EXPORT = "correct them, or export the file again"

KINDS = {
    # entire files
    "missing_file": Kind("stop", "files that do not exist", "check the path"),
    "empty_file": Kind("stop", "empty files", "write one JSON object per line"),
    "csv": Kind("stop", "tables whose first row cannot be used", "correct it"),
    "json_array": Kind("stop", "JSON documents that are no complete list of objects", _EXPORT),
    "wrong_encoding": Kind("stop", "files that are not in UTF-8", "convert them"),
    "binary_file": Kind("stop", "files that are not text", "unpack or export them"),
    # entire data sets
    "no_image_folder": Kind("stop", "image folders that do not exist", "check the path"),
    "no_example": Kind("stop", "splits without a usable question", "see the other findings"),
    "mostly_left_out": Kind("stop", "splits that lose more than half", "see the other findings"),
    "no_answers": Kind(
        "stop", "training splits without an answer", "add right answers to the lines"
    ),
    "one_class": Kind("stop", "training splits with one answer only", "nothing can be learned"),
    # lines that are left out
    "not_json": Kind("warn", "lines that are not a JSON object", _LEFT_OUT),
    "wrong_row": Kind("warn", "rows of a table that do not fit its columns", _LEFT_OUT),
    "not_utf8": Kind("warn", "lines that are not in UTF-8", _LEFT_OUT),
    "no_image": Kind("warn", "lines without a usable image name", _LEFT_OUT),
    "no_question": Kind("warn", "lines without a usable question", _LEFT_OUT),
    "empty_answer": Kind("warn", "empty answers", "left out: give an answer or remove the key"),
    "wrong_answer": Kind("warn", "answers that are not strings", _LEFT_OUT),
    "wrong_label": Kind("warn", "ids or question types that are not strings", _LEFT_OUT),
    "unknown_split": Kind("warn", "unknown split names", _LEFT_OUT),
    "wrong_boxes": Kind("warn", "unusable boxes", _LEFT_OUT),
    "missing_image": Kind("warn", "images that do not exist", "their questions are left out"),
    "broken_image": Kind("warn", "images that cannot be read", "their questions are left out"),
    "ambiguous_image": Kind("warn", "ambiguous image names", "their questions are left out"),
    # lines that are read differently from how they are written
    "renamed_image": Kind("warn", "images found under another name", "used: correct the names"),
    "number_answer": Kind(
        "warn", "answers that are numbers", "read as strings: write them as strings"
    ),
    "boolean_answer": Kind(
        "warn", "answers true or false", "read as yes or no: write them as strings"
    ),
    "mixed_types": Kind(
        "warn", "answers given in several types", "read as one answer: write it one way"
    ),
    "answer_case": Kind(
        "warn", "answers that differ only in case", "kept separate: write it one way"
    ),
    "misspelled_key": Kind("warn", "keys that may be misspelled", "ignored: rename them"),
    "long_question": Kind(
        "warn", "texts longer than the model reads", "truncated: increase the length"
    ),
    "reserved_type": Kind(
        "warn", "question types named as another score", "not scored by themselves: rename them"
    ),
    "partly_split": Kind("warn", "lines without 'split' in a file with splits", "used for train"),
    # problems for training and scores
    "no_answer": Kind("warn", "questions without an answer", "not used for training"),
    "zero_scores": Kind(
        "warn",
        "questions whose answers all have the score 0",
        "not used for training: give the right answer a score up to 1",
    ),
    "outside_vocabulary": Kind(
        "warn", "questions whose answers the model cannot give", "not used for training"
    ),
    "unseen_answer": Kind(
        "warn", "questions of other splits whose answers are not in training", "always wrong"
    ),
    "duplicate_id": Kind("warn", "duplicate question ids", "make them unique"),
    "conflict": Kind("warn", "repeated questions with another answer", "keep one answer"),
    "shared_image": Kind(
        "warn", "images shared by several splits", "scores will be too good: split by image"
    ),
    "image_copy": Kind(
        "warn", "copies of images in other splits", "scores will be too good: remove them"
    ),
    "box_outside": Kind("warn", "boxes outside of their image", "check that they are in pixels"),
    # annotations in COCO's format
    "coco_image": Kind("stop", "images without a usable id, file name or size", _EXPORT),
    "coco_category": Kind("stop", "categories without a usable id or name", _EXPORT),
    "coco_annotation": Kind("stop", "annotations that cannot be used", _EXPORT),
    "coco_box": Kind(
        "stop", "boxes that are unusable or outside of their image", "clip or drop them"
    ),
    "coco_twice": Kind("stop", "duplicate entries", "keep one of them"),
    "coco_unknown": Kind(
        "stop",
        "annotations of images, categories or attributes that are not in the file",
        "add those or drop the annotations",
    ),
    "coco_groups": Kind(
        "stop",
        "unusable attribute groups",
        'expected lists of unique names, such as {"color": ["red", "blue"]}',
    ),
    "coco_no_object": Kind("stop", "files without a usable box", "add annotations"),
    "coco_none_known": Kind(
        "stop", "files without a category of the model", "use a file with its categories"
    ),
    "coco_missing_image": Kind("stop", "image files that do not exist", "check the image folder"),
    "coco_broken_image": Kind("stop", "images that cannot be read", "drop or correct them"),
    "coco_size": Kind(
        "stop",
        "images whose upright size differs from the annotations",
        "their boxes would be wrong: correct 'height' and 'width', or the images",
    ),
    "coco_unknown_category": Kind(
        "warn", "categories that the model does not know", "left out of all scores"
    ),
    "coco_unknown_attribute": Kind(
        "warn", "attributes that the model does not know", "left out of all scores"
    ),
    "coco_flat": Kind("warn", "boxes without an area", "left out"),
    "coco_crowd": Kind("note", "crowd annotations, which are not single objects", "left out"),
    # harmless
    "byte_order_mark": Kind("note", "byte-order marks", "ignored"),
    "windows_line_end": Kind("note", "Windows line ends", "ignored"),
    "unknown_key": Kind("note", "unknown keys", "ignored"),
    "answer_spaces": Kind("note", "answers with surrounding spaces", "removed"),
    "repeated_question": Kind("note", "repeated questions with the same answer", "used"),
    "given_boxes": Kind(
        "note", "lines with boxes", "a grid extractor is trained on them; others find their own"
    ),
    "unused_image": Kind("note", "images without a question", "not used"),
}

TIDY = {"given_boxes", "unused_image"}
"""Findings that `--strict` ignores: a folder may hold the images of other files as well."""

_CASES_SHOWN = 3
_LONGEST = 60
"""Characters of an answer that a line of the report shows."""


@dataclass(frozen=True)
class Case:
    """One occurrence of a finding.

    Attributes:
        file: path as given; a folder, or empty if it does not concern a file.
        line: from 1; 0 if it does not concern a line.
        detail: what was given, and what was expected.
    """

    file: str
    line: int
    detail: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        return f"{place}: {self.detail}" if place else self.detail


@dataclass
class Finding:
    """All cases of one kind.

    Attributes:
        kind: a key of `KINDS`.
        severity: `stop`, `warn` or `note`.
        count: number of cases.
        cases: the first cases, at most `MAX_CASES`; one for each value or key concerned.
        share: share of the possible cases, in `[0, 1]`; None if it is not meaningful.
    """

    kind: str
    severity: Severity
    count: int = 0
    cases: list[Case] = field(default_factory=list)
    share: float | None = None

    def __str__(self) -> str:
        kind = KINDS[self.kind]
        share = "" if self.share is None else f" ({self.share:.1%})"
        return f"{kind.title}: {self.count:,}{share}; {kind.remedy}"


@dataclass(frozen=True)
class SplitFacts:
    """Statistics of a split.

    Attributes:
        lines: number of non-blank lines.
        questions: number of usable questions.
        images: number of their images.
        answers: number of different best answers in the readable lines.
        majority: the most frequent best answer in these lines.
        majority_share: its share of the answered questions: the accuracy of the majority baseline.
        left_out: number of unusable lines by kind.
    """

    lines: int
    questions: int
    images: int
    answers: int
    majority: str
    majority_share: float
    left_out: dict[str, int]


@dataclass(frozen=True)
class Report:
    """The result of a data set check.

    Attributes:
        findings: the findings, most severe first.
        splits: statistics of each split.
        image_names: file of each image name that differs from it; None if it cannot be used.
    """

    findings: list[Finding]
    splits: dict[str, SplitFacts]
    image_names: dict[str, str | None] = field(default_factory=dict)

    def resolve(self, name: str) -> str | None:
        """Return an image's path relative to the image folder; None if it cannot be used."""
        return self.image_names.get(name, name)

    def stops(self, *, strict: bool = False) -> bool:
        """Return whether training should not start; if strict, because of any problem."""
        if strict:
            return any(finding.kind not in TIDY for finding in self.findings)
        return any(finding.severity == "stop" for finding in self.findings)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Report":
        """Build a report from the result of `to_dict`."""
        report: Report = TypeAdapter(cls).validate_python(values)
        return report

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON values.

        Returns:
            `findings`: a list of `kind`, `severity`, `count`, `share` (absent: null), `text` and
            `cases` (a list of `file`, `line`, `detail`). `splits`: the fields of `SplitFacts` by
            split. `image_names`: as in this class.
        """
        findings = [{**asdict(finding), "text": str(finding)} for finding in self.findings]
        return {**asdict(self), "findings": findings}

    def lines(self) -> list[str]:
        """Return the report as lines of text, with the first cases of each finding."""
        lines = self.summary()
        for finding in self.findings:
            lines.append(f"{finding.severity}: {finding}")
            lines += [f"    {case}" for case in finding.cases[:_CASES_SHOWN]]
            if finding.count > _CASES_SHOWN < len(finding.cases):
                lines.append(f"    ... and {finding.count - _CASES_SHOWN:,} more")
        return lines

    def summary(self) -> list[str]:
        """Return one line per split, and one that counts the findings."""
        lines = [_describe(name, facts) for name, facts in self.splits.items()]
        counts = Counter(finding.severity for finding in self.findings)
        reported = [f"{counts[severity]} {severity}" for severity in SEVERITIES if counts[severity]]
        return [*lines, f"findings: {', '.join(reported) or 'none'}"]


class Findings:
    """Collects cases during a check; memory does not grow with their number."""

    def __init__(self) -> None:
        self._findings: dict[str, Finding] = {}
        self._reported: set[tuple[str, str]] = set()

    def add(self, kind: str, case: Case, *, about: str = "", count: int = 1) -> None:
        """Count a case, and keep it if it is one of the first.

        Args:
            kind: a key of `KINDS`.
            case: the case.
            about: value or key that the case concerns; one case is kept for each.
            count: number of occurrences.
        """
        severity = KINDS[kind].severity
        finding = self._findings.setdefault(kind, Finding(kind, severity))
        finding.count += count
        if len(finding.cases) == MAX_CASES or (about and (kind, about) in self._reported):
            return
        finding.cases.append(case)
        self._reported.add((kind, about))

    def share(self, kind: str, of: int) -> None:
        """Set the share of a finding, if there is one, relative to `of` possible cases."""
        if kind in self._findings:
            self._findings[kind].share = self._findings[kind].count / max(1, of)

    def report(
        self, splits: Mapping[str, SplitFacts], image_names: Mapping[str, str | None]
    ) -> Report:
        """Return the sorted findings as a report."""
        order = list(KINDS)
        found = sorted(self._findings.values(), key=lambda finding: order.index(finding.kind))
        found.sort(key=lambda finding: SEVERITIES.index(finding.severity))
        return Report(found, dict(splits), dict(image_names))


def _brief(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


def _describe(name: str, facts: SplitFacts) -> str:
    """Describe a split in one line."""
    text = f"{name}: {count(facts.questions, 'question')} about {count(facts.images, 'image')}"
    if facts.answers:
        text += f", {count(facts.answers, 'answer')}"
        text += f", the most frequent is {_brief(facts.majority)!r} ({facts.majority_share:.1%})"
    lost = sum(facts.left_out.values())
    if lost:
        reasons = ", ".join(f"{number:,} {kind}" for kind, number in facts.left_out.items())
        text += f"; {lost:,} of {count(facts.lines, 'line')} left out ({reasons})"
    return text
