"""The pipeline: answer questions about an image, explain the answers, match captions."""

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Self

from lxmert.devices import check_device, choose_device
from lxmert.explain.answered import QUICK, AnsweredQuestion
from lxmert.exported import ExportedModel, check_complete, is_exported, no_gradients
from lxmert.hub import find_model, missing_parts, model_name
from lxmert.names import count
from lxmert.predict import Runtime, leave_out, rank, score, softmax
from lxmert.questions import (
    Pair,
    check_order,
    check_some_texts,
    check_top_k,
    is_single,
    pair_questions,
)
from lxmert.reading import check_recognized, check_text
from lxmert.regions.cache import DiskCache
from lxmert.regions.labels import object_labels, region_labels
from lxmert.regions.preprocess import ImageInput, load_image
from lxmert.schema import Answer, FloatArray, Regions

if TYPE_CHECKING:
    import torch

    from lxmert.explain.explanation import Explanation
    from lxmert.model.heads import LxmertForImageAndTextRetrieval, LxmertForQuestionAnswering
    from lxmert.processing import LxmertProcessor


class LxmertPipeline:
    """Region extractor, tokenizer and model, loaded from one folder.

    Torch's threads do not survive a fork: a process forked after a pipeline has computed with more
    than one thread gets a `RuntimeError`. Start processes with
    `multiprocessing.get_context("spawn")`, or call `torch.set_num_threads(1)` in them.
    """

    def __init__(
        self,
        model: "LxmertForQuestionAnswering | LxmertForImageAndTextRetrieval | ExportedModel",
        processor: "LxmertProcessor | None" = None,
        *,
        matcher: "LxmertForImageAndTextRetrieval | None" = None,
        folder: Path | None = None,
    ) -> None:
        """Combine models with the processor they were trained with.

        Args:
            model: model that answers questions or matches captions; wrappers of torch.compile and
                PEFT are removed by `unwrap_model`. Or an exported model.
            processor: its processor; None for an exported model, which is its own.
            matcher: model that matches captions, in addition to one that answers.
            folder: folder of the model, for messages.

        Raises:
            TypeError: if the model can neither answer nor match.
            ValueError: if model and processor do not match.
        """
        self._folder = folder
        self.model: Any = model
        self.processor: Any = model if processor is None else processor
        self.answering: LxmertForQuestionAnswering | None = None
        self.matcher: LxmertForImageAndTextRetrieval | None = None
        self._answerer: Runtime | None = None
        self.matching: Runtime | None = None
        self.device: Any = "cpu"
        if isinstance(model, ExportedModel):
            self._answerer, self.matching = model.answering, model.matching
            self.answers = model.manifest.answers
        else:
            self._use_torch(model, matcher)

    def _use_torch(
        self,
        wrapped: "LxmertForQuestionAnswering | LxmertForImageAndTextRetrieval",
        matcher: "LxmertForImageAndTextRetrieval | None",
    ) -> None:
        """Set up PyTorch models; see `__init__`."""
        from lxmert.model.answers import answers_of
        from lxmert.model.heads import LxmertForImageAndTextRetrieval, LxmertForQuestionAnswering
        from lxmert.model.runtime import TorchRuntime, check_fork
        from lxmert.model.wrappers import execution_device, unwrap_model

        check_fork()
        model = unwrap_model(wrapped)
        if not isinstance(model, LxmertForQuestionAnswering | LxmertForImageAndTextRetrieval):
            raise TypeError(
                f"the model is a {type(wrapped).__name__}; expected LxmertForQuestionAnswering or "
                "LxmertForImageAndTextRetrieval: load one of these with from_pretrained"
            )
        if matcher is not None:
            matcher = unwrap_model(matcher)  # type: ignore[assignment]
        self.model = model
        model.train(mode=False)
        if isinstance(model, LxmertForQuestionAnswering):
            self.answering, self._answerer = model, TorchRuntime(model)
        self.matcher = model if isinstance(model, LxmertForImageAndTextRetrieval) else matcher
        if self.matcher is not None:
            self.matcher.train(mode=False)
            self.matching = TorchRuntime(self.matcher)
        self.device = execution_device(model)
        self.answers = (answers_of(model.config) if self.answering else None) or ()
        self.processor.check_fit(model.config, self._folder or "the model")

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | Path | None = None,
        *,
        extractor: str | Path | None = None,
        answers: str | Path | None = None,
        device: str | None = "cpu",
        cache: DiskCache | bool = True,
    ) -> "LxmertPipeline":
        """Load a model with its region extractor; an exported folder is read without PyTorch.

        Published models come without extractor and answers: name both, or write a complete folder
        with `lxmert convert`. Pretrained models with an answer head can both answer and match.

        Args:
            name_or_path: model folder or Hugging Face hub name; absent: the bundled model, trained
                on the synthetic scenes of `lxmert.lab.scenes`.
            extractor: folder or published file of the region extractor, for a model that comes
                without one.
            answers: answer list, for a model that comes without one; formats as in
                `lxmert.data.answer_lists.read_answers`.
            device: where to compute; None: the best device of this machine. Exported models compute
                on the CPU.
            cache: where the regions of images are kept, so that each image is extracted once; True:
                the user's cache folder; False: nowhere.

        Raises:
            FileNotFoundError: if there is no such model, or it lacks a file.
            ValueError: if its files do not match, or a part is missing; the message says where to
                get it and how to add it.
        """
        folder = find_model(
            name_or_path,
            complete=extractor is None,
            check=lambda found: _check_parts(found, extractor, answers, device),
        )
        kept = DiskCache() if cache is True else cache or None
        if is_exported(folder):
            return cls(ExportedModel(folder, cache=kept), folder=folder)
        from lxmert.loading import load_parts

        parts = load_parts(folder, extractor, answers, choose_device(device))
        parts.processor.cache = kept
        return cls(parts.model, parts.processor, matcher=parts.matcher, folder=folder)

    def __call__(
        self,
        image: Any,
        question: str | Sequence[str] | None = None,
        *,
        top_k: int = 5,
        batch_size: int = 8,
    ) -> Any:
        """Answer questions as transformers' visual question answering pipeline did.

        Example:
            >>> from lxmert import LxmertPipeline
            >>> pipe = LxmertPipeline.from_pretrained()
            >>> pipe(image="examples/scene.png", question="What color is the ball?", top_k=1)
            [{'score': 0.999, 'answer': 'yellow'}]

        Args:
            image: an image, a list of images, `{"image": ..., "question": ...}`, or several of
                these in a list, a data set or a generator.
            question: a question for all images, or a list of questions about one image; None if
                `image` contains it.
            top_k: number of answers per question, at least 1.
            batch_size: questions per batch.

        Returns:
            The top answers as dictionaries with `score` and `answer`, best first; a list of them
            for several pairs; for a generator, an iterator that yields them batch by batch.

        Raises:
            TypeError: if the arguments are of another form.
            ValueError: as for `ask`.
        """
        check_top_k(top_k)
        if not isinstance(batch_size, int) or batch_size < 1:
            raise ValueError(f"batch_size is {batch_size!r}: expected an integer of at least 1")
        runtime = self._answering_runtime()
        results = self._answer_pairs(runtime, pair_questions(image, question), top_k, batch_size)
        if is_single(image, question):
            return next(results)
        return results if isinstance(image, Iterator) else list(results)

    def _answer_pairs(
        self,
        runtime: Runtime,
        pairs: Iterator[Pair],
        top_k: int,
        batch_size: int,
    ) -> Iterator[list[dict[str, object]]]:
        """Yield the answers to questions; in a batch, each image object is extracted once."""
        while batch := list(islice(pairs, batch_size)):
            self._check_fork()
            unique = {id(image): image for image, _ in batch}
            extracted = self.processor.regions([*unique.values()])
            regions = dict(zip(unique, extracted, strict=True))
            for found in extracted:
                check_recognized(self.processor.extractor, found)
            text = self.processor.reader([question for _, question in batch])
            for row in softmax(score(runtime, text, [[regions[id(image)]] for image, _ in batch])):
                yield [
                    {"score": found.score, "answer": found.answer}
                    for found in rank(row, self.answers, top_k)
                ]

    def ask(self, image: ImageInput, question: str, *, top_k: int = 5) -> list[Answer]:
        """Answer a question about an image.

        Args:
            image: path, URL, bytes, PIL image, or uint8 RGB array or tensor.
            question: question in natural language.
            top_k: number of answers, at least 1.

        Returns:
            The top answers with their probabilities, best first.

        Warns:
            InputWarning: if image or question are unlike the training data.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if the image cannot be read, the question is empty, top_k < 1, or the
                model cannot answer.
        """
        check_top_k(top_k)
        check_order(image, question)
        check_text(question)
        self._answering_runtime()
        return self.ask_regions(self.regions(image), [question], top_k=top_k)[0]

    def match(self, image: ImageInput, captions: Sequence[str]) -> list[float]:
        """Return the probability of each caption that it describes an image.

        Args:
            image: path, URL, bytes, PIL image, or uint8 RGB array or tensor.
            captions: one or more captions; the image is encoded once.

        Returns:
            One probability per caption, in the same order; they do not add up to 1.

        Warns:
            InputWarning: if image or caption are unlike the training data.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if the image cannot be read, a caption is empty, or the model has no
                matching head.
        """
        check_some_texts("captions", captions)
        for caption in captions:
            check_text(caption)
        self._matching_runtime()
        return self.match_regions(self.regions(image), captions)

    def regions(self, image: ImageInput) -> Regions:
        """Return the regions of an image."""
        self._check_fork()
        found: list[Regions] = self.processor.regions([image])
        return found[0]

    def ask_regions(
        self, regions: Regions | Sequence[Regions], questions: Sequence[str], *, top_k: int = 5
    ) -> list[list[Answer]]:
        """Answer several questions in one batch, given the regions of their image, or of each.

        The same regions are encoded once. Errors are those of `ask`.
        """
        check_top_k(top_k)
        check_some_texts("questions", questions)
        logits = self._scores(self._answering_runtime(), regions, questions)
        return [rank(row, self.answers, top_k) for row in softmax(logits)]

    def match_regions(self, regions: Regions, captions: Sequence[str]) -> list[float]:
        """Like `match`, given the regions of the image."""
        check_some_texts("captions", captions)
        logits = self._scores(self._matching_runtime(), regions, captions)
        return [float(probability) for probability in softmax(logits)[:, 1]]

    def answer(self, image: ImageInput, question: str, *, top_k: int = 5) -> AnsweredQuestion:
        """Answer a question, and measure the relevance of each region for the best answer.

        Like `explain` with occlusion of regions only, which exported models can do as well.
        Arguments, warnings and errors are those of `ask`.
        """
        check_top_k(top_k)
        check_order(image, question)
        check_text(question)
        runtime = self._answering_runtime()
        pixels = load_image(image)
        regions = self.regions(pixels)
        check_recognized(self.processor.extractor, regions)
        variants = leave_out(runtime, self.processor.reader([question]), regions)
        complete, without = variants[0], variants[-1]
        best = int(complete.argmax())
        return AnsweredQuestion(
            image=pixels,
            question=question,
            answers=rank(complete, self.answers, top_k),
            regions=regions,
            objects=self.objects(regions),
            labels=self.labels(regions),
            relevance=(complete[best] - variants[1:-1, best]).tolist(),
            without_image=rank(without, self.answers, 1)[0],
        )

    def explain(
        self,
        image: ImageInput,
        question: str,
        *,
        top_k: int = 5,
        answers: Sequence[str] = (),
        methods: Sequence[str] = QUICK,
        regions: Regions | None = None,
        contrast: str | None = None,
    ) -> "Explanation":
        """Answer a question and explain the answers; a notebook displays the report.

        Args:
            image: as for `ask`.
            question: as for `ask`.
            top_k: number of top answers to explain, at least 1.
            answers: additional answers to explain, of any rank.
            methods: names of `METHODS`, or `["all"]`; occlusion is always added, for `relevance`.
            regions: regions of the image, if they are known; None: they are extracted.
            contrast: explain why the best answer, or the one in `answers`, and not this one.

        Raises:
            ValueError: for unknown answers and methods, an exported model, and as for `ask`.
        """
        self._answering_runtime()
        if self.answering is None:
            raise no_gradients(self.name, self.model)
        from lxmert.explaining import explain_answer

        return explain_answer(
            self,
            image,
            question,
            top_k=top_k,
            answers=answers,
            methods=methods,
            regions=regions,
            contrast=contrast,
        )

    def to(self, device: "str | torch.device") -> Self:
        """Move the models and the region extractor to a device, and return the pipeline."""
        check_device(str(device))
        if isinstance(self.model, ExportedModel):
            check_complete(self.model.folder, device=str(device))
            return self
        from lxmert.model.wrappers import execution_device

        for model in (self.model, self.matcher):
            if model is not None:
                model.to(device)  # type: ignore[arg-type]
        self.processor.to(device)
        self.device = execution_device(self.model)
        return self

    def save_pretrained(self, folder: str | Path) -> None:
        """Write a complete model folder: weights, answers, tokenizer and region extractor."""
        if isinstance(self.model, ExportedModel):
            raise ValueError(
                f"{self.name} is an exported model: copy its folder {self.model.folder}, or save "
                f"the model that it was exported from, {self.model.manifest.source}"
            )
        weights = None
        if self.matcher is not None and self.matcher is not self.model:
            weights = {**self.matcher.state_dict(), **self.model.state_dict()}
        self.model.save_pretrained(folder, state_dict=weights)
        self.processor.save_pretrained(folder)

    def push_to_hub(
        self,
        name: str,
        *,
        private: bool | None = None,
        token: str | None = None,
        commit_message: str = "Upload LxmertPipeline",
    ) -> str:
        """Upload a complete model folder to the Hugging Face hub, and return its address.

        Args:
            name: `user/model`; created if it does not exist.
            private: whether a new repository is private; None: as the account is set.
            token: access token; None: the one that is logged in.
            commit_message: message of the commit.
        """
        from huggingface_hub import HfApi

        api = HfApi(token=token)
        address = str(api.create_repo(name, private=private, exist_ok=True))
        with TemporaryDirectory() as folder:
            self.save_pretrained(folder)
            api.upload_folder(repo_id=name, folder_path=folder, commit_message=commit_message)
        return address

    def __repr__(self) -> str:
        """Return one line."""
        skills = [f"{count(len(self.answers), 'answer')}"] if self._answerer is not None else []
        skills += ["matching"] if self.matching is not None else []
        return (
            f"LxmertPipeline({self.name}: {', '.join(skills)}; "
            f"{type(self.processor.extractor).__name__}; {self.device})"
        )

    def objects(self, regions: Regions) -> list[str]:
        """Return the object class of each region; `whole image` if nothing was found.

        Grid cells, which have no class, are named by row and column: `cell 3,5`.
        """
        return object_labels(self.processor.extractor, regions)

    def labels(self, regions: Regions) -> list[str]:
        """Return a label for each region: its attributes and its object class."""
        return region_labels(self.processor.extractor, regions)

    def _answering_runtime(self) -> Runtime:
        """Return what scores answers, after checking that they have names."""
        if self._answerer is None:
            raise ValueError(
                f"{self.name} has no answer head, it can only match captions: use a "
                "question-answering model, or the bundled one"
            )
        if self.answers:
            return self._answerer
        number = self.model.config.num_qa_labels
        if self._folder is None:
            raise ValueError(
                f"{self.name} does not name its {number} answers: set model.config.id2label = "
                "{0: 'yes', 1: 'no', ...} with a name for each, and create the pipeline again"
            )
        raise missing_parts(self._folder, extractor=False, num_answers=number)

    def _matching_runtime(self) -> Runtime:
        """Return what scores captions."""
        if self.matching is None:
            raise ValueError(
                f"{self.name} has no matching head, it can only answer questions: use a "
                "pretrained model with --model (in Python from_pretrained(...)), such as "
                "unc-nlp/lxmert-base-uncased or the output of a pretraining recipe"
            )
        return self.matching

    @property
    def name(self) -> str:
        """Name of the model, for messages."""
        if self._folder is None:
            return f"this {type(self.model).__name__}"
        return model_name(self._folder)

    def _check_fork(self) -> None:
        """Raise `RuntimeError` in a forked process, where torch would wait for lost threads."""
        if not isinstance(self.model, ExportedModel):
            from lxmert.model.runtime import check_fork

            check_fork()

    def _scores(
        self, runtime: Runtime, regions: Regions | Sequence[Regions], texts: Sequence[str]
    ) -> FloatArray:
        """Return `[texts, classes]` logits for texts about one image, or each about its own."""
        each = [regions] * len(texts) if isinstance(regions, Regions) else list(regions)
        if len(each) != len(texts) or not all(isinstance(found, Regions) for found in each):
            raise TypeError(
                f"regions is a {type(regions).__name__}; expected what pipeline.regions(image) "
                "returns, or a list with one for each text"
            )
        for found in {id(found): found for found in each}.values():
            check_recognized(self.processor.extractor, found)
        return score(runtime, self.processor.reader(texts), [[found] for found in each])


def _check_parts(
    folder: Path, extractor: str | Path | None, answers: str | Path | None, device: str | None
) -> None:
    """Raise `ValueError` for parts that are missing, or that an exported model has already."""
    if is_exported(folder):
        check_complete(folder, extractor=extractor, answers=answers, device=device)
        return
    from lxmert.loading import check_parts

    check_parts(folder, extractor, answers)
