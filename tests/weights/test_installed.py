"""The installed package in an empty folder, with published weights of full size from the web.

The web is a proxy of this machine. Values are random; layout, names and sizes are the published
ones. The tests continue each other, as the commands of a user do.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import hubs
import numpy as np
import published
import pytest
import torch
from conftest import ROOT
from PIL import Image
from regions.published import HEAD, caffe_bytes, full_geometry
from test_wheel import BUILD
from web_proxy import Proxy, serve_web, write_certificate
from web_server import Handler

from lxmert.vocabularies import ANSWERS
from lxmert.weights.table import PUBLISHED

pytestmark = pytest.mark.slow

SIZES = {
    "vocab_size": 30522,
    "hidden_size": 768,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "max_position_embeddings": 512,
    "l_layers": 9,
    "x_layers": 5,
    "r_layers": 5,
    "visual_feat_dim": 2048,
    "num_qa_labels": 3129,
}
FIRST = ("ask", "photo.jpg", "What is the man holding?", "--model", "vqa")
WATCH = (
    "-c",
    "import resource, subprocess, sys\n"
    "done = subprocess.run([sys.executable, *sys.argv[1:]])\n"
    "peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss\n"
    "open('../memory', 'w').write(str(peak))\n"
    "sys.exit(done.returncode)",
)
"""Runs a program and writes its peak memory in KiB; a child of the tests would count theirs."""

MEMORY = 2.1e9
"""Bound in bytes, of which imports take 1.0e9 where the packages for development are installed."""

MODEL = "unc-nlp/lxmert-vqa-uncased"


class Done(NamedTuple):
    """A finished command; the memory is its peak in bytes."""

    code: int
    out: str
    err: str
    memory: int


class Place(NamedTuple):
    """An empty folder with the installed command, and the web that it sees."""

    run: Callable[..., Done]
    start: Callable[..., subprocess.Popen[str]]
    folder: Path
    cache: Path
    proxy: Proxy
    world: hubs.World


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    base = tmp_path_factory.mktemp("installed")
    environment = _install(base)
    detector = caffe_bytes(_detector_state())
    model = published.build("LxmertForQuestionAnswering", **SIZES)
    models = {MODEL: published.write(base / "vqa", model)}
    del model
    world = hubs.World(models, {hubs.published_path("detector-caffe", 1): detector})
    urls = (url for entry in PUBLISHED.values() for file in entry.files for url in file.urls)
    certificate = write_certificate(base / "web.pem", {url.split("/")[2] for url in urls})

    def answer(request: Handler, path: str) -> None:
        _, host, rest = path.split("/", 2)
        on_hub = host in ("huggingface.co", "localhost")
        world(request, f"/{rest}" if on_hub else f"/files/{host}/{rest}")

    with serve_web(answer, certificate) as (proxy, proxied):
        folder = base / "empty"
        folder.mkdir()
        program = str(base / "site/bin/lxmert")

        def start(*arguments: object, watch: Sequence[str] = ()) -> subprocess.Popen[str]:
            with (base / "out").open("w") as out, (base / "err").open("w") as err:
                return subprocess.Popen(
                    [sys.executable, *watch, program, *map(str, arguments)],
                    cwd=folder, env=environment | proxied, text=True, stdout=out, stderr=err,
                )  # fmt: skip

        def run(*arguments: object) -> Done:
            code = start(*arguments, watch=WATCH).wait()
            out, err = (base / "out").read_text(), (base / "err").read_text()
            memory = int((folder.parent / "memory").read_text()) * 1024
            print(f"$ lxmert {' '.join(map(str, arguments))}\n{out}{err}{memory / 1e9:.2f} GB")
            return Done(code, out, err, memory)

        yield Place(run, start, folder, base / "home/.cache/lxmert/weights", proxy, world)


def _detector_state() -> dict[str, torch.Tensor]:
    """Return a random detector whose proposals are near their anchors, so that 36 are distinct."""
    state = hubs.detector_state(full_geometry())
    for part in ("weight", "bias"):
        state[f"{HEAD}.anchor_deltas.{part}"] *= 0.01
    return state


def _install(base: Path) -> dict[str, str]:
    """Build the wheel and install it; return the environment of a user who has nothing else."""
    subprocess.run([sys.executable, "-c", BUILD, str(base)], cwd=ROOT, check=True)
    (wheel,) = base.glob("*.whl")
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index", "--target"]
    subprocess.run([*pip, str(base / "site"), str(wheel)], check=True)
    kept = {name: os.environ[name] for name in ("PATH", "OMP_NUM_THREADS") if name in os.environ}
    return {**kept, "HOME": str(base / "home"), "PYTHONPATH": str(base / "site")}


def _draw(path: Path, seed: int) -> Path:
    """Draw a photo of the size of COCO's."""
    coarse = np.random.default_rng(seed).integers(256, size=(9, 12, 3), dtype=np.uint8)
    Image.fromarray(coarse).resize((640, 480), Image.Resampling.BICUBIC).save(path)
    return path


def _asked(place: Place, name: str) -> list[str]:
    """Return the ranges in which a file was asked for, and forget all requests."""
    ranges = [asked for verb, path, asked in place.proxy.requests if verb == "GET" and name in path]
    place.proxy.requests.clear()
    return ranges


