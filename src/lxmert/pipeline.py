"""One object for users: ask about an image, see why it was answered so, match captions to it."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from lxmert.data.answer_lists import read_answers
from lxmert.data.preprocessing import EXTRACTOR_FOLDER
from lxmert.data.tokenizer import Encoded, check_words
from lxmert.devices import check_device
from lxmert.explain.explanation import Explanation, Word
from lxmert.explain.maps import attention_maps
from lxmert.explain.methods import QUICK, choose_methods, explain_answers
from lxmert.hub import Parts, find_model, find_parts, missing_parts, model_name, remember_parts
from lxmert.model.answers import answers_of, name_answers
from lxmert.model.configuration import LxmertConfig
from lxmert.model.heads import LxmertForImageAndTextRetrieval, LxmertForQuestionAnswering
from lxmert.model.loading import load_heads
from lxmert.model.pretrained import read_config
from lxmert.model.wrappers import execution_device, unwrap_model
from lxmert.names import nearest
from lxmert.processing import LxmertProcessor, check_text
from lxmert.regions.cells import cell_labels
from lxmert.regions.preprocess import ImageInput, is_image, load_image
from lxmert.schema import Answer, Regions
from lxmert.web import SCHEMES

_WHOLE = "whole image"

_TEXTS_AT_ONCE = 64
"""Texts about one image that are computed together, so that memory does not grow with them."""


class LxmertPipeline:
    """Eyes, tokenizer and model, from one folder.

    Torch's threads do not survive a fork: a process that was forked after a pipeline was made with
    more than one thread gets a `RuntimeError` instead of an answer. Start processes with
    `multiprocessing.get_context("spawn")`, or call `torch.set_num_threads(1)` in them.
    """

    _threaded: ClassVar[int | None] = None
    """Process in which a pipeline has computed with several threads, or one it was forked from."""

    def __init__(
        self,
        model: LxmertForQuestionAnswering | LxmertForImageAndTextRetrieval,
        processor: LxmertProcessor,
        *,
        matcher: LxmertForImageAndTextRetrieval | None = None,
        folder: Path | None = None,
    ) -> None:
        """Join models and the processor that they were trained with.

        Args:
            model: answers questions, or matches captions; of one that torch.compile or PEFT has
                wrapped, what is within is used, as `unwrap_model` says.
            processor: reads images and texts for it.
            matcher: matches captions, beside a model that answers.
            folder: where the model comes from, for messages.

        Raises:
            TypeError: if the model is of a class that neither answers nor matches.
            ValueError: if they do not belong together.
        """
        _check_fork()
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
        check_words(processor.tokenizer, model.config.vocab_size, folder or "the model")
        width, wanted = processor.extractor.feature_dim, model.config.visual_feat_dim
        if width != wanted:
            raise ValueError(
                f"the eyes give features of width {width}, the model reads {wanted}: name the "
                "detector that the model was trained with"
            )

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | Path | None = None,
        *,
        extractor: str | Path | None = None,
        answers: str | Path | None = None,
        device: str = "cpu",
        memory: str | Path | None = None,
    ) -> "LxmertPipeline":
        """Load a model with its eyes.

        Published models come without eyes and answers. Both are named once and then remembered;
        the weights of a pretraining run answer and match alike.

        Args:
            name_or_path: model folder, or name on the Hugging Face hub; absent: the bundled
                default, which knows the miniature world of `lxmert.lab.scenes`.
            extractor: the detector that the model was trained with, for a model that comes without:
                its folder, or a file of the published detector.
            answers: file that lists the model's answers, for a model that does not name them; the
                forms are those of `lxmert.data.answer_lists.read_answers`.
            device: where to compute.
            memory: file in which named eyes and answers are remembered; absent: that of the user.

        Raises:
            FileNotFoundError: if there is no such model, or it lacks a file.
            ValueError: if its files do not belong together, or a part is missing; the message says
                where it is to be had and how it is named.
        """
        check_device(device)
        folder = find_model(name_or_path)
        given = Parts(
            extractor=None if extractor is None else Path(extractor),
            answers=None if answers is None else Path(answers),
        )
        config = read_config(folder)
        own = (folder / EXTRACTOR_FOLDER).is_dir()
        needed = ("answers",) if own else ("extractor", "answers")
        parts = find_parts(folder, given, needed=needed, memory=memory)
        nameless = parts.answers is None and answers_of(config) is None
        if parts.extractor is None and not own:
            number = config.num_qa_labels if nameless else None
            raise missing_parts(folder, extractor=True, num_answers=number)
        processor = LxmertProcessor.from_folder(
            folder, given.extractor if own else parts.extractor, device=device
        )
        answering, matcher = load_heads(folder)
        if answering is not None and parts.answers is not None:
            _name_answers(answering.config, parts.answers, folder)
        elif answering is not None and nameless and matcher is None:
            raise missing_parts(folder, extractor=False, num_answers=config.num_qa_labels)
        model = answering or matcher
        if model is None:
            raise ValueError(
                f"{folder} can neither answer questions nor match captions: fine-tune it with an "
                "answering recipe first"
            )
        model.to(device)  # type: ignore[arg-type]
        if matcher is not None:
            matcher.to(device)  # type: ignore[arg-type]
        pipeline = cls(model, processor, matcher=matcher, folder=folder)
        remember_parts(folder, replace(given, extractor=None) if own else given, memory=memory)
        return pipeline

    def ask(self, image: ImageInput, question: str, *, top_k: int = 5) -> list[Answer]:
        """Answer a question about an image.

        Args:
            image: path, web address, bytes, PIL image, or uint8 RGB array or tensor.
            question: in plain words.
            top_k: number of answers, at least 1.

        Returns:
            The best answers with their probabilities, best first.

        Warns:
            InputWarning: if image or question are unlike what the model was trained on.

        Raises:
            FileNotFoundError: if a path names no file.
            ValueError: if the image cannot be read, the question is empty, top_k < 1, or the
                model cannot answer.
        """
        _check_top_k(top_k)
        _check_order(image, question)
        check_text(question)
        self._answering_model()
        return self.ask_regions(self.regions(image), [question], top_k=top_k)[0]

    def match(self, image: ImageInput, captions: Sequence[str]) -> list[float]:
        """Tell how probable it is of each caption that it describes an image.

        Args:
            image: path, web address, bytes, PIL image, or uint8 RGB array or tensor.
            captions: any number of sentences; the image is looked at once.

        Returns:
            One probability for each caption, in their order; they do not add up to 1.

        Warns:
            InputWarning: if image or caption are unlike what the model was trained on.

        Raises:
            FileNotFoundError: if a path names no file.
            ValueError: if the image cannot be read, a caption is empty, or the model has no
                matching head.
        """
        _check_list("captions", captions)
        for caption in captions:
            check_text(caption)
        self._matching_model()
        return self.match_regions(self.regions(image), captions)

    def regions(self, image: ImageInput) -> Regions:
        """Return what the eyes see in an image."""
        _check_fork()
        return self.processor.extractor([image])[0]

    def ask_regions(
        self, regions: Regions, questions: Sequence[str], *, top_k: int = 5
    ) -> list[list[Answer]]:
        """Answer several questions about one image whose regions are known.

        The image is encoded once. Errors are those of `ask`.
        """
        _check_top_k(top_k)
        _check_list("questions", questions)
        logits = self._scores(self._answering_model(), regions, questions)
        return [self._rank(row, top_k) for row in logits.softmax(-1)]

    def match_regions(self, regions: Regions, captions: Sequence[str]) -> list[float]:
        """Do as `match` for an image whose regions are known."""
        _check_list("captions", captions)
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
    ) -> Explanation:
        """Answer a question and find out what the answers rest on; a notebook shows the report.

        Args:
            image: as for `ask`.
            question: as for `ask`.
            top_k: number of answers, at least 1, each of which is explained.
            answers: further ones to explain, whatever their rank: why not this?
            methods: names of `lxmert.explain.methods.METHODS`, or `["all"]`; occlusion is always
                among them, as `relevance` is its.

        Raises:
            ValueError: if an answer is not in the model's vocabulary, naming the nearest ones; if
                a method cannot be used, naming those that can; and as `ask`.
        """
        _check_top_k(top_k)
        _check_order(image, question)
        check_text(question)
        _check_no_text("answers", answers)
        _check_no_text("methods", methods)
        chosen = choose_methods(methods)
        model = self._answering_model()
        named = [self._answer_id(answer) for answer in answers]
        pixels = load_image(image)
        regions = self.regions(pixels)
        inputs = self._to_device(self.processor.inputs([regions], [question]))
        with torch.inference_mode():
            probabilities = model(**inputs).question_answering_score[0].float().softmax(-1)
        best = probabilities.topk(min(top_k, len(self.answers))).indices.tolist()
        ids = list(dict.fromkeys((*best, *named)))
        answer_ids = torch.tensor(ids, device=self.device)
        read = self.processor.read(question)
        return Explanation(
            image=pixels,
            question=question,
            words=self._words(question, read),
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
        )

    def objects(self, regions: Regions) -> list[str]:
        """Name the object class of every region; `whole image` where nothing was found.

        Cells of a grid, in which nothing is recognised, are named by row and column: `cell 3,5`.
        """
        if not self.processor.extractor.recognizes:
            return cell_labels(regions.boxes)
        names = self.processor.extractor.object_names
        return [names[i] if regions.found else _WHOLE for i in regions.object_ids]

    def labels(self, regions: Regions) -> list[str]:
        """Name every region by its attributes and its object class."""
        extractor = self.processor.extractor
        if not regions.found:
            return self.objects(regions)
        order = _adjective_order(list(extractor.attribute_groups))
        return [
            " ".join([*(extractor.attribute_names[attributes[group]] for group in order), name])
            for name, attributes in zip(self.objects(regions), regions.attribute_ids, strict=True)
        ]

    def _words(self, question: str, read: Encoded) -> list[Word]:
        """Return the word pieces that the model read, as they were typed."""
        tokenizer = self.processor.tokenizer
        words: list[Word] = []
        previous = 0
        for token_id, (start, end) in zip(read.token_ids.tolist(), read.spans, strict=True):
            if start == end:
                words.append(Word(str(tokenizer.decode([token_id])), "special", joined=False))
            elif token_id == tokenizer.unk_token_id:
                words.append(Word(question[start:end], "unknown", joined=previous == start > 0))
            else:
                words.append(Word(question[start:end], "word", joined=previous == start > 0))
            previous = end
        return words

    def _answer_id(self, answer: str) -> int:
        """Return the id of an answer, or name the nearest ones."""
        if answer in self.answers:
            return self.answers.index(answer)
        close = ", ".join(nearest(answer, self.answers, n=5))
        meant = f"; the nearest are {close}" if close else ""
        raise ValueError(
            f"{answer!r} is not among the {len(self.answers)} answers of {self._name()}: name one "
            f"that is{meant}"
        )

    def _answering_model(self) -> LxmertForQuestionAnswering:
        """Return the model that answers, whose answers have names."""
        if self.answering is None:
            raise ValueError(
                f"{self._name()} has no answer head, it can only match captions: name a "
                "question-answering model, or leave it out for the bundled one"
            )
        number = self.answering.config.num_qa_labels
        if not self.answers and self._folder is None:
            raise ValueError(
                f"{self._name()} does not name its {number} answers: set model.config.id2label = "
                "{0: 'yes', 1: 'no', ...} with a name for each, and make the pipeline again"
            )
        if not self.answers:
            raise missing_parts(
                self._folder or Path(self._name()), extractor=False, num_answers=number
            )
        return self.answering

    def _matching_model(self) -> LxmertForImageAndTextRetrieval:
        """Return the model that matches."""
        if self.matcher is None:
            raise ValueError(
                f"{self._name()} has no matching head, it can only answer: name weights of a "
                "pretraining with --model (in Python from_pretrained(...)), such as "
                "unc-nlp/lxmert-base-uncased or a folder that a pretraining recipe wrote"
            )
        return self.matcher

    def _name(self) -> str:
        """Return what messages call the model."""
        if self._folder is None:
            return f"this {type(self.model).__name__}"
        bundled = self._folder == find_model(None)
        return "the bundled model" if bundled else model_name(self._folder)

    @torch.inference_mode()
    def _scores(
        self,
        model: LxmertForQuestionAnswering | LxmertForImageAndTextRetrieval,
        regions: Regions,
        texts: Sequence[str],
    ) -> Tensor:
        """Return `[texts, classes]` for several texts about one image, which is encoded once."""
        _check_fork()
        if not isinstance(regions, Regions):
            raise TypeError(
                f"regions is a {type(regions).__name__}; expected what pipeline.regions(image) "
                "returns"
            )
        text = self._to_device(self.processor.text_inputs(texts))
        seen = self._to_device(self.processor.image_inputs([regions]))
        image = model.lxmert.encode_image(
            seen["visual_feats"], seen["visual_pos"], seen["visual_attention_mask"]
        )
        scores = []
        for start in range(0, len(texts), _TEXTS_AT_ONCE):
            part = {name: value[start : start + _TEXTS_AT_ONCE] for name, value in text.items()}
            rows = torch.zeros(len(part["input_ids"]), dtype=torch.long, device=self.device)
            output = model(**part, encoded_image=image.take(rows))
            scores.append(
                output.question_answering_score
                if isinstance(model, LxmertForQuestionAnswering)
                else output.logits
            )
        return torch.cat(scores).float()

    def _to_device(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: value.to(self.device) for name, value in inputs.items()}

    def _rank(self, probabilities: Tensor, top_k: int) -> list[Answer]:
        scores, indices = probabilities.topk(min(top_k, len(self.answers)))
        pairs = zip(indices.tolist(), scores.tolist(), strict=True)
        return [Answer(self.answers[index], score) for index, score in pairs]


def _name_answers(config: LxmertConfig, path: Path, folder: Path) -> None:
    """Write a list of answers into a configuration, unless it knows others."""
    answers, known = read_answers(path).answers, answers_of(config)
    if known is not None and known != answers:
        differing = next(
            (pair for pair in zip(known, answers, strict=False) if pair[0] != pair[1]),
            (f"{len(known)} answers", f"{len(answers)}"),
        )
        raise ValueError(
            f"{path} is not the list of {model_name(folder)}, which names its answers itself "
            f"({differing[0]!r} where the list has {differing[1]!r}): leave the list out"
        )
    name_answers(config, answers)


def _check_fork() -> None:
    """Refuse to compute where torch would wait for threads that the fork has not copied."""
    threads, before = torch.get_num_threads(), LxmertPipeline._threaded
    if threads == 1:
        return
    if before not in (None, os.getpid()):
        raise RuntimeError(
            f"this process was forked from process {before}, in which torch has computed with "
            f"{threads} threads, and would wait for these for ever: start processes with "
            "multiprocessing.get_context('spawn'), or call torch.set_num_threads(1) in them"
        )
    LxmertPipeline._threaded = os.getpid()


def _check_order(image: object, question: object) -> None:
    """Refuse image and question in the place of each other, and several questions at once."""
    if isinstance(question, list | tuple):
        raise TypeError(
            f"question is {question!r}: ask one, or several with "
            "pipeline.ask_regions(pipeline.regions(image), questions)"
        )
    if is_image(question) and not isinstance(question, str):
        raise TypeError(
            f"the question is a {type(question).__name__}: the image comes first, as in "
            "ask(image, question)"
        )
    if not isinstance(image, str) or image.startswith(SCHEMES) or os.path.exists(image):
        return
    if image.rstrip().endswith("?") or (isinstance(question, str) and os.path.isfile(question)):
        raise ValueError(
            f"the image {image!r} is no file, but reads like a question: the image comes first, "
            "then the question, each in quotes on a command line"
        )


def _check_top_k(top_k: int) -> None:
    if not isinstance(top_k, int) or isinstance(top_k, bool):
        raise TypeError(f"top_k is {top_k!r}, expected an integer of at least 1")
    if top_k < 1:
        raise ValueError(f"top_k is {top_k}: ask for at least 1 answer")


def _check_no_text(name: str, texts: Sequence[str]) -> None:
    """Refuse one text where a list is meant, which would be taken for its letters, and no texts."""
    if isinstance(texts, str):
        raise ValueError(f"{name} is the one text {texts!r}: write [{texts!r}] for a list of one")
    if not isinstance(texts, Sequence) or not all(isinstance(text, str) for text in texts):
        raise TypeError(f"{name} is {texts!r}, expected a list of texts")


def _check_list(name: str, texts: Sequence[str]) -> None:
    """Refuse what is no list of at least one text."""
    _check_no_text(name, texts)
    if not texts:
        raise ValueError(f"{name} is an empty list: give at least one")


def _adjective_order(groups: Sequence[str]) -> list[int]:
    """Return attribute groups in the order of English adjectives: size, color, anything else."""
    rank = {"size": 0, "color": 1}
    return sorted(range(len(groups)), key=lambda index: rank.get(groups[index], 2))
