"""One model in one runtime and precision, in a process of its own: its times, memory and answers.

It imports PyTorch only for the runtimes that need it, so that the memory is that of the runtime.
"""

import resource
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from lxmert.data.arrays import Arrays, image_arrays, text_arrays
from lxmert.data.corpus import Corpus
from lxmert.data.encoding import padding_id
from lxmert.data.preprocessing import EXTRACTOR_FOLDER
from lxmert.data.tokens import Tokens
from lxmert.exported import ExportedModel
from lxmert.predict import ImageRegions, Predictor, RegionSupply, Runtime, score
from lxmert.regions.preprocess import ImageInput
from lxmert.runtimes import Precision
from lxmert.schema import FloatArray, IntArray, Regions
from lxmert.workers import end_with_parent

if TYPE_CHECKING:
    from lxmert.regions.extractor import RegionExtractor

RuntimeKind = Literal["torch", "transformers", "onnxruntime", "openvino"]

_WEIGHTS = ("*.safetensors", "*.bin")


@dataclass(frozen=True)
class Variant:
    """What is measured.

    Attributes:
        runtime: library that computes.
        precision: numeric precision.
        folder: the model folder, or the exported one.
        threads: number of threads; None: as many as there are cores.
    """

    runtime: RuntimeKind
    precision: Precision
    folder: Path
    threads: int | None = None

    @property
    def name(self) -> str:
        """Runtime and precision, such as "openvino int8"."""
        return f"{self.runtime} {self.precision}"

    @property
    def exported(self) -> bool:
        """Whether the folder is an exported model."""
        return self.runtime in ("onnxruntime", "openvino")


class Size(NamedTuple):
    """Size of a timed batch.

    Attributes:
        questions: number of questions.
        per_image: how many consecutive questions are about one image.
    """

    questions: int
    per_image: int


@dataclass(frozen=True)
class Batch:
    """Texts about images; the arguments of a `lxmert.predict.Runtime`."""

    text: Arrays
    image: Arrays
    rows: IntArray


@dataclass(frozen=True)
class Asked:
    """Questions about images.

    Attributes:
        data: JSONL file of questions.
        images: image folder.
        rows: the questions of the file that are asked.
    """

    data: Path
    images: Path
    rows: IntArray

    def questions(self) -> Corpus:
        """Read the questions."""
        return Corpus.read([self.data], strict=True).select(self.rows)


class Candidate:
    """A loaded variant."""

    def __init__(self, variant: Variant) -> None:
        """Load the model without its region extractor.

        Raises:
            ModuleNotFoundError: if the runtime is not installed.
            ValueError: if the model cannot be loaded there; the message says why.
        """
        self._variant = variant
        self._predictor = Predictor.from_pretrained(variant.folder)
        if variant.exported:
            assert self._exported.answering is not None
            self._predictor.runtime = self._exported.answering
        else:
            self._predictor.runtime = _torch_runtime(self._predictor.runtime, variant)

    @cached_property
    def _exported(self) -> ExportedModel:
        return ExportedModel(self._variant.folder, threads=self._variant.threads)

    @cached_property
    def _supply(self) -> RegionSupply:
        return self._exported if self._variant.exported else _torch_supply(self._variant)

    def batches(self, asked: Asked, sizes: Sequence[Size]) -> list[Batch]:
        """Return batches of these sizes, for `logits`; each image is extracted once."""
        read = ImageRegions(asked.images, self._supply)
        extract = cache(lambda name: read([name])[0])
        return [self._batch(asked.questions(), extract, size) for size in sizes]

    def _batch(self, questions: Corpus, extract: Callable[[str], Regions], size: Size) -> Batch:
        """Return one batch; too few questions are repeated, and their images are encoded again."""
        order = np.random.default_rng(0).permutation(len(questions))
        chosen = [questions[int(row)] for row in np.resize(order, size.questions)]
        tokenizer, longest = self._predictor.tokenizer, self._predictor.max_text_length
        tokens = Tokens([example.text for example in chosen], tokenizer, longest=longest)
        text = text_arrays(
            [tokens[row] for row in range(len(chosen))], pad_id=padding_id(tokenizer)
        )
        regions = [extract(example.image_ids[0]) for example in chosen[:: size.per_image]]
        rows = np.arange(len(chosen)) // size.per_image
        return Batch(text, image_arrays(regions), rows[:, None])

    def logits(self, batch: Batch) -> FloatArray:
        """Return the logits of a batch."""
        return self._predictor.runtime(batch.text, batch.image, batch.rows)

    def time(self, batch: Batch, calls: int) -> list[float]:
        """Return the seconds of each of several calls, after one that is not counted."""
        return _time(lambda: self.logits(batch), calls)

    def time_pixels(self, asked: Asked, batch: Batch, calls: int) -> list[float]:
        """Like `time`, for one question about an image file: regions are extracted each time."""
        runtime, read = self._predictor.runtime, ImageRegions(asked.images, self._supply)
        image = asked.questions()[0].image_ids
        return _time(lambda: score(runtime, batch.text, [read(image)]), calls)

    def answers(self, asked: Asked) -> list[str]:
        """Return the answers to questions, from pixels."""
        found = self._predictor.predict(asked.questions(), ImageRegions(asked.images, self._supply))
        return [answer.answer for answer in found]

    def memory(self) -> float:
        """Return the peak memory of this process in bytes."""
        return _peak_memory()

    def size(self) -> int:
        """Return the bytes on disk of what the variant reads: weights, or the exported folder."""
        folder = self._variant.folder
        if self._variant.exported:
            return sum(path.stat().st_size for path in folder.iterdir())
        alone = self._variant.runtime == "transformers"
        places = [folder] if alone else [folder, folder / EXTRACTOR_FOLDER]
        found = [path for place in places for kind in _WEIGHTS for path in place.glob(kind)]
        return sum(path.stat().st_size for path in found)


