"""Which run is taken where none is named, and which words exclude each other."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest
import torch

from lcam_cli.cli.console import Console
from lcam_cli.engine.identity import Identity
from lcam_cli.errors import LcamError
from lcam_cli.images.preprocess import Preprocess
from lcam_cli.methods.attention import Attention
from lcam_cli.methods.attention_file import FILE_NAME, AttentionSettings, save_attention
from lcam_cli.methods.bounded_logit import PositionLogits
from lcam_cli.networks.weights.checkpoint import sha256_of_file
from lcam_cli.runs.newest_run import newest_run
from lcam_cli.runs.options import BackboneOptions
from tests.cli import job
from tests.cli.job import Lcam

OWN = "from tests.tiny import tiny_network as net\n"
NOTHING = BackboneOptions(*[None] * 8)

lcam = job.lcam


def make_run(name: str, age: int, identity: Identity, mode: str = "img", side: int = 224) -> None:
    settings = AttentionSettings(
        identity, ["a", "b"], Preprocess(side, side), {"mode": mode, "note": name}
    )
    learned = (
        Attention(torch.ones(2, 3), torch.zeros(2))
        if mode in ("img", "fm")
        else PositionLogits(torch.ones(3), torch.zeros(()), "bla")
    )
    path = Path("runs") / name / FILE_NAME
    path.parent.mkdir(parents=True)
    save_attention(path, learned, settings)
    os.utime(path, (10**9 - age, 10**9 - age))


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("w.pt").write_bytes(b"weights")
    resnet = Identity("resnet18", "IMAGENET1K_V1", "layer4")
    make_run("newest", 0, Identity("vgg16", "IMAGENET1K_V1", "features.29"), "bla")
    make_run("fm", 10, dataclasses.replace(resnet, weights="none:seed=0"), "fm")
    make_run("img", 20, resnet)
    make_run("inner", 30, dataclasses.replace(resnet, layer="layer3"))
    make_run("file", 40, dataclasses.replace(resnet, weights=sha256_of_file(Path("w.pt"))))
    make_run("sigmoid", 50, dataclasses.replace(resnet, activation="sigmoid"))
    make_run("small", 60, resnet, side=64)


def of(**typed: object) -> BackboneOptions:
    return dataclasses.replace(NOTHING, **typed)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("method", "options", "expected"),
    [
        (None, NOTHING, "newest"),
        ("bla-hard", NOTHING, "newest"),
        ("lcam", NOTHING, "fm"),
        ("lcam-img", NOTHING, "img"),
        (None, of(backbone="resnet18"), "fm"),
        (None, of(weights="none"), "fm"),
        ("lcam", of(backbone="resnet18", weights="DEFAULT"), "img"),
        (None, of(layer="layer3"), "inner"),
        (None, of(weights="w.pt"), "file"),
        (None, of(activation="sigmoid"), "sigmoid"),
        (None, of(image_size=64), "small"),
        (None, of(image_size=64, layer="layer4", fit="squash"), "small"),
    ],
)
def test_the_newest_run_that_fits_what_was_typed_is_named(
    runs: None,
    method: str | None,
    options: BackboneOptions,
    expected: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert newest_run(method, options, Console()).path.parent.name == expected
    which = "the newest run" if expected == "newest" else "the newest run that fits"
    assert capsys.readouterr().err == f"using runs/{expected}, {which}\n"


def test_where_none_fits_each_says_how_it_differs(runs: None) -> None:
    with pytest.raises(LcamError) as caught:
        newest_run("lcam-img", of(backbone="vgg16"), Console())
    assert caught.value.what == (
        "no trained attention for lcam-img under runs/ that fits: runs/newest is for bla, not "
        "lcam-img; runs/fm is for lcam-fm, not lcam-img; runs/img is for backbone resnet18, not "
        "vgg16 …"
    )
    assert "lcam train" in caught.value.hint
    with pytest.raises(LcamError, match="runs/fm is for weights none:seed=0, not IMAGENET1K_V2"):
        newest_run("lcam", of(weights="IMAGENET1K_V2"), Console())
    with pytest.raises(LcamError, match="no trained attention for amg under runs/ that fits"):
        newest_run("amg", NOTHING, Console())


def test_a_damaged_run_is_told_and_passed_over(
    runs: None, capsys: pytest.CaptureFixture[str]
) -> None:
    (Path("runs") / "newest" / FILE_NAME).write_bytes(b"no safetensors")
    assert newest_run(None, NOTHING, Console()).path.parent.name == "fm"
    told = capsys.readouterr().err.splitlines()
    assert told[0].startswith("warning: skipped runs/newest: ")
    assert told[1] == "using runs/fm, the newest run that fits"


def test_the_commands_take_the_run_that_fits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lcam: Lcam
) -> None:
    job.begin(tmp_path, monkeypatch, OWN + "other = net\n", 4)
    small = ("--image-size", "32", "--epochs", "1", "--batch-size", "4")
    for mode, backbone in (("img", "own.py:net"), ("bla", "own.py:net"), ("img", "own.py:other")):
        assert lcam("train", "photos", "--backbone", backbone, "--mode", mode, *small).code == 0
    net = ("--backbone", "own.py:net")
    done = lcam("explain", "photos", *net)
    assert done.code == 0, done.err
    assert "using runs/own.py-net-bla, the newest run that fits\n" in done.err
    done = lcam("explain", "photos", *net, "--method", "lcam", "--overwrite")
    assert done.code == 0, done.err
    assert "using runs/own.py-net-img, the newest run that fits\n" in done.err
    done = lcam("explain", "photos", "--overwrite", "--backbone", "own.py:net", "--layer", "0")
    assert done.code == 2
    assert (
        "that fits: runs/own.py-other-img is for backbone own.py:other, not own.py:net" in done.err
    )
    done = lcam("compare", "photos", *net, "--no-floor")
    assert done.code == 0, done.err
    assert "using runs/own.py-net-img, the newest run that fits\n" in done.err


def test_class_and_top_k_exclude_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lcam: Lcam
) -> None:
    job.begin(tmp_path, monkeypatch, OWN, 2)
    words = ("explain", "photos", "--method", "gradcam", "--backbone", "own.py:net")
    words = (*words, "--image-size", "32", "--overwrite")
    done = lcam(*words, "--class", "1", "--top-k", "2")
    assert done.code == 2
    assert done.err.splitlines()[0] == "error: --class and --top-k exclude each other"
    # What is typed is stronger than what stands in the settings file.
    Path("lcam.toml").write_text("[explain]\ntop-k = 2\n")
    assert lcam(*words, "--class", "1").out == "2 maps in maps.h5\n"
    assert lcam(*words).out == "4 maps in maps.h5\n"
    Path("lcam.toml").write_text('[explain]\nclass = ["1"]\n')
    assert lcam(*words, "--top-k", "2").out == "4 maps in maps.h5\n"
    Path("lcam.toml").write_text('[explain]\nclass = ["1"]\ntop-k = 2\n')
    assert lcam(*words).code == 2
