"""What a program has at hand: a live network, images in memory, a method's name."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from lcam_cli import Engine, LcamError, explain, load_backbone
from lcam_cli.images.channels import pixels_of
from lcam_cli.images.inputs import pictures_of
from lcam_cli.images.picture import Picture
from lcam_cli.maps.record import MapBatch
from tests.tiny import SMALL, tiny_backbone, tiny_network


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine(tiny_backbone(), device="cpu", batch_size=4)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    picture = Image.fromarray(rng.integers(0, 256, (40, 50, 3), np.uint8))
    picture.save(tmp_path / "a.png")
    return tmp_path / "a.png"


def explained(engine: Engine, pictures: object) -> MapBatch:
    (batch,) = explain(engine, "gradcam", pictures)
    return batch


def test_whatever_a_picture_is_its_map_is_the_same(engine: Engine, path: Path) -> None:
    with Image.open(path) as opened:
        opened.load()
    array = np.asarray(opened)
    tensor = torch.from_numpy(array.copy()).permute(2, 0, 1)
    expected = explained(engine, [str(path)])
    floats = array.astype(np.float32) / 255
    deep = explained(engine, floats)
    # Of 8 bits the image is rounded once more where it is resized.
    np.testing.assert_allclose(deep.saliency, expected.saliency, atol=0.05)
    for equal, givens in (
        (
            expected,
            [
                str(path),
                path,
                path.parent,
                [path.parent],
                opened,
                opened.convert("RGBA"),
                array,
                array.astype(np.int64),
                array[None],
                tensor,
                iter([array]),
                np.array([str(path)]),
            ],
        ),
        (deep, [floats, floats[None], tensor / 255]),
    ):
        for given in givens:
            batch = explained(engine, given)
            np.testing.assert_array_equal(batch.saliency, equal.saliency)
            np.testing.assert_array_equal(batch.crop_box, equal.crop_box)
            assert batch.confidence.tolist() == equal.confidence.tolist()
    for given in (
        array.astype(np.float64) / 255,
        array.astype(np.uint16) * 257,
        tensor[None].double() / 255,
    ):
        batch = explained(engine, given)
        np.testing.assert_allclose(batch.saliency, deep.saliency, atol=1e-3)
        np.testing.assert_allclose(batch.confidence, deep.confidence, atol=1e-5)


def test_several_keep_their_order_and_have_names(engine: Engine, path: Path) -> None:
    dark, light = np.zeros((40, 40, 3), np.uint8), np.full((40, 40, 3), 255, np.uint8)
    given = [dark, path, torch.ones(2, 3, 32, 32), "gone.png"]
    batch, rest = explain(engine, "gradcam", given)
    assert batch.paths == ["image 0", str(path), "image 2", "image 3"]
    assert [one.path for one in rest.skipped] == ["gone.png"]
    one = explained(engine, light)
    np.testing.assert_allclose(batch.confidence[2], one.confidence[0], atol=1e-6)


def test_grey_and_turned_pictures() -> None:
    grey = np.arange(12, dtype=np.uint8).reshape(3, 4)
    for given in (grey, grey[..., None], torch.from_numpy(grey), torch.from_numpy(grey)[None]):
        (picture,) = pictures_of(given)
        np.testing.assert_array_equal(rgb(picture), np.stack([grey] * 3, 2))
    (mask,) = pictures_of(grey > 5)
    assert set(np.unique(rgb(mask))) == {0, 255}
    turned = Image.fromarray(grey)
    turned.getexif()[0x0112] = 6
    (picture,) = pictures_of(turned)
    assert rgb(picture).shape == (4, 3, 3)


def rgb(picture: str | Picture) -> np.ndarray:
    assert isinstance(picture, Picture)
    return pixels_of(picture)[0].as_rgb()


def test_arrays_of_other_channels_and_windows() -> None:
    many = np.random.default_rng(0).random((6, 5, 11))
    for given in (many, many[None], torch.from_numpy(many).permute(2, 0, 1)):
        (picture,) = pictures_of(given, channels=11)
        assert isinstance(picture, Picture)
        seen = pixels_of(picture, 11)[0].changed(lambda plane: plane.crop((0, 0, 5, 6)))
        np.testing.assert_allclose(seen, many, atol=1e-6)
    with pytest.raises(
        LcamError, match=r"an array of shape \(6, 5, 11\) is not an image"
    ) as caught:
        pictures_of(many)
    assert caught.value.hint.startswith("pass (H, W, 3), or (N, H, W, 3)")
    hounsfield = np.array([[-1024, 0, 3000]], np.int16)
    with pytest.raises(LcamError, match="values from -1024 to 3000"):
        pictures_of(hounsfield)
    (picture,) = pictures_of(hounsfield, 1, (-1000, 1000))
    assert isinstance(picture, Picture)
    pixels, _ = pixels_of(picture, 1, (-1000, 1000))
    seen = pixels.changed(lambda plane: plane.crop((0, 0, 3, 1)))
    assert seen[0, :, 0].tolist() == [0, 0.5, 1]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (torch.randn(3, 32, 32), "values from -"),
        (np.full((4, 4, 3), 255.0), "values from 255 to 255"),
        (np.full((4, 4), np.nan), "values from nan"),
        (np.full((4, 4), 300), "values from 300"),
        (np.zeros((3, 32, 32)), r"an array of shape \(3, 32, 32\) is not an image"),
        (np.zeros((0, 4, 3)), "is not an image"),
        (torch.zeros(32, 32, 3), r"a tensor of shape \(32, 32, 3\) is not an image"),
        (torch.zeros(3), "a tensor of shape"),
    ],
)
def test_what_is_no_picture_is_told(engine: Engine, given: object, told: str) -> None:
    with pytest.raises(LcamError, match=told) as caught:
        explained(engine, given)
    assert "pass" in caught.value.hint


def test_other_types_are_told(engine: Engine, path: Path) -> None:
    for given in (3, {"a": 1}, b"bytes", [None]):
        with pytest.raises(TypeError, match="an image is a path, a folder, a Pillow image"):
            explained(engine, given)
    with pytest.raises(TypeError, match=r"explain needs an Engine, not a Sequential"):
        next(iter(explain(tiny_network(), "gradcam", path)))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"a backbone is a name or a torch.nn.Module, not a int"):
        load_backbone(3)  # type: ignore[arg-type]
    with pytest.raises(LcamError, match="unknown method 'grad-cam'"):
        next(iter(explain(engine, "grad-cam", path)))
    with pytest.raises(LcamError, match="lcam-img comes from training"):
        next(iter(explain(engine, "lcam-img", path)))


def test_a_live_network_is_copied_and_known_by_its_state(path: Path) -> None:
    module = nn.Sequential(
        nn.Conv2d(3, 5, 3, 2, 1, bias=False),
        nn.BatchNorm2d(5),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(5, 4),
    ).train()
    module[1].num_batches_tracked = None  # a step count, as of old checkpoints, which have none
    before = copy.deepcopy(module.state_dict())
    backbone = load_backbone(module, preprocess=SMALL, classes=["a", "b", "c", "d"])
    assert backbone.identity.name == "Sequential"
    assert backbone.identity.weights.startswith("sha256:")
    batch = explained(Engine(backbone, device="cpu"), path)
    assert batch.class_names[0] in "abcd"
    # The caller's goes on being trained: same layers, same values, still in training mode.
    assert module.training
    assert isinstance(module[1], nn.BatchNorm2d)
    assert all(parameter.requires_grad for parameter in module.parameters())
    for name, tensor in module.state_dict().items():
        assert torch.equal(tensor, before[name])
    again = load_backbone(module, preprocess=SMALL)
    assert again.identity == backbone.identity
    with torch.no_grad():
        module[5].bias += 1
    assert load_backbone(module, preprocess=SMALL).identity != backbone.identity
    with pytest.raises(LcamError, match="a Sequential contains its weights"):
        load_backbone(module, "none")


def test_an_engine_takes_a_live_network(path: Path) -> None:
    engine = Engine(tiny_network(), device="cpu")
    assert engine.backbone.identity.name == "Sequential"
    assert explained(engine, path).saliency.shape == (1, 224, 224)
    module = tiny_network()
    module.handle = (path for _ in ())  # type: ignore[assignment]
    with pytest.raises(LcamError, match="the Sequential cannot be copied: TypeError") as caught:
        Engine(module)
    assert "file.py:function" in caught.value.hint
