"""The split at the target layer, on one network of every CNN family of torchvision."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lcam_cli.engine.backbone import Backbone, load_backbone
from lcam_cli.errors import LcamError
from lcam_cli.networks.network import Network

# name -> (layer found automatically, K, P, Q at the default input size)
FAMILIES = {
    "alexnet": ("features.11", 256, 13, 13),
    "vgg16": ("features.29", 512, 14, 14),
    "resnet50": ("layer4", 2048, 7, 7),
    "densenet121": ("features.norm5", 1024, 7, 7),
    "googlenet": ("inception5b", 1024, 7, 7),
    "inception_v3": ("Mixed_7c", 2048, 8, 8),
    "squeezenet1_1": ("features.12", 512, 13, 13),
    "mobilenet_v2": ("features.18", 1280, 7, 7),
    "mobilenet_v3_small": ("features.12", 576, 7, 7),
    "shufflenet_v2_x0_5": ("conv5", 1024, 7, 7),
    "mnasnet0_5": ("layers.16", 1280, 7, 7),
    "efficientnet_b0": ("features.8", 1280, 7, 7),
    "efficientnet_v2_s": ("features.7", 1280, 12, 12),
    "regnet_y_400mf": ("trunk_output", 440, 7, 7),
    "convnext_tiny": ("features.7", 768, 7, 7),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_is_split_at_its_last_convolutional_features(name: str) -> None:
    backbone = load_backbone(name, "none")
    layer, *shape = FAMILIES[name]
    assert backbone.identity.layer == layer
    assert backbone.feature_shape == tuple(shape)
    assert backbone.is_split
    side = backbone.preprocess.image_size
    assert side == {"inception_v3": 299, "efficientnet_v2_s": 384}.get(name, 224)
    x = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(1))
    whole = backbone(x)
    A, logits, around = backbone.forward(x)
    before = A.clone()
    small = 1e-5 * max(1.0, float(whole.abs().max()))  # Inception's random logits reach 1e12
    torch.testing.assert_close(logits, whole, rtol=1e-4, atol=small)
    torch.testing.assert_close(backbone.head(A, around), whole, rtol=1e-4, atol=small)
    assert torch.equal(A, before), "the head changed A in place"
    torch.testing.assert_close(backbone.features(x), A)
    # The head really looks at A: other feature maps give other scores.
    assert not torch.allclose(backbone.head(A * 0.5 + 1, around), whole)


def test_vgg16_layer_after_the_last_max_pool() -> None:
    backbone = load_backbone("vgg16", "none", layer="features.30")
    assert backbone.feature_shape == (512, 7, 7)


def test_random_weights_are_the_same_network_every_time() -> None:
    first, second, other = (load_backbone("squeezenet1_1", "none", seed=s) for s in (3, 3, 4))
    x = torch.rand(1, 3, 224, 224)
    assert first.identity.weights == "none:seed=3"
    assert torch.equal(first(x), second(x))
    assert not torch.equal(first(x), other(x))
    assert first.identity == second.identity != other.identity


class _Untraceable(nn.Module):
    """Python control flow on values, which no trace follows."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1, stride=4)
        self.inner = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.ReLU(inplace=True))
        self.fc = nn.Linear(4, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.inner(self.stem(x))
        if x.mean() > 1e6:
            x = x * 2
        return self.fc(x.mean((2, 3)))


def test_what_cannot_be_split_is_run_whole_with_a_hook() -> None:
    torch.manual_seed(0)
    backbone = Backbone(Network(_Untraceable(), "own", "none"), "inner")
    assert not backbone.is_split
    x = torch.rand(2, 3, 224, 224)
    A, logits, around = backbone.forward(x)
    torch.testing.assert_close(logits, backbone(x))
    torch.testing.assert_close(backbone.features(x), A)
    torch.testing.assert_close(backbone.head(A, around), logits)
    assert not torch.allclose(backbone.head(A + 1, around), logits)
    assert backbone.class_names == ["0", "1", "2", "3", "4"]


def test_the_head_is_linear_only_where_it_pools_and_multiplies() -> None:
    backbone = load_backbone("mobilenet_v2", "none")
    linear = backbone.linear_head()
    assert linear is not None
    assert linear.weight.shape == (1000, 1280)
    assert load_backbone("squeezenet1_1", "none").linear_head() is None
    # VGG's last layer is linear too, but not on pooled features; ReLU comes after DenseNet's norm5.
    assert load_backbone("alexnet", "none").linear_head() is None


def test_unknown_names_say_which_exist() -> None:
    with pytest.raises(LcamError, match=r"did you mean .*resnet50"):
        load_backbone("resnet5O", "none")
    with pytest.raises(LcamError, match=r"no layer 'layer5'") as caught:
        load_backbone("resnet18", "none", layer="layer5")
    assert "layer4" in caught.value.hint
    with pytest.raises(LcamError, match="not feature maps"):
        load_backbone("resnet18", "none", layer="fc")
    with pytest.raises(LcamError, match="unknown weights 'IMAGENET'"):
        load_backbone("resnet18", "IMAGENET")


def test_classes_are_found_by_name_and_index() -> None:
    backbone = load_backbone("squeezenet1_1", "none")
    assert backbone.class_index("Goldfish") == 1
    assert backbone.class_index("1") == 1
    with pytest.raises(LcamError, match="there is no class named 'goldfisch'") as caught:
        backbone.class_index("goldfisch")
    assert "goldfish" in caught.value.hint
    with pytest.raises(LcamError, match="out of range"):
        backbone.class_index("1000")
    # A dog and a jacket.
    assert backbone.class_names[backbone.class_index("cardigan")] == "cardigan"
    assert backbone.class_names[backbone.class_index("Cardigan")] == "Cardigan"
    with pytest.raises(LcamError, match="'CARDIGAN' is the name of classes 264 and 474") as caught:
        backbone.class_index("CARDIGAN")
    assert caught.value.hint == "pass the index"
    cranes = load_backbone("squeezenet1_1", "none", classes=["crane"] * 3 + ["x"] * 997)
    with pytest.raises(LcamError, match="'crane' is the name of classes 0, 1 and 2"):
        cranes.class_index("crane")
    with pytest.raises(LcamError, match="2 class names for 1000 classes"):
        load_backbone("squeezenet1_1", "none", classes=["a", "b"])
