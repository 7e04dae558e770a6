"""What each method should give: other packages, and slow transcriptions of the papers' equations.

Tests hold the methods to these on small networks, ``benchmarks/oracle_differences.py`` on a real
one. Of an engine they use the network, its mean and standard deviation; its maps have to tile the
image (``align=False``), as those of packages do. Pixels x are (B, C, H, W) in [0, 1], classes y
(B,), maps of pixels (B, H, W), maps of cells (B, P, Q).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest import mock

import captum.attr
import numpy as np
import pytorch_grad_cam
import torch
import torch.nn.functional as F
from captum.attr._core.gradient_shap import InputBaselineXGradient
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from pytorch_grad_cam.utils.svd_on_activations import get_2d_projection
from torch import Tensor

from lcam_cli.engine.engine import Engine
from lcam_cli.methods.noise import checksums


def zeta(L: Tensor) -> Tensor:
    """The min-max of each map; a map that is alike everywhere is no oracle."""
    low, high = L.amin((1, 2), keepdim=True), L.amax((1, 2), keepdim=True)
    return (L - low) / (high - low)


def logits_of(engine: Engine) -> Callable[[Tensor], Tensor]:
    """Logits of pixels, with their graph, in the precision that these and the network have."""
    return lambda x: engine.backbone.network(normalised(engine, x))


def normalised(engine: Engine, x: Tensor) -> Tensor:
    """Pixels less the mean, over the standard deviation, written out."""
    mean, std = (
        torch.tensor(values, dtype=x.dtype)[:, None, None]
        for values in (engine.backbone.preprocess.mean, engine.backbone.preprocess.std)
    )
    return (x - mean) / std


def grad_cam_package(name: str, engine: Engine, x: Tensor, y: Tensor, *layers: str) -> Tensor:
    """A method of the package at layers, fused as it fuses; scaled to [0, 1] after upsampling."""
    network = engine.backbone.network
    targets = [ClassifierOutputTarget(int(c)) for c in y]
    of_layers = [network.get_submodule(layer) for layer in layers]
    with getattr(pytorch_grad_cam, name)(network, of_layers) as cam:
        return torch.from_numpy(cam(engine.normalise(x).clone().requires_grad_(), targets))


def finercam(
    engine: Engine, x: Tensor, y: int, layer: str, alpha: float = 1.0, near: int = 3
) -> Tensor:
    """Finer-CAM of the grad-cam package, of one class; scaled to [0, 1] after upsampling."""
    network = engine.backbone.network
    with pytorch_grad_cam.FinerCAM(network, [network.get_submodule(layer)]) as cam:
        given = engine.normalise(x).clone().requires_grad_()
        nearest = list(range(1, near + 1))
        found = cam(given, target_idx=y, alpha=alpha, comparison_categories=nearest)
    return torch.from_numpy(found)


def first_component(A: Tensor) -> Tensor:
    """The grad-cam package's projection of cells; its sign makes the largest magnitude positive."""
    found = torch.from_numpy(get_2d_projection(A.numpy())).float()
    largest = found.flatten(1).abs().argmax(1, keepdim=True)
    return found * found.flatten(1).gather(1, largest).sign()[:, :, None]


def gaussian(P: int, Q: int, p: int, q: int) -> Tensor:
    """Recipro-CAM's mask of cell (p, q) as the paper writes it, by the distance of each cell."""
    found = torch.zeros(P, Q)
    for down, across in ((d, a) for d in (-1, 0, 1) for a in (-1, 0, 1)):
        if 0 <= p + down < P and 0 <= q + across < Q:
            found[p + down, q + across] = {0: 1 / 4, 1: 1 / 8, 2: 1 / 16}[abs(down) + abs(across)]
    return found


def reciprocam(head: Callable[[Tensor], Tensor], A: Tensor, y: Tensor) -> Tensor:
    """Recipro-CAM's cells, one pass of the head (logits of A) after the other."""
    P, Q = A.shape[2:]
    scores = [
        head(one[None] * gaussian(P, Q, p, q)).softmax(1)[0, int(c)]
        for one, c in zip(A, y, strict=True)
        for p in range(P)
        for q in range(Q)
    ]
    return torch.stack(scores).view(len(A), P, Q)


