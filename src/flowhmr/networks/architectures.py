"""Named architectures of the single-frame network: published ones, and light ones for a CPU.

Whatever the backbone, the network gives the same `HmrOutput`: data, losses and evaluation do not
know which one it is.

| name | backbone | parameters | features | ms an image, forward and backward |
|---|---|---|---|---|
| resnet50 | HMR's and SPIN's, 224 px | 27.0 M | 2048 | 333 (96 px: 78) |
| hrnet_w32 | PARE's, 224 px | 31.2 M | 480 | (96 px: 117) |
| lite0 | EfficientNet-Lite0, 96 px | 4.3 M | 576 | 18.1 (64 px: 11.5) |
| mobilenetv4 | MobileNetV4 small, 96 px | 2.7 M | 576 | 10.8 (64 px: 5.1) |
| vit_tiny | ViT-Ti/16, 224 px | 6.7 M | 192 | 145 (96 px: 22.7, 64 px: 12.1) |

Measured by ``python benchmarks/backbones.py --rounds 2``: the whole network, float32, batches of
16, processor time on one core of a busy AMD EPYC.
"""

from dataclasses import replace

from flowhmr.networks.backbone import BackboneConfig
from flowhmr.networks.hmr import HmrConfig

STRIDE_PX = 32
"""Crops are a whole number of the coarsest maps' cells wide."""


def _light(backbone: BackboneConfig) -> HmrConfig:
    # What the shipped network was trained with: dense maps, little dropout, a narrow regressor.
    return HmrConfig(backbone, hidden=512, dropout=0.1, activation=True, maps=True)


ARCHITECTURES: dict[str, HmrConfig] = {
    # HMR and SPIN.
    "resnet50": HmrConfig(BackboneConfig("resnet50", size_px=224)),
    # The mean of each branch. PARE's code averages 7x7 samples of each, or convolutions: see
    # `BackboneConfig.pooling`; networks read from its checkpoints do as it does.
    "hrnet_w32": HmrConfig(BackboneConfig("hrnet_w32", size_px=224, pooling="branches")),
    "lite0": _light(BackboneConfig("tf_efficientnet_lite0", size_px=96, pooling="grid")),
    "mobilenetv4": _light(BackboneConfig("mobilenetv4_conv_small", size_px=96, pooling="grid")),
    "vit_tiny": _light(BackboneConfig("vit_tiny_patch16_224", size_px=224)),
}
"""Each with the crops that it was made for. All start from random weights; see
`BackboneConfig.weights`."""


def architecture(name: str, size_px: int | None = None) -> HmrConfig:
    """A named architecture.

    Args:
        name: a key of `ARCHITECTURES`.
        size_px: width and height of the crops, a multiple of 32; those of the table by default.

    Raises:
        ValueError: no such name, or a size that the maps do not divide.
    """
    if name not in ARCHITECTURES:
        raise ValueError(
            f"architecture: got {name!r}; expected one of {', '.join(ARCHITECTURES)}; for any "
            "other timm model write an HmrConfig"
        )
    config = ARCHITECTURES[name]
    if size_px is None:
        return config
    if size_px < STRIDE_PX or size_px % STRIDE_PX:
        near_px = max(1, round(size_px / STRIDE_PX)) * STRIDE_PX
        raise ValueError(
            f"architecture {name}: got crops of {size_px} px; expected a multiple of {STRIDE_PX}; "
            f"take {near_px}"
        )
    return replace(config, backbone=replace(config.backbone, size_px=size_px))
