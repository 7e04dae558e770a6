"""What ranks that train together exchange in a step: the gradients of their images.

A class's row of W has a gradient where the batch has an image of that class, and W may have 21,000
rows: so of what has a row a class, the rows that were touched are exchanged alone, with their
numbers. A step's bytes follow from the images of a batch, never from the classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn

from lcam_cli.scale.rank_info import RankInfo
from lcam_cli.scale.ranks import Ranks


class GradientSync:
    """Averages gradients over all ranks, each weighted by its images.

    Args:
        ranks: All of them.

    Attributes:
        ranks: The same.
        steps: Exchanges so far.
        sent: Bytes that this rank has given to them.
    """

    def __init__(self, ranks: Ranks) -> None:
        self.ranks = ranks
        self.steps = 0
        self.sent = 0

    def broadcast(self, module: nn.Module) -> None:
        """Give all ranks the first one's parameters and buffers, to the last bit."""
        if self.ranks.info.size == 1:
            return
        with torch.no_grad(), self.ranks.collective():
            for tensor in module.state_dict().values():
                dist.broadcast(tensor, src=0)

    def any(self, mine: bool) -> bool:
        """Whether any rank says yes; all get the same answer."""
        if self.ranks.info.size == 1:
            return mine
        answer = torch.tensor(float(mine))
        with self.ranks.collective():
            dist.all_reduce(answer)
        return bool(answer)

    def gather(self, mine: Sequence[int]) -> list[int]:
        """Return the numbers of all ranks, in the order of the ranks."""
        if self.ranks.info.size == 1 or not self.any(bool(mine)):
            return list(mine)
        gathered: list[list[int]] = [[] for _ in range(self.ranks.info.size)]
        with self.ranks.collective():
            dist.all_gather_object(gathered, list(mine))
        return [number for one in gathered for number in one]

    def average(
        self,
        named: Mapping[str, nn.Parameter],
        by_class: Sequence[str],
        pictures: int,
        numbers: Tensor,
    ) -> tuple[int, Tensor]:
        """Replace the gradients of a rank's images by those of the images of all ranks.

        Args:
            named: What is trained. Its gradients are those of a mean over this rank's images,
                and become those of the mean over all; None where no rank has any.
            by_class: Names of those that have a row a class.
            pictures: How many this rank has in the step, maybe 0.
            numbers: Floats (n,) to be summed as well, weighted by ``pictures``.

        Returns:
            Images of all ranks, and the mean of ``numbers`` over them.

        Raises:
            LcamError: A rank was lost.
        """
        if self.ranks.info.size == 1:
            return pictures, numbers
        self.steps += 1
        with torch.no_grad(), self.ranks.collective():
            shared = [p for name, p in named.items() if name not in by_class]
            count = numbers.new_tensor([float(pictures)])
            weighted = [numbers * pictures if pictures else torch.zeros_like(numbers)]
            weighted += [_gradient(p).flatten() * pictures for p in shared]
            flat = torch.cat([count, *weighted])
            dist.all_reduce(flat)
            self.sent += _bytes(flat)
            total = int(flat[0])
            rest = flat[1:] / max(total, 1)
            means, *parts = torch.split(rest, [len(numbers), *(p.numel() for p in shared)])
            for parameter, part in zip(shared, parts, strict=True):
                parameter.grad = part.view_as(parameter) if total else None
            for name in by_class:
                self._exchange_rows(named[name], pictures / max(total, 1))
            return total, means

    def _exchange_rows(self, parameter: nn.Parameter, share: float) -> None:
        """Exchange the touched rows of one parameter, (R, …); each rank may have others."""
        is_dense = parameter.grad is not None and not parameter.grad.is_sparse
        rows, values = _touched(parameter)
        counts = [one.tolist() for one in self._gather(rows.new_tensor([len(rows), is_dense]))]
        lengths = [length for length, _ in counts]
        most = max(lengths)
        # All ranks give as many; who has fewer fills up with rows that are taken off again.
        padded_rows = torch.zeros(most, dtype=rows.dtype, device=rows.device)
        padded = values.new_zeros(most, *values.shape[1:])
        padded_rows[: len(rows)], padded[: len(rows)] = rows, values * share
        all_rows, all_values = self._gather(padded_rows), self._gather(padded)
        rows = torch.cat([r[:n] for r, n in zip(all_rows, lengths, strict=True)])
        values = torch.cat([v[:n] for v, n in zip(all_values, lengths, strict=True)])
        if any(dense for _, dense in counts):
            parameter.grad = torch.zeros_like(parameter).index_add_(0, rows, values)
        else:
            gradient = torch.sparse_coo_tensor(
                rows.unsqueeze(0), values, parameter.shape, check_invariants=False
            )
            parameter.grad = gradient.coalesce()

    def _gather(self, mine: Tensor) -> list[Tensor]:
        gathered = [torch.empty_like(mine) for _ in range(self.ranks.info.size)]
        dist.all_gather(gathered, mine)
        self.sent += _bytes(mine)
        return gathered


SINGLE_PROCESS = GradientSync(Ranks(RankInfo()))
"""Of a run of one process."""


def _gradient(parameter: nn.Parameter) -> Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad


def _touched(parameter: nn.Parameter) -> tuple[Tensor, Tensor]:
    """Return the numbers (m,), int64, and the values (m, …) of the rows that have a gradient."""
    gradient = parameter.grad
    if gradient is None:
        nothing = torch.zeros(0, dtype=torch.long, device=parameter.device)
        return nothing, parameter.new_zeros(0, *parameter.shape[1:])
    if gradient.is_sparse:
        gradient = gradient.coalesce()
        return gradient.indices()[0], gradient.values()
    rows = gradient.flatten(1).any(1) if gradient.dim() > 1 else gradient != 0
    (touched,) = rows.nonzero(as_tuple=True)
    return touched, gradient[touched]


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()
