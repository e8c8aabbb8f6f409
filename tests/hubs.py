"""Published weights in their layout with small random values, on a server of this machine."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import huggingface_hub
import published
import pytest
import torch
from file_server import Files
from regions.published import YAML, geometry, random_state
from web_server import Hub, Server, serve

from lxmert.regions import published as loader
from lxmert.regions.configuration import DetectorConfig
from lxmert.weights.table import HUB, PUBLISHED, PublishedModel

FEATURES = 12
"""Width of the region features of the small detector."""

ANSWERS = {"vqa": 3129, "gqa": 1842, "lxmert-base": 9500}
SMALL_YAML = YAML.replace("num_classes: 9", "num_classes: 1600").replace(
    "num_attrs: 5", "num_attrs: 400"
)


def write_models(folder: Path, sizes: dict[str, object] | None = None) -> dict[str, Path]:
    """Write the models of the hub; return their folders by the name of the repository."""
    made = {}
    for name, count in ANSWERS.items():
        kind = "LxmertForPreTraining" if name == "lxmert-base" else "LxmertForQuestionAnswering"
        extra = {"num_object_labels": 1600, "num_attr_labels": 400} if "base" in name else {}
        chosen = {"num_qa_labels": count, "visual_feat_dim": FEATURES, **extra, **(sizes or {})}
        repository = PUBLISHED[name].repository
        assert repository is not None
        made[repository] = published.write(folder / name, published.build(kind, **chosen))
    return made


SMALL = {
    "stem_width": 4,
    "stage_inner_widths": (2, 3, 4),
    "stage_widths": (6, 8, 10),
    "proposal_width": 7,
    "head_inner_width": 5,
    "feature_dim": FEATURES,
    "embedding_dim": 3,
    "attribute_dim": 6,
    "proposals": 40,
    "shorter_side": 120,
}
"""The widths of `detector_state`, and fewer regions of smaller images, which take less time."""


def use_small_detectors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the loader of published detectors expect the widths of `detector_state`."""
    shapes = geometry(classes=1600, attributes=400)
    load, preset = loader.load_published, DetectorConfig.preset
    monkeypatch.setattr(loader, "load_published", partial(load, shapes=shapes))
    monkeypatch.setattr(
        DetectorConfig, "preset", lambda *given, **names: preset(*given, **names).replace(**SMALL)
    )


def detector_state(shapes: dict[str, tuple[int, ...]] | None = None) -> dict[str, torch.Tensor]:
    """Return a random detector with all published classes, whose activations stay finite."""
    state = random_state(shapes=shapes or geometry(classes=1600, attributes=400))
    for name, value in state.items():
        if value.ndim > 1 and "anchor_generator" not in name:
            state[name] = value * (2 / value[0].numel()) ** 0.5
        elif name.endswith(("norm.weight", "running_var")):
            state[name] = torch.full_like(value, 0.5)
    return state


class World:
    """All published files on one server: the hub, and every other host below `/files`.

    Attributes:
        hub: the hub.
        files: other files by host and path; a missing one is a dead address.
    """

    def __init__(self, models: dict[str, Path], files: dict[str, bytes]) -> None:
        self.hub, self.files = Hub(models), Files(files)

    def __call__(self, request: object, path: str) -> None:
        if path.startswith("/files/"):
            self.files(request, path.removeprefix("/files"))  # type: ignore[arg-type]
        else:
            self.hub(request, path)  # type: ignore[arg-type]


def table_paths(server: str) -> dict[str, PublishedModel]:
    """Return the table with every address that is not on the hub led to a server."""

    def lead(url: str) -> str:
        rest = url.split("://", 1)[1].split("?")[0]
        return url if url.startswith(HUB) else f"{server}/files/{rest}"

    return {
        name: entry._replace(
            files=tuple(file._replace(urls=tuple(map(lead, file.urls))) for file in entry.files)
        )
        for name, entry in PUBLISHED.items()
    }


def published_path(name: str, address: int = 0, file: int = -1) -> str:
    """Return host and path of an address of the table, which may already lead to a server."""
    url = PUBLISHED[name].files[file].urls[address]
    return url.split("/files/" if "/files/" in url else "://", 1)[1].split("?")[0]


@contextmanager
def serve_published(
    models: dict[str, Path], files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch, cache: Path
) -> Iterator[Server]:
    """Serve published weights, and lead hub and table to that server; the caches are empty."""
    with serve(World(models, files)) as server:
        constants = huggingface_hub.constants
        template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache / "hub"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
        for name, entry in table_paths(server.url).items():
            monkeypatch.setitem(PUBLISHED, name, entry)
        yield server
