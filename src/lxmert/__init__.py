"""LXMERT, from pixels to answers and why: model, eyes, data, training, explanation.

Public names are loaded when they are first used, so that importing the package costs nothing.
"""

from importlib import import_module
from typing import Any

_PUBLIC = {
    "Answer": "lxmert.schema",
    "Example": "lxmert.schema",
    "Regions": "lxmert.schema",
    "LxmertConfig": "lxmert.model.configuration",
    "LxmertEncoder": "lxmert.model.layers",
    "LxmertForPreTraining": "lxmert.model.heads",
    "LxmertForQuestionAnswering": "lxmert.model.heads",
    "LxmertModel": "lxmert.model.modeling",
    "LxmertPipeline": "lxmert.pipeline",
    "LxmertPreTrainedModel": "lxmert.model.modeling",
    "LxmertProcessor": "lxmert.processing",
    "LxmertTokenizer": "lxmert.data.tokenizer",
    "LxmertTokenizerFast": "lxmert.data.tokenizer",
    "LxmertVisualFeatureEncoder": "lxmert.model.layers",
    "LxmertXLayer": "lxmert.model.layers",
    "RegionExtractor": "lxmert.vision.extract",
    "RegionStore": "lxmert.data.store",
}

__all__ = sorted(_PUBLIC)
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'lxmert' has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return [*globals(), *_PUBLIC]
