"""Image features from any timm model."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn.functional import interpolate

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class BackboneConfig:
    """A timm model and how its maps become one vector."""

    name: str = "resnet50"
    """Any timm model that offers feature maps (``timm.list_models()``)."""
    weights: str = ""
    """Where it starts: random, ``timm`` (its ImageNet weights, downloaded; mind their licence), or
    a file of such weights (.safetensors)."""
    size_px: int = 224
    """Width and height of the crops."""
    pooling: Literal["average", "branches", "sampled", "strided", "joined", "grid"] = "average"
    """``average``: mean of the last map (HMR, SPIN). ``branches``: the means of all maps from
    stride 4 on, concatenated (HRNet-W32: 32+64+128+256 = 480). ``sampled`` and ``strided``: the
    same as PARE's code has it, which first samples each map at the last one's size (``interp``), or
    brings it there by convolutions (``conv``). ``joined``: the coarser maps are enlarged by
    convolutions and laid beside the first, as PARE's own network has it; the vector is the mean,
    and the joined map is the one for heatmaps. ``grid``: the last map, thinned by a 1x1 convolution
    and kept cell by cell, so that the vector knows where things are; for small networks on small
    crops."""
    grid_channels: int = 64
    """Channels kept per cell by ``grid``."""


class Backbone(nn.Module):
    """Crops -> one feature vector, and the map for heatmaps: of stride 16, or the joined one.

    Args:
        config: see `BackboneConfig`.

    Raises:
        ValueError: timm does not know the model, or it offers no feature maps; or crops whose maps
            cannot be joined.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, config: BackboneConfig):
        import timm

        super().__init__()
        self.config = config
        self.net = _build(config)
        known: Any = timm.get_pretrained_cfg(config.name)
        for name, default in (("mean", IMAGENET_MEAN), ("std", IMAGENET_STD)):
            value = torch.tensor(getattr(known, name, default)).view(1, 3, 1, 1)
            self.register_buffer(name, value, persistent=False)
        maps: Any = self.net.feature_info
        channels: list[int] = maps.channels()
        strides: list[int] = maps.reduction()
        self.map_level = max(i for i, s in enumerate(strides) if s <= 16)
        self.map_channels: int = channels[self.map_level]
        self.map_stride: int = strides[self.map_level]
        self.branches = [i for i, s in enumerate(strides) if s >= 4]
        # A plain ViT gives its residual stream, without the norm that ends it.
        self.add_norm = len(set(strides)) == 1
        if config.pooling == "grid":
            cells = -(-config.size_px // strides[-1])
            self.thin = nn.Conv2d(channels[-1], config.grid_channels, 1)
            self.out_features = config.grid_channels * cells * cells
        elif config.pooling == "joined":
            if config.size_px % strides[-1]:
                raise ValueError(
                    f"backbone, joined maps: got crops of {config.size_px} px; expected a multiple "
                    f"of {strides[-1]}, so that enlarged maps are as large as the first; change "
                    "size_px"
                )
            first, *coarser = self.branches
            steps = [(channels[i], strides[i] // strides[first]) for i in coarser]
            self.grow = nn.ModuleList(_grow(*each) for each in steps)
            self.out_features = sum(channels[i] for i in self.branches)
            self.map_channels, self.map_stride = self.out_features, strides[first]
        elif config.pooling in ("branches", "sampled", "strided"):
            self.out_features = sum(channels[i] for i in self.branches)
            if config.pooling == "strided":
                finer = [(channels[i], strides[-1] // strides[i]) for i in self.branches[:-1]]
                self.shrink = nn.ModuleList(_shrink(*each) for each in finer)
        else:
            self.out_features = channels[-1]

    def forward(
        self, frames: UInt8[Tensor, "b 3 s s"] | Float[Tensor, "b 3 s s"]
    ) -> tuple[Float[Tensor, "b f"], Float[Tensor, "b c h w"]]:
        """Features of RGB crops given as bytes, or as floats in [0, 1] (colour noise applied)."""
        return self.features(self.normalised(frames))

    def normalised(
        self, frames: UInt8[Tensor, "b 3 s s"] | Float[Tensor, "b 3 s s"]
    ) -> Float[Tensor, "b 3 s s"]:
        """RGB crops, bytes or floats in [0, 1], as the network wants its input."""
        rgb = frames / 255 if frames.dtype == torch.uint8 else frames
        return (rgb - self.mean) / self.std

    def features(
        self, inputs: Float[Tensor, "b c0 s s"]
    ) -> tuple[Float[Tensor, "b f"], Float[Tensor, "b c h w"]]:
        """Features of what `normalised` gives, or of as many channels as the net takes."""
        maps = self.net(inputs.contiguous(memory_format=_layout(inputs)))
        if self.add_norm:
            maps = [_layer_norm(m) for m in maps]
        if self.config.pooling == "grid":
            feature = self.thin(maps[-1]).flatten(1)
        elif self.config.pooling == "joined":
            first, *coarser = self.branches
            grown = [grow(maps[i]) for grow, i in zip(self.grow, coarser, strict=True)]
            joined = torch.cat([maps[first], *grown], 1)
            return joined.mean((-2, -1)), joined
        elif self.config.pooling in ("branches", "sampled", "strided"):
            branches = [self._brought(n, maps[i], maps[-1]) for n, i in enumerate(self.branches)]
            feature = torch.cat([branch.mean((-2, -1)) for branch in branches], -1)
        else:
            feature = maps[-1].mean((-2, -1))
        return feature, maps[self.map_level]

    def _brought(
        self, number: int, branch: Float[Tensor, "b c h w"], last: Float[Tensor, "b c2 h2 w2"]
    ) -> Float[Tensor, "b c h3 w3"]:
        """A branch as it is averaged."""
        if self.config.pooling == "sampled":
            size = list(last.shape[-2:])
            return interpolate(branch, size, mode="bilinear", align_corners=True)
        if self.config.pooling == "strided" and branch is not last:
            return self.shrink[number](branch)
        return branch

    def early(self, levels: int) -> list[nn.Parameter]:
        """The parameters of the first feature levels, of 5 in most networks.

        Raises:
            ValueError: fewer levels than that, or a network that does not say where they end.
        """
        info: Any = self.net.feature_info
        ends: list[str] = info.module_name()
        modules = dict(self.net.named_modules())
        if not 0 <= levels <= len(ends) or (levels and ends[levels - 1] not in modules):
            raise ValueError(
                f"backbone {self.config.name}: got {levels} levels to keep as they are; expected "
                f"0 to {len(ends)} of a network whose levels are modules ({', '.join(ends)}); "
                "use 0, or a ResNet, EfficientNet or MobileNet"
            )
        if not levels:
            return []
        last = ends[levels - 1]
        order = list(modules)
        under = [i for i, name in enumerate(order) if f"{name}.".startswith(f"{last}.")]
        names = set(order[: max(under) + 1])
        return [p for name, p in self.net.named_parameters() if name.rpartition(".")[0] in names]


def _shrink(channels: int, factor: int) -> nn.Sequential:
    """PARE's: convolutions of stride 2 until the map is so many times smaller."""
    layers: list[nn.Module] = []
    while factor > 1:
        layers += [
            nn.Conv2d(channels, channels, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
        ]
        factor //= 2
    return nn.Sequential(*layers)


def _grow(channels: int, factor: int) -> nn.Sequential:
    """PARE's: doubled and convolved until the map is so many times larger."""
    layers: list[nn.Module] = []
    while factor > 1:
        layers += [
            nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
        ]
        factor //= 2
    return nn.Sequential(*layers)


def _layout(tensor: Tensor) -> torch.memory_format:
    # Channels last is 1.5x faster for convolutions on CPU and on tensor cores.
    return torch.channels_last if tensor.dim() == 4 else torch.contiguous_format


def _layer_norm(fine_map: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
    # No weights: those of the layers that follow can do what they would.
    tokens = fine_map.permute(0, 2, 3, 1)
    return nn.functional.layer_norm(tokens, tokens.shape[-1:]).permute(0, 3, 1, 2)


def _build(config: BackboneConfig) -> nn.Module:
    import timm

    if not timm.is_model(config.name):
        near = timm.list_models(f"*{config.name.split('_')[0]}*")[:8]
        raise ValueError(
            f"backbone: got {config.name!r}; expected a timm model"
            + (f" such as {', '.join(near)}" if near else "; see timm.list_models()")
        )
    options: dict[str, Any] = {"pretrained": bool(config.weights)}
    if config.weights not in ("", "timm"):
        options["pretrained_cfg_overlay"] = {"file": str(_weights_file(config.weights))}
    if config.name.startswith("hrnet"):
        # The four branches themselves, not the wider maps of HRNet's classification head.
        options["feature_location"] = ""
    if getattr(timm.get_pretrained_cfg(config.name), "fixed_input_size", False):
        options["img_size"] = config.size_px
    try:
        net = timm.create_model(config.name, features_only=True, **options)
    except Exception as error:
        if config.weights:
            raise ValueError(
                f"backbone {config.name!r} with weights {config.weights!r}: got {error}; expected "
                "ImageNet weights of this model; give another file, or '' to start from nothing"
            ) from error
        raise ValueError(
            f"backbone {config.name!r}: got no feature maps ({error}); expected a timm model that "
            "works with features_only=True; choose a ResNet, HRNet, MobileNet, ConvNeXt or ViT"
        ) from error
    for module in net.modules():
        if isinstance(module, nn.Conv2d) and module.groups == module.in_channels:
            module.__class__ = _in_float32(type(module))
    net.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    return net


def _weights_file(name: str) -> Path:
    path = Path(name)
    if path.suffix != ".safetensors" or not path.is_file():
        raise ValueError(
            f"backbone weights: got {name!r}; expected 'timm' or a .safetensors file that exists; "
            "save other formats with safetensors first (pickles are not read)"
        )
    return path


class _InFloat32(nn.Module):
    """Mixed into a convolution: on CPU it stays in float32 under autocast.

    The backward pass of depthwise convolutions in bfloat16 takes several times as long there.
    """

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c2 h2 w2"]:
        if x.is_cuda:
            return super().forward(x)
        with torch.autocast(x.device.type, enabled=False):
            return super().forward(x.float())


@cache
def _in_float32(kind: type[nn.Conv2d]) -> type[nn.Conv2d]:
    """The same convolution (timm has several), with `_InFloat32`."""
    return type(kind.__name__, (_InFloat32, kind), {})
