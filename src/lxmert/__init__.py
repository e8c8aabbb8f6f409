"""LXMERT, from pixels to answers and why: model, eyes, data, training, explanation.

Public names are loaded when they are first used, so that importing the package costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lxmert.auto import register_auto_classes
    from lxmert.data.store import RegionStore
    from lxmert.data.tokenizer import LxmertTokenizer, LxmertTokenizerFast
    from lxmert.model.answers import carry_answers
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
    from lxmert.regions.backbone_grid import BackboneGridExtractor
    from lxmert.regions.configuration import DetectorConfig
    from lxmert.regions.extract import DetectorExtractor
    from lxmert.regions.extractor import RegionExtractor, load_extractor
    from lxmert.regions.grid import GridExtractor
    from lxmert.regions.published import load_published_detector
    from lxmert.regions.torchvision_detector import TorchvisionExtractor
    from lxmert.schema import Answer, Example, Regions

_PUBLIC = {
    "Answer": "lxmert.schema",
    "BackboneGridExtractor": "lxmert.regions.backbone_grid",
    "DetectorConfig": "lxmert.regions.configuration",
    "Example": "lxmert.schema",
    "RegionExtractor": "lxmert.regions.extractor",
    "GridExtractor": "lxmert.regions.grid",
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
    "DetectorExtractor": "lxmert.regions.extract",
    "RegionStore": "lxmert.data.store",
    "TorchvisionExtractor": "lxmert.regions.torchvision_detector",
    "register_auto_classes": "lxmert.auto",
    "carry_answers": "lxmert.model.answers",
    "load_folder": "lxmert.model.loading",
    "load_original": "lxmert.model.loading",
    "load_published_detector": "lxmert.regions.published",
    "load_extractor": "lxmert.regions.extractor",
    "save_original": "lxmert.model.loading",
}

__all__ = [  # written out, as type checkers read it
    "Answer",
    "BackboneGridExtractor",
    "DetectorConfig",
    "DetectorExtractor",
    "Example",
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
    "load_extractor",
    "load_folder",
    "load_original",
    "load_published_detector",
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