def test_without_a_network_one_sentence_says_so(place: Place) -> None:
    _draw(place.folder / "photo.jpg", 8)
    place.proxy.dead |= {url.split("/")[2] for url in _addresses()}
    result = place.run(*FIRST)
    place.proxy.dead.clear()
    assert (result.code, result.out) == (2, "")
    message = result.err.splitlines()[-1]
    assert "config.json was not fetched" in message
    assert "https://huggingface.co" in message
    assert "--from" in message
    assert "Traceback" not in result.err


def _addresses() -> list[str]:
    return [url for entry in PUBLISHED.values() for file in entry.files for url in file.urls]


def test_a_wrong_checksum_is_refused_after_the_next_address_of_the_detector(place: Place) -> None:
    place.world.hub.spoiled = {"pytorch_model.bin"}
    result = place.run("weights", "fetch", "vqa")
    place.world.hub.spoiled.clear()
    assert result.code == 2
    first, second = (PUBLISHED["detector-caffe"].files[0].urls[place] for place in (0, 1))
    assert f"{first} answers 404 Not Found; trying the next address, {second}" in result.err
    assert "pytorch_model.bin was not fetched" in result.err
    assert "has SHA-256" in result.err
    assert not (place.cache / "vqa").exists()


def test_a_killed_fetch_keeps_what_it_has(place: Place) -> None:
    place.world.hub.held = {"pytorch_model.bin": 100_000_000}
    process = place.start("weights", "fetch", "vqa")
    (part,) = _wait_for(place, 90_000_000, process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    place.world.hub.released.set()
    place.world.hub.held.clear()
    assert part.stat().st_size >= 90_000_000


def _wait_for(place: Place, size: int, process: subprocess.Popen[str]) -> list[Path]:
    """Wait until the weights are fetched up to a size; return the partial file."""
    while process.poll() is None:
        found = list(place.cache.glob("downloads/**/.pytorch_model.bin.part"))
        if found and found[0].stat().st_size >= size:
            return found
        time.sleep(0.02)
    raise AssertionError("the command ended before it was killed")


def test_a_connection_that_stays_cut_is_told_with_how_to_go_on(place: Place) -> None:
    _asked(place, "")
    place.world.hub.cut = {"pytorch_model.bin": [200_000_000, *[0] * 9]}
    result = place.run("weights", "fetch", "vqa")
    place.world.hub.cut.clear()
    assert result.code == 2
    assert "rerun the command later to resume" in result.err
    start = _asked(place, "pytorch_model.bin")[0].removeprefix("bytes=").removesuffix("-")
    assert int(start) >= 90_000_000


def test_the_first_command_fetches_the_rest_and_answers(place: Place) -> None:
    """The first command of the documentation; the connection is cut once more on the way."""
    place.world.hub.cut = {"pytorch_model.bin": [50_000_000]}
    result = place.run(*FIRST, "--json")
    assert result.code == 0, result.err
    assert "HTTP" not in result.err
    assert [line.split()[0] for line in result.err.splitlines() if line] == ["vqa:"] * 3 + [
        "Warning:"  # of unknown words
    ]
    assert all(asked.startswith("bytes=") for asked in _asked(place, "pytorch_model.bin"))
    found = json.loads(result.out)
    answers = json.loads(ANSWERS["vqa"].read_text())
    assert {answer["answer"] for answer in found["answers"]} <= set(answers)
    assert len(found["regions"]) == 36
    assert not any(path.is_file() for path in place.cache.glob("downloads/**/*"))


def test_everything_fetched_a_new_photo_needs_no_web_and_bounded_memory(place: Place) -> None:
    _draw(place.folder / "new.jpg", 9)
    result = place.run("ask", "new.jpg", "What is this?", "--model", "vqa")
    assert result.code == 0, result.err
    assert result.memory <= MEMORY
    assert place.proxy.requests == []


def test_a_second_question_runs_no_detector(place: Place) -> None:
    again = place.run(*FIRST, "Is it dark?", "--json")
    first, second = (json.loads(line) for line in again.out.splitlines())
    assert len(first["regions"]) == 36
    assert second["answers"]
    assert again.memory <= MEMORY
    assert place.proxy.requests == []


def test_predict_answers_a_file_of_questions_about_ten_photos(place: Place) -> None:
    (place.folder / "photos").mkdir()
    names = [_draw(place.folder / f"photos/{seed}.jpg", seed).name for seed in range(10)]
    lines = [
        json.dumps({"question_id": f"{name}/{question}", "image": name, "question": question})
        for name in names
        for question in ("What is this?", "Is it dark?")
    ]
    (place.folder / "q.jsonl").write_text("\n".join(lines) + "\n")
    result = place.run(
        "predict", "vqa", "--data", "q.jsonl", "--images", "photos", "-o", "answers.jsonl"
    )
    assert result.code == 0, result.err
    rows = [json.loads(line) for line in (place.folder / "answers.jsonl").open()]
    assert len(rows) == 20
    assert {row["answer"] for row in rows} <= set(json.loads(ANSWERS["vqa"].read_text()))
