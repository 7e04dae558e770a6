"""The sources of classifiers: which names each takes, and what loads them.

Another source is a file beside this one and a line in ``SOURCES``, or a package that brings it
(``networks.plugins``).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from lcam_cli.networks.demo import DEMO_NETWORKS, demo_network
from lcam_cli.networks.function import function_network
from lcam_cli.networks.huggingface import huggingface_network
from lcam_cli.networks.huggingface_folder import PREFIX, is_huggingface, is_moved_folder
from lcam_cli.networks.network import LoadNetwork, Network
from lcam_cli.networks.onnx_file import onnx_network
from lcam_cli.networks.plugins import find_plugin, find_plugins
from lcam_cli.networks.program import program_network
from lcam_cli.networks.timm import timm_network
from lcam_cli.networks.torchvision import torchvision_classifiers, torchvision_network
from lcam_cli.networks.unknown import unknown_backbone


@dataclass(frozen=True)
class Source:
    """Where classifiers come from.

    Attributes:
        takes: Whether a name is one of its own.
        load: Loads it, given the name, the weights and a seed.
        gives_logits: Whether all of its classifiers are known to give logits (B, R), so that their
            outputs need not be looked at.
        has_gradients: Whether PyTorch computes its classifiers, so that they may have gradients.
        runs_user_code: Whether loading runs code that the user brings. A file that names such a
            classifier does not have it loaded: the user must name it too.
        names_a_file: Whether its names are paths, which from elsewhere are other ones.
    """

    takes: Callable[[str], bool]
    load: LoadNetwork
    gives_logits: bool = False
    has_gradients: bool = True
    runs_user_code: bool = False
    names_a_file: bool = False


# The first that takes a name has it. What is an extra is imported where it is used.
SOURCES = (
    Source(
        lambda name: name in DEMO_NETWORKS, lambda n, w, _: demo_network(n, w), gives_logits=True
    ),
    Source(
        lambda name: name.endswith(".pt2"),
        lambda n, w, _: program_network(n, w),
        names_a_file=True,
    ),
    Source(
        lambda name: name.lower().endswith(".onnx"),
        lambda n, w, _: onnx_network(n, w),
        has_gradients=False,
        names_a_file=True,
    ),
    Source(lambda name: name.startswith("timm/"), timm_network, gives_logits=True),
    Source(lambda name: ":" in name, function_network, runs_user_code=True, names_a_file=True),
    Source(lambda name: name in torchvision_classifiers(), torchvision_network, gives_logits=True),
    Source(is_huggingface, huggingface_network, gives_logits=True),
)
"""The sources that come along."""


def find_source(name: str) -> Source | None:
    """The source that takes a name: one that comes along, else a plug-in; none where there is none.

    No code of a plug-in runs before the source loads something.
    """
    for source in SOURCES:
        if source.takes(name):
            return source
    load = find_plugin(name)
    return None if load is None else Source(lambda n: n == name, load, runs_user_code=True)


def load_network(name: str, weights: str = "DEFAULT", *, seed: int = 0) -> Network:
    """Load a classifier.

    Args:
        name: A torchvision classifier, ``timm/NAME``, ``hf/ORG/NAME`` or a folder of Hugging
            Face's, an ONNX model ``FILE.onnx``, an exported program ``FILE.pt2``,
            ``package.module:function`` or ``file.py:function`` (called without arguments, returning
            an ``nn.Module``), or a name of a plug-in's.
        weights: ``"DEFAULT"`` or another name of torchvision's weights (downloaded and checked by
            its hash, cached) or timm's, ``"none"`` (random, from ``seed``), or a file (``.pt``,
            ``.pth``, ``.safetensors``; ``FILE#KEY`` for one of several state dicts in it).
        seed: For ``"none"``; with ``"none:seed=N"`` that N is taken instead.

    Raises:
        LcamError: Unknown backbone or weights, a download that fails, weights that do not fit.
    """
    if match := re.fullmatch(r"none:seed=(\d{1,19})", weights):
        weights, seed = "none", int(match[1])
    source = find_source(name)
    if source is None and is_moved_folder(name, weights):
        source = find_source(f"{PREFIX}{name}")
    if source is None:
        prefixes = dict.fromkeys(("timm/", "hf/", *find_plugins()))
        raise unknown_backbone(name, torchvision_classifiers(), prefixes)
    network = source.load(name, weights, seed)
    network.module.eval()
    return network


def gives_logits(name: str) -> bool:
    """Tell whether a name stands for a classifier that is known to give logits (B, R)."""
    source = find_source(name)
    return source is not None and source.gives_logits


def has_gradients(name: str) -> bool:
    """Tell whether a backbone may have gradients, as far as its name tells."""
    source = find_source(name)
    return source is None or source.has_gradients


def names_a_file(name: str) -> bool:
    """Tell whether a name is a path: of a file that a source reads, or of a folder elsewhere."""
    source = find_source(name)
    return source is None or source.names_a_file


def runs_user_code(name: str) -> bool:
    """Tell whether loading this backbone runs code that the user brings: a function, a plug-in."""
    source = find_source(name)
    return source is not None and source.runs_user_code
