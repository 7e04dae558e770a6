"""Checkpoints of every shape that training leaves: what PyTorch loads is loaded.

Each is made from a network of its own: layers at random, in modules of random names; the file with
a random nesting, prefix, entries that are no weights, types and format. PyTorch says what is right:
the names are undone by hand and the state dict goes into a second copy of the network.
"""

from __future__ import annotations

import argparse
import datetime
import random
import warnings
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.utils import parametrizations
from torch.optim.swa_utils import AveragedModel

from lcam_cli.errors import LcamError
from lcam_cli.networks.registry import load_network
from tests.faults.counts import count

COUNT = count(60, 300)
PREFIXES = ["module.", "_orig_mod.", "model.", "net.", "backbone.", "encoder.", "x.", "a.b.c."]
NESTINGS = ["state_dict", "model", "model_state_dict", "module", "params", "weights", "ckpt", "7"]
NAMES = ["features", "stem", "body", "net", "model", "module", "trunk", "stage1"]


class _Extra(nn.Module):
    """Keeps a number that is not a tensor in the state dict."""

    def __init__(self) -> None:
        super().__init__()
        self.factor: float = 1.0

    def get_extra_state(self) -> dict[str, float]:
        return {"factor": self.factor}

    def set_extra_state(self, state: dict[str, float]) -> None:
        self.factor = state["factor"]

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor


class _Net(nn.Module):
    """Blocks under chosen names, then a head."""

    def __init__(self, blocks: dict[str, nn.Module], head: nn.Module) -> None:
        super().__init__()
        for name, block in blocks.items():
            self.add_module(name, block)
        self._order = list(blocks)
        self.head = head

    def forward(self, x: Tensor) -> Tensor:
        for name in self._order:
            x = getattr(self, name)(x)
        logits: Tensor = self.head(x.mean((2, 3)))
        return logits


def _block(rng: random.Random, given: int, plain: bool) -> tuple[nn.Module, int]:
    width = rng.choice([2, 3, 4])
    conv: nn.Module = nn.Conv2d(given, width, 3, padding=1, bias=rng.random() < 0.5)
    kind = rng.choice(["plain"] if plain else ["plain", "weight_norm", "spectral", "parallel"])
    if kind == "weight_norm":
        conv = parametrizations.weight_norm(conv)
    elif kind == "spectral":
        conv = parametrizations.spectral_norm(conv)
    elif kind == "parallel":
        conv = nn.DataParallel(conv)
    norms: list[Callable[[], nn.Module]] = [
        lambda: nn.BatchNorm2d(width),
        lambda: nn.GroupNorm(1, width),
        lambda: nn.InstanceNorm2d(width, affine=True, track_running_stats=True),
        nn.Identity,
    ]
    return nn.Sequential(conv, rng.choice(norms)(), nn.ReLU()), width


def _network(seed: int, safe: bool) -> nn.Module:
    """The same network for the same seed, with other values each time."""
    rng = random.Random(seed)
    blocks: dict[str, nn.Module] = {}
    width = 3
    for name in rng.sample(NAMES, rng.randint(1, 3)):
        blocks[name], width = _block(rng, width, safe)
    if not safe and rng.random() < 0.2:
        blocks["extra"] = _Extra()
    head: nn.Module = nn.Linear(width, 4)
    if rng.random() < 0.3:
        head = nn.Sequential(nn.Dropout(), nn.Linear(width, 5), nn.ReLU(), nn.Linear(5, 4))
    network: nn.Module = _Net(blocks, head)
    if rng.random() < 0.2:
        network = nn.Sequential(network)  # all names begin alike
    for parameter in network.parameters():
        nn.init.normal_(parameter)
    return network.eval()


def _leftovers(rng: random.Random) -> dict[str, Any]:
    every: dict[str, Any] = {
        "loss.weight": torch.rand(4),
        "criterion.centres": torch.rand(4, 2),
        "train_acc.total": torch.tensor(3),
        "n_averaged": torch.tensor(7),
        "epoch": 3,
        "best_acc": np.float64(0.5),
        "when": datetime.datetime(2026, 1, 2),
        "note": "text",
    }
    return {k: every[k] for k in rng.sample(list(every), rng.randint(0, 3))}


def _beside(rng: random.Random, network: nn.Module) -> dict[str, Any]:
    optimiser = torch.optim.Adam(network.parameters())
    for parameter in network.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimiser.step()
    every: dict[str, Any] = {
        "optimizer": optimiser.state_dict(),
        "args": argparse.Namespace(lr=0.1, out=Path("/x")),
        "history": defaultdict(list, {"loss": [np.float32(1), 2.0]}),
        "classes": Counter(a=1),
        "rng": torch.get_rng_state(),
        "random": random.getstate(),
        "numpy": np.random.RandomState(0).get_state(),
        "epoch": 3,
        "loss": torch.tensor(0.5),
    }
    return {k: every[k] for k in rng.sample(list(every), rng.randint(0, 4))}


