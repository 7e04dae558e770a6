"""Which matrices of a transformer are attention over all patches, and what reads their tokens."""

from __future__ import annotations

import contextlib
import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor, nn

from lcam_cli.engine.attention_matrices import AttentionMatrices
from lcam_cli.engine.backbone import Backbone
from lcam_cli.engine.gradients import gradient_of_logits, gradients_of_logits
from lcam_cli.engine.plain import some_pictures
from lcam_cli.errors import CannotExplainError, LcamError, plural
from lcam_cli.networks.foreign import ForeignNetwork
from lcam_cli.networks.torchscript import scripts_in

_OTHERS = "use a method of another family, e.g. layercam, scorecam or rise"
_NO_GRADIENT = "the logits have no gradient at the attention"
_ROUNDING = 0.05  # of half precision, with room to spare
_NAMED_ATTENTION = re.compile(r"attention|attn", re.IGNORECASE)


@dataclass(frozen=True)
class SelfAttention:
    """Attention over all patches of a network's target layer, one matrix a block.

    Attributes:
        calls: Which of the matrices of a forward pass it is, from 0, in their order. In networks
            of windows, only the last have one that holds all patches.
        count: How many there are in a pass.
        grid: P and Q of the patches.
        prefix: The tokens before them, n.
        read: Which tokens the classifier reads after the last block: the class token (and
            a distillation token), or where it reads none of those before the patches, the patches.
        blocks: The module of each block; empty where they are not known.
        heads_first: Whether the heads of all images make one axis, image by image within each
            head; else head by head within each image.
    """

    calls: tuple[int, ...]
    count: int
    grid: tuple[int, int]
    prefix: int
    read: tuple[int, ...]
    blocks: tuple[str, ...] = ()
    heads_first: bool = False

    @property
    def tokens(self) -> int:
        """N = n + P·Q."""
        return self.prefix + self.grid[0] * self.grid[1]

    def of(self, matrices: Sequence[Tensor]) -> list[Tensor]:
        """The blocks' matrices of all that a pass gave, as they were made.

        Raises:
            LcamError: There are not as many as there were: the network runs otherwise now.
        """
        if len(matrices) != self.count:
            raise _changed()
        return [matrices[i] for i in self.calls]

    def shaped(self, matrices: Sequence[Tensor], pictures: int) -> list[Tensor]:
        """The same, or their gradients, as (B, heads, N, N), float32.

        Raises:
            LcamError: They are not of that shape: the network runs otherwise now.
        """
        found = []
        for matrix in matrices:
            of_heads = _of_heads(matrix, pictures, heads_first=self.heads_first)
            if of_heads is None or of_heads.shape[2:] != (self.tokens, self.tokens):
                raise _changed()
            found.append(of_heads.float())
        return found

    def map_of(self, rows: Tensor) -> Tensor:
        """L (B, P, Q) of how much each token counts, (B, N)."""
        return rows[:, self.prefix :].reshape(len(rows), *self.grid)


def find_self_attention(
    backbone: Backbone, method: str, *, gradients: bool = False
) -> SelfAttention:
    """Run a network on one image and see which attention holds all patches of its target layer.

    Args:
        backbone: The classifier, with a target layer.
        method: Who asks, for messages.
        gradients: Whether gradients of the logits are needed at each block's matrix.

    Raises:
        CannotExplainError: No attention is seen, none holds all patches, that of some module is
            hidden, it cannot be told which tokens are read, or there are no gradients where they
            are needed.
    """
    if isinstance(backbone.network, ForeignNetwork):
        raise _refused(backbone, method, f"{backbone.network.runtime} does not expose it")
    running = _Running()
    with torch.enable_grad(), running.watch(backbone.network), AttentionMatrices(running.note) as m:
        logits = backbone(noise(backbone))
    hidden = running.hidden()
    if not m.kept:
        raise _refused(backbone, method, _why_none(backbone.network, hidden))
    _, P, Q = backbone.feature_shape
    sizes = {P * Q + prefix for prefix in _prefixes(backbone)}
    hidden = [name for name in hidden if sizes & running.places_of.get(name, set())]
    if hidden:
        raise _refused(backbone, method, _hidden(backbone.network, hidden))
    calls = _calls(backbone, method, m.kept)
    prefix = m.kept[calls[0]].shape[-1] - P * Q
    made = [m.kept[i] for i in calls]
    read = _read_tokens(logits, made[-1], prefix)
    if not read:
        raise _refused(
            backbone, method, f"lcam cannot find what the classifier reads: {_NO_GRADIENT}"
        )
    blocks = _blocks([running.inside[i] for i in calls])
    if gradients:
        check_gradients(backbone, method, gradients_of_logits(logits, made))
    found = SelfAttention(calls, len(m.kept), (P, Q), prefix, read, blocks)
    return _laid_out(backbone, method, found)


