"""The model card, `README.md` beside the weights: description, usage, scores.

Its content comes from the model, its configuration and the caller.
"""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from huggingface_hub import ModelCardData
from transformers import PreTrainedModel

from lxmert.files import write_text

CARD_NAME = "README.md"
GENERATED = "<!-- Written when the model was saved. Without this line, saving leaves it alone. -->"

_ABOUT = {
    "LxmertModel": "Encodes a text together with the regions of an image.",
    "LxmertForPreTraining": "Predicts masked words, masked regions, whether text and image match, "
    "and answers: the five objectives of LXMERT's pretraining.",
    "LxmertForQuestionAnswering": "Answers questions about images, by choosing from a list.",
    "LxmertForImagesAndTextClassification": "Classifies statements about several images.",
    "LxmertForImageAndTextRetrieval": "Predicts whether a text describes an image; index 1 of its "
    "logits is a match.",
}
_OUTPUTS = {
    "LxmertModel": "pooled_output",
    "LxmertForPreTraining": "cross_relationship_score",
    "LxmertForQuestionAnswering": "question_answering_score",
}
_OBJECTIVES = {
    "task_mask_lm": "masked words",
    "task_obj_predict": "masked regions",
    "task_matched": "matching of text and image",
    "task_qa": "answers",
}
_TASKS = {"LxmertForQuestionAnswering": "visual-question-answering"}
"""Pipeline tag of the hub by class; the hub has none for the other classes."""

_NUM_EXAMPLES = 12
_UNNAMED = re.compile(r"LABEL_\d+")


@dataclass(frozen=True)
class CardDetails:
    """Content of a card that the model does not know.

    Attributes:
        license: license of the weights, as on the hub, such as `apache-2.0`.
        base_model: repository of the weights that training was initialized from, such as
            `unc-nlp/lxmert-base-uncased`.
        datasets: names of the training data sets.
        training: description of the training, in Markdown.
        metrics: score by name, such as `{"accuracy on VQA v2 minival": 0.699}`.
        tags: further tags for the hub.
    """

    license: str | None = None
    base_model: str | None = None
    datasets: Sequence[str] = ()
    training: str | None = None
    metrics: Mapping[str, float | str] = field(default_factory=dict)
    tags: Sequence[str] = ()


def write_model_card(
    model: PreTrainedModel,
    folder: str | os.PathLike[str],
    *,
    name: str = ".",
    details: CardDetails | None = None,
) -> Path:
    """Write the card of a model beside its weights, replacing an existing one.

    Args:
        model: an lxmert model.
        folder: folder of the model.
        name: argument of `from_pretrained` in the example: a repository or a folder; the default
            is the current folder.
        details: content that the model does not know.

    Returns:
        The path of the card.
    """
    return _write(Path(folder), describe_model(model, name=name, details=details))


def refresh_model_card(model: PreTrainedModel, folder: str | os.PathLike[str]) -> None:
    """Write the card of a saved model, unless there is a card that a user has written.

    Args:
        model: an lxmert model.
        folder: folder of the model.
    """
    path = Path(folder) / CARD_NAME
    if not path.exists() or GENERATED in path.read_text(encoding="utf-8"):
        _write(Path(folder), f"{describe_model(model)}\n{GENERATED}\n")


def describe_model(
    model: PreTrainedModel, *, name: str = ".", details: CardDetails | None = None
) -> str:
    """Return the card of a model: a YAML header for the hub, then Markdown.

    Arguments are those of `write_model_card`.
    """
    details = details or CardDetails()
    title = Path(name).name or _kind(model)
    parts = [
        f"---\n{_header(model, details)}\n---",
        f"# {title}",
        f"{_ABOUT[_kind(model)]} A `{_kind(model)}` of the Python package `lxmert`, after LXMERT "
        "(Tan & Bansal, EMNLP 2019, arXiv 1908.07490).",
        _facts(model),
        f"## Usage\n\n```python\n{_example(model, name)}\n```",
        "Replace the random tensors by the word pieces of a text, and by the features and "
        "normalized boxes `(x1, y1, x2, y2)` of the regions from a region extractor.",
    ]
    if details.training or details.datasets:
        parts.append("## Training")
    if details.training:
        parts.append(details.training)
    if details.datasets:
        parts.append(f"Data: {', '.join(details.datasets)}.")
    if details.metrics:
        parts.append(f"## Scores\n\n{_table(details.metrics)}")
    return "\n\n".join(parts) + "\n"