def _damaged(rng: random.Random, state: dict[str, Any]) -> dict[str, Any] | None:
    """The same without a weight, with another shape, or of a deeper network."""
    weights = [k for k, v in state.items() if isinstance(v, Tensor) and v.ndim > 1]
    key = rng.choice(weights)
    kind = rng.choice(["missing", "shape", "deeper"])
    if kind == "missing":
        return {k: v for k, v in state.items() if k != key}
    if kind == "shape":
        return {**state, key: torch.rand(7, *state[key].shape[1:])}
    return {**state, f"{key.rpartition('.')[0]}.9.weight": torch.rand(2, 2)}


def _write(rng: random.Random, path: Path, content: dict[str, Any], safe: bool) -> Path:
    if safe:
        path = path.with_suffix(".safetensors")
        save_file({k: v.contiguous() for k, v in content.items()}, path)
        return path
    options = rng.choice([{}, {"_use_new_zipfile_serialization": False}, {"pickle_protocol": 4}])
    torch.save(content, path, **options)
    return path


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("checkpoints")


def test_what_pytorch_loads_is_loaded_to_the_same_logits(
    own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``LCAM_FULL=1`` for 300 of them."""
    monkeypatch.chdir(own)
    kinds: Counter[str] = Counter()
    for seed in range(COUNT):
        torch.manual_seed(seed)
        rng = random.Random(10_000 + seed)
        safe = rng.random() < 0.2
        trained, twin = _network(seed, safe), _network(seed, safe)
        dtype = rng.choice([torch.float32] * 4 + [torch.float16, torch.float64, torch.bfloat16])
        state: dict[str, Any] = trained.state_dict()
        for k, v in state.items():
            if isinstance(v, Tensor):  # a copy: an optimiser may step below
                state[k] = v.clone().to(dtype if v.is_floating_point() else v.dtype)
        good = rng.random() < 0.75
        if good:
            twin.load_state_dict(state)  # PyTorch takes it
        else:
            state = OrderedDict(_damaged(rng, state) or {})
            with pytest.raises(RuntimeError):
                twin.load_state_dict(state)
        prefix = rng.choice(["", *PREFIXES])
        content: dict[str, Any] = OrderedDict((prefix + k, v) for k, v in state.items())
        if not safe:
            content.update(_leftovers(rng))
            for _ in range(rng.randint(0, 3)):
                content = {rng.choice(NESTINGS): content, **_beside(rng, trained)}
        path = _write(rng, own / f"{seed}.pt", content, safe)
        (own / "net.py").write_text(
            "from tests.faults.test_many_checkpoints import _network\n"
            f"def build(): return _network({seed}, {safe})\n"
        )
        kinds["good" if good else "bad"] += 1
        told = f"{seed}: prefix {prefix!r}, {dtype}, {path.name}, good {good}"
        if not good:
            with pytest.raises(LcamError) as caught:
                load_network("net.py:build", path.name)
            assert "\n" not in caught.value.what, told
            assert "do not fit net.py:build" in caught.value.what, told
            continue
        network = load_network("net.py:build", path.name)
        x = torch.rand(2, 3, 8, 8)
        with torch.no_grad():
            assert torch.equal(network.module(x), twin(x)), told
        path.unlink()
    print(f"{kinds['good']} of {COUNT} loaded, {kinds['bad']} refused in a line")
    assert min(kinds.values()) > COUNT // 10


@pytest.mark.parametrize("wrap", ["parallel", "averaged", "compiled"])
@pytest.mark.parametrize("where", ["file", "network", "both"])
def test_wrappers_on_either_side_come_off_or_go_on(
    own: Path, monkeypatch: pytest.MonkeyPatch, wrap: str, where: str
) -> None:
    monkeypatch.chdir(own)
    wrappers: dict[str, Callable[[nn.Module], Any]] = {
        "parallel": nn.DataParallel,
        "averaged": AveragedModel,
        "compiled": torch.compile,
    }
    torch.manual_seed(1)
    trained = _network(3, True)
    torch.save(
        (wrappers[wrap](trained) if where != "network" else trained).state_dict(), "wrapped.pt"
    )
    made = {"parallel": "nn.DataParallel", "averaged": "AveragedModel", "compiled": "torch.compile"}
    (own / "wrapped.py").write_text(
        "import torch\nfrom torch import nn\nfrom torch.optim.swa_utils import AveragedModel\n"
        "from tests.faults.test_many_checkpoints import _network\n"
        f"def build(): return {made[wrap] if where != 'file' else ''}(_network(3, True))\n"
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network = load_network("wrapped.py:build", "wrapped.pt")
    taken = [v for k, v in network.module.state_dict().items() if not k.endswith("n_averaged")]
    wanted = list(trained.state_dict().values())
    assert len(taken) == len(wanted)
    assert all(torch.equal(a, b) for a, b in zip(taken, wanted, strict=True))
