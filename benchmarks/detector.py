"""Times the published detector and a plain implementation with random weights on a CPU.

Run it as `python benchmarks/detector.py --threads 2`; rounds are interleaved, and the reported
ratio is the median over rounds of the plain time divided by ours.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from detector_baseline import BaselineDetector, select_naively

from lxmert.regions.configuration import DetectorConfig
from lxmert.regions.detector import Detector, suppress
from lxmert.regions.extract import DetectorExtractor
from lxmert.regions.selection import Candidates, select_regions

HEIGHT, WIDTH = 600, 800
GIVEN = 36

Run = Callable[[], object]


def make_detector() -> Detector:
    """Return the published geometry with random weights that give spread-out scores."""
    torch.manual_seed(0)
    config = DetectorConfig.preset(
        "caffe",
        object_names=[f"object {index}" for index in range(1600)],
        attribute_names=[f"attribute {index}" for index in range(400)],
    )
    detector = Detector(config).eval()
    head = detector.proposal_generator.rpn_head
    head.objectness_logits.weight.data.normal_(std=0.02)
    head.anchor_deltas.weight.data.normal_(std=0.0003)
    return detector


def make_cases(ours: DetectorExtractor, plain: BaselineDetector) -> dict[str, tuple[Run, Run]]:
    """Return pairs of calls, plain and ours, that do the same work."""
    pixels = np.random.default_rng(1).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    values = torch.from_numpy(pixels).permute(2, 0, 1).flip(0).float()[None]
    values -= torch.tensor(ours.detector.config.pixel_mean).view(1, 3, 1, 1)
    corners = torch.rand(GIVEN, 2) * torch.tensor([WIDTH - 200.0, HEIGHT - 200.0])
    boxes = torch.cat([corners, corners + 40 + 150 * torch.rand(GIVEN, 2)], dim=1)
    dtype = torch.bfloat16 if ours.precision == "bf16" else torch.float32

    def plainly(call: Run) -> Run:
        def run() -> object:
            with torch.inference_mode(), torch.autocast("cpu", dtype, dtype != torch.float32):
                return call()

        return run

    return {
        "300 regions": (plainly(lambda: plain.detect(values, 1.0)), lambda: ours([pixels])),
        "36 given boxes": (
            plainly(lambda: plain.describe(values, boxes)),
            lambda: ours([pixels], boxes=[boxes.numpy()]),
        ),
    }


def selection_case(config: DetectorConfig) -> tuple[Run, Run]:
    """Return the selection of 36 of 300 regions, plain and ours."""
    generator = torch.Generator().manual_seed(2)
    corners = torch.rand(300, 2, generator=generator) * 500
    boxes = torch.cat([corners, corners + 20 + 200 * torch.rand(300, 2, generator=generator)], 1)
    logits = 2.5 * torch.randn(300, 1601, generator=generator)
    probabilities = logits.softmax(dim=1)[:, :-1]
    arrays = probabilities.numpy(), boxes.numpy()
    candidates = Candidates(*arrays, lambda regions, _: arrays[1][regions], suppress)
    ours = select_regions(candidates, config, offset=1.0).candidates
    if not np.array_equal(ours, select_naively(probabilities, boxes)):
        raise ValueError("the two selections differ; expected the same regions in the same order")
    return (
        lambda: select_naively(probabilities, boxes),
        lambda: select_regions(candidates, config, offset=1.0),
    )


def measure(cases: dict[str, tuple[Run, Run]], rounds: int) -> dict[str, dict[str, float]]:
    """Return the median seconds of both sides and the median of their ratios."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in cases}
    for pair in cases.values():
        pair[1]()
    for _ in range(rounds):
        for name, pair in cases.items():
            times[name].append((_seconds(pair[0]), _seconds(pair[1])))
    return {
        name: {
            "plain_s": round(statistics.median(plain for plain, _ in values), 4),
            "ours_s": round(statistics.median(ours for _, ours in values), 4),
            "ratio": round(statistics.median(plain / ours for plain, ours in values), 2),
        }
        for name, values in times.items()
    }


def _seconds(run: Run) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def agreement(full: DetectorExtractor, half: DetectorExtractor) -> dict[str, float]:
    """Compare bfloat16 with float32: features of given boxes, and selected boxes."""
    pixels = np.random.default_rng(3).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    (found,), (rough,) = full([pixels]), half([pixels])
    (again,) = half([pixels], boxes=[found.boxes])
    cosine = torch.nn.functional.cosine_similarity(
        torch.from_numpy(found.features), torch.from_numpy(again.features)
    )
    same = {tuple(box) for box in found.boxes.round(0).tolist()} & {
        tuple(box) for box in rough.boxes.round(0).tolist()
    }
    return {"lowest_cosine": round(float(cosine.min()), 6), "same_boxes": len(same) / len(found)}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--precision", nargs="+", default=["fp32", "bf16"])
    parser.add_argument("-o", "--output", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    detector = make_detector()
    plain = BaselineDetector().eval()
    plain.load_state_dict(detector.state_dict())
    results: dict[str, object] = {
        "selection": measure({"36 of 300": selection_case(detector.config)}, 15)["36 of 300"]
    }
    print(json.dumps(results), flush=True)
    extractors = {}
    for precision in arguments.precision:
        ours = DetectorExtractor(detector, precision=precision)
        extractors[precision] = ours
        results[precision] = measure(make_cases(ours, plain), arguments.rounds)
        print(json.dumps({precision: results[precision]}, indent=1), flush=True)
    if len(extractors) > 1:
        results["agreement"] = agreement(extractors["fp32"], extractors["bf16"])
        print(json.dumps(results["agreement"]))
    if arguments.output is not None:
        arguments.output.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