def _write(folder: Path, text: str) -> Path:
    """Write a card atomically; return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / CARD_NAME, text)
    return folder / CARD_NAME


def _kind(model: PreTrainedModel) -> str:
    """Return the lxmert class of a model; a user's own class is loaded as the encoder."""
    names = (known.__name__ for known in type(model).__mro__)
    return next((name for name in names if name in _ABOUT), "LxmertModel")


def _header(model: PreTrainedModel, details: CardDetails) -> str:
    """Return the metadata for the hub as YAML."""
    return ModelCardData(
        license=details.license,
        library_name="lxmert",
        pipeline_tag=_TASKS.get(_kind(model)),
        base_model=details.base_model,
        datasets=[*details.datasets] or None,
        tags=list(dict.fromkeys(["lxmert", "vision-and-language", *details.tags])),
    ).to_yaml()


def _facts(model: PreTrainedModel) -> str:
    """List the sizes, objectives and answers of a model."""
    config = model.config
    facts = {
        "Parameters": f"{sum(parameter.numel() for parameter in model.parameters()):,}",
        "Layers": f"{config.l_layers} language, {config.r_layers} object-relationship, "
        f"{config.x_layers} cross-modality",
        "Hidden size": f"{config.hidden_size}, {config.num_attention_heads} heads, feed-forward "
        f"{config.intermediate_size}",
        "Text": f"vocabulary of {config.vocab_size:,} word pieces, at most "
        f"{config.max_position_embeddings} in a text",
        "Regions": f"features of {config.visual_feat_dim}, boxes of {config.visual_pos_dim}",
    }
    if _kind(model) == "LxmertForPreTraining":
        facts["Objectives"] = ", ".join(
            what for flag, what in _OBJECTIVES.items() if getattr(config, flag)
        )
    if hasattr(model, "answer_head"):
        facts["Answers"] = _answers(config)
    return "\n".join(f"- **{key}**: {value}" for key, value in facts.items())


def _answers(config: object) -> str:
    """Return the number of answers and the first of their names."""
    count: int = getattr(config, "num_qa_labels")  # noqa: B009 - a field of our configuration
    named = [name for _, name in sorted((getattr(config, "id2label", None) or {}).items())]
    if len(named) != count or all(_UNNAMED.fullmatch(answer) for answer in named):
        return f"{count:,}, without names in the configuration (`id2label`)"
    # The first answer of published lists is empty.
    shown = [f"`{answer.replace('`', '')}`" for answer in named if answer.strip()][:_NUM_EXAMPLES]
    return f"{count:,}: {', '.join(shown)}{', ...' if count > len(shown) else ''}"


def _example(model: PreTrainedModel, name: str) -> str:
    """Return six lines of code that load the model and run it."""
    kind, config = _kind(model), model.config
    images = f"{config.num_images}, " if kind == "LxmertForImagesAndTextClassification" else ""
    words = min(8, config.max_position_embeddings)
    return "\n".join(
        [
            "import torch",
            f"from lxmert import {kind}",
            f"model = {kind}.from_pretrained({name!r})",
            f"text = torch.randint(1, {config.vocab_size}, (1, {words}))",
            f"regions = torch.rand(1, {images}36, {config.visual_feat_dim}), "
            f"torch.rand(1, {images}36, {config.visual_pos_dim})",
            f"print(model(text, *regions).{_OUTPUTS.get(kind, 'logits')})",
        ]
    )


def _table(metrics: Mapping[str, float | str]) -> str:
    """Return scores as a Markdown table."""
    rows = [f"| {name} | {score} |" for name, score in metrics.items()]
    return "\n".join(["| score | value |", "|---|---|", *rows])
