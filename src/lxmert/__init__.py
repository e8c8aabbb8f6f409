"""LXMERT, from pixels to answers and why: model, eyes, data, training, explanation.

Public names are loaded when they are first used, so that importing the package costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lxmert.data.store import RegionStore
    from lxmert.data.tokenizer import LxmertTokenizer, LxmertTokenizerFast
    from lxmert.model.answers import carry_answers
    from lxmert.model.auto import register_auto_classes
    from lxmert.model.configuration import LxmertConfig
    from lxmert.model.encoder import LxmertEncoder
    from lxmert.model.heads import (
        LxmertForImageAndTextRetrieval,
        LxmertForImagesAndTextClassification,
        LxmertForQuestionAnswering,
    )
    from lxmert.model.layers import LxmertVisualFeatureEncoder, LxmertXLayer
    from lxmert.model.loading import load_folder, load_original, save_original
    from lxmert.model.modeling import LxmertModel, LxmertPreTrainedModel
    from lxmert.model.outputs import (
        LxmertClassificationOutput,
        LxmertEncodedStream,
        LxmertForPreTrainingOutput,
        LxmertForQuestionAnsweringOutput,
        LxmertModelOutput,
    )
    from lxmert.model.predictions import LxmertVisualAnswerHead
    from lxmert.model.pretraining import LxmertForPreTraining
    from lxmert.pipeline import LxmertPipeline
    from lxmert.processing import LxmertProcessor
    from lxmert.schema import Answer, Example, Regions
    from lxmert.vision.backbone_grid import BackboneGridExtractor
    from lxmert.vision.configuration import DetectorConfig
    from lxmert.vision.extract import RegionExtractor
    from lxmert.vision.eyes import Eyes, open_eyes
    from lxmert.vision.grid import GridExtractor
    from lxmert.vision.published import load_published_detector
    from lxmert.vision.torchvision_detector import TorchvisionExtractor

_PUBLIC = {
    "Answer": "lxmert.schema",
    "BackboneGridExtractor": "lxmert.vision.backbone_grid",
    "DetectorConfig": "lxmert.vision.configuration",
    "Example": "lxmert.schema",
    "Eyes": "lxmert.vision.eyes",
    "GridExtractor": "lxmert.vision.grid",
    "Regions": "lxmert.schema",
    "LxmertConfig": "lxmert.model.configuration",
    "LxmertClassificationOutput": "lxmert.model.outputs",
    "LxmertEncodedStream": "lxmert.model.outputs",
    "LxmertEncoder": "lxmert.model.encoder",
    "LxmertForImageAndTextRetrieval": "lxmert.model.heads",
    "LxmertForImagesAndTextClassification": "lxmert.model.heads",
    "LxmertForPreTraining": "lxmert.model.pretraining",
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
    "LxmertVisualAnswerHead": "lxmert.model.predictions",
    "LxmertVisualFeatureEncoder": "lxmert.model.layers",
    "LxmertXLayer": "lxmert.model.layers",
    "RegionExtractor": "lxmert.vision.extract",
    "RegionStore": "lxmert.data.store",
    "TorchvisionExtractor": "lxmert.vision.torchvision_detector",
    "register_auto_classes": "lxmert.model.auto",
    "carry_answers": "lxmert.model.answers",
    "load_folder": "lxmert.model.loading",
    "load_original": "lxmert.model.loading",
    "load_published_detector": "lxmert.vision.published",
    "open_eyes": "lxmert.vision.eyes",
    "save_original": "lxmert.model.loading",
}

__all__ = [  # written out, as type checkers read it
    "Answer",
    "BackboneGridExtractor",
    "DetectorConfig",
    "Example",
    "Eyes",
    "GridExtractor",
    "LxmertClassificationOutput",
    "LxmertConfig",
    "LxmertEncodedStream",
    "LxmertEncoder",
    "LxmertForImageAndTextRetrieval",
    "LxmertForImagesAndTextClassification",
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
    "LxmertVisualAnswerHead",
    "LxmertVisualFeatureEncoder",
    "LxmertXLayer",
    "RegionExtractor",
    "RegionStore",
    "Regions",
    "TorchvisionExtractor",
    "carry_answers",
    "load_folder",
    "load_original",
    "load_published_detector",
    "open_eyes",
    "register_auto_classes",
    "save_original",
]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'lxmert' has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return [*globals(), *_PUBLIC]
