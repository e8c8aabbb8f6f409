"""The pipeline: answer questions about an image, explain the answers, match captions."""

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

import torch
from torch import Tensor

from lxmert.data.answer_lists import read_answers
from lxmert.devices import check_device
from lxmert.explain.explanation import Explanation, split_words
from lxmert.explain.maps import attention_maps
from lxmert.explain.methods import QUICK, choose_methods, explain_answers
from lxmert.hub import find_model, missing_parts, model_name
from lxmert.model.answers import answers_of, name_answers
from lxmert.model.configuration import LxmertConfig
from lxmert.model.heads import LxmertForImageAndTextRetrieval, LxmertForQuestionAnswering
from lxmert.model.loading import load_heads
from lxmert.model.pretrained import read_config
from lxmert.model.wrappers import execution_device, unwrap_model
from lxmert.names import count, nearest
from lxmert.predict import ScoringModel, TorchRuntime, check_fork, check_parts, score
from lxmert.processing import LxmertProcessor, check_text
from lxmert.questions import (
    Pair,
    check_order,
    check_some_texts,
    check_texts,
    check_top_k,
    is_single,
    pair_questions,
)
from lxmert.regions.cache import DiskCache
from lxmert.regions.labels import object_labels, region_labels
from lxmert.regions.preprocess import ImageInput, load_image
from lxmert.schema import Answer, Regions