def opticam(
    engine: Engine, X: Tensor, A: Tensor, y: int, steps: int, dtype: torch.dtype = torch.float64
) -> Tensor:
    """V (H, W) of one image (C, H, W): no batch, no grid, Adam written out, in ``dtype``."""
    network = engine.backbone.network.to(dtype)
    X, A = X.to(dtype), A.to(dtype)
    f = network(normalised(engine, X[None]))[0, y].detach()
    u = torch.zeros(len(A), dtype=dtype, requires_grad=True)
    m, v = torch.zeros_like(u), torch.zeros_like(u)

    def shown(u: Tensor) -> Tensor:
        L = (u.softmax(0)[:, None, None] * A).sum(0)
        S = F.interpolate(L[None, None], X.shape[1:], mode="bilinear", align_corners=False)[0, 0]
        return (S - S.min()) / (S.max() - S.min())

    for t in range(1, steps + 1):
        loss = (f - network(normalised(engine, shown(u) * X[None]))[0, y]).abs()
        (g,) = torch.autograd.grad(loss, u)
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        step = 0.1 * (m / (1 - 0.9**t)) / ((v / (1 - 0.999**t)).sqrt() + 1e-8)
        u = (u - step).detach().requires_grad_()
    network.float()
    return shown(u).detach()


def saliency(engine: Engine, x: Tensor, y: Tensor) -> Tensor:
    """Captum's, the largest of the channels."""
    found: Tensor = captum.attr.Saliency(logits_of(engine)).attribute(x.clone(), target=y)
    return found.amax(1)


def inputxgradient(engine: Engine, x: Tensor, y: Tensor) -> Tensor:
    """Captum's."""
    return _summed(captum.attr.InputXGradient(logits_of(engine)).attribute(x.clone(), target=y))


def ig(engine: Engine, x: Tensor, y: Tensor, steps: int = 50) -> Tensor:
    """Captum's, by the right Riemann sum from black."""
    theirs = captum.attr.IntegratedGradients(logits_of(engine))
    black = torch.zeros_like(x)
    given: dict[str, Any] = {"method": "riemann_right", "internal_batch_size": 16}
    return _summed(theirs.attribute(x, black, y, n_steps=steps, **given))


def draws_of(picture: Tensor, seed: int, count: int) -> Tensor:
    """Standard normal noise, (count, C, H, W), of the image's type."""
    noise = [
        torch.empty(picture.shape).normal_(generator=draw(seed, picture, n)) for n in range(count)
    ]
    return torch.stack(noise).to(picture.dtype)


def draw(seed: int, picture: Tensor, number: int) -> torch.Generator:
    """What a draw comes from, as the methods' page says."""
    state = np.random.SeedSequence([seed, *checksums(picture[None]), number]).generate_state(1)
    return torch.Generator().manual_seed(int(state[0]))


def smoothgrad(engine: Engine, x: Tensor, y: Tensor, draws: int, seed: int) -> Tensor:
    """Captum's noise tunnel, with our draws in the place of its own."""
    found = []
    for picture, c in zip(x, y, strict=True):
        noise = draws_of(picture, seed, draws)
        tunnel = captum.attr.NoiseTunnel(captum.attr.Saliency(logits_of(engine)))
        with mock.patch.object(torch, "normal", lambda mean, std, noise=noise: mean + std * noise):
            found += [
                tunnel.attribute(
                    picture[None],
                    nt_type="smoothgrad",
                    nt_samples=draws,
                    stdevs=0.15 * float(picture.max() - picture.min()),
                    target=int(c),
                    abs=False,
                )
            ]
    return _summed(torch.cat(found))


def gradientshap(engine: Engine, x: Tensor, y: Tensor, draws: int, seed: int) -> Tensor:
    """Captum's, with our draws in the place of its own."""
    theirs = InputBaselineXGradient(logits_of(engine))
    found = []
    for picture, c in zip(x, y, strict=True):
        each = []
        for n in range(draws):
            generator = draw(seed, picture, n)
            t = float(torch.rand(1, generator=generator))
            baseline = torch.zeros(picture.shape)
            if n % 2:
                baseline.uniform_(generator=generator)
            baseline = baseline.to(picture.dtype)
            with mock.patch.object(np.random, "uniform", lambda *_, t=t: np.array([t])):
                each.append(theirs.attribute(picture[None], baseline[None], target=int(c)))
        found.append(torch.stack(each).mean(0))
    return _summed(torch.cat(found))


def occlusion(engine: Engine, x: Tensor, y: Tensor) -> Tensor:
    """Captum's; what a patch takes from the score is alike in all channels."""
    patch = [round(length / 7) for length in x.shape[2:]]
    theirs = captum.attr.Occlusion(lambda x: engine.backbone.network(x).softmax(1))
    found: Tensor = theirs.attribute(
        normalised(engine, x),
        sliding_window_shapes=(x.shape[1], *patch),
        strides=(x.shape[1], *(n // 2 for n in patch)),
        target=y,
        baselines=0,
    )
    return found[:, 0]


def _summed(attribution: Tensor) -> Tensor:
    """Absolute values, summed over the channels."""
    return attribution.abs().sum(1)
