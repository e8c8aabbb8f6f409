"""Accuracy of training on custom data in each world of the suite, beside peers at equal CPU time.

    lxmert lab worlds make -o runs/worlds
    python benchmarks/worlds.py runs/worlds -o runs/worlds-600.jsonl --seconds 600 --seeds 1 2 3

Each cell (world, method, seed) is trained in a process of its own for so many CPU seconds and
becomes one line of the output; the same command resumes. At the end, or alone with
`--table`, it prints the medians over seeds as a table. `lxmert` is interrupted by SIGTERM after its
time, if it has not finished before; its folder is kept beside the output.
To let it plan its time, give that as well: `--options --budget 10m`, last.
"""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

METHODS = ("question-only", "lstm", "cnn-lstm", "relation-network", "lxmert")
PEERS = Path(__file__).with_name("worlds_peers.py")
ONE_CORE = {**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
TICK = os.sysconf("SC_CLK_TCK")
Cell = dict[str, Any]


def measure(world: Path, method: str, seed: int, arguments: argparse.Namespace) -> Cell:
    """Train and evaluate one cell; return its test accuracy by question type."""
    if method == "question-only":
        output = run("-m", "lxmert", "lab", "worlds", "show", str(world.parent), "--json")
        rows = json.loads(output)[world.name]
        return {"accuracy": {row["type"]: row["question_only"] for row in rows}}
    if method != "lxmert":
        options = ("--seconds", str(arguments.seconds), "--seed", str(seed))
        scores: Cell = json.loads(run(str(PEERS), method, str(world), *options).splitlines()[-1])
        return scores
    return measure_lxmert(world, seed, arguments)


def measure_lxmert(world: Path, seed: int, arguments: argparse.Namespace) -> Cell:
    """Train with the recipe `custom`, interrupt it after its time, evaluate the best weights."""
    folder = arguments.output.with_suffix("") / f"{world.name}-{seed}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    settings = [f"data.train={world / 'train.jsonl'}", f"data.valid={world / 'valid.jsonl'}",
                f"data.images={world / 'images'}", f"seed={seed}"]  # fmt: skip
    command = [sys.executable, "-m", "lxmert", "train", "custom", "-o", str(folder)]
    command += [word for setting in settings for word in ("--set", setting)]
    with folder.with_suffix(".log").open("w") as log:
        process = subprocess.Popen(
            [*command, *arguments.options], stderr=log, stdout=log, env=ONE_CORE
        )
        while process.poll() is None:
            time.sleep(1)
            if cpu_seconds(process.pid) > arguments.seconds:
                process.terminate()  # SIGINT would be ignored if this runs in the background
                process.wait()
    interrupted = process.returncode in (130, -signal.SIGTERM)
    if process.returncode and not interrupted:
        raise RuntimeError(f"exit code {process.returncode}: see {folder.with_suffix('.log')}")
    places = (folder / "best", folder)
    model = next((place for place in places if (place / "config.json").is_file()), None)
    if model is None:  # interrupted before its first evaluation
        return {"accuracy": {"overall": 0.0}, "interrupted": True}
    test = ("--data", str(world / "test.jsonl"), "--images", str(world / "images"))
    report = json.loads(run("-m", "lxmert", "evaluate", str(model), *test, "--json"))
    return {"accuracy": report["accuracy"], "interrupted": interrupted}


def cpu_seconds(process: int) -> float:
    """Return the processor time of a process and of those of its children that have ended."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:  # it has just ended
        return 0.0
    return sum(map(int, fields[11:15])) / TICK


def run(*arguments: str) -> str:
    """Run Python on one core; return what it printed."""
    command = [sys.executable, *arguments]
    return subprocess.run(
        command, check=True, stdout=subprocess.PIPE, text=True, env=ONE_CORE
    ).stdout


def read_cells(path: Path) -> list[Cell]:
    """Return the cells that are measured."""
    lines = path.read_text().splitlines() if path.is_file() else []
    return [json.loads(line) for line in lines]


def show_table(cells: list[Cell]) -> None:
    """Print the median accuracy of each world and method as a Markdown table."""
    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    for cell in cells:
        found[cell["world"], cell["method"]].append(cell["accuracy"]["overall"])
    methods = [method for method in METHODS if any(method == key[1] for key in found)]
    print("| world |", " | ".join(methods), "|")
    print("|---" * (1 + len(methods)) + "|")
    for world in dict.fromkeys(key[0] for key in found):
        values = [found.get((world, method)) for method in methods]
        shown = [f"{100 * statistics.median(each):.1f}" if each else "" for each in values]
        print(f"| {world} |", " | ".join(shown), "|")


def main() -> None:
    """Measure what is missing, then print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="folder of the worlds")
    parser.add_argument("-o", "--output", type=Path, required=True, help="JSONL file of the cells")
    parser.add_argument("--seconds", type=float, default=600, help="CPU seconds of each training")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--worlds", nargs="+", help="names; all that are there if left out")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument(
        "--options", nargs=argparse.REMAINDER, default=[], help="more for lxmert train"
    )
    parser.add_argument("--table", action="store_true", help="print the table only")
    arguments = parser.parse_args()
    names = arguments.worlds or sorted(p.parent.name for p in arguments.folder.glob("*/world.json"))
    cells = [
        (name, method, seed)
        for seed in arguments.seeds
        for name in names
        for method in arguments.methods
        if method != "question-only" or seed == arguments.seeds[0]
    ]
    done = {(c["world"], c["method"], c["seed"]) for c in read_cells(arguments.output)}
    for name, method, seed in cells if not arguments.table else ():
        if (name, method, seed) in done:
            continue
        scores = measure(arguments.folder / name, method, seed, arguments)
        cell = {
            "world": name,
            "method": method,
            "seed": seed,
            "seconds": arguments.seconds,
            **scores,
        }
        with arguments.output.open("a") as file:
            file.write(json.dumps(cell) + "\n")
        print(f"{name} {method} {seed}: {scores['accuracy']['overall']:.1%}", file=sys.stderr)
    show_table(read_cells(arguments.output))


if __name__ == "__main__":
    main()