def check_gradients(backbone: Backbone, method: str, found: Sequence[Tensor | None]) -> None:
    """Check that there is a gradient at the matrix of every block.

    Raises:
        CannotExplainError: There is none at one.
    """
    without = [str(block) for block, g in enumerate(found) if g is None]
    if without:
        which = f"block {without[0]}" if len(without) == 1 else f"blocks {', '.join(without)}"
        raise _refused(backbone, method, f"{_NO_GRADIENT}: {which}")


def _laid_out(backbone: Backbone, method: str, found: SelfAttention) -> SelfAttention:
    """The same, with how the matrices of several images lie.

    Code that joins heads and images on one axis is free to choose which of them come first, and
    a matrix does not tell. Taken is what gives each of two images the matrices it has alone.

    Raises:
        CannotExplainError: Nothing does.
    """
    if backbone.one_by_one:
        return found
    both = noise(backbone, 2)

    def matrices(x: Tensor) -> list[Tensor]:
        with torch.no_grad(), AttentionMatrices() as m:
            backbone(x)
        return found.of(m.kept)

    alone = [found.shaped(matrices(picture), 1) for picture in torch.split(both, 1)]
    expected = [torch.cat(pair) for pair in zip(*alone, strict=True)]
    together = matrices(both)

    def difference(way: SelfAttention) -> float:
        pairs = zip(way.shaped(together, 2), expected, strict=True)
        return max(float((one - other).norm() / other.norm()) for one, other in pairs)

    ways = (found, replace(found, heads_first=True))
    best = min(ways, key=difference)
    if difference(best) > _ROUNDING:
        raise _refused(
            backbone, method, "the attention of an image depends on the other images of the batch"
        )
    return best


def _changed() -> LcamError:
    return LcamError(
        "the network's attention is computed differently on these images than at the start",
        "use a method that reads a layer, e.g. layercam",
    )


def noise(backbone: Backbone, pictures: int = 1) -> Tensor:
    """Noise, normalised as images are, where the network is: (images, C, H, W)."""
    return some_pictures(pictures, backbone.preprocess).to(backbone.blank())


def _calls(backbone: Backbone, method: str, matrices: Sequence[Tensor]) -> tuple[int, ...]:
    """Which matrices of a pass over one image hold all patches: the last that are square.

    Raises:
        LcamError: None, or not the last.
    """
    _, P, Q = backbone.feature_shape
    square = [i for i, m in enumerate(matrices) if m.shape[-2] == m.shape[-1]]
    calls = tuple(
        i
        for i in square
        if _of_heads(matrices[i], 1) is not None
        and matrices[i].shape[-1] - P * Q in _prefixes(backbone)
    )
    if not calls:
        sizes = " or ".join(dict.fromkeys(str(matrices[i].shape[-1]) for i in square))
        own = f"the matrices are of {sizes} tokens, not" if sizes else "none of the matrices is"
        raise _refused(backbone, method, f"{own} of all {P}x{Q} patches")
    if square[-len(calls) :] != list(calls):
        raise _refused(
            backbone,
            method,
            f"the {P}x{Q} patches of layer {backbone.identity.layer} are not those of the last "
            "blocks",
            "pass a later --layer",
        )
    return calls


def _prefixes(backbone: Backbone) -> tuple[int, ...]:
    """How many tokens may come before the patches.

    Of a layer before the tokens it is not known whether a class token does.
    """
    layout = backbone.layout
    return (layout.prefix,) if layout.kind == "list" else (0, 1)


