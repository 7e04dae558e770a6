"""The user's own function as a source."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from lcam_cli.engine.backbone import load_backbone
from lcam_cli.errors import LcamError


def test_users_own_code_as_backbone(tmp_path: Path) -> None:
    file = tmp_path / "own.py"
    file.write_text(
        "import torch\n"
        "def net():\n"
        "    return torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(),\n"
        "        torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(4, 3))\n"
        "def text():\n"
        "    return 'no module'\n"
    )
    first = load_backbone(f"{file}:net", "none", seed=1)
    assert first.num_classes == 3
    assert first.identity.layer == "1"
    assert load_backbone(f"{file}:net", "none", seed=1).identity == first.identity
    torch.save(first.network.state_dict(), tmp_path / "own.pt")
    assert load_backbone(f"{file}:net", str(tmp_path / "own.pt")).identity.weights.startswith("sha")
    assert load_backbone("tests.tiny:tiny_network", "DEFAULT").num_classes == 4
    with pytest.raises(LcamError, match="returned a str"):
        load_backbone(f"{file}:text")
    with pytest.raises(LcamError, match="has no function 'nett'") as caught:
        load_backbone(f"{file}:nett")
    assert "net" in caught.value.hint
    with pytest.raises(LcamError, match="no such file"):
        load_backbone(f"{tmp_path}/none.py:net")
    with pytest.raises(LcamError, match="importing 'no_such_package' failed"):
        load_backbone("no_such_package:net")
