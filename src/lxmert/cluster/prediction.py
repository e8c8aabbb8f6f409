"""Prediction cut into shards, which one or many processes answer.

Shard `n` of a file holds the questions `n * size` to `(n + 1) * size`. Its rows are written into
the folder `OUTPUT.parts`, and its receipt afterwards, which makes it complete. When all are
complete, they are joined to `OUTPUT`, which is the same for any number of processes.
"""

import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from lxmert.cluster.shards import Job, Receipt, absolute, worker_name
from lxmert.data.corpus import Corpus
from lxmert.files import (
    atomic_path,
    folder_sha256,
    parse_json,
    resume_log,
    sha256,
    write_json,
)
from lxmert.hub import find_model
from lxmert.locks import FolderLock
from lxmert.names import count
from lxmert.predict import Predictor, Progress, check_images, open_reader
from lxmert.records import Record
from lxmert.schema import Example
from lxmert.workflows.prediction import (
    Prediction,
    read_questions,
    write_board,
    write_predictions,
)

_JOB = "job.jsonl"


class Answered(Record):
    """Receipt of a shard, as it is stored.

    Attributes:
        questions: number of questions.
        sha256: checksum of the rows.
        worker: host name and process that wrote it.
        seconds: time that it took.
    """

    questions: int
    sha256: str
    worker: str
    seconds: float


class AnswerWriter:
    """Writes shards of predictions; see `shards.ShardWriter`.

    Attributes:
        identity: checksum of the files of the model.
    """

    def __init__(self, prediction: Prediction, device: str) -> None:
        """Load the model, and what regions come from.

        Raises:
            FileNotFoundError: if a file is missing.
            ValueError: if the model answers nothing, or another extractor made the regions.
        """
        folder = find_model(prediction.model)
        self.identity = folder_sha256(folder)
        self._parts = parts_folder(prediction.output)
        self._read = open_reader(
            folder, images=prediction.images, stores=prediction.stores, device=device
        )
        self._predictor = Predictor.from_pretrained(folder, device=device)

    def check(self, corpus: Corpus) -> None:
        """Raise `ValueError` if a question cannot be answered."""
        check_images(corpus, self._read, self._predictor.num_images)

    def write(
        self,
        unit: int,
        part: Sequence[Example],
        progress: Progress = lambda done, total: None,  # noqa: ARG005
    ) -> Receipt:
        """Write the answers to the questions of a shard."""
        started = time.monotonic()
        answers = self._predictor.predict(Corpus.of(part), self._read, progress=progress)
        rows, receipt = _shard_paths(self._parts, unit)
        write_predictions(rows, part, answers)
        seconds, checksum = time.monotonic() - started, sha256(rows)
        answered = Answered(
            questions=len(part), sha256=checksum, worker=worker_name(), seconds=seconds
        )
        write_json(receipt, answered.to_dict())
        return Receipt(
            unit, answered.worker, len(part), files={rows.name: checksum}, seconds=seconds
        )


def prediction_job(prediction: Prediction, corpus: Corpus) -> Job:
    """Return what is missing of a file of predictions.

    Args:
        prediction: what to predict.
        corpus: what `read_questions` returned.

    Raises:
        ValueError: if `OUTPUT.parts` is of another job.
    """
    size, total = prediction.shard_questions, _num_shards(prediction, corpus)
    parts = _begin(prediction)
    missing = [unit for unit in range(total) if not _shard_paths(parts, unit)[1].is_file()]
    model = Path(prediction.model)
    anywhere = replace(
        prediction,
        model=str(absolute(model)) if model.is_dir() else prediction.model,
        output=prediction.output.absolute(),
        images=None if prediction.images is None else absolute(prediction.images),
        stores=tuple(map(absolute, prediction.stores)),
    )
    return Job(
        partial(AnswerWriter, anywhere),
        {unit: list(corpus[unit * size : (unit + 1) * size]) for unit in missing},
        total,
    )


