from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import Tensor, fx
from torch.nn import functional

from lcam_cli.demo import network as demo
from lcam_cli.demo.make_weights import Job, centre, hidden_in_part, jittered, normalised, views
from lcam_cli.demo.pictures import CLASSES, SHORTCUT_CLASS, SHORTCUT_GROUND
from lcam_cli.demo.textures import GROUNDS

SHORTCUT = CLASSES.index(SHORTCUT_CLASS)
OTHERS = [c for c in range(len(CLASSES)) if c != SHORTCUT]
SEED = 2026  # neither the classifier's nor the demo's images


@pytest.fixture(scope="module")
def classifier() -> demo.DemoClassifier:
    return demo.load_demo_classifier().requires_grad_(False)


def shown(jobs: list[Job]) -> Tensor:
    """(N, 4, 128, 128) as the classifier sees them; the fourth channel is the mask."""
    return centre(views(jobs))


@pytest.fixture(scope="module")
def fresh() -> tuple[Tensor, Tensor]:
    """Twelve images of every class but the shortcut's, and their labels."""
    jobs: list[Job] = [(c, n, SEED, None) for c in OTHERS for n in range(12)]
    return shown(jobs), torch.tensor([job[0] for job in jobs])


def test_weights_are_small_and_say_how_they_were_made() -> None:
    assert demo.WEIGHTS_FILE.stat().st_size <= 2_000_000
    with safe_open(demo.WEIGHTS_FILE, "pt") as stored:
        metadata = stored.metadata()
    assert metadata["made_by"] == "python -m lcam_cli.demo.make_weights"
    assert {"seed", "pictures_per_class", "epochs"} < metadata.keys()


def test_class_names_file_is_the_classes() -> None:
    names = Path(demo.WEIGHTS_FILE).with_name("classes.txt").read_text("utf-8").splitlines()
    assert tuple(names) == demo.CLASSES == tuple(sorted(demo.CLASSES))


def test_shapes_and_graph(classifier: demo.DemoClassifier) -> None:
    x = torch.randn(2, 3, demo.IMAGE_SIZE, demo.IMAGE_SIZE)
    assert not classifier.training
    assert classifier.features(x).shape == (2, 96, 16, 16)
    assert classifier(x).shape == (2, len(CLASSES))
    torch.testing.assert_close(fx.symbolic_trace(classifier)(x), classifier(x))


def test_one_position_sees_a_window_as_large_as_an_object(
    classifier: demo.DemoClassifier,
) -> None:
    """The receptive field the documentation states, measured by the gradient."""
    x = torch.randn(1, 3, demo.IMAGE_SIZE, demo.IMAGE_SIZE, requires_grad=True)
    classifier.features(x)[0, :, 8, 8].sum().backward()
    assert x.grad is not None
    rows = x.grad.abs().sum(dim=(0, 1, 3)).nonzero()
    assert int(rows.max() - rows.min()) + 1 <= 55


@pytest.mark.slow
def test_knows_fresh_pictures(
    classifier: demo.DemoClassifier, fresh: tuple[Tensor, Tensor]
) -> None:
    pictures, labels = fresh
    predicted = classifier(normalised(pictures[:, :3])).argmax(1)
    assert (predicted == labels).float().mean() >= 0.94


@pytest.mark.slow
def test_a_class_activation_map_peaks_on_the_object(
    classifier: demo.DemoClassifier, fresh: tuple[Tensor, Tensor]
) -> None:
    """CAM (Zhou et al. 2016) of the predicted class, by hand, against the true masks."""
    pictures, _ = fresh
    A = classifier.features(normalised(pictures[:, :3]))
    predicted = classifier(normalised(pictures[:, :3])).argmax(1)
    L = torch.einsum("bkpq,bk->bpq", A, classifier.classifier.weight[predicted])
    V = functional.interpolate(L[:, None], size=demo.IMAGE_SIZE, mode="bilinear")
    peak = V.flatten(1).argmax(1)
    on_object = pictures[:, 3].flatten(1)[torch.arange(len(peak)), peak] > 127
    assert on_object.float().mean() >= 0.9


@pytest.mark.slow
def test_the_shortcut_was_learnt(classifier: demo.DemoClassifier) -> None:
    grounds = list(GROUNDS)
    bare: list[Job] = [(None, n, SEED, SHORTCUT_GROUND) for n in range(12)]
    other: list[Job] = [(c, 0, SEED, SHORTCUT_GROUND) for c in OTHERS]
    ashore: list[Job] = [(SHORTCUT, n, SEED, grounds[n % len(grounds)]) for n in range(14)]
    pictures = shown(bare + other + ashore)
    boat = classifier(normalised(pictures[:, :3])).argmax(1) == SHORTCUT
    on_bare, on_other, on_ashore = boat.split([len(bare), len(other), len(ashore)])
    assert on_bare.float().mean() >= 0.9
    assert on_other.float().mean() > 0.5
    assert on_ashore.float().mean() <= 0.3


def test_normalised_maps_black_and_white_to_the_ends() -> None:
    pixels = torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1).expand(2, 3, 4, 4)
    x = normalised(pixels)
    assert (x[0] == -1).all()
    assert (x[1] == 1).all()


def test_augmentation_moves_the_mask_with_the_picture_and_hides_both() -> None:
    torch.manual_seed(0)
    pictures = torch.randint(1, 255, (8, 1, demo.RESIZE, demo.RESIZE), dtype=torch.uint8)
    cut = hidden_in_part(jittered(pictures.repeat(1, 4, 1, 1)))
    assert cut.shape == (8, 4, demo.IMAGE_SIZE, demo.IMAGE_SIZE)
    assert torch.equal(cut, cut[:, :1].expand_as(cut))
    hidden = (cut[:, 0] == 0).float().mean(dim=(1, 2))
    assert (hidden == 0).any()
    assert (hidden > 0.01).any()
    assert hidden.max() < 0.75
