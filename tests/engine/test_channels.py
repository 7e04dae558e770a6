"""Networks of any number of channels: what is found, what is said, and that nothing differs."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from lcam_cli.engine.backbone import Backbone, load_backbone
from lcam_cli.engine.channels import Channels
from lcam_cli.engine.engine import Engine
from lcam_cli.errors import LcamError
from lcam_cli.images.preprocess import Preprocess
from lcam_cli.methods.explain import explain
from lcam_cli.networks.network import Network
from tests.tiny import SMALL

# ITU-R BT.601 as Pillow computes it: whole numbers, of which the result keeps 8 bits.
LUMA = (19595, 38470, 7471)


class Net(nn.Module):
    """Two convolutions and a linear head, the same values every time."""

    def __init__(self, channels: int, first: type[nn.Module] | None = None) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(3)
            self.norm = nn.BatchNorm2d(channels) if first is nn.BatchNorm2d else nn.Identity()
            self.features = nn.Sequential(
                nn.Conv2d(channels, 6, 3, stride=2, padding=1),
                nn.ReLU(),
                nn.Conv2d(6, 8, 3, stride=2, padding=1),
                nn.ReLU(),
            )
            self.fc = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.fc(self.features(self.norm(x)).mean((2, 3)))
        return logits


class Twin(nn.Module):
    """The same network for colour, which computes luminance by hand, of normalised images."""

    def __init__(self, mean: float, std: float) -> None:
        super().__init__()
        self.grey, self.mean, self.std = Net(1), mean, std

    def forward(self, x: Tensor) -> Tensor:
        levels = (x * self.std + self.mean) * 255
        weights = torch.tensor(LUMA, dtype=torch.float64).view(1, 3, 1, 1) / 65536
        luma = (levels.double() * weights).sum(1, keepdim=True)
        logits: Tensor = self.grey((luma.float() / 255 - self.mean) / self.std)
        return logits


def _backbone(module: nn.Module, channels: Channels | None = None, **changes: object) -> Backbone:
    settings = {"preprocess": SMALL} | changes
    network = Network(module, "net", "none:seed=3", **settings)  # type: ignore[arg-type]
    return Backbone(network, channels=channels or Channels())


def _maps(
    module: nn.Module, channels: int, pictures: list[Image.Image], method: str
) -> tuple[np.ndarray, np.ndarray]:
    """Maps and scores."""
    half = (0.5,) * channels
    backbone = _backbone(module, preprocess=Preprocess(32, 32, half, (0.25,) * channels))
    rows = list(explain(Engine(backbone, device="cpu"), method, pictures))
    return np.concatenate([batch.saliency for batch in rows]), np.concatenate(
        [batch.confidence for batch in rows]
    )


@pytest.mark.parametrize("method", ["gradcam", "layercam", "scorecam"])
def test_one_channel_equals_the_twin_that_computes_luminance(method: str) -> None:
    rng = np.random.default_rng(0)
    grey = [Image.fromarray(rng.integers(0, 256, (32, 32), np.uint8)) for _ in range(3)]
    one, two = (
        _maps(net, C, [picture.convert("RGB") for picture in grey], method)
        for net, C in ((Net(1), 1), (Twin(0.5, 0.25), 3))
    )
    # What scorecam hides is the mean colour, whose luminance is the mean.
    np.testing.assert_allclose(one[0], two[0], atol=1e-5)
    np.testing.assert_allclose(one[1], two[1], atol=1e-5)


def test_the_luminance_of_colour_is_off_by_a_grey_level_at_most() -> None:
    colour = [Image.fromarray(np.random.default_rng(1).integers(0, 256, (32, 32, 3), np.uint8))]
    half = Preprocess(32, 32, (0.5,), (0.25,))
    batch = next(iter(explain(Engine(_backbone(Net(1), preprocess=half)), "gradcam", colour)))
    by_hand = np.asarray(colour[0], np.float64) @ np.array(LUMA) / 65536
    seen = np.asarray(colour[0].convert("L"), np.float64)
    assert np.abs(seen - by_hand).max() <= 1
    # From these levels on, nothing differs.
    x = torch.from_numpy((seen / 255 - 0.5) / 0.25).float()[None, None]
    score = Net(1).eval()(x).softmax(1).max().item()
    assert float(batch.confidence[0]) == pytest.approx(score, abs=1e-5)


@pytest.mark.parametrize("channels", [1, 2, 4, 11])
@pytest.mark.parametrize("first", [None, nn.BatchNorm2d])
def test_the_number_of_channels_is_found(channels: int, first: type[nn.Module] | None) -> None:
    backbone = _backbone(Net(channels, first))
    assert backbone.preprocess.input_shape == (channels, 32, 32)
    np.testing.assert_allclose(backbone.preprocess.mean, (0.449,) * channels, atol=1e-3)
    (note,) = backbone.notes
    if channels == 1:
        assert note.startswith("net: images are normalised with ")
    else:
        assert note.startswith(
            f"net expects {channels} channels: only images with that many are read"
        )
    numbers = "mean 0.449 and standard deviation 0.226, ImageNet's averages"
    assert note.endswith(f"normalised with {numbers} (--mean, --std)")


def test_what_three_channels_fit_keeps_three() -> None:
    class FromRGB(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = Net(1)

        def forward(self, x: Tensor) -> Tensor:
            logits: Tensor = self.network(x.mean(1, keepdim=True))
            return logits

    backbone = _backbone(FromRGB())
    assert backbone.preprocess == SMALL
    assert backbone.notes == []


class Pixels(nn.Module):
    """Flattens one channel of 28×28 pixels at once, and shows no convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(28 * 28, 4)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.fc(x.flatten(1))
        return logits


