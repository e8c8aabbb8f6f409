"""One object for users: ask a question about a picture, and see why it was answered so."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from huggingface_hub.errors import StrictDataclassError
from PIL import Image
from safetensors import SafetensorError
from torch import Tensor

from lxmert.data.answers import AnswerVocabulary
from lxmert.explain.figures import draw_answer
from lxmert.explain.occlusion import region_relevance
from lxmert.model.heads import LxmertForQuestionAnswering
from lxmert.processing import LxmertProcessor
from lxmert.schema import Answer, Regions
from lxmert.vision.preprocess import ImageInput, load_image

_WHOLE = "whole image"


@dataclass(frozen=True)
class Explanation:
    """An answered question, with what was seen and what mattered.

    Attributes:
        image: `[height, width, 3]` uint8 RGB.
        question: what was asked.
        answers: best first.
        regions: what the eyes saw.
        objects: name of each region's object class.
        labels: the same with its attributes, such as `large red metal ball`.
        relevance: by how much the best answer loses probability without each region.
    """

    image: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]
    question: str
    answers: list[Answer]
    regions: Regions
    objects: list[str]
    labels: list[str]
    relevance: list[float]

    def to_dict(self) -> dict[str, list[dict[str, object]]]:
        """Return answers and regions as JSON values.

        Returns:
            `answers`: list of `answer`, `score`. `regions`: list of `box` (`[x1, y1, x2, y2]` in
            pixels), `object`, `score`, `label` (the object with its attributes) and `relevance`.
        """
        seen = self.regions
        return {
            "answers": [{"answer": a.answer, "score": round(a.score, 6)} for a in self.answers],
            "regions": [
                {
                    "box": [round(float(side), 1) for side in box],
                    "object": name,
                    "score": round(float(score), 4),
                    "label": label,
                    "relevance": round(relevance, 4),
                }
                for box, name, score, label, relevance in zip(
                    seen.boxes,
                    self.objects,
                    seen.object_scores,
                    self.labels,
                    self.relevance,
                    strict=True,
                )
            ],
        }

    def draw(self) -> Image.Image:
        """Draw the picture with its regions and answers."""
        return draw_answer(
            self.image,
            question=self.question,
            answers=self.answers,
            boxes=self.regions.boxes,
            labels=self.labels,
            relevance=self.relevance,
        )


class LxmertPipeline:
    """Eyes, tokenizer and question-answering model, from one folder."""

    def __init__(self, model: LxmertForQuestionAnswering, processor: LxmertProcessor) -> None:
        """Join a model and the processor that it was trained with."""
        self.model = model
        self.model.train(mode=False)
        self.processor = processor
        self.device = model.device
        self.answers = AnswerVocabulary.from_id2label(model.config.id2label or {}).answers
        sizes = (len(processor.tokenizer), len(self.answers))
        expected = (model.config.vocab_size, model.config.num_qa_labels)
        if sizes != expected:
            raise ValueError(
                f"tokenizer and id2label have {sizes[0]} words and {sizes[1]} answers, the model "
                f"has {expected[0]} and {expected[1]}: take all files from the same model"
            )

    @classmethod
    def from_pretrained(
        cls, name_or_path: str | Path | None = None, *, device: str = "cpu"
    ) -> "LxmertPipeline":
        """Load a model with its eyes.

        Args:
            name_or_path: model folder, or name on the Hugging Face hub; absent: the bundled
                default, which knows the miniature world of `lxmert.scenes`.
            device: where to compute.

        Raises:
            FileNotFoundError: if there is no such model, or it lacks a file.
            ValueError: if its files do not belong together.
        """
        folder = find_model(name_or_path)
        processor = LxmertProcessor.from_pretrained(folder, device=device)
        return cls(_load_model(folder).to(device), processor)  # type: ignore[arg-type]

    def ask(self, image: ImageInput, question: str, *, top_k: int = 5) -> list[Answer]:
        """Answer a question about a picture.

        Args:
            image: path, bytes, PIL image, or uint8 RGB array or tensor.
            question: in plain words.
            top_k: number of answers, at least 1.

        Returns:
            The best answers with their probabilities, best first.

        Warns:
            InputWarning: if picture or question are unlike what the model was trained on.

        Raises:
            FileNotFoundError: if a path names no file.
            ValueError: if the picture cannot be read, the question is empty, or top_k < 1.
        """
        _check_top_k(top_k)
        return self.ask_regions(self.regions(image), [question], top_k=top_k)[0]

    def regions(self, image: ImageInput) -> Regions:
        """Return what the eyes see in a picture."""
        return self.processor.extractor([image])[0]

    def ask_regions(
        self, regions: Regions, questions: Sequence[str], *, top_k: int = 5
    ) -> list[list[Answer]]:
        """Answer several questions about one picture whose regions are known."""
        inputs = self._inputs(regions, questions)
        return [self._rank(row, top_k) for row in self._probabilities(inputs)]

    def explain(self, image: ImageInput, question: str, *, top_k: int = 5) -> Explanation:
        """Answer a question and find out which regions the best answer rests on.

        Arguments and errors are those of `ask`.
        """
        _check_top_k(top_k)
        pixels = load_image(image)
        regions = self.regions(pixels)
        inputs = self._inputs(regions, [question])
        answers = self._rank(self._probabilities(inputs)[0], top_k)
        best = self.answers.index(answers[0].answer)
        return Explanation(
            image=pixels,
            question=question,
            answers=answers,
            regions=regions,
            objects=self.objects(regions),
            labels=self.labels(regions),
            relevance=region_relevance(self.model, inputs, best).tolist(),
        )

    def objects(self, regions: Regions) -> list[str]:
        """Name the object class of every region; `whole image` where nothing was found."""
        names = self.processor.extractor.object_names
        return [names[i] if regions.found else _WHOLE for i in regions.object_ids]

    def labels(self, regions: Regions) -> list[str]:
        """Name every region by its attributes and its object class."""
        extractor = self.processor.extractor
        if not regions.found:
            return self.objects(regions)
        order = _adjective_order(list(extractor.detector.config.attribute_groups))
        return [
            " ".join([*(extractor.attribute_names[attributes[group]] for group in order), name])
            for name, attributes in zip(self.objects(regions), regions.attribute_ids, strict=True)
        ]

    def _inputs(self, regions: Regions, questions: Sequence[str]) -> dict[str, Tensor]:
        inputs = self.processor.inputs([regions] * len(questions), questions)
        return {name: value.to(self.device) for name, value in inputs.items()}

    @torch.inference_mode()
    def _probabilities(self, inputs: dict[str, Tensor]) -> Tensor:
        """Return `[batch, answers]`, each row adding up to 1."""
        logits = self.model(**inputs).question_answering_score
        return torch.as_tensor(logits.float().softmax(-1))

    def _rank(self, probabilities: Tensor, top_k: int) -> list[Answer]:
        scores, indices = probabilities.topk(min(top_k, len(self.answers)))
        pairs = zip(indices.tolist(), scores.tolist(), strict=True)
        return [Answer(self.answers[index], score) for index, score in pairs]


def find_model(name_or_path: str | Path | None) -> Path:
    """Return the folder of a model: bundled, local, or fetched from the Hugging Face hub.

    Raises:
        FileNotFoundError: if there is none.
    """
    if name_or_path is None:
        return Path(__file__).parent / "default"
    folder = Path(name_or_path)
    if folder.is_dir():
        return folder
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    try:
        patterns = ["*.json", "*.safetensors"]
        return Path(snapshot_download(str(name_or_path), allow_patterns=patterns))
    except (HfHubHTTPError, OSError, ValueError) as error:
        reason = str(error).strip().split("\n")[0]
        raise FileNotFoundError(
            f"no model {str(name_or_path)!r}: it is no folder, and the Hugging Face hub did not "
            f"give it ({reason}); name a folder that `lxmert train` wrote, or leave it out for "
            "the bundled model"
        ) from error


def _load_model(folder: Path) -> LxmertForQuestionAnswering:
    """Load weights that must all be there and fit.

    Raises:
        FileNotFoundError: if configuration or weights are missing.
        ValueError: if weights are missing, left over, or of the wrong shape.
    """
    for name in ("config.json", "model.safetensors"):
        if not (folder / name).is_file():
            raise FileNotFoundError(
                f"model folder {folder} has no {name}: copy the whole folder that "
                "`lxmert train` wrote"
            )
    try:
        loaded: Any = LxmertForQuestionAnswering.from_pretrained(
            folder, output_loading_info=True, ignore_mismatched_sizes=True
        )
    except (SafetensorError, StrictDataclassError, OSError, TypeError) as error:
        raise ValueError(
            f"config.json or model.safetensors in {folder} is damaged ({error}): copy the folder "
            "again from where the model was trained"
        ) from error
    model, info = loaded
    if info["mismatched_keys"]:
        name, saved, wanted = min(info["mismatched_keys"])
        raise ValueError(
            f"the weights in {folder} do not fit its config.json: {name} is {list(saved)}, but the "
            f"configuration expects {list(wanted)}; take both files from the same model"
        )
    wrong = {kind: sorted(info[kind]) for kind in ("missing_keys", "unexpected_keys") if info[kind]}
    if wrong:
        raise ValueError(
            f"{folder} does not hold a question-answering model: {wrong}; fine-tune it with an "
            "answering recipe first"
        )
    assert isinstance(model, LxmertForQuestionAnswering)
    return model


def _check_top_k(top_k: int) -> None:
    if top_k < 1:
        raise ValueError(f"top_k is {top_k}: ask for at least 1 answer")


def _adjective_order(groups: Sequence[str]) -> list[int]:
    """Return attribute groups in the order of English adjectives: size, color, anything else."""
    rank = {"size": 0, "color": 1}
    return sorted(range(len(groups)), key=lambda index: rank.get(groups[index], 2))