def _of_heads(matrix: Tensor, pictures: int, *, heads_first: bool = False) -> Tensor | None:
    """A matrix as (B, heads, N, M); None where it is one of windows, whose count comes first."""
    if matrix.ndim == 3 and len(matrix) % pictures == 0:
        if heads_first:
            return matrix.reshape(-1, pictures, *matrix.shape[1:]).transpose(0, 1)
        return matrix.reshape(pictures, -1, *matrix.shape[1:])
    return matrix if matrix.ndim == 4 and len(matrix) == pictures else None


def _read_tokens(logits: Tensor, matrix: Tensor, prefix: int) -> tuple[int, ...]:
    """The tokens whose rows of the last block's matrix the logits depend on; none if unknown."""
    g = gradient_of_logits(logits, matrix, again=True)
    if g is None and not prefix:
        return tuple(range(matrix.shape[-1]))
    read = [] if g is None else g.flatten(0, -3).any(0).any(1).nonzero().flatten().tolist()
    return tuple(token for token in read if token < prefix) or tuple(read)


def _blocks(stacks: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    """The outermost module around each matrix that is around no other; empty where one has none."""
    found = []
    for i, stack in enumerate(stacks):
        others = {name for j, other in enumerate(stacks) if j != i for name in other}
        found += [next((name for name in stack if name and name not in others), "")]
    return tuple(found) if all(found) else ()


class _Running:
    """Which modules run, which of them while a matrix of attention is made.

    Attributes:
        inside: The modules around each matrix, the outermost first.
        places_of: Of each module that ran, the sizes of what it gave, but for the batch's.
    """

    def __init__(self) -> None:
        self.inside: list[tuple[str, ...]] = []
        self.places_of: dict[str, set[int]] = {}
        self._now: list[str] = []
        self._attention: set[str] = set()  # outermost modules that are called so

    def note(self, matrix: Tensor) -> Tensor:
        """A matrix is made."""
        self.inside.append(tuple(self._now))
        return matrix

    def hidden(self) -> list[str]:
        """Modules called attention while none of which a matrix was made."""
        shown = {name for stack in self.inside for name in stack}
        return sorted(self._attention - shown)

    @contextlib.contextmanager
    def watch(self, network: nn.Module) -> Iterator[None]:
        """Note what runs meanwhile."""

        def enter(name: str, module: nn.Module, _given: object) -> None:
            within = any(other in self._attention for other in self._now)
            if _NAMED_ATTENTION.search(type(module).__name__) and not within:
                self._attention.add(name)
            self._now.append(name)

        def leave(name: str, _module: nn.Module, _given: object, output: object) -> None:
            self._now.pop()
            tokens = tokens_of(output)
            if tokens is not None:
                self.places_of.setdefault(name, set()).update(_sizes(tokens))

        with contextlib.ExitStack() as stack:
            for name, module in network.named_modules():
                before = module.register_forward_pre_hook(partial(enter, name))
                after = module.register_forward_hook(partial(leave, name))
                stack.callback(before.remove)
                stack.callback(after.remove)
            yield


def tokens_of(output: object) -> Tensor | None:
    """The tensor that a module gives, or gives first."""
    first = output[0] if isinstance(output, tuple | list) and output else output
    return first if torch.is_tensor(first) else None


def _sizes(output: Tensor) -> set[int]:
    """How many places an output can have: along an axis, or along two."""
    axes = output.shape[1:]
    return {*axes, *(a * b for a, b in itertools.pairwise(axes))}


def _why_none(network: nn.Module, hidden: Sequence[str]) -> str:
    """Why no matrix was seen at all."""
    if scripts_in(network):
        return "TorchScript hides it"
    return _hidden(network, hidden) if hidden else "there is none: no softmax multiplies values"


def _hidden(network: nn.Module, names: Sequence[str]) -> str:
    name, kind = names[0], type(network.get_submodule(names[0])).__name__
    more = f" and {plural(len(names) - 1, 'other')}" if names[1:] else ""
    return f"that of {name or 'the network'} ({kind}){more} is computed where lcam cannot see it"


def _refused(backbone: Backbone, method: str, why: str, remedy: str = "") -> CannotExplainError:
    return CannotExplainError(
        f"{method} reads attention between patches, but in {backbone.identity.name} {why}",
        f"{remedy}; {_OTHERS}" if remedy else _OTHERS,
        remedy,
    )
