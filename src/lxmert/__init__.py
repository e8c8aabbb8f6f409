"""LXMERT, from pixels to answers and why: model, eyes, data, training, explanation.

Public names are loaded when they are first used, so that importing the package costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lxmert.data.store import RegionStore
    from lxmert.data.tokenizer import LxmertTokenizer, LxmertTokenizerFast
    from lxmert.model.configuration import LxmertConfig
    from lxmert.model.heads import LxmertForPreTraining, LxmertForQuestionAnswering
    from lxmert.model.layers import LxmertEncoder, LxmertVisualFeatureEncoder, LxmertXLayer
    from lxmert.model.modeling import LxmertModel, LxmertPreTrainedModel
    from lxmert.model.outputs import (
        LxmertForPreTrainingOutput,
        LxmertForQuestionAnsweringOutput,
        LxmertModelOutput,
    )
    from lxmert.pipeline import LxmertPipeline
    from lxmert.processing import LxmertProcessor
    from lxmert.schema import Answer, Example, Regions
    from lxmert.vision.configuration import DetectorConfig
    from lxmert.vision.extract import RegionExtractor

_PUBLIC = {
    "Answer": "lxmert.schema",
    "DetectorConfig": "lxmert.vision.configuration",
    "Example": "lxmert.schema",
    "Regions": "lxmert.schema",
    "LxmertConfig": "lxmert.model.configuration",
    "LxmertEncoder": "lxmert.model.layers",
    "LxmertForPreTraining": "lxmert.model.heads",
    "LxmertForPreTrainingOutput": "lxmert.model.outputs",
    "LxmertForQuestionAnsweringOutput": "lxmert.model.outputs",
    "LxmertModelOutput": "lxmert.model.outputs",
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

__all__ = [  # written out, as type checkers read it
    "Answer",
    "DetectorConfig",
    "Example",
    "LxmertConfig",
    "LxmertEncoder",
    "LxmertForPreTraining",
    "LxmertForPreTrainingOutput",
    "LxmertForQuestionAnswering",
    "LxmertForQuestionAnsweringOutput",
    "LxmertModel",
    "LxmertModelOutput",
    "LxmertPipeline",
    "LxmertPreTrainedModel",
    "LxmertProcessor",
    "LxmertTokenizer",
    "LxmertTokenizerFast",
    "LxmertVisualFeatureEncoder",
    "LxmertXLayer",
    "RegionExtractor",
    "RegionStore",
    "Regions",
]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'lxmert' has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return [*globals(), *_PUBLIC]
