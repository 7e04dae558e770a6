"""Which state dict of a file goes into a network, under which names, and what is said of it."""

from __future__ import annotations

import json
import logging
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file, save_model
from torch import Tensor, nn
from torch.nn.utils import parametrizations
from torchvision.models import get_model

from lcam_cli.errors import LcamError
from lcam_cli.networks.registry import load_network
from lcam_cli.networks.weights.file import WeightsFile, load_weights
from lcam_cli.networks.weights.state_dicts import split_key
from tests.tiny import tiny_network


def _own(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))


def _same(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(v, b.state_dict()[k]) for k, v in a.state_dict().items())


def _loaded(path: Path | str, module: nn.Module) -> WeightsFile:
    return load_weights(module, str(path), "own")


# --- where it lies --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "key",
    ["module", "model", "params", "teacher", "weights", "state_dict_ema", "anything", "a.b"],
)
@pytest.mark.parametrize("depth", [1, 3])
def test_a_state_dict_is_found_by_what_fits_wherever_it_lies(
    tmp_path: Path, key: str, depth: int
) -> None:
    content: Any = _own(0).state_dict()
    for _ in range(depth):
        content = {"arch": "own", "other": {"x": torch.rand(3)}, key: content, "epoch": 3}
    torch.save(content, tmp_path / "w.pt")
    module = _own(1)
    _loaded(tmp_path / "w.pt", module)
    assert _same(module, _own(0))


def test_many_small_dictionaries_do_not_hide_it(tmp_path: Path) -> None:
    moments = {i: {"exp_avg": torch.rand(2), "step": torch.tensor(1.0)} for i in range(500)}
    torch.save([{"optimizer": {"state": moments}}, _own(0).state_dict()], tmp_path / "w.pt")
    module = _own(1)
    _loaded(tmp_path / "w.pt", module)
    assert _same(module, _own(0))


