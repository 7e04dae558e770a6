"""The folder in which a reader of the docs types, and what lies there."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest
import torch
import torchvision
from PIL import Image
from torchvision.models import AlexNet_Weights

from tests import warm

DOWNLOADS = (
    ("vgg16", torchvision.models.VGG16_Weights.IMAGENET1K_V1),
    ("resnet50", torchvision.models.ResNet50_Weights.IMAGENET1K_V1),
    ("resnet50", torchvision.models.ResNet50_Weights.IMAGENET1K_V2),
    ("mobilenet_v2", torchvision.models.MobileNet_V2_Weights.IMAGENET1K_V2),
)


@pytest.fixture(scope="session")
def fine_tuned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``mine.pt``, a ResNet-50 of ImageNet's classes, and their ``names.txt``."""
    folder = tmp_path_factory.mktemp("mine")
    torch.manual_seed(0)
    torch.save(torchvision.models.resnet50(weights=None).state_dict(), folder / "mine.pt")
    attention = {"attnM.op.weight": torch.rand(1000, 512, 1, 1), "attnM.op.bias": torch.rand(1000)}
    torch.save({"state_dict": attention}, folder / "authors.pt")
    (folder / "names.txt").write_text("\n".join(AlexNet_Weights.IMAGENET1K_V1.meta["categories"]))
    return folder


@pytest.fixture(scope="session")
def downloads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as torchvision leaves it behind, but for the weights, which are random."""
    folder = tmp_path_factory.mktemp("torch")
    (folder / "hub" / "checkpoints").mkdir(parents=True)
    torch.manual_seed(0)
    for name, weights in DOWNLOADS:
        network = torchvision.models.get_model(name, weights=None)
        file = weights.url.rpartition("/")[2]
        torch.save(network.state_dict(), folder / "hub" / "checkpoints" / file)
    return folder


@pytest.fixture
def stage(tmp_path: Path, fine_tuned: Path, downloads: Path) -> Path:
    """A folder such as a reader of the page has: images, weights, and commands to type."""
    for name, number in (("photos", 3), ("pictures", 6), ("train", 6), ("val", 1)):
        (tmp_path / name).mkdir()
        for index in range(number):
            colours = torch.randint(0, 256, (48, 64, 3), dtype=torch.uint8).numpy()
            Image.fromarray(colours).save(tmp_path / name / f"{index}.jpg")
    for label in ("pug", "goldfish"):
        (tmp_path / "sorted" / label).mkdir(parents=True)
        (tmp_path / "sorted" / label / "0.jpg").symlink_to(tmp_path / "pictures" / "0.jpg")
    paper = tmp_path / "L-CAM" / "datalist" / "ILSVRC" / "Evaluation_2000.txt"
    paper.parent.mkdir(parents=True)
    paper.write_text("ILSVRC2012_val_00000001.JPEG 65\n")
    (tmp_path / "val" / "ILSVRC2012_val_00000001.JPEG").symlink_to("0.jpg")
    (tmp_path / "labels.txt").write_text("0.jpg pug\nILSVRC2012_val_00000001.JPEG pug\n")
    (tmp_path / "torch").symlink_to(downloads)
    for file in fine_tuned.iterdir():
        (tmp_path / file.name).symlink_to(file)
    programs = tmp_path / "bin"
    programs.mkdir()
    commands = {"lcam": warm.words(), "python": [sys.executable], "python3": [sys.executable]}
    for name, words in commands.items():
        (programs / name).write_text(f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n')
        (programs / name).chmod(0o755)
    return tmp_path
