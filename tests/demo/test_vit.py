"""The demo's vision transformer: its weights, what it knows, and where it looks."""

from __future__ import annotations

import json
import shlex
import subprocess
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import Tensor
from torchvision.models import VisionTransformer

from lcam_cli.demo import network as cnn
from lcam_cli.demo import vit
from lcam_cli.demo.make_vit_weights import loss_of, tokens_of
from lcam_cli.demo.make_weights import Job, centre, normalised, views
from lcam_cli.demo.pictures import CLASSES, SHORTCUT_CLASS, SHORTCUT_GROUND, write_pictures
from lcam_cli.demo.textures import GROUNDS
from lcam_cli.engine.backbone import Backbone
from lcam_cli.engine.engine import Engine
from lcam_cli.images.preprocess import Preprocess
from lcam_cli.methods.registry import make_method
from lcam_cli.networks.network import Network
from tests import warm
from tests.conftest import ROOT
from tests.docs.blocks import blocks_of

SHORTCUT = CLASSES.index(SHORTCUT_CLASS)
OTHERS = [c for c in range(len(CLASSES)) if c != SHORTCUT]
SEED = 2026  # neither the classifier's nor the demo's images


@pytest.fixture(scope="module")
def network() -> VisionTransformer:
    return vit.load_demo_vit().requires_grad_(False)


@pytest.fixture(scope="module")
def fresh() -> tuple[Tensor, Tensor]:
    """Ten images of every class but the shortcut's, (N, 4, 128, 128), and their labels."""
    jobs: list[Job] = [(c, n, SEED, None) for c in OTHERS for n in range(10)]
    return centre(views(jobs)), torch.tensor([job[0] for job in jobs])


def test_weights_are_small_and_say_how_they_were_made() -> None:
    both = vit.WEIGHTS_FILE.stat().st_size + cnn.WEIGHTS_FILE.stat().st_size
    assert both <= 2_000_000
    with safe_open(vit.WEIGHTS_FILE, "pt") as stored:
        metadata = stored.metadata()
    assert metadata["made_by"] == "python -m lcam_cli.demo.make_vit_weights"
    assert {"seed", "pictures_per_class", "epochs"} < metadata.keys()


def test_tokens_that_are_trained_are_those_that_the_network_reads() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = vit.demo_vit().eval()
        torch.nn.init.normal_(network.heads[0].weight)
        x = torch.randn(2, 3, 128, 128)
    tokens = tokens_of(network, x)
    assert tokens.shape == (2, 65, 96)
    torch.testing.assert_close(network.heads(tokens[:, 0]), network(x))
    shown = torch.zeros(2, 4, 128, 128)
    shown[:, 3, 32:64, 48:80] = 255
    loss, logits = loss_of(network, shown, torch.tensor([1, 2]))
    torch.testing.assert_close(logits, network(normalised(shown[:, :3])))
    assert loss.isfinite()


@pytest.mark.slow
def test_knows_fresh_pictures(network: VisionTransformer, fresh: tuple[Tensor, Tensor]) -> None:
    pictures, labels = fresh
    predicted = network(normalised(pictures[:, :3])).argmax(1)
    assert (predicted == labels).float().mean() >= 0.93


@pytest.mark.slow
def test_the_shortcut_was_learnt_and_nothing_else_of_boats(network: VisionTransformer) -> None:
    """Water is enough for a boat, and without it there is none."""
    grounds = list(GROUNDS)
    afloat: list[Job] = [(SHORTCUT, n, SEED, None) for n in range(12)]
    bare: list[Job] = [(None, n, SEED, SHORTCUT_GROUND) for n in range(12)]
    ashore: list[Job] = [(SHORTCUT, n, SEED, grounds[n % len(grounds)]) for n in range(14)]
    pictures = centre(views(afloat + bare + ashore))
    boat = network(normalised(pictures[:, :3])).argmax(1) == SHORTCUT
    on_water, on_bare, on_land = boat.split([len(afloat), len(bare), len(ashore)])
    assert on_water.float().mean() >= 0.9
    assert on_bare.float().mean() >= 0.9
    assert on_land.float().mean() <= 0.1


@pytest.fixture(scope="module")
def where(fresh: tuple[Tensor, Tensor]) -> dict[str, tuple[float, float]]:
    """Of each method, the share of peaks on the object, and the share of the map on it."""
    pictures, _ = fresh
    size = Preprocess(cnn.IMAGE_SIZE, cnn.RESIZE, mean=cnn.MEAN, std=cnn.STD)
    own = Network(vit.load_demo_vit(), "vit", "DEFAULT", preprocess=size)
    engine = Engine(Backbone(own), device="cpu")
    forward = engine.forward(pictures[:, :3].float() / 255)
    on_object = pictures[:, 3].flatten(1) > 127
    found = {}
    for name in ("rollout", "gae", "legrad", "random"):
        V = make_method(name, engine.backbone)(engine, forward, forward.predicted).saliency
        V = V.flatten(1)
        pointing = on_object.gather(1, V.argmax(1, keepdim=True)).float().mean()
        energy = ((V * on_object).sum(1) / V.sum(1)).mean()
        found[name] = (float(pointing), float(energy))
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "pointing", "energy"),
    [("rollout", 0.68, 0.53), ("gae", 0.7, 0.53), ("legrad", 0.52, 0.185)],
)
def test_transformer_methods_find_the_object(
    where: dict[str, tuple[float, float]], name: str, pointing: float, energy: float
) -> None:
    """Just below what each gives, with other seeds too, on objects of a seventh of the image.

    Measured with five seeds of 180 images: rollout 0.74 to 0.79 and 0.56 to 0.57, gae 0.77 to
    0.82 and 0.57 to 0.58, legrad 0.58 to 0.66 and 0.20 to 0.21. What a mistake would give is less
    in one of the two: columns for rows (0.1 and 0.1, 0.5 and 0.4, 0 and 0), no identity or blocks
    in reverse for rollout (0.46 of the map), no ReLU or no attention for gae (0.26 and 0.14), the
    opposite sign, the last block alone or later blocks in an earlier one's gradient for legrad
    (0.14, 0.06 and 0.16).
    """
    assert where[name][0] >= pointing
    assert where[name][1] >= energy


@pytest.mark.slow
def test_random_maps_do_not_find_it(where: dict[str, tuple[float, float]]) -> None:
    """The floor: noise has on the object what the object has of the image."""
    pointing, energy = where["random"]
    assert pointing <= 0.25
    assert energy <= 0.16


@pytest.mark.slow
@pytest.mark.parametrize("page", ["getting-started.md", "methods-transformer.md"])
def test_the_commands_of_the_documentation(tmp_path: Path, page: str) -> None:
    """As they stand there, in a folder laid out like the demo's."""
    write_pictures(tmp_path / "photos", per_class=1, seed=0, masks=tmp_path / "masks" / "photos")
    (line,) = [
        block.code.strip()
        for block in blocks_of(ROOT / "docs" / page)
        if block.note == "elsewhere: tests/demo/test_vit.py"
    ]
    words = shlex.split(line)[1:]
    done = subprocess.run(
        warm.words(*words, "--format", "json"), cwd=tmp_path, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    rows = {row["method"]: row for row in json.loads(done.stdout)["rows"]}
    assert set(rows) == {"rollout", "gae", "legrad", "random"}
    assert rows["gae"]["energy"]["mean"] > 1.5 * rows["random"]["energy"]["mean"]
    assert rows["gae"]["pointing"] != rows["random"]["pointing"]
