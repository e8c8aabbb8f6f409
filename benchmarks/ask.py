"""Time of a question: the command with a cold start, an answer after loading, `lxmert --help`.

Run it as `python benchmarks/ask.py --model FOLDER --image IMAGE`; rounds are interleaved.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

QUESTION = "What color is the ball?"
ROUNDS = 5


def measure(run: Callable[[], object]) -> float:
    """Return the seconds that a call takes."""
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def command(*arguments: str) -> Callable[[], object]:
    """Return a call of a fresh interpreter that discards the output."""
    return lambda: subprocess.run([sys.executable, *arguments], check=True, capture_output=True)


def main() -> None:
    """Measure, print and perhaps save the medians in seconds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--image", type=Path, required=True)
    parser.add_argument("-o", "--output", type=Path)
    arguments = parser.parse_args()
    from lxmert import LxmertPipeline

    pipeline = LxmertPipeline.from_pretrained(arguments.model)
    ask = ["-m", "lxmert", "ask", str(arguments.image), QUESTION, "--model", str(arguments.model)]
    runs: dict[str, Callable[[], object]] = {
        "python": command("-c", "pass"),
        "help": command("-m", "lxmert", "--help"),
        "ask_cold": command(*ask),
        "ask_warm": lambda: pipeline.ask(arguments.image, QUESTION),
    }
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(ROUNDS):
        for name, run in runs.items():
            times[name].append(measure(run))
    medians = {name: round(statistics.median(values), 4) for name, values in times.items()}
    print(json.dumps(medians, indent=1))
    if arguments.output is not None:
        arguments.output.write_text(json.dumps(medians, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