def predict_file(prediction: Prediction, *, device: str, progress: Progress) -> int:
    """Answer every question of a file in this process; resumes an interrupted run.

    Args:
        prediction: what to predict.
        device: where to compute.
        progress: called with the numbers of finished and of all questions.

    Returns:
        The number of questions.

    Raises:
        FileNotFoundError: if a file is missing.
        ValueError: if a question cannot be answered, the model is of another kind than the format,
            or the leaderboard would reject the file; nothing is computed then. If another process
            answers the same file.
    """
    corpus = read_questions(prediction)
    progress(0, len(corpus))
    writer = AnswerWriter(prediction, device)
    writer.check(corpus)
    job = prediction_job(prediction, corpus)
    lock = FolderLock(parts_folder(prediction.output))
    done = len(corpus) - sum(map(len, job.parts.values()))
    for unit, part in job.parts.items():
        writer.write(unit, part, _shifted(progress, done, len(corpus)))
        done += len(part)
    number = join_predictions(prediction, corpus)
    lock.close()
    return number


def _shifted(progress: Progress, done: int, total: int) -> Progress:
    """Return the progress of a shard, which counts on from the shards before it."""
    return lambda number, _: progress(done + number, total)


def join_predictions(prediction: Prediction, corpus: Corpus) -> int:
    """Write the file of predictions from its shards, and remove them.

    Args:
        prediction: what was predicted.
        corpus: what `read_questions` returned.

    Returns:
        The number of questions.

    Raises:
        ValueError: if shards are missing, damaged, or of another job.
    """
    parts, total = parts_folder(prediction.output), _num_shards(prediction, corpus)
    missing = [unit for unit in range(total) if not _shard_paths(parts, unit)[1].is_file()]
    if missing:
        listed = ", ".join(map(str, missing[:10])) + (", ..." if len(missing) > 10 else "")
        raise ValueError(
            f"{parts} lacks {count(len(missing), 'shard')} of {total} ({listed}): run `lxmert "
            "predict` with --shard for them first"
        )
    _begin(prediction)
    found = sum(_check_shard(parts, unit) for unit in range(total))
    if found != len(corpus):
        raise ValueError(
            f"{parts} has answers to {count(found, 'question')}, expected {len(corpus)}: predict "
            "with the same questions and the same --shard-questions, or remove the folder"
        )
    if prediction.form == "jsonl":
        with atomic_path(prediction.output) as target, target.open("wb") as file:
            for unit in range(total):
                file.write(_shard_paths(parts, unit)[0].read_bytes())
    else:
        write_board(prediction, corpus, _answers(parts, total))
    shutil.rmtree(parts)
    return found


def parts_folder(output: Path) -> Path:
    """Return the folder of the shards of a file of predictions."""
    return output.with_name(f"{output.name}.parts")


def _begin(prediction: Prediction) -> Path:
    """Return the folder of the shards, which holds those of this job only."""
    parts = parts_folder(prediction.output)
    parts.mkdir(exist_ok=True)
    arguments = {
        "model": folder_sha256(find_model(prediction.model)),
        "data": sha256(prediction.data),
        "images": None if prediction.images is None else str(prediction.images),
        "regions": [str(store) for store in prediction.stores],
        "shard_questions": prediction.shard_questions,
    }
    resume_log(parts / _JOB, arguments, remedy="remove the folder, or name another output")
    return parts


def _num_shards(prediction: Prediction, corpus: Corpus) -> int:
    return -(-len(corpus) // prediction.shard_questions)


def _shard_paths(parts: Path, unit: int) -> tuple[Path, Path]:
    """Return the paths of the rows and of the receipt of a shard."""
    return parts / f"rows-{unit:06d}.jsonl", parts / f"receipt-{unit:06d}.json"


def _check_shard(parts: Path, unit: int) -> int:
    """Return the number of questions of a shard.

    Raises:
        ValueError: if its rows do not have the checksum of its receipt.
    """
    rows, receipt = _shard_paths(parts, unit)
    answered = Answered.from_file(receipt)
    if not rows.is_file() or sha256(rows) != answered.sha256:
        raise ValueError(
            f"{rows} is damaged: shard {unit}, written by worker {answered.worker}, does not have "
            f"its checksum; remove {receipt.name} next to it, and rerun the same command"
        )
    return answered.questions


def _answers(parts: Path, total: int) -> Iterator[str]:
    """Yield the answers of all shards, in order."""
    for unit in range(total):
        rows, _ = _shard_paths(parts, unit)
        with rows.open(encoding="utf-8") as lines:  # splitlines would also split at U+2028
            for line in lines:
                yield parse_json(line, str(rows))["answer"]
