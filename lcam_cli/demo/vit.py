"""A small vision transformer for the demo's images, to try transformer methods on.

It is torchvision's own class: a stem of convolutions makes 8×8 patches of 96 channels, four blocks
attend over them and a class token, and a linear layer reads the class token. It knows the same
classes as the demo's CNN, from images prepared alike. Its weights ship with the package;
``make_vit_weights`` made them. It learned the planted shortcut to the full: water is a boat to it,
and a boat ashore is none.
"""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import load_file
from torch.random import fork_rng
from torchvision.models.vision_transformer import ConvStemConfig, VisionTransformer

from lcam_cli.demo.network import CLASSES, IMAGE_SIZE

WEIGHTS_FILE = Path(__file__).with_name("vit.safetensors")
"""In half precision: half the size, and logits differ by a thousandth."""


def demo_vit() -> VisionTransformer:
    """Build the network with random weights (torch's global generator)."""
    return VisionTransformer(
        image_size=IMAGE_SIZE,
        patch_size=16,  # what the strides of the stem come to
        num_layers=4,
        num_heads=4,
        hidden_dim=96,
        mlp_dim=192,
        num_classes=len(CLASSES),
        # Convolutions see edges from few images; square patches would need many more.
        conv_stem_configs=[
            ConvStemConfig(32, kernel_size=7, stride=4),
            ConvStemConfig(64, kernel_size=3, stride=2),
            ConvStemConfig(96, kernel_size=3, stride=2),
        ],
    )


def load_demo_vit() -> VisionTransformer:
    """Return the network with its weights, on the CPU, float32, in eval mode."""
    with fork_rng(devices=[]):  # what the random weights draw is not missing elsewhere
        network = demo_vit()
    network.load_state_dict(load_file(WEIGHTS_FILE))  # copied into float32
    return network.eval()
