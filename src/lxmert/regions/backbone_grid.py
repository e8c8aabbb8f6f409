"""Grid features of a classification network: each cell of its last feature map is a region.

Legend: `side` pixels of the resized image; `rows` and `columns` of the feature map.
"""

from collections.abc import Iterable, Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import torchvision  # type: ignore[import-untyped]
from huggingface_hub import try_to_load_from_cache
from pydantic import Field
from torch import Tensor, fx, nn

from lxmert.records import Items, Number, Positive, Record
from lxmert.regions.cells import CellLayout, Interpolation
from lxmert.regions.checkpoints import DOWNLOAD, read_torchvision
from lxmert.regions.folders import load_state, load_weights, read_config
from lxmert.regions.single_image import CellExtractor

BACKBONE_GRID_TYPE: Literal["backbone-grid"] = "backbone-grid"

_three = Field(min_length=3, max_length=3)
_OTHER_INPUT = ("googlenet", "inception_v3")
"""With trained weights, these networks normalize the pixels a second time."""


Library = Literal["torchvision", "timm"]

_TORCHVISION = ("resnet50", "resnet101", "convnext_tiny", "resnet34", "resnet18")
_TIMM = (
    "convnext_tiny.in12k_ft_in1k",
    "resnet50.a1_in1k",
    "vit_base_patch16_224.augreg2_in21k_ft_in1k",
    "vit_small_patch16_224.augreg_in21k_ft_in1k",
    "resnet18.a1_in1k",
)
_TIMM_FILE = "model.safetensors"


def find_backbone() -> tuple[Library, str] | None:
    """Return a network whose weights were downloaded before: its library and its name there.

    Networks of timm are found in the cache of the hub, if timm is installed.
    """
    for name in _TORCHVISION:
        if torchvision_weights(name)[1].is_file():
            return "torchvision", name
    if find_spec("timm"):
        for name in _TIMM:
            if isinstance(try_to_load_from_cache(f"timm/{name}", _TIMM_FILE), str):
                return "timm", name
    return None


def torchvision_weights(name: str) -> tuple[str, Path]:
    """Return the URL of the weights that torchvision recommends, and their place in its cache."""
    url: str = torchvision.models.get_model_weights(name).DEFAULT.url
    return url, Path(torch.hub.get_dir(), "checkpoints", url.rpartition("/")[2])


class BackboneGridConfig(Record):
    """Configuration of a backbone grid; saved as `config.json` next to the weights.

    Attributes:
        model_type: kind of extractor.
        library: source of the network, "torchvision" or "timm".
        model: name of the network in that library.
        side: images are stretched to this height and width, regardless of their shape.
        interpolation: "bilinear" or "bicubic", with antialiasing.
        pixel_mean: subtracted from RGB values in `[0, 1]`.
        pixel_std: divisor after the subtraction.
    """

    model_type: Literal["backbone-grid"] = BACKBONE_GRID_TYPE
    library: Library
    model: str
    side: Annotated[int, Field(ge=1, le=4096)]
    interpolation: Interpolation
    pixel_mean: Annotated[Items[Number], _three]
    pixel_std: Annotated[Items[Positive], _three]


