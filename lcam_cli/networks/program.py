"""``net.pt2``: a program exported by ``torch.export``, as a backbone.

Its network is built anew from the file's JSON (``networks.program_graph``), and nothing in the file
is run, imported or evaluated.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from lcam_cli.errors import LcamError
from lcam_cli.images.preprocess import Preprocess
from lcam_cli.networks.archive import read_archive
from lcam_cli.networks.network import Network, of_size
from lcam_cli.networks.program_graph import EXPORT, GraphBuilder
from lcam_cli.networks.weights.checkpoint import sha256_of_file

SUFFIX = ".pt2"

_DYNAMIC = (
    "export it for any batch size: torch.export.export(model, (images,), "
    "dynamic_shapes=({0: torch.export.Dim('batch')},))"
)


def program_network(name: str, weights: str) -> Network:
    """Load an exported classifier.

    Args:
        name: A file ``….pt2``.
        weights: ``"DEFAULT"``, or where that file lies now.

    Raises:
        LcamError: The file is missing or damaged, calls a function that is not known to be
            harmless, or is no classifier of images in batches of any size.
    """
    path = Path(name if weights == "DEFAULT" else weights)
    if path.suffix != SUFFIX:
        raise LcamError(
            f"{name} includes its own weights, so it cannot use {weights!r}",
            "remove --weights, or pass the program's own file",
        )
    identity = sha256_of_file(path)
    archive = read_archive(path)
    try:
        builder = GraphBuilder(archive.program["graph_module"], archive.tensors)
        module = builder.build()
        _check_batches(module, builder)
    except LcamError as error:
        raise LcamError(f"{path} refused: {error.what}", error.hint) from None
    except Exception as error:  # whatever a graph that does not fit together can raise
        said = str(error).partition("\n")[0][:200]
        raise LcamError(f"{path} does not run: {type(error).__name__}: {said}", EXPORT) from None
    channels, height, width = builder.shape
    network = Network(module, name, identity, str(path.resolve()))
    network.preprocess = of_size(Preprocess(), (height, width)).with_channels(channels)
    network.normalisation_known = channels == len(Preprocess().mean)  # ImageNet's is assumed
    return network


@torch.no_grad()
def _check_batches(module: nn.Module, builder: GraphBuilder) -> None:
    """Check that two images together get the logits that each gets alone, and change nothing.

    Raises:
        LcamError: They do not: the program is for batches of one size. Or it changes what it is
            given, or its weights, which the next image would find changed.
    """
    generator = torch.Generator().manual_seed(0)
    pictures = torch.randn(2, *builder.shape, generator=generator)
    # Of a view as well as of the tensor itself, whichever of them a function changes in place.
    kept = {
        "its images": [pictures],
        "its own weights": [*module.parameters(), *module.buffers()],
    }
    before = {what: [t._version for t in tensors] for what, tensors in kept.items()}
    try:
        alone = torch.cat([module(picture[None]) for picture in pictures])
        close = torch.allclose(module(pictures), alone, rtol=1e-3, atol=1e-4)
    except RuntimeError:
        if isinstance(builder.batch, str):
            raise
        close = False
    for what, tensors in kept.items():
        if [t._version for t in tensors] != before[what]:
            raise LcamError(f"it changes {what}", EXPORT)
    if not close:
        raise LcamError("it was exported for batches of one size", _DYNAMIC)