def test_flattened_pixels_of_one_channel_name_their_size() -> None:
    with pytest.raises(LcamError, match=r"\(1, 1, 32, 32\)") as caught:
        _backbone(Pixels())
    assert "--image-size 28" in caught.value.hint


def test_a_source_that_knows_its_channels_is_asked_nothing() -> None:
    runs: list[int] = []

    class Counting(Net):
        def forward(self, x: Tensor) -> Tensor:
            if type(x) is Tensor:  # not while it is traced
                runs.append(x.shape[1])
            return super().forward(x)

    own = SMALL.with_channels(4)
    backbone = _backbone(Counting(4), preprocess=own)
    assert backbone.preprocess == own
    assert backbone.notes == []
    assert set(runs) == {4}
    unknown = _backbone(Net(4), preprocess=own, normalisation_known=False)
    assert unknown.notes[0].startswith("net: images are normalised with mean 0.449 and")


def test_what_the_user_says_of_channels() -> None:
    said = Channels(1, 0.5, (0.25,))
    backbone = _backbone(Net(1), said)
    assert (backbone.preprocess.mean, backbone.preprocess.std) == ((0.5,), (0.25,))
    assert backbone.notes == []
    assert _backbone(Net(3), Channels(mean=0.1)).preprocess.mean == (0.1,) * 3
    (note,) = _backbone(Net(2), Channels(mean=(0.1, 0.2))).notes
    numbers = "standard deviation 0.226, ImageNet's averages"
    assert note.endswith(f"normalised with {numbers} (--mean, --std)")
    with pytest.raises(
        LcamError, match="--mean has 2 numbers, but net expects 3 channels"
    ) as caught:
        _backbone(Net(3), Channels(mean=(0.1, 0.2)))
    assert caught.value.hint == "pass one number, or 3"
    with pytest.raises(LcamError, match="net expects 1 channel, not 4") as caught:
        _backbone(Net(1), Channels(4))
    assert caught.value.hint == "pass --channels 1, or remove it"


def test_volumes_are_refused_as_before() -> None:
    class Volumes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv3d(1, 4, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(x).mean((2, 3, 4))

    with pytest.raises(LcamError, match="network for volumes"):
        _backbone(Volumes())


def test_the_engine_takes_bytes_and_floats(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "lcam"):
        engine = Engine(_backbone(Net(2)), device="cpu")
    assert sum("expects 2 channels" in record.message for record in caplog.records) == 1
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 2), np.uint8)
    x = engine.pixels(images)
    assert x.shape == (3, 2, 32, 32)
    floats = engine.pixels((images / np.float32(255)).astype(np.float32))
    torch.testing.assert_close(x, floats)
    normalised = engine.normalise(x)
    mean, std = (torch.tensor(v).view(1, 2, 1, 1) for v in (engine.backbone.preprocess.mean,) * 2)
    std = torch.tensor(engine.backbone.preprocess.std).view(1, 2, 1, 1)
    torch.testing.assert_close(normalised, (x - mean) / std)
    torch.testing.assert_close(engine.normalise(x.contiguous()), normalised)


def test_rectangles_that_do_not_fit_name_those_that_do() -> None:
    class Flat(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.fc = nn.Conv2d(1, 2, 3, stride=4, padding=1), nn.Linear(2 * 45 * 80, 3)

        def forward(self, x: Tensor) -> Tensor:
            logits: Tensor = self.fc(self.conv(x).relu().flatten(1))
            return logits

    for size in (224, (320, 184)):
        with pytest.raises(LcamError, match="fails on a") as caught:
            load_backbone(Flat(), preprocess=Preprocess(size, 320))
        assert caught.value.hint == "pass --image-size 180x320: it expects 180×320 (rows × columns)"
    backbone = load_backbone(Flat(), preprocess=Preprocess((180, 320), 180))
    assert backbone.feature_shape == (2, 45, 80)


def test_a_network_is_tried_with_pictures_as_it_gets_them() -> None:
    """One that looks at the range of its values, as torchxrayvision's do, finds them right."""
    seen: list[tuple[float, float]] = []

    class Looks(Net):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.append((float(x.min()), float(x.max())))
            return super().forward(x)

    _backbone(Looks(1), Channels(mean=0.5, std=1 / 2048))
    low, high = min(pair[0] for pair in seen), max(pair[1] for pair in seen)
    assert -1024 <= low < -1000
    assert 1000 < high <= 1024
