"""Compares answering and training steps with transformers' LXMERT, with the same weights.

Run it as `python benchmarks/model.py WHAT`; rounds of both are interleaved, and a ratio is the
median over the rounds of (time of transformers / time of ours). Questions are as long as in VQA, 8
word pieces on average, padded to the longest in the batch; `padded` pads theirs to 20 as the
original did. Models have the published size and random weights.
"""

import argparse
import importlib
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import model_peer
import torch
from torch import Tensor

Batch = dict[str, Any]
REGIONS, LONGEST = 36, 20
ROUNDS = {"answer": 9, "train": 5}


def questions(batch_size: int, *, padded: bool = False) -> Batch:
    """Return random inputs whose lengths are log-normal with a mean of 8 in 5..20."""
    generator = torch.Generator().manual_seed(batch_size)
    lengths = torch.randn(batch_size, generator=generator).mul(0.3).exp().mul(7.7)
    lengths = lengths.round().clamp(5, LONGEST).long()
    longest = LONGEST if padded else int(lengths.max())
    mask = (torch.arange(longest)[None] < lengths[:, None]).long()
    ids = torch.randint(1000, 30000, (batch_size, longest), generator=generator) * mask
    corners = torch.rand(batch_size, REGIONS, 2, 2, generator=generator).sort(dim=2).values
    return {
        "input_ids": ids,
        "attention_mask": mask,
        "visual_feats": torch.rand(batch_size, REGIONS, 2048, generator=generator).relu(),
        "visual_pos": corners.flatten(2),
        "visual_attention_mask": torch.ones(batch_size, REGIONS),
    }


def labels(batch: Batch) -> Batch:
    """Return labels of all pretraining objectives: 15% of words and regions, half with answers."""
    generator = torch.Generator().manual_seed(9)
    ids = batch["input_ids"]
    size = (len(ids), REGIONS)
    hidden = (torch.rand(ids.shape, generator=generator) < 0.15) & (ids > 0)
    masked = (torch.rand(size, generator=generator) < 0.15).float()
    confidence = torch.rand(size, generator=generator)  # the published code weighs all regions
    objects = torch.randint(0, 1600, size, generator=generator)
    return {
        "labels": torch.where(hidden, ids, -100),
        "matched_label": torch.randint(0, 2, (len(ids),), generator=generator),
        "ans": torch.randint(0, 9500, (len(ids),), generator=generator),
        "obj_labels": {
            "obj": (objects, confidence),
            "attr": (objects // 4, confidence),
            "feat": (batch["visual_feats"], masked),
        },
    }


def interleave(runs: dict[str, Callable[[], Tensor]], rounds: int) -> dict[str, list[float]]:
    """Time every run once a round, in turn."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for run in runs.values():
        run()
    for index in range(rounds):
        names = list(runs) if index % 2 else list(reversed(runs))
        for name in names:
            started = time.perf_counter()
            runs[name]()
            times[name].append(time.perf_counter() - started)
    return times


def compare(times: dict[str, list[float]], theirs: str, ours: str) -> dict[str, float]:
    """Return both medians in milliseconds and the median of the rounds' ratios."""
    ratios = [peer / own for peer, own in zip(times[theirs], times[ours], strict=True)]
    return {
        "theirs_ms": round(1000 * statistics.median(times[theirs]), 1),
        "ours_ms": round(1000 * statistics.median(times[ours]), 1),
        "ratio": round(statistics.median(ratios), 3),
    }


def answering(dtype: torch.dtype) -> dict[str, object]:
    """Compare answering in batches of 1 and 32, against both ways of padding."""
    from lxmert import LxmertForQuestionAnswering

    report: dict[str, object] = {}
    with TemporaryDirectory() as folder:
        theirs: Any = model_peer.build(Path(folder), pretraining=False)
        theirs.eval().to(dtype)
        ours: Any = LxmertForQuestionAnswering.from_pretrained(folder, dtype=dtype)
    for batch_size in (1, 32):
        short, long = questions(batch_size), questions(batch_size, padded=True)
        for batch in (short, long):
            for name in ("visual_feats", "visual_pos"):
                batch[name] = batch[name].to(dtype)
        runs: dict[str, Callable[[], Tensor]] = {
            "longest": partial(model_peer.answer, theirs, short),
            "padded": partial(model_peer.answer, theirs, long),
            "ours": partial(model_peer.answer, ours, short),
        }
        difference = (runs["ours"]() - runs["longest"]()).abs().max()
        repeats = ROUNDS["answer"] * (3 if batch_size == 1 else 1)
        times = interleave(runs, repeats)
        for padding in ("longest", "padded"):
            report[f"batch {batch_size}, {padding}"] = compare(times, padding, "ours")
        report[f"batch {batch_size}, largest difference of logits"] = float(difference)
    return report


def training(autocast: bool) -> dict[str, object]:
    """Compare complete pretraining steps of 32 pairs with all losses, in fp32 or bf16 autocast."""
    from lxmert import LxmertForPreTraining

    with TemporaryDirectory() as folder:
        theirs = model_peer.Trainer(model_peer.build(Path(folder), pretraining=True))
        model: Any = LxmertForPreTraining.from_pretrained(folder)
    ours = model_peer.Trainer(model)
    batch = questions(32)
    batch |= labels(batch)

    def under(trainer: model_peer.Trainer, **more: object) -> Callable[[], Tensor]:
        def run() -> Tensor:
            with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
                return trainer.step(batch | more)

        return run

    runs = {
        "theirs": under(theirs),
        "ours": under(ours),
        "losses only": under(ours, output_predictions=False),
    }
    times = interleave(runs, ROUNDS["train"])
    return {name: compare(times, "theirs", name) for name in ("ours", "losses only")}


def memory() -> dict[str, object]:
    """Compare the peak resident memory of one eager answer, each in a process of its own."""
    report: dict[str, object] = {}
    with TemporaryDirectory() as folder:
        model_peer.build(Path(folder), pretraining=False)
        for batch_size in (1, 32, 128):
            for side in ("theirs", "ours"):
                command = [sys.executable, __file__, "peak", side, folder, str(batch_size)]
                done = subprocess.run(command, check=True, capture_output=True, text=True)
                report[f"batch {batch_size}, {side}, MB"] = float(done.stdout)
    return report


def peak(side: str, folder: str, batch_size: int) -> None:
    """Answer once with one of the models; print the increase of the peak memory in MB."""
    library = importlib.import_module("lxmert" if side == "ours" else "transformers")
    kind = library.LxmertForQuestionAnswering
    model = kind.from_pretrained(folder, attn_implementation="eager").eval()
    model_peer.answer(model, questions(1))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    model_peer.answer(model, questions(batch_size))
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(round((after - before) / 1024, 1), flush=True)


WHAT: dict[str, Callable[[], dict[str, object]]] = {
    "answer-fp32": lambda: answering(torch.float32),
    "answer-bf16": lambda: answering(torch.bfloat16),
    "train-fp32": lambda: training(autocast=False),
    "train-bf16": lambda: training(autocast=True),
    "memory": memory,
}


def main() -> None:
    """Run the requested comparisons and print JSON."""
    if sys.argv[1:2] == ["peak"]:
        peak(sys.argv[2], sys.argv[3], int(sys.argv[4]))
        return
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="+", choices=WHAT)
    for what in parser.parse_args().what:
        print(json.dumps({what: WHAT[what]()}, indent=1), flush=True)


if __name__ == "__main__":
    main()
