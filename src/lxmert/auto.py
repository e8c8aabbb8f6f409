"""Registration of our classes with libraries that find a model's class or layers by its type.

Nothing here happens by itself: a process in which it is not called keeps what it had.
"""

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
"""Layers that LoRA adapts where none are named: those of the LoRA paper, in every attention."""


def register_auto_classes() -> None:
    """Let the Auto classes of transformers give our classes for the model type `lxmert`.

    Afterwards, `AutoConfig`, `AutoModel`, `AutoModelForPreTraining`,
    `AutoModelForQuestionAnswering` and `AutoModelForVisualQuestionAnswering` load folders of that
    type as ours, in the whole process and in place of transformers' own; `AutoProcessor` gives
    `LxmertProcessor`, `AutoTokenizer` BERT's tokenizer. Before, transformers knows no processor of
    that type, and its `AutoProcessor` gives the tokenizer alone. Where peft is installed,
    its `LoraConfig()` then adapts `LORA_LAYERS` of models of that type, for which it has no default
    otherwise; `target_modules=["query", "value"]` says the same without this call.
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
