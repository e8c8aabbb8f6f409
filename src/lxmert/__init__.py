"""LXMERT from pixels to answers: model, region extractors, data, training and explanations.

Public names are imported on first use, so that `import lxmert` loads no other library.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from lxmert.version import __version__ as __version__

if TYPE_CHECKING:
    from lxmert.auto import register_auto_classes
    from lxmert.data.store import RegionStore
    from lxmert.data.store_layout import StoreHeader
    from lxmert.data.store_writing import StoreWriter
    from lxmert.data.tokenizer import LxmertTokenizer, LxmertTokenizerFast
    from lxmert.explain.explanation import Explanation
    from lxmert.explain.maps import AttentionMaps, attention_maps, maps_and_gradients
    from lxmert.explain.methods import METHODS
    from lxmert.explain.relevance import Relevance
    from lxmert.hub import find_model
    from lxmert.metrics.gqa import score_gqa
    from lxmert.metrics.nlvr2 import score_nlvr2
    from lxmert.metrics.retrieval import score_retrieval
    from lxmert.metrics.vqa import score_vqa
    from lxmert.model.answers import carry_answers
    from lxmert.model.configuration import LxmertConfig
    from lxmert.model.encoder import LxmertEncoder
    from lxmert.model.heads import (
        LxmertForImageAndTextRetrieval,
        LxmertForImagesAndTextClassification,
        LxmertForQuestionAnswering,
    )
    from lxmert.model.layers import LxmertVisualFeatureEncoder, LxmertXLayer
    from lxmert.model.loading import load_model, load_original, save_original
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
    from lxmert.reading import InputWarning
    from lxmert.regions.backbone_grid import BackboneGridExtractor
    from lxmert.regions.configuration import DetectorConfig
    from lxmert.regions.extract import DetectorExtractor
    from lxmert.regions.extractor import RegionExtractor, load_extractor
    from lxmert.regions.grid import GridExtractor
    from lxmert.regions.published import load_published_detector
    from lxmert.regions.torchvision_detector import TorchvisionExtractor
    from lxmert.schema import Answer, Example, Failure, Regions
    from lxmert.serve.client import Client
    from lxmert.tasks.registry import RECIPES
    from lxmert.tasks.task import Task
    from lxmert.train.recipes import Recipe, read_recipe
    from lxmert.workflows.scoring import score_files
    from lxmert.workflows.training import train_recipe

_PUBLIC = {
    "METHODS": "lxmert.explain.methods",
    "RECIPES": "lxmert.tasks.registry",
    "Answer": "lxmert.schema",
    "AttentionMaps": "lxmert.explain.maps",
    "BackboneGridExtractor": "lxmert.regions.backbone_grid",
    "Client": "lxmert.serve.client",
    "DetectorConfig": "lxmert.regions.configuration",
    "DetectorExtractor": "lxmert.regions.extract",
    "Example": "lxmert.schema",
    "Explanation": "lxmert.explain.explanation",
    "Failure": "lxmert.schema",
    "GridExtractor": "lxmert.regions.grid",
    "InputWarning": "lxmert.reading",
    "LxmertClassificationOutput": "lxmert.model.outputs",
    "LxmertConfig": "lxmert.model.configuration",
    "LxmertEncodedStream": "lxmert.model.outputs",
    "LxmertEncoder": "lxmert.model.encoder",
    "LxmertForImageAndTextRetrieval": "lxmert.model.heads",
    "LxmertForImagesAndTextClassification": "lxmert.model.heads",
    "LxmertForPreTraining": "lxmert.model.pretraining",
    "LxmertForPreTrainingOutput": "lxmert.model.outputs",
    "LxmertForQuestionAnswering": "lxmert.model.heads",
    "LxmertForQuestionAnsweringOutput": "lxmert.model.outputs",
    "LxmertModel": "lxmert.model.modeling",
    "LxmertModelOutput": "lxmert.model.outputs",
    "LxmertPipeline": "lxmert.pipeline",
    "LxmertPreTrainedModel": "lxmert.model.modeling",
    "LxmertProcessor": "lxmert.processing",
    "LxmertTokenizer": "lxmert.data.tokenizer",
    "LxmertTokenizerFast": "lxmert.data.tokenizer",
    "LxmertVisualAnswerHead": "lxmert.model.predictions",
    "LxmertVisualFeatureEncoder": "lxmert.model.layers",
    "LxmertXLayer": "lxmert.model.layers",
    "Recipe": "lxmert.train.recipes",
    "RegionExtractor": "lxmert.regions.extractor",
    "RegionStore": "lxmert.data.store",
    "Regions": "lxmert.schema",
    "Relevance": "lxmert.explain.relevance",
    "StoreHeader": "lxmert.data.store_layout",
    "StoreWriter": "lxmert.data.store_writing",
    "Task": "lxmert.tasks.task",
    "TorchvisionExtractor": "lxmert.regions.torchvision_detector",
    "attention_maps": "lxmert.explain.maps",
    "carry_answers": "lxmert.model.answers",
    "find_model": "lxmert.hub",
    "load_extractor": "lxmert.regions.extractor",
    "load_model": "lxmert.model.loading",
    "load_original": "lxmert.model.loading",
    "load_published_detector": "lxmert.regions.published",
    "maps_and_gradients": "lxmert.explain.maps",
    "read_recipe": "lxmert.train.recipes",
    "register_auto_classes": "lxmert.auto",
    "save_original": "lxmert.model.loading",
    "score_files": "lxmert.workflows.scoring",
    "score_gqa": "lxmert.metrics.gqa",
    "score_nlvr2": "lxmert.metrics.nlvr2",
    "score_retrieval": "lxmert.metrics.retrieval",
    "score_vqa": "lxmert.metrics.vqa",
    "train_recipe": "lxmert.workflows.training",
}

__all__ = [  # a literal list, for type checkers
    "METHODS",
    "RECIPES",
    "Answer",
    "AttentionMaps",
    "BackboneGridExtractor",
    "Client",
    "DetectorConfig",
    "DetectorExtractor",
    "Example",
    "Explanation",
    "Failure",
    "GridExtractor",
    "InputWarning",
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
    "Recipe",
    "RegionExtractor",
    "RegionStore",
    "Regions",
    "Relevance",
    "StoreHeader",
    "StoreWriter",
    "Task",
    "TorchvisionExtractor",
    "attention_maps",
    "carry_answers",
    "find_model",
    "load_extractor",
    "load_model",
    "load_original",
    "load_published_detector",
    "maps_and_gradients",
    "read_recipe",
    "register_auto_classes",
    "save_original",
    "score_files",
    "score_gqa",
    "score_nlvr2",
    "score_retrieval",
    "score_vqa",
    "train_recipe",
]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'lxmert' has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return [*globals(), *_PUBLIC]
