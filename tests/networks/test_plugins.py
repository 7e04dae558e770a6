"""What a package's source may return: anything else names the source."""

from __future__ import annotations

import pytest

from lcam_cli.errors import LcamError
from lcam_cli.networks.registry import load_network
from tests.packages import Install

SOURCE = """
from torch import nn
from lcam_cli.networks.network import Network
def load(name, weights, seed):
    network = Network(nn.Linear(3, 2), name, "none:seed=0")
    return network
"""
LAST = "    return network"


@pytest.mark.parametrize(
    ("instead", "why"),
    [
        ("", "returned a NoneType"),
        ("return network.module", "returned a Linear"),
        ("network.module = None", "returned a Network for zz/a whose module is None, not an nn"),
        ("network.preprocess = 224", "whose preprocess is 224, not an lcam_cli.Preprocess"),
        ("network.class_names = [1, 2]", r"whose class_names is \[1, 2\], not a list of texts"),
        ("network.class_names = None", "whose class_names is None"),
        ("network.weights = None", "whose weights is None"),
        ("network.weights = '../x'", "whose weights is '../x', not none:seed=N, sha256:"),
        ("network.grid = 7", "whose grid is 7, not PxQ"),
        ("network.activation = 'tanh'", "whose activation is 'tanh', not softmax, sigmoid"),
        (
            "raise SystemExit(3)",
            r"failed on zz/a: it called sys.exit\(3\) \(.*line 6\)",
        ),
    ],
)
def test_what_is_no_classifier_is_refused(install: Install, instead: str, why: str) -> None:
    code = SOURCE.replace(LAST, f"    {instead}\n{LAST if '=' in instead else ''}")
    install("lcam_zz", code, {"zz": "lcam_zz:load"})
    begin = r"^the plug-in network source 'zz' \(lcam_zz:load\)"
    with pytest.raises(LcamError, match=f"{begin} .*{why}"):
        load_network("zz/a")


@pytest.mark.parametrize("weights", ["none:seed=7", f"sha256:{'a' * 64}", "IMAGENET1K_V2"])
def test_weights_that_files_can_name_are_taken(install: Install, weights: str) -> None:
    install("lcam_zz", SOURCE.replace("none:seed=0", weights), {"zz": "lcam_zz:load"})
    assert load_network("zz/a").weights == weights