def test_of_two_that_fit_the_averaged_is_taken_and_the_other_can_be(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "reference.pth"
    averaged = {f"module.{k}": v for k, v in _own(1).state_dict().items()}
    content = {"model": _own(0).state_dict(), "model_ema": {**averaged, "n_averaged": 7}}
    torch.save(content, path)
    taken = {}
    for key in ("", "#model", "#model_ema", "#model_ema.module"):
        caplog.clear()
        module = _own(9)
        file = _loaded(f"{path}{key}", module)
        taken[key] = (file.identity, file.found_at)
        assert _same(module, _own(0 if key == "#model" else 1))
        told = [r.message for r in caplog.records if "2 state dicts that fit own" in r.message]
        assert len(told) == (0 if key else 1)
        assert all("using model_ema, which is averaged" in line for line in told)
        assert all(f"--weights '{path}#model'" in line for line in told)
    # What was chosen is part of what the weights are, and enough to find them again.
    assert taken[""] == taken["#model_ema"] == taken["#model_ema.module"]
    assert taken[""][0] != taken["#model"][0]
    assert taken["#model"][1] == f"{path}#model"
    with pytest.raises(LcamError, match="has no state dict 'nothing'") as caught:
        _loaded(f"{path}#nothing", _own(9))
    assert "model, model_ema" in caught.value.hint


def test_two_networks_in_one_state_dict_are_told_apart_by_their_prefix(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As Lightning keeps a network and its average beside a loss."""
    state = {f"net.{k}": v for k, v in _own(0).state_dict().items()}
    state |= {f"ema.module.{k}": v for k, v in _own(1).state_dict().items()}
    state |= {"loss.weight": torch.ones(2), "ema.n_averaged": torch.tensor(3)}
    path = tmp_path / "lightning.ckpt"
    torch.save({"state_dict": state, "pytorch-lightning_version": "2.5"}, path)
    module = _own(9)
    _loaded(path, module)
    assert _same(module, _own(1))
    assert "using state_dict.ema.module" in caplog.text
    _loaded(f"{path}#state_dict.net", module)
    assert _same(module, _own(0))


def test_the_same_weights_kept_twice_are_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    state = _own(0).state_dict()
    torch.save({"a": state, "b": {k: v.clone() for k, v in state.items()}}, tmp_path / "w")
    _loaded(tmp_path / "w", _own(1))
    assert "state dicts" not in caplog.text


def test_a_file_whose_name_has_a_number_sign_is_a_file(tmp_path: Path) -> None:
    path = tmp_path / "run#3.pt"
    torch.save({"model": _own(0).state_dict()}, path)
    assert split_key(str(path)) == (path, "")
    assert split_key(f"{path}#model") == (path, "model")
    module = _own(1)
    _loaded(f"{path}#model", module)
    assert _same(module, _own(0))


def test_a_state_dict_in_parts_is_read_by_its_table(tmp_path: Path) -> None:
    state = _own(0).state_dict()
    names = list(state)
    parts = {"a.safetensors": names[:3], "b.safetensors": names[3:]}
    for file, inside in parts.items():
        save_file({k: state[k] for k in inside}, tmp_path / file)
    table = tmp_path / "model.safetensors.index.json"
    table.write_text(json.dumps({"weight_map": {k: f for f, ks in parts.items() for k in ks}}))
    module = _own(1)
    identity = _loaded(table, module).identity
    assert _same(module, _own(0))
    save_file({k: state[k] + 1 for k in parts["b.safetensors"]}, tmp_path / "b.safetensors")
    assert _loaded(table, module).identity != identity
    for elsewhere in ("../a.safetensors", "/etc/passwd", "c.safetensors"):
        table.write_text(json.dumps({"weight_map": {"x": elsewhere}}))
        with pytest.raises(LcamError):
            _loaded(table, module)


def test_a_state_dict_that_is_named_and_does_not_fit_is_not_passed_over(tmp_path: Path) -> None:
    other = {"0.weight": torch.rand(9, 3, 3, 3)}
    torch.save({"model": _own(0).state_dict(), "best": other}, tmp_path / "w.pt")
    _loaded(tmp_path / "w.pt", _own(1))
    with pytest.raises(LcamError, match="do not fit own"):
        _loaded(f"{tmp_path}/w.pt#best", _own(1))


# --- what load_state_dict would take --------------------------------------------------------------


class _Within(nn.Module):
    def __init__(self, name: str) -> None:
        super().__init__()
        self.add_module(name, _own(1))


@pytest.mark.parametrize("name", ["net", "model", "module", "network", "encoder", "backbone", "x"])
def test_names_that_fit_as_they_are_stay(tmp_path: Path, name: str) -> None:
    torch.save({f"{name}.{k}": v for k, v in _own(0).state_dict().items()}, tmp_path / "w.pt")
    wrapped = _Within(name)
    _loaded(tmp_path / "w.pt", wrapped)
    assert _same(wrapped.get_submodule(name), _own(0))
    bare = _own(1)
    _loaded(tmp_path / "w.pt", bare)
    assert _same(bare, _own(0))
    torch.save(_own(2).state_dict(), tmp_path / "bare.pt")
    _loaded(tmp_path / "bare.pt", wrapped)
    assert _same(wrapped.get_submodule(name), _own(2))


def test_parts_that_were_wrapped_alone(tmp_path: Path) -> None:
    """VGG's features in DataParallel, or one block compiled: the wrapper stands inside names."""
    model = get_model("squeezenet1_1", weights=None, num_classes=3)
    state = {k.replace("features.", "features.module."): v for k, v in model.state_dict().items()}
    torch.save(state, tmp_path / "w.pt")
    assert _same(load_network("squeezenet1_1", str(tmp_path / "w.pt")).module, model)


def _norms(norm: Callable[[nn.Module], nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    layers = [norm(nn.Conv2d(3, 4, 3, bias=False)), norm(nn.Conv2d(4, 2, 3, bias=False))]
    return nn.Sequential(*layers).eval()


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("kind", ["weight_norm", "spectral_norm"])
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_hooks_of_the_modules_rename_as_in_pytorch(tmp_path: Path, prefix: str, kind: str) -> None:
    old, new = (getattr(m, kind) for m in (torch.nn.utils, parametrizations))
    trained = _norms(old)
    torch.save({prefix + k: v for k, v in trained.state_dict().items()}, tmp_path / "old.pt")
    module, plain = _norms(new), _norms(new)
    for parameter in module.parameters():
        nn.init.ones_(parameter)
    if kind == "weight_norm":
        plain.load_state_dict(trained.state_dict())
        _loaded(tmp_path / "old.pt", module)
        assert _same(module, plain)
    else:  # PyTorch has no hook for this one: its names are told
        with pytest.raises(RuntimeError):
            plain.load_state_dict(trained.state_dict())
        with pytest.raises(LcamError, match="do not fit own"):
            _loaded(tmp_path / "old.pt", module)


class _Renames(nn.Module):
    """Knows the names it had before; and keeps a state that is not a tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(2, 2)
        self.scale = 1.0
        self.register_load_state_dict_pre_hook(self._rename)

    @staticmethod
    def _rename(_module: nn.Module, state: dict[str, Any], prefix: str, *_: object) -> None:
        for last in ("weight", "bias"):
            if f"{prefix}dense.{last}" in state:
                state[f"{prefix}fc.{last}"] = state.pop(f"{prefix}dense.{last}")

    def get_extra_state(self) -> float:
        return self.scale

    def set_extra_state(self, state: float) -> None:
        self.scale = state


def test_a_networks_own_hook_and_extra_state_do_their_work(tmp_path: Path) -> None:
    state = {"dense.weight": torch.eye(2), "dense.bias": torch.ones(2), "_extra_state": 3.0}
    torch.save({f"module.{k}": v for k, v in state.items()}, tmp_path / "w.pt")
    module = _Renames()
    _loaded(tmp_path / "w.pt", module)
    assert module.scale == 3.0
    assert torch.equal(module.fc.weight, torch.eye(2))


class _Overrides(nn.Sequential):
    def load_state_dict(self, state: Any, strict: bool = True, assign: bool = False) -> Any:
        # As people write it: nothing is given back.
        super().load_state_dict(OrderedDict((k.lower(), v) for k, v in state.items()), strict)


def test_a_load_state_dict_of_the_networks_own_is_asked(tmp_path: Path) -> None:
    torch.save({k.upper(): v for k, v in _own(0).state_dict().items()}, tmp_path / "w.pt")
    module = _Overrides(*_own(1))
    _loaded(tmp_path / "w.pt", module)
    assert _same(nn.Sequential(*module), _own(0))
    torch.save({"0.WEIGHT": torch.rand(4, 3, 3, 3)}, tmp_path / "few.pt")
    with pytest.raises(LcamError, match="do not fit own"):
        _loaded(tmp_path / "few.pt", module)


def test_lazy_modules_take_their_shapes_from_the_file(tmp_path: Path) -> None:
    torch.save({f"module.{k}": v for k, v in _own(0).state_dict().items()}, tmp_path / "w.pt")
    lazy = nn.Sequential(nn.LazyConv2d(4, 3), nn.LazyBatchNorm2d(), nn.Flatten(), nn.LazyLinear(2))
    _loaded(tmp_path / "w.pt", lazy)
    assert _same(lazy, _own(0))


class _Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(3, 3, bias=False)
        self.b = nn.Linear(3, 3, bias=False)
        self.b.weight = self.a.weight


def test_shared_tensors_that_a_file_keeps_once(tmp_path: Path) -> None:
    trained = _Tied()
    save_model(trained, str(tmp_path / "w.safetensors"))  # under one of the two names
    module = _Tied()
    _loaded(tmp_path / "w.safetensors", module)
    assert torch.equal(module.b.weight, trained.a.weight)


def test_old_counters_types_and_expanded_tensors(tmp_path: Path) -> None:
    state: dict[str, Any] = dict(_own(0).state_dict())
    del state["1.num_batches_tracked"]
    state["1.running_mean"] = torch.zeros(1).expand(4)  # one number in the file
    state["0.weight"] = state["0.weight"].double()
    torch.save(state, tmp_path / "w.pt")
    module = _own(1)
    _loaded(tmp_path / "w.pt", module)
    assert _same(module, _own(0))


# --- what is left out -----------------------------------------------------------------------------


def test_entries_that_are_no_weights_are_left_out_and_named_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    state: dict[str, Any] = dict(_own(0).state_dict())
    state |= {"loss.weight": torch.ones(2), "steps": torch.tensor(3), "epoch": 3, "name": "x"}
    torch.save({"state_dict": state}, tmp_path / "w.pt")
    module = _own(1)
    _loaded(tmp_path / "w.pt", module)
    assert _same(module, _own(0))
    assert [r.levelno for r in caplog.records] == [logging.WARNING]
    assert "own has no such weights: epoch, name, loss.weight and 1 more" in caplog.text


@pytest.mark.parametrize("key", ["4.weight", "10.0.bias", "0.1.weight", "3.lora.weight"])
def test_weights_of_a_deeper_network_are_not_half_loaded(tmp_path: Path, key: str) -> None:
    torch.save({**_own(0).state_dict(), key: torch.rand(2, 2)}, tmp_path / "w.pt")
    with pytest.raises(LcamError, match=rf"do not fit own: 1 unexpected \(e\.g\. {key}\)"):
        _loaded(tmp_path / "w.pt", _own(1))


def test_a_swins_tables_may_be_missing(tmp_path: Path) -> None:
    """Their makers' files leave out what each network computes for itself."""
    model = get_model("swin_t", weights=None, num_classes=2).eval()
    state = {k: v for k, v in model.state_dict().items() if "relative_position_index" not in k}
    torch.save(state, tmp_path / "w.pt")
    network = load_network("swin_t", str(tmp_path / "w.pt"))
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(network.module(x), model(x))


# --- files of which only part is data -------------------------------------------------------------


def test_a_pickled_network_is_named_and_not_opened(tmp_path: Path) -> None:
    path = tmp_path / "whole.pt"
    torch.save(tiny_network(), path)
    with pytest.raises(LcamError, match=r"a whole network, pickled \(class torch\.nn\.\S+Sequent"):
        _loaded(path, _own(1))
    torch.save({"epoch": 3, "model": tiny_network()}, path)
    with pytest.raises(LcamError, match=r"'model' in \S+ is a whole network, pickled"):
        _loaded(path, _own(1))
    torch.save({"net": tiny_network(), "weights": _own(0).state_dict()}, path)
    module = _own(1)
    _loaded(path, module)
    assert _same(module, _own(0))


class _Labelled(Tensor):
    """As fastai's and torchvision's tensors: numbers with something beside them."""


@pytest.mark.parametrize("zipped", [True, False])
def test_subclasses_of_tensors_are_their_numbers(tmp_path: Path, zipped: bool) -> None:
    state = {k: v.as_subclass(_Labelled) for k, v in _own(0).state_dict().items()}
    torch.save(state, tmp_path / "w.pt", _use_new_zipfile_serialization=zipped)
    module = _own(1)
    _loaded(tmp_path / "w.pt", module)
    assert _same(module, _own(0))


class _Shard:
    """Stands for a tensor that only running code could make."""


def test_an_object_in_a_weights_place_is_named(tmp_path: Path) -> None:
    torch.save({**_own(0).state_dict(), "0.weight": _Shard()}, tmp_path / "w.pt")
    with pytest.raises(
        LcamError, match=r"0\.weight is a tests\.networks\.weights\.test_weights\._Shard"
    ):
        _loaded(tmp_path / "w.pt", _own(1))


class DTensor:
    """Stands for PyTorch's, which needs several processes to make."""


def test_shards_are_called_shards(tmp_path: Path) -> None:
    torch.save({"model": {"a.weight": DTensor()}}, tmp_path / "w.pt")
    with pytest.raises(LcamError, match=r"no whole tensors: model\.a\.weight is a shard") as caught:
        _loaded(tmp_path / "w.pt", _own(1))
    assert "full_state_dict=True" in caught.value.hint
    torch.save({**_own(0).state_dict(), "0.weight": DTensor()}, tmp_path / "w.pt")
    with pytest.raises(LcamError, match=r"do not fit own: 0\.weight is a shard of a tensor"):
        _loaded(tmp_path / "w.pt", _own(1))


def test_a_small_file_that_names_the_same_lists_over_and_over_is_soon_looked_through(
    tmp_path: Path,
) -> None:
    nested: list[object] = []
    for _ in range(40):
        nested = [nested] * 60
    torch.save({"more": nested, "net": torch.nn.Linear(2, 2).state_dict()}, tmp_path / "a.pt")
    assert load_weights(torch.nn.Linear(2, 2), str(tmp_path / "a.pt"), "net").identity
