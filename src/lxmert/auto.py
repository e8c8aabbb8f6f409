"""Registers our classes with transformers' auto classes and with PEFT, on request only."""

from importlib.util import find_spec

from transformers.models.auto.configuration_auto import AutoConfig
from transformers.models.auto.modeling_auto import (
    AutoModel,
    AutoModelForPreTraining,
    AutoModelForQuestionAnswering,
    AutoModelForVisualQuestionAnswering,
)
from transformers.models.auto.processing_auto import AutoProcessor
from transformers.models.auto.tokenization_auto import AutoTokenizer

from lxmert.data.tokenizer import LxmertTokenizer
from lxmert.model.configuration import LxmertConfig
from lxmert.model.heads import LxmertForQuestionAnswering
from lxmert.model.modeling import LxmertModel
from lxmert.model.pretraining import LxmertForPreTraining
from lxmert.processing import LxmertProcessor

LORA_LAYERS = ("query", "value")
"""Layers that LoRA adapts by default: those of the LoRA paper, in every attention."""


def register_auto_classes() -> None:
    """Register our classes with transformers' auto classes for the model type `lxmert`.

    Afterwards, in this process, `AutoConfig`, `AutoModel`, `AutoModelForPreTraining`,
    `AutoModelForQuestionAnswering` and `AutoModelForVisualQuestionAnswering` load folders of that
    type as our classes instead of transformers' own; `AutoProcessor` returns `LxmertProcessor`
    (without this call, the tokenizer only), and `AutoTokenizer` BERT's tokenizer. If peft is
    installed, its `LoraConfig()` adapts `LORA_LAYERS` by default; without this call, use
    `target_modules=["query", "value"]`.
    """
    AutoConfig.register(LxmertConfig.model_type, LxmertConfig, exist_ok=True)
    for auto_class, model_class in {
        AutoModel: LxmertModel,
        AutoModelForPreTraining: LxmertForPreTraining,
        AutoModelForQuestionAnswering: LxmertForQuestionAnswering,
        AutoModelForVisualQuestionAnswering: LxmertForQuestionAnswering,
    }.items():
        auto_class.register(LxmertConfig, model_class, exist_ok=True)
    AutoProcessor.register(LxmertConfig, LxmertProcessor, exist_ok=True)  # type: ignore[no-untyped-call]
    AutoTokenizer.register(LxmertConfig, LxmertTokenizer, exist_ok=True)  # type: ignore[no-untyped-call]
    if find_spec("peft"):
        from peft.utils.constants import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING

        TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING.setdefault(
            LxmertConfig.model_type, [*LORA_LAYERS]
        )
