"""Training TAME on the image masked by the map.

The branches are the paper's: 1×1 convolution, batch norm, skip connection, ReLU. Ours are the
start (batch norm's factor is 0, so that a branch begins as ReLU(A)), the fusion's rows (those of
L-CAM's recipe ``auto``, which begin as the classifier's on the last layer and share a part), and
the mask ζ(L) instead of σ(L).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from lcam_cli.engine.backbone import Backbone
from lcam_cli.engine.engine import Engine
from lcam_cli.engine.grid import Grid
from lcam_cli.engine.stages import stage_ends
from lcam_cli.methods.attention import class_activation_map, spread
from lcam_cli.methods.tame import Tame, fuse
from lcam_cli.training.learned import LearnedModule, TrainingBatch, mask_of, masked_logits
from lcam_cli.training.losses import Loss, MaskedBatch, weighted_loss
from lcam_cli.training.recipes import Recipe
from lcam_cli.training.rows import KERNEL_LR, SharedRows, feature_scale, gaussian
from lcam_cli.training.settings import TrainingSettings
from lcam_cli.training.start import StartingData

_DEFAULT_LAYERS = 3


def default_layers(backbone: Backbone) -> tuple[str, ...]:
    """Return the ends of the network's last three stages, in its order."""
    return tuple(list(stage_ends(backbone))[-_DEFAULT_LAYERS:])


def feature_scales(batches: Iterable[Sequence[Tensor]]) -> list[Tensor]:
    """S of several layers, (K_i,) each: :func:`~.rows.feature_scale` of each of them.

    Args:
        batches: The layers' outputs, (B, K_i, P_i, Q_i) each.
    """
    sizes = [[A.square().mean((2, 3), keepdim=True).sqrt() for A in outputs] for outputs in batches]
    return [feature_scale(layer) for layer in zip(*sizes, strict=True)]


class TameModule(LearnedModule):
    """The branches and the fusion's rows.

    Args:
        layers: Their names, the largest outputs first.
        scales: s of each layer's feature maps, (K_i,) each.
        W0: The classifier's rows on the last layer, (R, K_n).
        settings: The recipe, and the seed of the convolutions' start.
    """

    def __init__(
        self,
        layers: Sequence[str],
        scales: Sequence[Tensor],
        W0: Tensor,
        settings: TrainingSettings,
    ) -> None:
        super().__init__()
        self._layers = list(layers)
        self._sizes = [len(scale) for scale in scales]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            self.convs = nn.ModuleList(nn.Conv2d(K, K, 1, bias=False) for K in self._sizes)
        self.norms = nn.ModuleList(nn.BatchNorm2d(K) for K in self._sizes)
        for norm in self.norms:
            nn.init.zeros_(norm.weight)  # type: ignore[arg-type]
        earlier = W0.new_zeros(len(W0), sum(self._sizes[:-1]))
        self.fusion = SharedRows(torch.cat([earlier, W0], 1), torch.cat(list(scales)))
        side = settings.recipe.kernel
        self.kernels = nn.ParameterList(gaussian(side) for _ in layers) if side else None

    def loss(self, engine: Engine, batch: TrainingBatch, recipe: Recipe) -> Loss:
        """The loss with S made of the predicted class's map alone."""
        grids = self._grids(engine, recipe)
        S = mask_of(self.map_of(engine, batch, recipe), recipe)
        logits = masked_logits(engine, batch, S, grids[0] if grids else None, recipe)
        return weighted_loss(MaskedBatch(batch.forward, batch.y, S, logits), recipe)

    def map_of(self, engine: Engine, batch: TrainingBatch, recipe: Recipe) -> Tensor:
        """L (B, P, Q), in the cells of the first layer, with gradients.

        Args:
            engine: The engine with the frozen classifier.
            batch: The images and their labels.
            recipe: Whether maps are placed by the receptive fields of their cells.
        """
        features = engine.outputs_of(batch.forward, self._layers)
        w, _ = self.fusion.rows(batch.y)
        rows, kernels = torch.split(w, self._sizes, 1), self.kernels or [None] * len(features)
        branches = zip(features, self.convs, self.norms, rows, kernels, strict=True)
        maps = [
            spread(class_activation_map((A + norm(conv(A))).relu(), row), kernel)
            for A, conv, norm, row, kernel in branches
        ]
        return fuse(maps, self._grids(engine, recipe))

    def _grids(self, engine: Engine, recipe: Recipe) -> list[Grid] | None:
        return engine.backbone.grids_of(self._layers) if recipe.align else None

    def optimisers(self, recipe: Recipe) -> list[torch.optim.Optimizer]:
        """Those of the rows, and Adam for the branches."""
        branches = [*self.convs.parameters(), *self.norms.parameters()]
        groups = [{"params": branches, "lr": recipe.lr * _BRANCH_LR}]
        if self.kernels is not None:
            groups.append({"params": list(self.kernels), "lr": recipe.lr * KERNEL_LR})
        return [*self.fusion.optimisers(recipe), torch.optim.Adam(groups)]

    @torch.no_grad()
    def fold(self) -> Tame:
        """See :class:`LearnedModule`: batch norm, with its running averages, in the convolution."""
        convs, biases = [], []
        for conv, norm in zip(self.convs, self.norms, strict=True):
            assert isinstance(conv, nn.Conv2d)
            assert isinstance(norm, nn.BatchNorm2d)
            assert norm.running_mean is not None
            assert norm.running_var is not None
            factor = norm.weight / (norm.running_var + norm.eps).sqrt()
            convs.append(conv.weight.flatten(1) * factor[:, None])
            biases.append(norm.bias - norm.running_mean * factor)
        rows = self.fusion.fold()
        kernels = [kernel.detach().clone() for kernel in self.kernels or ()]
        return Tame(convs, biases, list(torch.split(rows.W, self._sizes, 1)), rows.b, kernels)

    def fold_start(self) -> Tame:
        """See :class:`~.learned.Trainable`: the classifier's rows, without kernels."""
        begun = self.fold()
        begun.kernels = []
        return begun


def start(data: StartingData) -> TameModule:
    """Begin a run.

    Raises:
        LcamError: One of the layers gives no feature maps.
    """
    layers = data.settings.layers
    data.engine.backbone.shapes_of(layers)  # refuses what gives no feature maps
    W0 = data.classifier_rows()
    scales = feature_scales(data.engine.outputs_of(forward, layers) for forward in data.forwards())
    return TameModule(layers, [s.cpu() for s in scales], W0, data.settings)


_BRANCH_LR = 0.25
