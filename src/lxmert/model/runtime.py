"""The PyTorch model behind the interface of all runtimes: arrays in, logits out."""

import os
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy.typing as npt
import torch

from lxmert.model.heads import (
    LxmertForImageAndTextRetrieval,
    LxmertForImagesAndTextClassification,
    LxmertForQuestionAnswering,
)
from lxmert.model.wrappers import execution_device
from lxmert.schema import FloatArray, IntArray

TEXTS_AT_ONCE = 64
"""Maximum number of texts per forward pass, to bound memory."""

ScoringModel = (
    LxmertForQuestionAnswering
    | LxmertForImageAndTextRetrieval
    | LxmertForImagesAndTextClassification
)


class TorchRuntime:
    """The PyTorch model as a `lxmert.predict.Runtime`; each image is encoded once for its texts."""

    _threaded: ClassVar[int | None] = None
    """Process in which torch first computed with several threads."""

    def __init__(self, model: ScoringModel) -> None:
        self.model = model

    @torch.inference_mode()
    def __call__(
        self,
        text: Mapping[str, npt.NDArray[Any]],
        image: Mapping[str, npt.NDArray[Any]],
        rows: IntArray,
    ) -> FloatArray:
        """Return logits; see `lxmert.predict.Runtime`."""
        check_fork()
        device = execution_device(self.model)
        names = ("visual_feats", "visual_pos", "visual_attention_mask")
        arguments = (torch.from_numpy(image[name]).to(device) for name in names)
        encoded = self.model.lxmert.encode_image(*arguments)
        logits = []
        for start in range(0, len(rows), TEXTS_AT_ONCE):
            part = slice(start, start + TEXTS_AT_ONCE)
            output = self.model(
                **{name: torch.from_numpy(value[part]).to(device) for name, value in text.items()},
                encoded_image=encoded.take(torch.from_numpy(rows[part].flatten()).to(device)),
                return_dict=False,
            )
            logits.append(output[0])
        found: FloatArray = torch.cat(logits).float().cpu().numpy()
        return found


def check_fork() -> None:
    """Raise `RuntimeError` in a forked process, where torch would wait for lost threads."""
    threads, before = torch.get_num_threads(), TorchRuntime._threaded
    if threads == 1:
        return
    if before not in (None, os.getpid()):
        raise RuntimeError(
            f"this process was forked from process {before}, in which torch has computed with "
            f"{threads} threads, and would wait for them forever: start processes with "
            "multiprocessing.get_context('spawn'), or call torch.set_num_threads(1) in them"
        )
    TorchRuntime._threaded = os.getpid()
