"""What the answering task minimizes: the plain loss, or one with a term against overfitting."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import torch
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat
from torch import Tensor, nn
from torch.nn import functional
from transformers import BertTokenizer

from lxmert.data.tokenizer import load_tokenizer
from lxmert.model.adversarial import ascend, symmetric_divergence
from lxmert.model.debiasing import QuestionBranch, language_prior_feedback, learned_mixin, rubi
from lxmert.model.distillation import distillation
from lxmert.model.heads import LxmertForQuestionAnswering
from lxmert.model.loading import load_heads
from lxmert.model.objectives import answering
from lxmert.records import Record
from lxmert.schema import FloatArray
from lxmert.tasks.inputs import File
from lxmert.tasks.task import Batch

WITHOUT_ANSWERS = ("divergence", "teacher")
"""Losses that every question has, even without a known answer."""


class AnsweringObjectives(Record):
    """The table `[objectives]`; at most one of `debias`, `adversarial_steps` and `teacher`.

    Attributes:
        debias: loss against language priors: `lmh` (learned mixin with entropy penalty), `lpf`
            (language-prior feedback) or `rubi`; absent: none.
        entropy_weight: weight of the entropy penalty of `lmh`.
        focus: exponent of `lpf`.
        adversarial_steps: gradient steps of adversarial training in embedding space (VILLA), each
            with a forward and a backward pass; 0: none.
        adversarial_modality: what is perturbed: the word embeddings (`text`) or the region
            features (`image`).
        adversarial_step_size: length of each step.
        adversarial_norm: maximum norm of a perturbation; absent: no limit.
        divergence_weight: weight of the divergence of perturbed and clean predictions.
        teacher: folder of a model with the same answers and words, whose predictions the model
            learns besides the answers (distillation); absent: none.
        temperature: temperature of the distillation.
        teacher_weight: weight of the distillation.
    """

    debias: Literal["lmh", "lpf", "rubi"] | None = None
    entropy_weight: NonNegativeFloat = 0.36
    focus: NonNegativeFloat = 2.0
    adversarial_steps: NonNegativeInt = 0
    adversarial_modality: Literal["text", "image"] = "text"
    adversarial_step_size: PositiveFloat = 1e-3
    adversarial_norm: PositiveFloat | None = None
    divergence_weight: NonNegativeFloat = 1.5
    teacher: File | None = None
    temperature: PositiveFloat = 2.0
    teacher_weight: NonNegativeFloat = 1.0

    def problems(self) -> Iterator[str]:
        """Yield settings that exclude each other."""
        given = [n for n in ("debias", "adversarial_steps", "teacher") if getattr(self, n)]
        if len(given) > 1:
            yield f"{' and '.join(given)} are set, expected at most one of them: remove the others"


class Objective(Protocol):
    """Computes the losses of the answering task.

    Attributes:
        model: what is trained: the model, possibly with parts that only training needs.
        weights: weight of each loss by name.
    """

    model: nn.Module
    weights: Mapping[str, float]

    def losses(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Run `model` and return each loss, summed over the questions.

        Args:
            model: `self.model`, possibly wrapped.
            batch: `inputs`, `targets` and `kinds`, the kind of each question.
        """
        ...


def load_alike(
    folder: str | Path,
    model: LxmertForQuestionAnswering,
    tokenizer: BertTokenizer,
    *,
    setting: str,
    remedy: str,
) -> LxmertForQuestionAnswering:
    """Load a model that takes the inputs of another one and has its answers, such as a teacher.

    Args:
        folder: its folder.
        model: the other model.
        tokenizer: of the other model.
        setting: what names the folder, for messages.
        remedy: what to do if the models differ, for messages.

    Raises:
        ValueError: if it answers nothing, or has other answers, words or region features.
    """
    alike = load_heads(folder).answering
    if alike is None:
        raise ValueError(
            f"{setting} is {folder}, a model that answers no questions: name one that does"
        )
    for what, theirs, ours in (
        ("answers", alike.config.id2label, model.config.id2label),
        ("words", load_tokenizer(folder).get_vocab(), tokenizer.get_vocab()),
        ("region features", alike.config.visual_feat_dim, model.config.visual_feat_dim),
    ):
        if theirs != ours:
            raise ValueError(f"{setting}: {folder} has other {what} than the model: {remedy}")
    return alike


class Plain:
    """The published loss of fine-tuning."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.weights: Mapping[str, float] = {"qa": 1.0}

    def losses(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Return the loss of the answers."""
        logits = model(**batch["inputs"]).question_answering_score
        return {"qa": answering(logits, batch["targets"])[0]}


class DebiasedOutput(NamedTuple):
    """Output of `DebiasedModel`.

    Attributes:
        question_answering_score: `[batch, answers]`, the logits of the model.
        gate: `[batch]`, weight of the prior.
        mask: `[batch, answers]`, the masking logits of the question alone.
        question_logits: `[batch, answers]`, the answer logits of the question alone.
    """

    question_answering_score: Tensor
    gate: Tensor
    mask: Tensor
    question_logits: Tensor


