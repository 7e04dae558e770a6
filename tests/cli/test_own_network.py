"""Networks as people bring them, through the real command: what comes out, or what is said."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from lcam_cli.images.decoder import read_whole
from lcam_cli.images.preprocess import Preprocess, center_view
from tests.cli import job
from tests.cli.job import Ended, Lcam
from tests.conftest import ROOT

OWN = '''
import asyncio, functools, os, sys
from collections import OrderedDict, namedtuple
from dataclasses import dataclass
import torch
from torch import nn
import torch.nn.functional as F


class Small(nn.Module):
    """Logits far from zero, so that a softmax of them is sure."""

    def __init__(self, channels=3, gain=30.0):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(channels, 6, 3, stride=2, padding=1), nn.ReLU(),
            nn.Conv2d(6, 8, 3, stride=2, padding=1), nn.ReLU(),
        )
        self.fc = nn.Linear(8, 4)
        with torch.no_grad():
            self.fc.weight *= gain

    def forward(self, x):
        return self.fc(self.features(x).mean((2, 3)))


def changed(change, **options):
    class Changed(Small):
        def forward(self, x):
            return change(super().forward(x), x)
    return Changed(**options)


def plain():
    return Small()


# --- what it returns ---

Named = namedtuple("Named", "logits embedding")


@dataclass
class Out:
    scores: torch.Tensor
    loss: object = None


class Fields(OrderedDict):
    def __getattr__(self, name):
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


def kept():
    return changed(lambda z, x: z[:, :, None, None])
def longer():
    return changed(lambda z, x: z[:, :, None])
def squeezed():
    return changed(lambda z, x: z[:, :, None, None].squeeze())
def fields():
    return changed(lambda z, x: Fields(loss=None, logits=z, hidden=(z, z)))
def named():
    return changed(lambda z, x: Named(z, z[:, :3]))
def lone_in_tuple():
    return changed(lambda z, x: (z, None, [x]))
def lone_in_dict():
    return changed(lambda z, x: {"out": z, "loss": z.sum()})
def lone_in_object():
    return changed(lambda z, x: Out(z))
def lone_nested():
    return changed(lambda z, x: [{"a": {"b": z}}])
def pair():
    return changed(lambda z, x: (z[:, :3] * 0, z))
def tasks():
    return changed(lambda z, x: {"shape": z[:, :2], "colour": {"fine": z, "rough": z[:, 1:]}})
def places():
    return changed(lambda z, x: x)
def numbers():
    return changed(lambda z, x: z.argmax(1))
def text():
    return changed(lambda z, x: "cat")


# --- probabilities ---

def softmax():
    return changed(lambda z, x: F.softmax(z, 1))
def softmax_method():
    return changed(lambda z, x: z.softmax(-1))
def softmax_module():
    return nn.Sequential(OrderedDict([*Ended().named_children(), ("end", nn.Softmax(1))]))
def log_softmax():
    return changed(lambda z, x: F.log_softmax(z, 1))
def softmax_in_dict():
    return changed(lambda z, x: {"p": z.softmax(1), "x": x})
def softmax_untraced():
    return changed(lambda z, x: z.softmax(1) if x.sum() > -1e9 else z)
def softmax_undone():
    return changed(lambda z, x: (z / 30).softmax(1) * 1.0)
def sigmoid():
    return changed(lambda z, x: z.sigmoid())
def sigmoid_in_place():
    return changed(lambda z, x: (z * 1).sigmoid_())
def one_sigmoid():
    return changed(lambda z, x: z[:, :1].sigmoid())
def one_logit():
    return changed(lambda z, x: z[:, :1])
def clamped():
    return changed(lambda z, x: (z / 30).sigmoid() * 0.9 + 0.01)
def near_half():
    return changed(lambda z, x: z * 1e-3 + 0.5)


class Ended(nn.Sequential):
    def __init__(self):
        small = Small()
        super().__init__(OrderedDict(
            features=small.features, pool=nn.AdaptiveAvgPool2d(1), flat=nn.Flatten(), fc=small.fc))


# --- what it is ---

class Ema(nn.Module):
    def __init__(self, module):
        super().__init__()
        self.module = module


class ModelEmaV9(Ema):
    def forward(self, x):
        return self.module(x)


class Holder:
    def __init__(self, network):
        self.ema = network


def parallel():
    return nn.DataParallel(Small())
def averaged():
    return torch.optim.swa_utils.AveragedModel(Small())
def ema():
    return Ema(nn.DataParallel(Small()))
def ema_forward():
    return ModelEmaV9(Small())
def ema_object():
    return Holder(Small())
def compiled():
    return torch.compile(Small())
def in_part():
    network = Small()
    network.features = nn.DataParallel(torch.compile(network.features))
    return network
def in_place():
    network = Small()
    network.compile()
    network.features.compile()
    return network
def decorated():
    class Decorated(Small):
        @torch.compile
        def rest(self, x):
            return self.fc(x.mean((2, 3)))
        def forward(self, x):
            return self.rest(self.features(x))
    return Decorated()
def looked_through():
    class Inside(Small):
        def forward(self, x):
            return self.fc(self.features.module[1:](self.features.module[:1](x)).mean((2, 3)))
    network = Inside()
    network.features = nn.DataParallel(network.features)
    return network
def half():
    return Small().half()
def brain():
    return Small().bfloat16()
def double():
    return Small().double()
def mixed():
    network = Small()
    network.features.half()
    return network
def training():
    return Small().train().requires_grad_(True)
def scripted():
    return torch.jit.script(Small())
def scripted_part():
    network = Small()
    network.features = torch.jit.script(network.features)
    return network
def without_weights():
    class Bare(nn.Module):
        def __init__(self):
            super().__init__()
            self.blur = nn.AvgPool2d(4)
            self.relu = nn.ReLU()
        def forward(self, x):
            return self.relu(self.blur(x)).mean((2, 3)) * 30
    return Bare()
def patched():
    network = Small()
    original = network.forward
    network.forward = lambda x: (original(x), None)
    return network
an_instance = Small()
a_lambda = lambda: Small()
partly = functools.partial(Small, gain=30.0)
def lazy():
    return nn.Sequential(nn.LazyConv2d(6, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                         nn.LazyLinear(4))
async def asynchronous():
    return Small()
def nothing():
    Small()
def several():
    return Small(), torch.rand
def state():
    return Small().state_dict()
def the_class():
    return Small
def on_meta():
    with torch.device("meta"):
        return Small()
def no_forward():
    return nn.ModuleList([nn.Conv2d(3, 4, 3)])


# --- its errors ---

def missing():
    return torch.load("weights/best.pth")
def arguments(classes, size):
    return Small()
def on_gpu():
    raise AssertionError("Torch not compiled with CUDA enabled")
def leaves():
    sys.exit("no GPU here")
def deep():
    return Small().load_state_dict({"a": torch.zeros(1)})
def lookup():
    return changed(lambda z, x: {"logits": z}["scores"])
def leaves_later():
    return changed(lambda z, x: sys.exit(3) or z)
class Siamese(Small):
    def forward(self, x, other):
        return super().forward(x) + super().forward(other)
def two_pictures():
    return Siamese()
class Late(Small):
    seen = 0
    def forward(self, x):
        # Photographs alone: what a network is tried with is noise or black.
        if 0.01 < x.diff(dim=3).abs().mean() < 0.5:
            self.seen += len(x)
        if os.path.exists("armed") and self.seen >= int(open("armed").read()):
            raise ValueError(f"too many:\\n{self.seen}")
        return super().forward(x)
def late():
    return Late()


def far_away():
    network = Small()
    torch.set_grad_enabled(False)
    torch.set_default_dtype(torch.float64)
    torch.set_default_device("meta")
    os.chdir("/")
    return network
@torch.inference_mode()
def inferred():
    return Small()
def quantised():
    network = Small()
    kinds = {nn.Linear}
    return torch.ao.quantization.quantize_dynamic(network, kinds, dtype=torch.qint8)
def not_a_number():
    limit = float(open("limit").read())
    return changed(lambda z, x: torch.where(x.mean((1, 2, 3))[:, None] < limit, z, torch.nan))


# --- sizes, channels, batches ---

def flat(height, width):
    class Flat(Small):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(8 * height * width, 4)
        def forward(self, x):
            return self.fc(self.features(x).flatten(1))
    return Flat()
def of_64():
    return flat(16, 16)
def of_100():
    return flat(25, 25)
def of_180_320():
    return flat(45, 80)
def grey():
    return Small(channels=1)
def eleven():
    return Small(channels=11)
def grey_norm():
    return nn.Sequential(nn.BatchNorm2d(1), Small(channels=1))
def of_28_grey():
    return nn.Sequential(nn.Flatten(), nn.Linear(28 * 28, 10))
def volume(channels=1):
    class Volume(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Conv3d(channels, 4, 3, padding=1)
            self.fc = nn.Linear(4, 2)
        def forward(self, x):
            return self.fc(self.body(x).amax((-1, -2, -3)).flatten(1))
    return Volume()
def sequence():
    return nn.Sequential(nn.Conv1d(3, 4, 3), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(4, 2))
def against_the_mean():
    return changed(lambda z, x: z - z.mean(0) / 2)
def training_mode():
    class Trains(Small):
        def forward(self, x):
            A = F.batch_norm(self.features(x), None, None, training=True)
            return self.fc(A.relu().mean((2, 3)))
    return Trains()
def one_only():
    class One(Small):
        def forward(self, x):
            return self.fc(self.features(x).mean((2, 3)).view(1, 8))
    return One()
def dropout():
    return changed(lambda z, x: F.dropout(z, 0.5))


# --- prints ---

def talks():
    print("building")
    return changed(lambda z, x: print("running", tuple(x.shape)) or z)
def talks_in_c():
    os.system("echo from a shell")
    return talks()
'''
ON = ("--image-size", "32", "--weights", "none")


lcam = job.lcam


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    job.begin(tmp_path, monkeypatch, OWN, 3)
    return tmp_path


def explain(lcam: Lcam, name: str, *words: str) -> Ended:
    line = ("explain", "photos", "--backbone", f"own.py:{name}", *ON)
    again = () if "--resume" in words else ("--overwrite",)
    return lcam(*line, "--method", "gradcam", "--out", f"{name}.h5", *again, *words)


def maps(name: str) -> tuple[np.ndarray, np.ndarray, dict[str, object]]:
    """Maps, scores and attributes."""
    with h5py.File(f"{name}.h5") as file:
        return file["cam"][:], file["confidence"][:], dict(file.attrs)


def view(path: Path) -> np.ndarray:
    """An image as the network gets it, (3, 32, 32)."""
    size = Preprocess(image_size=32, resize=37)
    pixels = center_view(read_whole(str(path), 10**6), size)[0]
    return ((pixels / 255 - size.mean) / size.std).astype(np.float32).transpose(2, 0, 1)


def same_as_plain(lcam: Lcam, name: str, *words: str) -> Ended:
    if not Path("plain.h5").exists():
        assert explain(lcam, "plain").code == 0
    done = explain(lcam, name, *words)
    assert done.code == 0, done.err
    (cam, score, attributes), (wanted, scores, _) = maps(name), maps("plain")
    assert np.ptp(wanted) > 0
    np.testing.assert_allclose(cam, wanted, atol=2e-3 * np.abs(wanted).max())
    if attributes["activation"] == "softmax":
        np.testing.assert_allclose(score, scores, atol=2e-3)
    assert attributes["layer"] == "features.3"
    return done


def refused(done: Ended, what: str, hint: str = "") -> None:
    assert done.code == 2, done.err
    lines = [line for line in done.err.splitlines() if "Warning" not in line and line[:1] != " "]
    assert len(lines) == 2, done.err
    assert what in lines[0]
    assert hint in lines[1]
    assert "internal error" not in done.err


# --- what a module may return ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "kept",
        "longer",
        "squeezed",
        "fields",
        "named",
        "lone_in_tuple",
        "lone_in_dict",
        "lone_in_object",
        "lone_nested",
        "patched",
    ],
)
def test_logits_are_found_in_what_comes_out(folder: Path, lcam: Lcam, name: str) -> None:
    done = same_as_plain(lcam, name)
    told = "(4,) for one image and (2, 4) for two" in done.err
    assert told == (name == "squeezed")


def test_output_picks_one_and_files_remember_it(folder: Path, lcam: Lcam) -> None:
    refused(
        explain(lcam, "pair"),
        "own.py:pair returns a tuple of 2: [0] (1, 3), [1] (1, 4): lcam cannot tell "
        "which of them are the logits",
        "--output 0 or --output 1",
    )
    refused(
        explain(lcam, "tasks"),
        "a dict: shape (1, 2), colour.fine (1, 4), colour.rough (1, 3)",
        "--output shape or --output colour.fine",
    )
    same_as_plain(lcam, "pair", "--output", "1")
    same_as_plain(lcam, "tasks", "--output", "colour.fine")
    refused(
        explain(lcam, "tasks", "--output", "colour.fin"),
        "no tensor 'colour.fin'",
        "colour.fine",
    )
    refused(explain(lcam, "plain", "--output", "1"), "returns one tensor (1, 4)", "remove --output")
    assert maps("tasks")[2]["output"] == "colour.fine"
    again = ("evaluate", "tasks.h5", "--backbone", "own.py:tasks", "--nu", "50")
    assert lcam(*again).code == 0
    other = lcam(*again, "--output", "shape")
    refused(other, "made with output colour.fine, not shape", "remove --output")
    # Through training too, and from the settings file.
    Path("lcam.toml").write_text('[train]\noutput = "1"\n')
    line = ("--backbone", "own.py:pair")
    done = lcam("train", "photos", *line, *ON, "--epochs", "1", "--batch-size", "2")
    assert done.code == 0, done.err
    assert lcam("explain", "photos", *line, "--out", "trained.h5").code == 0
    assert maps("trained")[2]["output"] == "1"


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("places", "returns (1, 3, 32, 32) for one image and (2, 3, 32, 32) for two, not logits"),
        ("numbers", "of torch.int64, not logits"),
        ("text", "own.py:text returns a str, but no logits"),
    ],
)
def test_what_is_no_logits_is_described(folder: Path, lcam: Lcam, name: str, what: str) -> None:
    refused(explain(lcam, name), what)


# --- probabilities --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "softmax",
        "softmax_method",
        "softmax_module",
        "log_softmax",
        "softmax_in_dict",
        "softmax_untraced",
        "sigmoid",
        "sigmoid_in_place",
    ],
)
def test_a_sure_softmax_or_sigmoid_has_the_maps_of_its_logits(
    folder: Path, lcam: Lcam, name: str
) -> None:
    done = same_as_plain(lcam, name)
    assert done.err.count("they are used as the scores") == 1
    kind = "sigmoid" if "sigmoid" in name else "softmax"
    attributes = maps(name)[2]
    assert attributes["activation"] == kind
    assert attributes["probabilities"] == ("log_softmax" if name == "log_softmax" else kind)


def test_evaluate_takes_the_same_scores_and_none_says_so_by_hand(folder: Path, lcam: Lcam) -> None:
    rows = []
    for name, words in (("plain", ()), ("softmax", ()), ("softmax", ("--activation", "none"))):
        explain(lcam, name, "--overwrite", *words)
        line = ("evaluate", f"{name}.h5", "--backbone", f"own.py:{name}", "--no-floor")
        done = lcam(*line, "--nu", "50", "--format", "json")
        assert done.code == 0, done.err
        rows.append(json.loads(done.out)["rows"][0]["nu"]["50"]["ad"])
        if name == "softmax":
            # Typed beside the file, it says what the file says.
            assert lcam(*line, "--activation", "none").code == 0
            assert lcam(*line, "--activation", "sigmoid").code == 2
    assert rows == pytest.approx([rows[0]] * 3, abs=1e-3)
    assert maps("softmax")[2]["activation"] == "none"


def test_what_is_typed_is_taken_as_typed(folder: Path, lcam: Lcam) -> None:
    done = explain(lcam, "softmax", "--activation", "softmax")
    assert "used as the scores" not in done.err
    _, score, attributes = maps("softmax")
    assert (attributes["activation"], attributes["probabilities"]) == ("softmax", "")
    # A softmax of a softmax p over four classes: e^p / (e^p + the others').
    assert explain(lcam, "plain").code == 0
    p = maps("plain")[1]
    others = (1 - p) / 3
    assert (score < np.e / (np.e + 3) + 1e-6).all()
    assert (score <= np.exp(p) / (np.exp(p) + 3 * np.exp(others)) + 1e-6).all()


def test_a_last_step_that_cannot_be_taken_off_is_undone(folder: Path, lcam: Lcam) -> None:
    done = explain(lcam, "softmax_undone")
    assert done.err.count("used as the scores") == 1
    score = maps("softmax_undone")[1]
    assert explain(lcam, "softmax_undone", "--activation", "none", "--overwrite").code == 0
    np.testing.assert_allclose(maps("softmax_undone")[1], score, atol=1e-6)


def test_small_logits_are_no_probabilities(folder: Path, lcam: Lcam) -> None:
    done = explain(lcam, "near_half")
    assert "used as the scores" not in done.err
    assert maps("near_half")[2]["activation"] == "softmax"
    # Said by hand they are scores as they are.
    assert explain(lcam, "clamped", "--activation", "none").code == 0
    _, score, attributes = maps("clamped")
    assert (attributes["activation"], attributes["probabilities"]) == ("none", "")
    assert ((score > 0.01) & (score < 0.91)).all()
    network = runpy.run_path("own.py")["clamped"]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        wanted = network().eval()
    x = torch.from_numpy(np.stack([view(p) for p in sorted(Path("photos").iterdir())]))
    np.testing.assert_allclose(score, wanted(x).detach().max(1).values, rtol=1e-4)
    line = ("evaluate", "clamped.h5", "--backbone", "own.py:clamped", "--nu", "50")
    assert lcam(*line).code == 0
    refused(explain(lcam, "plain", "--activation", "none"), "which are not scores", "--activation")


def test_a_single_sigmoid_is_a_class_and_a_single_logit_is_refused(
    folder: Path, lcam: Lcam
) -> None:
    assert explain(lcam, "one_sigmoid").code == 0
    _, score, attributes = maps("one_sigmoid")
    assert attributes["activation"] == "sigmoid"
    assert explain(lcam, "one_logit", "--activation", "sigmoid").code == 0
    np.testing.assert_allclose(score, maps("one_logit")[1], rtol=1e-4)
    refused(explain(lcam, "one_logit", "--overwrite"), "always 1", "--activation sigmoid")


def test_a_file_from_before_probabilities_were_noticed_is_read_as_it_was(
    folder: Path, lcam: Lcam
) -> None:
    explain(lcam, "softmax", "--activation", "softmax")
    with h5py.File("softmax.h5", "r+") as file:
        del file.attrs["probabilities"], file.attrs["output"]
    line = ("evaluate", "softmax.h5", "--backbone", "own.py:softmax", "--nu", "50")
    done = lcam(*line)
    assert done.code == 0, done.err
    with h5py.File("softmax.h5", "r+") as file:
        file.attrs["probabilities"] = "tanh"
    refused(lcam(*line), "unknown last step 'tanh'")


def test_a_trained_run_on_probabilities_is_found_again(folder: Path, lcam: Lcam) -> None:
    line = ("--backbone", "own.py:sigmoid")
    done = lcam("train", "photos", *line, *ON, "--epochs", "1", "--batch-size", "2")
    assert done.code == 0, done.err
    compared = lcam("compare", "photos", *line, "--methods", "lcam,gradcam", "--nu", "50")
    assert compared.code == 0, compared.err
    assert "lcam-img" in compared.out


# --- what a module may be -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "parallel",
        "averaged",
        "ema",
        "ema_forward",
        "ema_object",
        "compiled",
        "in_part",
        "in_place",
        "decorated",
        "looked_through",
        "training",
        "an_instance",
        "a_lambda",
        "partly",
        "Small",
    ],
)
def test_wrapped_networks_have_the_maps_and_layers_of_the_plain_one(
    folder: Path, lcam: Lcam, name: str
) -> None:
    if name == "an_instance":  # made on import, outside of --seed
        done = explain(lcam, name)
        assert done.code == 0, done.err
        assert maps(name)[2]["layer"] == "features.3"
        return
    # Where their cells lie can only be known of networks that can be traced.
    untraced = name in ("decorated", "looked_through")
    done = same_as_plain(lcam, name, *(["--no-align"] if untraced else []))
    assert "warning" not in done.err


@pytest.mark.parametrize("name", ["half", "brain", "double", "mixed"])
def test_other_precisions_are_brought_to_float32_and_it_is_said(
    folder: Path, lcam: Lcam, name: str
) -> None:
    done = explain(lcam, name)
    assert done.code == 0, done.err
    assert done.err.count("used in float32") == 1
    explain(lcam, "plain")
    # Weights of bfloat16 have 8 bits.
    wanted = maps("plain")[0]
    np.testing.assert_allclose(maps(name)[0], wanted, atol=0.05 * np.abs(wanted).max())


def test_layers_are_named_with_the_wrapper_or_without(folder: Path, lcam: Lcam) -> None:
    for name, layer in (("parallel", "module.features.2"), ("in_part", "features.module.2")):
        assert explain(lcam, name, "--layer", layer).code == 0
        assert maps(name)[2]["layer"] == "features.2"
        line = ("evaluate", f"{name}.h5", "--backbone", f"own.py:{name}", "--nu", "50")
        assert lcam(*line, "--layer", layer).code == 0
        assert lcam(*line, "--layer", "features.2").code == 0
        assert lcam(*line, "--layer", "features.1").code == 2
    refused(
        explain(lcam, "parallel", "--layer", "module.nowhere"),
        "no layer 'module.nowhere'",
    )


@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_torchscript_is_explained_by_methods_without_a_layer(folder: Path, lcam: Lcam) -> None:
    why = "own.py:scripted is TorchScript, whose layers are not accessible"
    refused(
        explain(lcam, "scripted"),
        f"gradcam needs a target layer, but {why}",
        "use occlusion; these methods also work: rise, saliency, ",
    )
    refused(explain(lcam, "scripted", "--layer", "fc"), "layer 'fc' of own.py:scripted is in a")
    own = ("--backbone", "own.py:scripted", *ON)
    refused(lcam("train", "photos", *own), why)
    line = ("compare", "photos", *own, "--methods", "rise", "--rise-masks", "20", "--nu", "50")
    done = lcam(*line, "--out", "scripted.h5")
    assert done.code == 0, done.err
    plain = lcam(*(w.replace("scripted", "plain") for w in line), "--out", "plain.h5")
    assert plain.code == 0, plain.err
    with h5py.File("scripted.h5") as one, h5py.File("plain.h5") as two:
        np.testing.assert_allclose(one["rise/saliency"][:], two["rise/saliency"][:], atol=2e-3)
    assert lcam("evaluate", "scripted.h5", *own[:2], "--method", "rise", "--nu", "50").code == 0
    # A part of it is a step like any other.
    done = explain(lcam, "scripted_part")
    assert done.code == 0, done.err
    assert maps("scripted_part")[2]["layer"] == "features"


def test_a_network_without_weights_works(folder: Path, lcam: Lcam) -> None:
    done = explain(lcam, "without_weights")
    assert done.code == 0, done.err
    for method in ("sise", "cam"):
        done = lcam(
            "explain", "photos", "--backbone", "own.py:without_weights", *ON, "--method", method
        )
        assert "internal error" not in done.err


def test_lazy_layers_are_filled_by_the_first_picture(folder: Path, lcam: Lcam) -> None:
    line = ("explain", "photos", "--backbone", "own.py:lazy", "--image-size", "32")
    line = (*line, "--method", "gradcam", "--out", "lazy.h5")
    refused(lcam(*line), "lazy layers have no weights yet (0.weight)", "--weights none")
    assert lcam(*line, "--weights", "none").code == 0
    first = maps("lazy")[0]
    assert lcam(*line, "--weights", "none", "--overwrite").code == 0
    np.testing.assert_array_equal(maps("lazy")[0], first)


@pytest.mark.parametrize(
    ("name", "what", "hint"),
    [
        ("asynchronous", "returned a coroutine, not a torch.nn.Module", "without async"),
        ("nothing", "returned None, not a torch.nn.Module", "return"),
        ("several", "returned a tuple of 2: [0] Small, [1] builtin_function", "only"),
        ("state", "returned an OrderedDict", "only weights"),
        ("the_class", "returned the class Small", "Small()"),
        ("on_meta", "its weights are on the meta device: they were never loaded", "to_empty"),
        ("no_forward", "raised NotImplementedError: Module [ModuleList] is missing", ""),
        ("nn", "own.py has no function 'nn'", ""),
    ],
)
def test_what_is_no_network_is_told(
    folder: Path, lcam: Lcam, name: str, what: str, hint: str
) -> None:
    refused(explain(lcam, name), what, hint)


# --- the user's own errors ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "what", "hint"),
    [
        ("missing", "raised FileNotFoundError: [Errno 2]", "working directory"),
        ("arguments", "needs arguments (classes, size)", "def build(): return arguments(…)"),
        ("leaves", "called sys.exit('no GPU here') (own.py, line", "fix"),
        ("on_gpu", "own.py:on_gpu raised", "build it on the CPU"),
        ("deep", 'Missing key(s) in state_dict: "features.0.weight"', "fix"),
        ("lookup", "own.py:lookup raised KeyError: 'scores' (own.py, line", "forward()"),
        ("leaves_later", "called sys.exit(3) (own.py, line", "forward()"),
        ("two_pictures", "its forward() needs another argument (other)", "wrap"),
    ],
)
def test_an_error_of_the_users_code_is_theirs(
    folder: Path, lcam: Lcam, name: str, what: str, hint: str
) -> None:
    if name == "on_gpu" and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    refused(explain(lcam, name), what, hint)
    if name == "lookup":
        line = 1 + OWN[: OWN.index('["scores"]')].count("\n")
        assert f"(own.py, line {line})" in explain(lcam, name).err
        assert "Traceback" in explain(lcam, name, "--debug").err


def test_errors_on_import_are_theirs_and_files_beside_are_found(
    folder: Path, lcam: Lcam, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner = folder / "models"
    inner.mkdir()
    monkeypatch.setattr(sys, "path", list(sys.path))
    (inner / "beside.py").write_text("from own import *")
    (inner / "net.py").write_text("from parts_of_net import width\n")
    line = ("explain", "photos", *ON, "--method", "gradcam", "--out", "x.h5", "--backbone")
    refused(
        lcam(*line, "models/net.py:f"),
        "importing 'models/net.py' failed: ModuleNotFoundError: No module named 'parts_of_net' "
        "(models/net.py, line 1)",
    )
    (inner / "parts_of_net.py").write_text("width = 1 / 0\n")
    refused(
        lcam(*line, "models/net.py:f"),
        "ZeroDivisionError: division by zero (models/parts_of_net.py, line 1)",
        "fix it there",
    )
    (inner / "net.py").write_text("def f(:\n")
    refused(lcam(*line, "models/net.py:f"), "SyntaxError")
    (inner / "net.py").write_text("import sys\nsys.exit(1)\n")
    refused(lcam(*line, "models/net.py:f"), "SystemExit: 1 (models/net.py, line 2)")


def test_an_error_on_a_later_picture_is_theirs_and_the_run_goes_on(
    folder: Path, lcam: Lcam
) -> None:
    one = ("--batch-size", "1")
    assert explain(lcam, "late", *one).code == 0
    wanted = maps("late")[0]
    Path("armed").write_text("3")  # images
    refused_late(explain(lcam, "late", *one, "--overwrite"))
    with h5py.File("late.h5") as file:
        assert not file.attrs["complete"]
    Path("armed").unlink()
    done = explain(lcam, "late", *one, "--resume")
    assert done.code == 0, done.err
    np.testing.assert_array_equal(maps("late")[0], wanted)
    Path("armed").write_text("1")
    refused_late(lcam("evaluate", "late.h5", "--backbone", "own.py:late"))


def refused_late(done: Ended) -> None:
    assert done.code == 2, done.err
    assert "internal error" not in done.err
    assert "own.py:late" in done.err
    assert "too many: " in done.err


@pytest.mark.parametrize(
    "line",
    [
        "compare photos --methods gradcam --nu 50",
        "train photos --epochs 1 --batch-size 2",
        "diagnose photos --labels labels.txt --method gradcam",
    ],
)
def test_later_errors_are_theirs_in_every_command(folder: Path, lcam: Lcam, line: str) -> None:
    Path("labels.txt").write_text("000.jpg 0\n001.jpg 1\n002.jpg 2\n")
    Path("armed").write_text("1")
    refused_late(lcam(*line.split(), "--backbone", "own.py:late", *ON))


def test_what_code_sets_for_everybody_ends_with_it(folder: Path, lcam: Lcam) -> None:
    same_as_plain(lcam, "far_away")
    assert torch.is_grad_enabled()
    assert torch.rand(1).dtype == torch.float32


@pytest.mark.filterwarnings("ignore:.*quant")
@pytest.mark.parametrize("name", ["inferred", "quantised"])
def test_unusual_weights_are_explained(folder: Path, lcam: Lcam, name: str) -> None:
    done = explain(lcam, name, *(("--method", "scorecam") if name == "quantised" else ()))
    assert "internal error" not in done.err
    assert done.code == 0, done.err


def test_what_is_no_number_names_another_precision_only_where_it_is_another(
    folder: Path, lcam: Lcam
) -> None:
    bright = sorted((view(path).mean(), path.name) for path in Path("photos").iterdir())
    Path("limit").write_text(str((bright[-1][0] + bright[-2][0]) / 2))
    done = explain(lcam, "not_a_number", "--precision", "fp32")
    assert done.code == 3
    assert f"{bright[-1][1]}: the classifier's scores are not finite on this image\n" in done.err
    done = explain(lcam, "not_a_number", "--precision", "bf16", "--overwrite")
    assert done.code == 3
    why = "scores are not finite on this image in bf16; try --precision fp32"
    assert why in done.err


def test_weights_saved_from_a_wrapped_part_fit_the_plain_one(folder: Path, lcam: Lcam) -> None:
    built = runpy.run_path("own.py")
    torch.manual_seed(3)
    network = built["Small"]()
    torch.save(network.state_dict(), "plain.pt")
    network.features = torch.nn.DataParallel(network.features)
    torch.save(network.state_dict(), "part.pt")
    for backbone in ("plain", "in_part", "parallel"):
        for file in ("plain", "part"):
            done = explain(lcam, backbone, "--weights", f"{file}.pt", "--overwrite")
            assert done.code == 0, done.err
            if (backbone, file) == ("plain", "plain"):
                wanted = maps("plain")[0]
            np.testing.assert_allclose(maps(backbone)[0], wanted, atol=1e-3)


# --- hints ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "what", "hint"),
    [
        ("of_64", "fails on a (1, 3, 32, 32) input", "pass --image-size 64: it expects 64×64"),
        ("of_100", "fails on a (1, 3, 32, 32) input", "pass --image-size 100: it expects 100×100"),
        (
            "of_180_320",
            "fails on a (1, 3, 32, 32) input",
            "pass --image-size 180x320: it expects 180×320 (rows × columns)",
        ),
        ("of_28_grey", "fails on a (1, 1, 32, 32) input", "pass --image-size 28: it expects 28×28"),
        ("volume", "is a network for volumes (it begins with a Conv3d)", "two-dimensional"),
        ("sequence", "is a network for sequences (it begins with a Conv1d)", "two-dimensional"),
    ],
)
def test_every_refusal_names_its_own_cause(
    folder: Path, lcam: Lcam, name: str, what: str, hint: str
) -> None:
    done = explain(lcam, name)
    refused(done, f"own.py:{name} {what}", hint)
    assert ("--image-size" in done.err) == name.startswith("of_")


def test_the_size_that_is_named_works(folder: Path, lcam: Lcam) -> None:
    assert explain(lcam, "of_100", "--image-size", "100").code == 0
    assert explain(lcam, "of_64", "--image-size", "64").code == 0


def test_one_mean_stands_for_all_channels(folder: Path, lcam: Lcam) -> None:
    done = explain(lcam, "plain", "--mean", "0.5")
    assert done.code == 0, done.err
    assert json.loads(str(maps("plain")[2]["preprocess"]))["mean"] == [0.5] * 3


def test_as_many_names_as_classes_are_wanted(folder: Path, lcam: Lcam) -> None:
    Path("names.txt").write_text("class\na\nb\nc\nd\n")
    refused(explain(lcam, "plain", "--classes", "names.txt"), "5 class names for 4 classes")


@pytest.mark.parametrize(("name", "channels"), [("grey", 1), ("grey_norm", 1), ("eleven", 11)])
def test_the_channels_of_the_first_layer_are_taken(
    folder: Path, lcam: Lcam, name: str, channels: int
) -> None:
    done = explain(lcam, name)
    assert done.code == (0 if channels == 1 else 3), done.err  # photographs have no eleven
    said = "has 1 input channel" if channels == 1 else f"expects {channels} channels"
    assert done.err.count(f"own.py:{name} {said}") == 1
    numbers = "mean 0.449 and standard deviation 0.226, ImageNet's averages"
    assert f"normalised with {numbers} (--mean, --std)" in done.err
    if channels == 1:
        assert len(maps(name)[0]) == 3
    else:
        assert done.err.count("it has 3 channels, but the network takes 11") == 3


# --- results that depend on the batch -------------------------------------------------------------


@pytest.mark.parametrize("name", ["against_the_mean", "training_mode", "one_only"])
def test_pictures_go_one_by_one_where_a_batch_changes_them(
    folder: Path, lcam: Lcam, name: str
) -> None:
    done = explain(lcam, name)
    assert done.code == 0, done.err
    assert done.err.count("images go through it one at a time") == 1
    assert ", batch 1" in done.err
    alone = maps(name)[1]
    assert explain(lcam, name, "--batch-size", "1", "--overwrite").code == 0
    np.testing.assert_array_equal(maps(name)[1], alone)
    line = ("compare", "photos", "--backbone", f"own.py:{name}", *ON, "--nu", "50")
    done = lcam(*line, "--methods", "rise,ablationcam,scorecam", "--rise-masks", "5")
    assert done.code == 0, done.err
    if name == "against_the_mean":
        done = explain(lcam, name, "--batch-size", "3", "--overwrite")
        assert "the results depend on --batch-size" in done.err
        assert not np.allclose(maps(name)[1], alone)


def test_results_that_differ_every_time_are_refused(folder: Path, lcam: Lcam) -> None:
    refused(explain(lcam, "dropout"), "different logits each time it runs on the same image")


# --- what user's code prints ----------------------------------------------------------------------


@pytest.mark.slow
def test_stdout_is_the_result_alone(folder: Path) -> None:
    line = ["compare", "photos", "--backbone", "own.py:talks_in_c", *ON, "--methods", "gradcam"]
    done = subprocess.run(
        [sys.executable, "-m", "lcam_cli", *line, "--nu", "50", "--format", "json", "--quiet"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["rows"]
    for told in ("building", "from a shell", "running (1, 3, 32, 32)"):
        assert told in done.stderr


def test_prints_go_to_stderr_in_every_command(folder: Path, lcam: Lcam) -> None:
    own = ("--backbone", "own.py:talks")
    done = explain(lcam, "talks", "--quiet")
    assert done.out == "3 maps in talks.h5\n"
    assert "building" in done.err
    done = lcam("evaluate", "talks.h5", *own, "--nu", "50", "--format", "csv")
    assert done.out.startswith("method,nu,")
    done = lcam("train", "photos", *own, *ON, "--epochs", "1", "--batch-size", "2")
    assert done.out == "runs/own-talks-img\n" or len(done.out.splitlines()) == 1
    # What is printed again afterwards is printed there.
    assert lcam("--version").out.startswith("lcam ")
