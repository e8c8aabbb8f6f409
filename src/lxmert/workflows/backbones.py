"""Pretrained networks whose features photographs are tried with: found, downloaded, prepared."""

import logging
from itertools import islice
from pathlib import Path

from huggingface_hub import constants

from lxmert.downloading import Remote, download
from lxmert.files import sha256
from lxmert.model.pretrained import one_line
from lxmert.regions.backbone_grid import (
    BackboneGridExtractor,
    Library,
    find_backbone,
    torchvision_weights,
)
from lxmert.regions.checkpoints import DOWNLOAD
from lxmert.regions.configuration import CONFIG_NAME
from lxmert.weight_files import DAMAGE

_DOWNLOADED: tuple[Library, str] = ("torchvision", "resnet50")
"""Downloaded if no network is at hand."""

_PHOTOGRAPHS = {".jpg", ".jpeg", ".heic", ".heif"}
_DRAWINGS = {".png", ".gif", ".bmp"}
_MOST_FILES = 1000

_logger = logging.getLogger(__name__)


def suits_backbone(images: Path) -> bool:
    """Return whether a pretrained network should be tried with the images of a folder.

    It should if its weights are at hand; or if it may be downloaded, and more of the first 1,000
    files have the format of photographs than that of drawings.
    """
    if find_backbone() is not None:
        return True
    if constants.HF_HUB_OFFLINE:
        return False
    suffixes = [path.suffix.lower() for path in islice(images.rglob("*.*"), _MOST_FILES)]
    photographs = sum(suffix in _PHOTOGRAPHS for suffix in suffixes)
    return photographs > sum(suffix in _DRAWINGS for suffix in suffixes)


def save_backbone(folder: Path) -> str:
    """Make a region extractor of a pretrained network, unless the folder has one.

    If no network is at hand, torchvision's resnet50 is downloaded into the cache of torch.

    Returns:
        Why it cannot be made; empty if it was.
    """
    if (folder / CONFIG_NAME).is_file():
        return ""
    found = find_backbone()
    library, name = found or _DOWNLOADED
    _logger.info("backbone: grid features of %s's %s, trained on ImageNet", library, name)
    try:
        if found is None:
            _download(name)
        extractor = BackboneGridExtractor.from_library(library, name, weights=DOWNLOAD)
        extractor.save_pretrained(folder)
    except (OSError, *DAMAGE) as problem:
        return f"the weights of {library}'s {name} cannot be used ({one_line(problem)})"
    return ""


def _download(name: str) -> None:
    """Download the weights that torchvision recommends for a network into the cache of torch.

    Raises:
        OSError: if no server delivers them, or with another checksum than in their name.
    """
    url, path = torchvision_weights(name)
    if constants.HF_HUB_OFFLINE:
        raise OSError(f"HF_HUB_OFFLINE forbids downloads: download {url} to {path}")
    _logger.info("backbone: downloading %s", url)
    download(Remote(path.name, (url,)), path, otherwise=f"put it into {path.parent}")
    expected = path.stem.rpartition("-")[2]
    if not (found := sha256(path)).startswith(expected):
        path.unlink()
        raise OSError(f"{url} sent a file with the SHA-256 {found}, expected {expected}...")