class BackboneGridExtractor(CellExtractor):
    """A classification network without its classifier: images in, grid cells out.

    Args:
        network: maps pixels `[batch, 3, side, side]` to `[batch, feature_dim, rows, columns]`, as
            built by `from_torchvision` and `from_timm`; it is put into evaluation mode.
        config: preprocessing, and the source of the network.
        device: where to compute.
    """

    config: BackboneGridConfig

    def __init__(
        self, network: nn.Module, config: BackboneGridConfig, *, device: str = "cpu"
    ) -> None:
        super().__init__(network.requires_grad_(requires_grad=False), config, device=device)
        blank = torch.zeros(1, config.side, config.side, 3, dtype=torch.uint8)
        with torch.inference_mode():
            _, feature_dim, rows, columns = self._map(blank.to(self.device)).shape
        self.layout = CellLayout(
            height=config.side,
            width=config.side,
            interpolation=config.interpolation,
            rows=rows,
            columns=columns,
            feature_dim=feature_dim,
        )

    @classmethod
    def from_torchvision(
        cls,
        name: str,
        *,
        weights: str | Path | None = None,
        side: int | None = None,
        device: str = "cpu",
    ) -> "BackboneGridExtractor":
        """Build an extractor from a torchvision classification network, cut before its pooling.

        Args:
            name: such as "resnet50", "convnext_tiny" or "swin_t"; see
                `torchvision.models.list_models(module=torchvision.models)`.
            weights: a weights file, with or without the classifier; "DEFAULT" downloads the weights
                that torchvision recommends. None: random weights.
            side: side of the resized image. None: that of the recommended weights.
            device: where to compute.

        Raises:
            ValueError: if the network is unknown, does not pool a feature map, or the weights do
                not fit.
        """
        names = torchvision.models.list_models(module=torchvision.models)
        if name not in names or name in _OTHER_INPUT:
            raise ValueError(
                f"the network is {name!r}; expected a classification network of torchvision that "
                f"pools a feature map, one of {', '.join(sorted({*names} - {*_OTHER_INPUT}))}"
            )
        recommended = torchvision.models.get_model_weights(name).DEFAULT
        transforms = recommended.transforms()
        config = BackboneGridConfig(
            library="torchvision",
            model=name,
            side=side or transforms.crop_size[0],
            interpolation=transforms.interpolation.value,
            pixel_mean=tuple(transforms.mean),
            pixel_std=tuple(transforms.std),
        )
        network = torchvision.models.get_model(name, weights=None)
        trunk = _cut(network, name)
        if weights is not None:
            state = read_torchvision(recommended, weights)
            _fill(trunk, state, unused=network.state_dict().keys(), source=str(weights))
        return cls(trunk, config, device=device)

    @classmethod
    def from_timm(
        cls,
        name: str,
        *,
        weights: str | Path | None = None,
        device: str = "cpu",
    ) -> "BackboneGridExtractor":
        """Build an extractor from a timm network: its last feature map, or a transformer's patches.

        Args:
            name: such as "resnet50.a1_in1k" or "vit_base_patch16_224".
            weights: a weights file; "DEFAULT" downloads the weights of that name. None: random.
            device: where to compute.

        Raises:
            ImportError: if timm is not installed.
            ValueError: if the network is unknown.
        """
        trunk = _TimmTrunk(name, weights)
        settings = trunk.net.pretrained_cfg
        config = BackboneGridConfig(
            library="timm",
            model=name,
            side=settings["input_size"][-1],
            interpolation=settings["interpolation"],
            pixel_mean=tuple(settings["mean"]),
            pixel_std=tuple(settings["std"]),
        )
        return cls(trunk, config, device=device)

    @classmethod
    def from_library(
        cls, library: Library, name: str, *, weights: str | Path | None = None
    ) -> "BackboneGridExtractor":
        """Build an extractor from a network of either library, as found by `find_backbone`."""
        build = cls.from_torchvision if library == "torchvision" else cls.from_timm
        return build(name, weights=weights)

    @classmethod
    def from_pretrained(cls, path: str | Path, *, device: str = "cpu") -> "BackboneGridExtractor":
        """Load a folder that `save_pretrained` wrote.

        Raises:
            FileNotFoundError: if a file is missing.
            ValueError: if the configuration or the weights do not belong to this kind of extractor.
        """
        config = read_config(Path(path), BackboneGridConfig)
        if config.library == "timm":
            trunk: nn.Module = _TimmTrunk(config.model, None)
        else:
            trunk = _cut(torchvision.models.get_model(config.model, weights=None), config.model)
        load_weights(Path(path), trunk)
        return cls(trunk, config, device=device)

    def describe(self, pixels: Tensor) -> Tensor:
        """Return the features `[batch, cells, feature_dim]` of stretched images."""
        # [batch, feature_dim, rows, columns] -> [batch, cells, feature_dim]
        return self._map(pixels).flatten(2).transpose(1, 2).contiguous()

    def _map(self, pixels: Tensor) -> Tensor:
        """Return the feature maps of stretched images."""
        # [batch, side, side, 3] -> [batch, 3, side, side]
        values = pixels.permute(0, 3, 1, 2).float() / 255
        mean, deviation = (
            torch.tensor(part, device=pixels.device).view(3, 1, 1)
            for part in (self.config.pixel_mean, self.config.pixel_std)
        )
        feature_map: Tensor = self.network((values - mean) / deviation)
        return feature_map


class _TimmTrunk(nn.Module):
    """A timm network up to its last feature map."""

    def __init__(self, name: str, weights: str | Path | None) -> None:
        super().__init__()
        try:
            timm = import_module("timm")
        except ImportError as error:
            raise ImportError(
                f"the network {name!r} needs timm, which is not installed: pip install lxmert[timm]"
            ) from error
        if not timm.is_model(name):
            raise ValueError(
                f"the network is {name!r}; expected a name listed by timm.list_models()"
            )
        local = weights is not None and weights != DOWNLOAD
        self.net: Any = timm.create_model(
            name,
            pretrained=weights is not None,
            pretrained_cfg_overlay={"file": str(weights)} if local else None,
            features_only=True,
            out_indices=(-1,),
        )
        self.width: int = self.net.feature_info.channels()[-1]

    def forward(self, pixels: Tensor) -> Tensor:
        """Return `[batch, feature_dim, rows, columns]`."""
        (feature_map,) = self.net(pixels)
        # Some networks return channels-last maps.
        last = feature_map.shape[1] != self.width
        planes: Tensor = feature_map.permute(0, 3, 1, 2) if last else feature_map
        return planes


def _cut(network: nn.Module, name: str) -> nn.Module:
    """Return the network up to its last pooling of a feature map; parameter names are kept."""
    traced = fx.symbolic_trace(network.eval())
    modules = dict(traced.named_modules())
    poolings = [node for node in traced.graph.nodes if _pools(node, modules)]
    if not poolings:
        raise ValueError(
            f"the network {name!r} does not pool a feature map, so it has no grid of cells; use "
            "another one, such as 'resnet50', or a transformer with `from_timm`"
        )
    (output,) = (node for node in traced.graph.nodes if node.op == "output")
    output.args = (poolings[-1].args[0],)
    traced.graph.eliminate_dead_code()
    traced.delete_all_unused_submodules()
    traced.recompile()
    return traced


def _pools(node: fx.Node, modules: Mapping[str, nn.Module]) -> bool:
    """Return whether a graph node pools a map to one cell, in one of three forms."""
    if node.op == "call_module":
        return isinstance(modules[str(node.target)], nn.AdaptiveAvgPool2d)
    if node.op == "call_method":
        return node.target == "mean" and node.args[1:] == ([2, 3],)
    return node.target is nn.functional.adaptive_avg_pool2d


def _fill(
    module: nn.Module, state: Mapping[str, Tensor], *, unused: Iterable[str], source: str
) -> None:
    """Load weights, ignoring those of the removed classifier."""
    spare = set(unused) - module.state_dict().keys()
    load_state(
        module,
        {name: values for name, values in state.items() if name not in spare},
        f"the weights {source} do not fit this network; expected a file that torchvision "
        "published for it, or its `state_dict()`",
    )
