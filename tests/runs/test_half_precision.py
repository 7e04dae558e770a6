"""What runs say of half precision on a CPU."""

from __future__ import annotations

import copy
import re
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import torch

from lcam_cli.engine.engine import Engine
from lcam_cli.runs import half_precision
from lcam_cli.runs.half_precision import MANY_PASSES, hint_at_bf16, speed_up, warn_of_emulation
from lcam_cli.runs.options import EngineOptions
from lcam_cli.runs.reporter import Reporter
from tests.tiny import tiny_backbone


@dataclass
class Listener:
    """What a run says."""

    info: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def reporter(self) -> Reporter:
        return Reporter(on_info=self.info.append, on_warning=self.warnings.append)


@pytest.fixture
def said() -> Listener:
    return Listener()


@pytest.fixture
def bf16_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(half_precision, "cpu_computes_bf16", lambda: True)
    monkeypatch.setattr(half_precision, "speed_up", lambda _backbone: 1.74)


def never(_backbone: object) -> float:
    raise AssertionError("measured for nobody")


@pytest.fixture
def engine() -> Engine:
    return Engine(tiny_backbone(), device="cpu")


@pytest.mark.usefixtures("bf16_here")
def test_a_long_run_is_told_what_bf16_would_give(engine: Engine, said: Listener) -> None:
    hint_at_bf16(engine, EngineOptions(), MANY_PASSES, "it costs this", said.reporter())
    assert said.info == [
        "this processor has bf16 instructions: --precision bf16 would be about 1.7 times as fast; "
        "it costs this (docs/precision.md)"
    ]
    assert not said.warnings


@pytest.mark.usefixtures("bf16_here")
def test_where_it_would_not_pay_nothing_is_measured_or_told(
    engine: Engine, said: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(half_precision, "speed_up", never)
    auto, listens = EngineOptions(), said.reporter()
    hint_at_bf16(engine, auto, MANY_PASSES - 1, "", listens)
    hint_at_bf16(engine, EngineOptions(precision="fp32"), MANY_PASSES, "", listens)
    hint_at_bf16(engine, auto, MANY_PASSES, "", Reporter())
    gpu = copy.copy(engine)
    gpu.hardware = replace(engine.hardware, device=torch.device("cuda"))
    hint_at_bf16(gpu, auto, MANY_PASSES, "", listens)
    monkeypatch.setattr(half_precision, "cpu_computes_bf16", lambda: False)
    hint_at_bf16(engine, auto, MANY_PASSES, "", listens)
    assert not said.info


@pytest.mark.usefixtures("bf16_here")
def test_a_network_that_gains_little_is_not_mentioned(
    engine: Engine, said: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(half_precision, "speed_up", lambda _backbone: 1.1)
    hint_at_bf16(engine, EngineOptions(), MANY_PASSES, "", said.reporter())
    assert not said.info


@pytest.mark.usefixtures("bf16_here")
@pytest.mark.parametrize(
    "failure", ["not implemented for 'BFloat16'", "can't allocate memory: 1 GB"]
)
def test_a_network_that_does_not_run_in_bf16_goes_on_in_fp32(
    failure: str, engine: Engine, said: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(half_precision, "speed_up", speed_up)
    x = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    before = engine.forward(x)
    conv = engine.backbone.network[0]

    def fp32_alone(_module: object, given: tuple[torch.Tensor, ...]) -> None:
        if given[0].dtype == torch.bfloat16 or torch.is_autocast_enabled("cpu"):
            raise RuntimeError(failure)

    conv.register_forward_pre_hook(fp32_alone)
    hint_at_bf16(engine, EngineOptions(), MANY_PASSES, "", said.reporter())
    assert not said.info
    assert torch.equal(engine.forward(x).logits, before.logits)


def test_measuring_leaves_the_network_as_it_was(engine: Engine) -> None:
    x = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    before = engine.forward(x)
    assert speed_up(engine.backbone) > 0
    after = engine.forward(x)
    assert torch.equal(before.A, after.A)
    assert torch.equal(before.logits, after.logits)
    assert all(p.dtype == torch.float32 for p in engine.backbone.network.parameters())


def test_emulated_bf16_is_said(said: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(half_precision, "cpu_computes_bf16", lambda: False)
    reporter = said.reporter()
    warn_of_emulation(Engine(tiny_backbone(), device="cpu"), reporter)
    assert not said.warnings
    emulated = Engine(tiny_backbone(), device="cpu", precision="bf16")
    warn_of_emulation(emulated, reporter)
    assert len(said.warnings) == 1
    assert "emulated" in said.warnings[0]
    monkeypatch.setattr(half_precision, "cpu_computes_bf16", lambda: True)
    warn_of_emulation(emulated, reporter)
    assert len(said.warnings) == 1


def test_what_is_said_names_a_page_that_is_there() -> None:
    source = Path(half_precision.__file__).read_text("utf-8")
    root = Path(__file__).parents[2]
    assert all((root / page).exists() for page in re.findall(r"docs/[\w-]+\.md", source))