class DebiasedModel(nn.Module):
    """A model with the parts of the debiasing losses, which are not saved with it.

    Source: Clark et al. 2019 and Cadene et al. 2019, as in `lxmert.model.debiasing`.
    """

    def __init__(self, model: LxmertForQuestionAnswering, priors: FloatArray) -> None:
        super().__init__()
        hidden = model.config.hidden_size
        self.model = model
        self.gate = nn.Linear(hidden, 1)
        self.smoothing = nn.Parameter(torch.tensor([-1.0]))
        self.branch = QuestionBranch(hidden, priors.shape[1])
        self.priors: Tensor
        self.register_buffer("priors", torch.from_numpy(priors))

    def forward(self, **inputs: Tensor) -> DebiasedOutput:
        """Answer, and encode the question alone; arguments as those of the model."""
        lxmert, words = self.model.lxmert, inputs["attention_mask"]
        text = lxmert.encode_text(inputs["input_ids"], words, inputs["token_type_ids"])
        image = {name: value for name, value in inputs.items() if name.startswith("visual")}
        pooled = lxmert(encoded_text=text, **image, only_pooled=True).pooled_output
        gate = functional.softplus(self.gate(pooled))[:, 0]
        mask, question_logits = self.branch(text.last_hidden_state, words)
        return DebiasedOutput(self.model.answer_head(pooled), gate, mask, question_logits)


class Debiased:
    """A loss against language priors."""

    def __init__(
        self, settings: AnsweringObjectives, model: LxmertForQuestionAnswering, priors: FloatArray
    ) -> None:
        self._debiased = DebiasedModel(model, priors)
        self.model: nn.Module = self._debiased
        self._settings = settings
        penalty = settings.debias == "lmh"
        self.weights: Mapping[str, float] = {"qa": 1.0} | (
            {"entropy": settings.entropy_weight} if penalty else {"question_only": 1.0}
        )

    def losses(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Return the loss of the answers, and the entropy or the loss of the question alone."""
        found: DebiasedOutput = model(**batch["inputs"])
        targets, logits = batch["targets"], found.question_answering_score
        if self._settings.debias == "lmh":
            (loss, _), (entropy, _) = learned_mixin(
                logits,
                self._debiased.priors[batch["kinds"]],
                found.gate,
                targets,
                smoothing=self._debiased.smoothing.sigmoid(),
            )
            return {"qa": loss, "entropy": entropy}
        alone = found.question_logits
        if self._settings.debias == "lpf":
            loss, _ = language_prior_feedback(logits, alone, targets, focus=self._settings.focus)
        else:
            loss, _ = rubi(logits, found.mask, targets)
        return {"qa": loss, "question_only": answering(alone, targets)[0]}


class Adversarial:
    """Adversarial training in embedding space.

    The losses are those of the clean example, and the means over the gradient steps of the loss
    and of the divergence under the perturbation. The first perturbation is 0.

    Source: Gan et al. 2020 (VILLA), algorithm 1 and its settings for LXMERT.
    """

    def __init__(self, settings: AnsweringObjectives, model: LxmertForQuestionAnswering) -> None:
        self.model: nn.Module = model
        self._embed = model.get_input_embeddings()
        self._settings = settings
        self.weights: Mapping[str, float] = {
            "qa": 1.0,
            "adversarial": 1.0,
            "divergence": settings.divergence_weight,
        }

    def losses(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Return the clean loss, and the adversarial loss and the divergence."""
        inputs, place = self._embedded(batch["inputs"])
        clean = model(**inputs).question_answering_score
        delta = torch.zeros_like(inputs[place], requires_grad=True)
        number = self._settings.adversarial_steps
        total = {"adversarial": clean.new_zeros(()), "divergence": clean.new_zeros(())}
        for step in range(number):
            perturbed = model(**inputs | {place: inputs[place] + delta}).question_answering_score
            found = {
                "adversarial": answering(perturbed, batch["targets"])[0],
                "divergence": symmetric_divergence(perturbed, clean),
            }
            total = {name: total[name] + found[name] / number for name in total}
            if step < number - 1:
                delta = self._ascend(delta, found)
        return {"qa": answering(clean, batch["targets"])[0], **total}

    def _embedded(self, inputs: dict[str, Tensor]) -> tuple[dict[str, Tensor], str]:
        """Return the inputs with the one that is perturbed as embeddings, and its name."""
        if self._settings.adversarial_modality == "image":
            return inputs, "visual_feats"
        words = {name: value for name, value in inputs.items() if name != "input_ids"}
        return words | {"inputs_embeds": self._embed(inputs["input_ids"])}, "inputs_embeds"

    def _ascend(self, delta: Tensor, found: dict[str, Tensor]) -> Tensor:
        """Take one step in the direction that raises the weighted losses most."""
        raised = sum(self.weights[name] * loss for name, loss in found.items())
        assert isinstance(raised, Tensor)
        (gradient,) = torch.autograd.grad(raised, delta, retain_graph=True)
        moved = ascend(
            delta.detach(),
            gradient,
            step_size=self._settings.adversarial_step_size,
            max_norm=self._settings.adversarial_norm,
        )
        return moved.requires_grad_()


class Distilled:
    """The loss of the answers, and the divergence from a teacher."""

    def __init__(
        self,
        settings: AnsweringObjectives,
        model: LxmertForQuestionAnswering,
        teacher: LxmertForQuestionAnswering,
    ) -> None:
        self.model: nn.Module = model
        self._teacher = teacher.train(mode=False).requires_grad_(False)
        self._settings = settings
        self.weights: Mapping[str, float] = {"qa": 1.0, "teacher": settings.teacher_weight}

    def losses(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Return the loss of the answers and the divergence from the teacher."""
        inputs: dict[str, Any] = batch["inputs"]
        logits = model(**inputs).question_answering_score
        self._teacher.to(logits.device)
        with torch.no_grad():
            taught = self._teacher(**inputs).question_answering_score
        return {
            "qa": answering(logits, batch["targets"])[0],
            "teacher": distillation(logits, taught, temperature=self._settings.temperature),
        }