def work(pipe: Connection, variant: Variant) -> None:
    """Load a variant and call its methods by name until None comes; errors are sent back.

    Args:
        pipe: receives `(method, arguments)` and sends `(True, result)` or `(False, message)`.
        variant: what to load; the first message tells whether that succeeded.
    """
    end_with_parent()
    candidate = _answer(pipe, lambda: Candidate(variant), shown=False)
    if candidate is None:
        return
    while (call := pipe.recv()) is not None:
        method, arguments = call
        _answer(pipe, lambda: getattr(candidate, method)(*arguments))  # noqa: B023


def _answer(pipe: Connection, run: Any, *, shown: bool = True) -> Any:
    """Send the result of a call, or that it succeeded; return it."""
    try:
        result = run()
    except Exception as error:  # runtimes have types of their own; the parent names the reason
        pipe.send((False, " ".join(str(error).split()) or type(error).__name__))
        return None
    pipe.send((True, result if shown else None))
    return result


def _time(run: Any, calls: int) -> list[float]:
    run()
    seconds = []
    for _ in range(calls):
        started = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - started)
    return seconds


def _peak_memory() -> float:
    """Return the largest resident memory of this process in bytes."""
    status = Path("/proc/self/status")
    if status.is_file():  # getrusage also counts the process from which this one was started
        line = next(each for each in status.read_text().splitlines() if each.startswith("VmHWM"))
        return 1024 * float(line.split()[1])
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


class _TransformersRuntime:
    """transformers' class with the weights of a model folder, as a `lxmert.predict.Runtime`."""

    def __init__(self, folder: Path) -> None:
        # The peer that the benchmark compares with; nothing else in the package uses it.
        import transformers

        library: Any = transformers
        library.logging.set_verbosity_error()
        library.logging.disable_progress_bar()
        model, found = library.LxmertForQuestionAnswering.from_pretrained(
            folder, output_loading_info=True, dtype="float32"
        )
        unused = [
            name
            for name in found["unexpected_keys"]
            if name.startswith(("lxmert.", "answer_head."))
        ]
        wrong = [*found["missing_keys"], *unused, *found["mismatched_keys"]]
        if wrong:
            raise ValueError(f"its weights do not fit transformers' class: {sorted(wrong)[0]}")
        self._model = model.eval()

    def __call__(self, text: Arrays, image: Arrays, rows: IntArray) -> FloatArray:
        """Return logits."""
        import torch

        inputs = {name: torch.from_numpy(values) for name, values in text.items()}
        inputs |= {name: torch.from_numpy(values[rows[:, 0]]) for name, values in image.items()}
        with torch.inference_mode():
            scores: FloatArray = self._model(**inputs).question_answering_score.numpy()
        return scores


class _TorchSupply:
    """The region extractor of a model folder; nothing is cached."""

    def __init__(self, extractor: "RegionExtractor") -> None:
        self._extractor = extractor

    def regions(self, images: Sequence[ImageInput]) -> list[Regions]:
        """Return the regions of images."""
        return self._extractor(images)


def _torch_supply(variant: Variant) -> RegionSupply:
    from lxmert.regions.extractor import load_extractor

    precision: Literal["fp32", "bf16"] = "bf16" if variant.precision == "bf16" else "fp32"
    return _TorchSupply(load_extractor(variant.folder / EXTRACTOR_FOLDER, precision=precision))


def _torch_runtime(loaded: Runtime, variant: Variant) -> Runtime:
    """Return the PyTorch model in the precision of a variant, or transformers' class."""
    import torch

    from lxmert.model.runtime import TorchRuntime

    if variant.threads is not None:
        torch.set_num_threads(variant.threads)
    if variant.runtime == "transformers":
        return _TransformersRuntime(variant.folder)
    assert isinstance(loaded, TorchRuntime)
    # Weights in half precision are kept so when they are loaded.
    dtype = torch.bfloat16 if variant.precision == "bf16" else torch.float32
    torch.nn.Module.to(loaded.model, dtype)
    return loaded