class LxmertPipeline:
    """Region extractor, tokenizer and model, loaded from one folder.

    Torch's threads do not survive a fork: a process forked after a pipeline has computed with more
    than one thread gets a `RuntimeError`. Start processes with
    `multiprocessing.get_context("spawn")`, or call `torch.set_num_threads(1)` in them.
    """

    def __init__(
        self,
        model: LxmertForQuestionAnswering | LxmertForImageAndTextRetrieval,
        processor: LxmertProcessor,
        *,
        matcher: LxmertForImageAndTextRetrieval | None = None,
        folder: Path | None = None,
    ) -> None:
        """Combine models with the processor they were trained with.

        Args:
            model: model that answers questions or matches captions; wrappers of torch.compile and
                PEFT are removed by `unwrap_model`.
            processor: its processor.
            matcher: model that matches captions, in addition to one that answers.
            folder: folder of the model, for messages.

        Raises:
            TypeError: if the model can neither answer nor match.
            ValueError: if model and processor do not match.
        """
        check_fork()
        wrapped, model = model, unwrap_model(model)  # type: ignore[assignment]
        if not isinstance(model, LxmertForQuestionAnswering | LxmertForImageAndTextRetrieval):
            raise TypeError(
                f"the model is a {type(wrapped).__name__}; expected LxmertForQuestionAnswering or "
                "LxmertForImageAndTextRetrieval: load one of these with from_pretrained"
            )
        if matcher is not None:
            matcher = unwrap_model(matcher)  # type: ignore[assignment]
        self.model = model
        self.model.train(mode=False)
        self.answering = model if isinstance(model, LxmertForQuestionAnswering) else None
        self.matcher = model if isinstance(model, LxmertForImageAndTextRetrieval) else matcher
        if self.matcher is not None:
            self.matcher.train(mode=False)
        self.processor = processor
        self.device = execution_device(model)
        self.answers = (answers_of(model.config) if self.answering else None) or ()
        self._folder = folder
        processor.check_fit(model.config, folder or "the model")

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | Path | None = None,
        *,
        extractor: str | Path | None = None,
        answers: str | Path | None = None,
        device: str = "cpu",
        cache: DiskCache | bool = True,
    ) -> "LxmertPipeline":
        """Load a model with its region extractor.

        Published models come without extractor and answers: name both, or write a complete folder
        with `lxmert convert`. Pretrained models with an answer head can both answer and match.

        Args:
            name_or_path: model folder or Hugging Face hub name; absent: the bundled model, trained
                on the synthetic scenes of `lxmert.lab.scenes`.
            extractor: folder or published file of the region extractor, for a model that comes
                without one.
            answers: answer list, for a model that comes without one; formats as in
                `lxmert.data.answer_lists.read_answers`.
            device: where to compute.
            cache: where the regions of images are kept, so that each image is extracted once; True:
                the user's cache folder; False: nowhere.

        Raises:
            FileNotFoundError: if there is no such model, or it lacks a file.
            ValueError: if its files do not match, or a part is missing; the message says where to
                get it and how to add it.
        """
        check_device(device)
        folder = find_model(
            name_or_path,
            complete=extractor is None,
            check=lambda found: check_parts(found, extractor, answers),
        )
        nameless = answers is None and answers_of(read_config(folder)) is None
        processor = LxmertProcessor.from_folder(folder, extractor, device=device)
        processor.cache = DiskCache() if cache is True else cache or None
        answering, matcher = load_heads(folder)
        if answering is not None and answers is not None:
            _name_answers(answering.config, Path(answers), folder)
        elif answering is not None and nameless and matcher is None:
            number = answering.config.num_qa_labels
            raise missing_parts(folder, extractor=False, num_answers=number)
        model = answering or matcher
        if model is None:
            raise ValueError(
                f"{folder} can neither answer questions nor match captions: fine-tune it with an "
                "answering recipe first"
            )
        model.to(device)  # type: ignore[arg-type]
        if matcher is not None:
            matcher.to(device)  # type: ignore[arg-type]
        return cls(model, processor, matcher=matcher, folder=folder)

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
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}: expected at least 1")
        model = self._answering_model()
        results = self._answer_pairs(model, pair_questions(image, question), top_k, batch_size)
        if is_single(image, question):
            return next(results)
        return results if isinstance(image, Iterator) else list(results)

    def _answer_pairs(
        self,
        model: LxmertForQuestionAnswering,
        pairs: Iterator[Pair],
        top_k: int,
        batch_size: int,
    ) -> Iterator[list[dict[str, object]]]:
        """Yield the answers to questions; in a batch, each image object is extracted once."""
        while batch := list(islice(pairs, batch_size)):
            check_fork()
            unique = {id(image): image for image, _ in batch}
            extracted = self.processor.regions([*unique.values()])
            regions = dict(zip(unique, extracted, strict=True))
            for found in extracted:
                self.processor.check_recognized(found)
            text = self.processor.text_inputs([question for _, question in batch])
            logits = score(TorchRuntime(model), text, [[regions[id(image)]] for image, _ in batch])
            for row in logits.softmax(-1):
                yield [
                    {"score": found.score, "answer": found.answer}
                    for found in self._rank(row, top_k)
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
        self._answering_model()
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
        self._matching_model()
        return self.match_regions(self.regions(image), captions)

    def regions(self, image: ImageInput) -> Regions:
        """Return the regions of an image."""
        check_fork()
        return self.processor.regions([image])[0]

    def ask_regions(
        self, regions: Regions | Sequence[Regions], questions: Sequence[str], *, top_k: int = 5
    ) -> list[list[Answer]]:
        """Answer several questions in one batch, given the regions of their image, or of each.

        The same regions are encoded once. Errors are those of `ask`.
        """
        check_top_k(top_k)
        check_some_texts("questions", questions)
        logits = self._scores(self._answering_model(), regions, questions)
        return [self._rank(row, top_k) for row in logits.softmax(-1)]

    def match_regions(self, regions: Regions, captions: Sequence[str]) -> list[float]:
        """Like `match`, given the regions of the image."""
        check_some_texts("captions", captions)
        logits = self._scores(self._matching_model(), regions, captions)
        return [float(score) for score in logits.softmax(-1)[:, 1]]

    def explain(
        self,
        image: ImageInput,
        question: str,
        *,
        top_k: int = 5,
        answers: Sequence[str] = (),
        methods: Sequence[str] = QUICK,
        regions: Regions | None = None,
    ) -> Explanation:
        """Answer a question and explain the answers; a notebook displays the report.

        Args:
            image: as for `ask`.
            question: as for `ask`.
            top_k: number of top answers to explain, at least 1.
            answers: additional answers to explain, of any rank.
            methods: names of `lxmert.explain.methods.METHODS`, or `["all"]`; occlusion is always
                added, as it defines `relevance`.
            regions: regions of the image, if they are known; None: they are extracted.

        Raises:
            ValueError: if an answer is not in the model's answer list (the message names the
                nearest ones), if a method is unknown, and as for `ask`.
        """
        check_top_k(top_k)
        check_order(image, question)
        check_text(question)
        check_texts("answers", answers)
        check_texts("methods", methods)
        chosen = choose_methods(methods)
        model = self._answering_model()
        named = [self._answer_id(answer) for answer in answers]
        pixels = load_image(image)
        regions = self.regions(pixels) if regions is None else regions
        inputs = self._to_device(self.processor.inputs([regions], [question]))
        unseen = inputs | {"visual_attention_mask": inputs["visual_attention_mask"] * 0}
        with torch.inference_mode():
            probabilities, without = (
                model(**each).question_answering_score[0].float().softmax(-1)
                for each in (inputs, unseen)
            )
        best = probabilities.topk(min(top_k, len(self.answers))).indices.tolist()
        ids = list(dict.fromkeys((*best, *named)))
        answer_ids = torch.tensor(ids, device=self.device)
        read = self.processor.read(question)
        return Explanation(
            image=pixels,
            question=question,
            words=split_words(
                question, read.token_ids.tolist(), read.spans, self.processor.tokenizer
            ),
            unread=read.lost,
            answers=[Answer(self.answers[index], float(probabilities[index])) for index in ids],
            regions=regions,
            objects=self.objects(regions),
            labels=self.labels(regions),
            by_method=explain_answers(
                model, inputs, answer_ids, tuple(dict.fromkeys((*chosen, "occlusion")))
            ),
            maps=attention_maps(model, inputs),
            model=self._name(),
            without_image=self._rank(without, 1)[0],
        )

    def to(self, device: str | torch.device) -> Self:
        """Move the models and the region extractor to a device, and return the pipeline."""
        check_device(str(device))
        for model in (self.model, self.matcher):
            if model is not None:
                model.to(device)  # type: ignore[arg-type]
        self.processor.to(device)
        self.device = execution_device(self.model)
        return self

    def save_pretrained(self, folder: str | Path) -> None:
        """Write a complete model folder: weights, answers, tokenizer and region extractor."""
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
        skills = [f"{count(len(self.answers), 'answer')}"] if self.answering is not None else []
        skills += ["matching"] if self.matcher is not None else []
        return (
            f"LxmertPipeline({self._name()}: {', '.join(skills)}; "
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

    def _answer_id(self, answer: str) -> int:
        """Return the id of an answer; the error for an unknown one names the nearest."""
        if answer in self.answers:
            return self.answers.index(answer)
        close = ", ".join(nearest(answer, self.answers, n=5))
        meant = f"; the nearest are {close}" if close else ""
        raise ValueError(
            f"{answer!r} is not among the {len(self.answers)} answers of {self._name()}: "
            f"choose one of them{meant}"
        )

    def _answering_model(self) -> LxmertForQuestionAnswering:
        """Return the model that answers, after checking that its answers have names."""
        if self.answering is None:
            raise ValueError(
                f"{self._name()} has no answer head, it can only match captions: use a "
                "question-answering model, or the bundled one"
            )
        number = self.answering.config.num_qa_labels
        if not self.answers and self._folder is None:
            raise ValueError(
                f"{self._name()} does not name its {number} answers: set model.config.id2label = "
                "{0: 'yes', 1: 'no', ...} with a name for each, and create the pipeline again"
            )
        if not self.answers:
            raise missing_parts(
                self._folder or Path(self._name()), extractor=False, num_answers=number
            )
        return self.answering

    def _matching_model(self) -> LxmertForImageAndTextRetrieval:
        """Return the model that matches captions."""
        if self.matcher is None:
            raise ValueError(
                f"{self._name()} has no matching head, it can only answer questions: use a "
                "pretrained model with --model (in Python from_pretrained(...)), such as "
                "unc-nlp/lxmert-base-uncased or the output of a pretraining recipe"
            )
        return self.matcher

    def _name(self) -> str:
        """Return the name of the model for messages."""
        if self._folder is None:
            return f"this {type(self.model).__name__}"
        bundled = self._folder == find_model(None)
        return "the bundled model" if bundled else model_name(self._folder)

    def _scores(
        self, model: ScoringModel, regions: Regions | Sequence[Regions], texts: Sequence[str]
    ) -> Tensor:
        """Return `[texts, classes]` logits for texts about one image, or each about its own."""
        check_fork()
        each = [regions] * len(texts) if isinstance(regions, Regions) else list(regions)
        if len(each) != len(texts) or not all(isinstance(found, Regions) for found in each):
            raise TypeError(
                f"regions is a {type(regions).__name__}; expected what pipeline.regions(image) "
                "returns, or a list with one for each text"
            )
        for found in {id(found): found for found in each}.values():
            self.processor.check_recognized(found)
        text = self.processor.text_inputs(texts)
        return score(TorchRuntime(model), text, [[found] for found in each])

    def _to_device(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: value.to(self.device) for name, value in inputs.items()}

    def _rank(self, probabilities: Tensor, top_k: int) -> list[Answer]:
        scores, indices = probabilities.topk(min(top_k, len(self.answers)))
        pairs = zip(indices.tolist(), scores.tolist(), strict=True)
        return [Answer(self.answers[index], score) for index, score in pairs]


def _name_answers(config: LxmertConfig, path: Path, folder: Path) -> None:
    """Write an answer list into a configuration that has none."""
    answers, known = read_answers(path).answers, answers_of(config)
    if known is not None and known != answers:
        differing = next(
            (pair for pair in zip(known, answers, strict=False) if pair[0] != pair[1]),
            (f"{len(known)} answers", f"{len(answers)}"),
        )
        raise ValueError(
            f"{path} differs from the answer list of {model_name(folder)} "
            f"({differing[1]!r} instead of {differing[0]!r}): leave the list out"
        )
    name_answers(config, answers)
