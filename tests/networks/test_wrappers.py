"""Wrappers come off a network, and its parts keep their names."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from torch import nn

from lcam_cli.networks.wrappers import unwrap
from tests.tiny import tiny_network


@contextmanager
def _alone_in_a_group(folder: Path) -> Iterator[None]:
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/rendezvous", rank=0, world_size=1
    )
    try:
        yield
    finally:
        torch.distributed.destroy_process_group()


def test_every_wrapper_comes_off_with_its_names(tmp_path: Path) -> None:
    with _alone_in_a_group(tmp_path):
        network = tiny_network()
        wanted = list(network.state_dict())
        wrapped: nn.Module = nn.parallel.DistributedDataParallel(network)
        wrapped = torch.optim.swa_utils.AveragedModel(wrapped)
        assert list(unwrap(nn.DataParallel(wrapped)).state_dict()) == wanted


def test_timms_averaged_models_come_off() -> None:
    timm = pytest.importorskip("timm")
    for kind in (timm.utils.ModelEmaV2, timm.utils.ModelEmaV3):
        assert "3" in dict(unwrap(kind(tiny_network())).named_children())
