"""``lcam methods``: which methods can explain a network, their cost, and which to take."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from lcam_cli.maps.hdf5.reader import MapsFile
from lcam_cli.methods.families import FAMILIES
from tests.cli import job
from tests.cli.job import Lcam

lcam = job.lcam
OWN = '''
import torch
from torch import nn
from tests.tiny import tiny_network as net
from tests.transformers import tiny_vit as vit


def scripted():
    return torch.jit.script(net())


def grey():
    network = net()
    network[0] = nn.Conv2d(1, 5, 3, stride=2, padding=1)
    return network


def broken():
    class Broken(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = net()

        def forward(self, x):
            return self.inner(x) + self.nothing

    return Broken()


class Kernel(torch.autograd.Function):
    """Attention that is computed where nothing sees it."""

    @staticmethod
    def forward(ctx, q, k, v):
        ctx.save_for_backward(v)
        return torch.from_numpy((q @ k.mT).softmax(-1).numpy() @ v.numpy())

    @staticmethod
    def backward(ctx, g):
        return g, g, g


class FlashAttention(nn.Module):
    def __init__(self):
        super().__init__()
        self.qkv = nn.Linear(12, 36)

    def forward(self, query, *_others, **_settings):
        return Kernel.apply(*self.qkv(query).chunk(3, -1)), None


def fused_kernel():
    network = vit()
    for block in network.encoder.layers:
        block.self_attention = FlashAttention()
    return network


def branches():
    class Branches(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem = nn.Conv2d(3, 4, 3, stride=2, padding=1)
            self.left = nn.Conv2d(4, 6, 3, stride=2, padding=1)
            self.right = nn.Conv2d(4, 6, 5, stride=2, padding=2)
            self.head = nn.Linear(12, 4)

        def forward(self, x):
            x = self.stem(x).relu()
            both = [self.left(x).relu(), self.right(x).relu()]
            return self.head(torch.cat([b.mean((2, 3)) for b in both], 1))

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        return Branches()
'''
SIZE = ("--image-size", "32")
NEVER_TRAINED = {"lcam", "bla", "bla-hard", "bla-head", "bla-head-hard", "bla-t-head"}
NEVER_TRAINED |= {"bla-t-head-hard", "l2x-f", "amg", "tame"}
ATTENTION = {"rollout", "gae", "legrad"}
LAYERLESS = {"rise", "occlusion", "random"}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    job.begin(tmp_path, monkeypatch, OWN, 3)
    return tmp_path


def asked(lcam: Lcam, backbone: str, *words: str) -> dict[str, Any]:
    done = lcam("methods", "--backbone", backbone, *words, "--format", "json")
    assert done.code == 0, done.err
    content: dict[str, Any] = json.loads(done.out)
    assert content["schema"] == "lcam-methods/1"
    return content


def unable(content: dict[str, Any]) -> set[str]:
    return {one["name"] for one in content["methods"] if not one["explains"]}


def of(content: dict[str, Any], name: str) -> dict[str, Any]:
    (found,) = (one for one in content["methods"] if one["name"] == name)
    return dict(found)


def test_without_a_network_all_are_listed(lcam: Lcam, folder: Path) -> None:
    listed = lcam("methods")
    assert (listed.code, listed.err) == (0, "")
    assert listed.out == lcam("explain", "--list-methods").out
    content = json.loads(lcam("methods", "--format", "json").out)
    assert {one["family"] for one in content["methods"]} == {*FAMILIES} - {"other"}
    assert of(content, "gradcam")["needs"] == "gradients"
    assert "network" not in content
    assert "explains" not in of(content, "gradcam")


def test_a_network_is_not_described_without_its_name(lcam: Lcam, folder: Path) -> None:
    done = lcam("methods", "--layer", "3")
    assert (done.code, done.out) == (2, "")
    assert "no backbone named" in done.err
    Path("lcam.toml").write_text('[explain]\nlayer = "3"\nimage_size = 32\n')
    listed = lcam("explain", "--list-methods", "--quiet")
    assert (listed.code, listed.err) == (0, "")
    Path("lcam.toml").write_text('[methods]\nbackbone = "own.py:net"\nimage_size = 32\n')
    assert "Use cam: " in lcam("methods").out


def test_what_explains_a_convolutional_network(lcam: Lcam, folder: Path) -> None:
    content = asked(lcam, "own.py:net", *SIZE)
    assert unable(content) == NEVER_TRAINED | ATTENTION
    assert content["network"]["feature_shape"] == [6, 8, 8]
    assert content["recommended"]["method"] == "cam"
    assert "there is none" in of(content, "gae")["why_not"]
    assert of(content, "lcam")["remedy"] == (
        "lcam train DATA --backbone own.py:net --image-size 32 --mode …"
    )
    # Derived of what was measured: a forward pass, and so many of the method's own.
    ms = content["measured_ms"]
    assert of(content, "groupcam")["ms"] == pytest.approx(34 * ms["forward"], rel=1e-3)
    assert of(content, "ig")["ms"] == pytest.approx(
        ms["forward"] + 50 * ms["forward and backward"], rel=1e-3
    )
    assert of(content, "scorecam")["at_most"]
    assert not of(content, "groupcam")["at_most"]
    command = shlex.split(content["recommended"]["command"].replace("IMAGES", "photos"))
    assert lcam(*command[1:]).code == 0
    with MapsFile(Path("maps.h5")) as maps:
        assert maps.info.method == "cam"


def test_layers_that_are_named_count(lcam: Lcam, folder: Path) -> None:
    early = asked(lcam, "own.py:net", *SIZE, "--layer", "1")
    assert early["network"]["feature_shape"] == [5, 16, 16]
    assert unable(early) - NEVER_TRAINED - ATTENTION == {"cam", "refinecam"}
    assert of(early, "refinecam")["remedy"] == "pass several layers, each with --layer"
    both = asked(lcam, "own.py:net", *SIZE, "--layer", "1", "--layer", "3")
    assert unable(both) - NEVER_TRAINED - ATTENTION == {"cam", "sise", "adasise"}
    assert "pass one --layer" in of(both, "cam")["remedy"]
    assert "--layer 1 --layer 3" in both["recommended"]["command"]
    assert both["recommended"]["method"] == "gradcam"
    assert of(both, "gradcam")["at_most"]


def test_the_list_for_people(lcam: Lcam, folder: Path) -> None:
    done = lcam("methods", "--backbone", "own.py:net", *SIZE, "--quiet")
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    assert lines[0].startswith("own.py:net (")
    assert "layer 3 (8×8×6), 4 classes" in lines[0]
    assert lines[2].startswith("Use cam: ")
    assert "  rollout, gae, legrad: each reads attention between patches" in done.out
    assert "    to fix this: lcam train DATA" in done.out
    assert "Measured here" in lines[-2]
    other = lcam("explain", "--list-methods", "--backbone", "own.py:net", *SIZE)
    assert other.code == 0
    assert other.out.splitlines()[0] == lines[0]


def test_what_explains_a_transformer(lcam: Lcam, folder: Path) -> None:
    content = asked(lcam, "own.py:vit", *SIZE)
    assert unable(content) - NEVER_TRAINED == {"cam", "sise", "adasise", "refinecam"}
    assert content["recommended"]["method"] == "gae"
    assert of(content, "gae")["ms"] == pytest.approx(
        content["measured_ms"]["forward and backward with attention"], rel=1e-3
    )


def test_attention_that_nothing_shows_is_named(lcam: Lcam, folder: Path) -> None:
    done = lcam("methods", "--backbone", "own.py:fused_kernel", *SIZE, "--format", "json")
    assert done.code == 0, done.err
    content = json.loads(done.out)
    assert set(unable(content)) >= ATTENTION
    why = of(content, "gae")["why_not"]
    assert "encoder.layers.encoder_layer_0.self_attention (FlashAttention)" in why
    assert "is computed where lcam cannot see it" in why
    refused = lcam(
        "explain", "photos", "--backbone", "own.py:fused_kernel", *SIZE, "--method", "gae"
    )
    assert refused.code == 2
    assert "FlashAttention" in refused.err
    assert f"\nuse {content['recommended']['method']}; these methods also work: " in refused.err


@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_a_network_that_shows_no_layer(lcam: Lcam, folder: Path) -> None:
    content = asked(lcam, "own.py:scripted", *SIZE)
    able = {one["name"] for one in content["methods"]} - unable(content)
    pixel = {"saliency", "inputxgradient", "ig", "smoothgrad", "gradientshap"}
    assert able == LAYERLESS | pixel
    assert content["recommended"]["method"] == "occlusion"
    assert "TorchScript" in of(content, "gradcam")["why_not"]
    assert content["network"]["layer"] is None
    assert "which has none" not in of(content, "lcam")["why_not"]
    assert of(content, "lcam")["remedy"] is None


def test_a_file_of_another_runtime(lcam: Lcam, folder: Path) -> None:
    pytest.importorskip("onnxruntime")
    from tests.networks.onnx_models import save, tiny_model

    save(tiny_model(), folder / "tiny.onnx")
    content = asked(lcam, "tiny.onnx")
    able = {one["name"] for one in content["methods"]} - unable(content)
    layer = {"cam", "eigencam", "ablationcam", "reciprocam", "scorecam", "groupcam", "sidu"}
    assert able == LAYERLESS | layer
    assert "onnxruntime computes no gradients" in of(content, "lcam")["why_not"]
    assert set(content["measured_ms"]) == {"forward", "head"}


def test_one_channel_and_a_rectangle(lcam: Lcam, folder: Path) -> None:
    content = asked(lcam, "own.py:grey", "--image-size", "32x48", "--channels", "1")
    assert content["network"]["feature_shape"] == [6, 8, 12]
    assert content["recommended"]["command"].startswith(
        "lcam explain IMAGES --backbone own.py:grey --channels 1 --image-size 32x48"
    )


def test_a_network_that_fails_fails_as_it_does_for_explain(lcam: Lcam, folder: Path) -> None:
    network = ("--backbone", "own.py:broken", *SIZE)
    done = lcam("methods", *network)
    assert (done.code, done.out) == (2, "")
    assert done.err == lcam("explain", "photos", *network, "--method", "gradcam").err


def test_a_trained_attention_is_recommended(lcam: Lcam, folder: Path) -> None:
    train = ("--epochs", "1", "--batch-size", "2", "--quiet")
    trained = lcam("train", "photos", "--backbone", "own.py:net", *SIZE, *train)
    assert trained.code == 0, trained.err
    content = asked(lcam, "own.py:net", *SIZE)
    assert content["recommended"]["method"] == "lcam-img"
    (run,) = (path for path in Path("runs").iterdir() if path.is_dir())
    command = content["recommended"]["command"]
    assert command == (
        f"lcam explain IMAGES --attention {run} --backbone own.py:net --method lcam-img"
    )
    assert unable(content) == (NEVER_TRAINED - {"lcam"}) | ATTENTION
    assert lcam(*shlex.split(command.replace("IMAGES", "photos"))[1:]).code == 0
    named = asked(lcam, "own.py:net", "--attention", str(run))
    assert named["recommended"] == content["recommended"]
    other = asked(lcam, "own.py:net", *SIZE, "--layer", "1")  # the run is of another layer
    assert other["recommended"]["method"] == "gradcam"


@pytest.mark.parametrize(
    ("network", "method", "said", "hint"),
    [
        ("net", "rollout", "there is none", "use cam; these methods also work: gradcam, "),
        ("vit", "cam", "is not average pooling", "use gae; these methods also work: "),
        ("vit", "sise", "has no stages", "if it has one; use gae; these methods also work: "),
    ],
)
def test_a_method_that_cannot_says_which_can(
    lcam: Lcam, folder: Path, network: str, method: str, said: str, hint: str
) -> None:
    done = lcam("explain", "photos", "--backbone", f"own.py:{network}", *SIZE, "--method", method)
    assert done.code == 2
    what, advice = done.err.strip().splitlines()
    assert said in what
    assert hint in advice


@pytest.mark.parametrize("method", ["gradcam", "layercam", "eigencam", "reciprocam"])
def test_layers_of_two_branches_are_fused(lcam: Lcam, folder: Path, method: str) -> None:
    network = ("--backbone", "own.py:branches", *SIZE, "--method", method)
    maps = {}
    for name, layers in {"left": ["left"], "right": ["right"], "both": ["left", "right"]}.items():
        words = [word for layer in layers for word in ("--layer", layer)]
        more = ("--map-dtype", "float32", "--out", f"{name}.h5")
        fuse = ("--fuse", "mean") if len(layers) > 1 else ()
        done = lcam("explain", "photos", *network, *words, *fuse, *more)
        assert done.code == 0, done.err
        with MapsFile(Path(f"{name}.h5")) as file:
            maps[name] = file.rows(0, 3).saliency
    if method != "layercam":  # which brings its layers to one scale in its own way
        mean = (maps["left"] + maps["right"]) / 2
        low, high = (f((1, 2)).reshape(3, 1, 1) for f in (mean.min, mean.max))
        assert maps["both"] == pytest.approx((mean - low) / (high - low), abs=1e-5)
    assert abs(maps["both"] - maps["left"]).max() > 0.01
