"""BLA's hard explanations: how large they are, and whether the prediction survives them.

    python benchmarks/bla_sizes.py RUN PICTURES

For each image, the positions that a run of `--mode bla` (or `--train-head`) selects: their
number, and whether the head, given the mean of A over these positions alone, still has the plain
classifier's top-1.
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path

import torch
from torch import Tensor

from lcam_cli.engine.engine import Engine, Forward
from lcam_cli.engine.recall import Given, recall_backbone
from lcam_cli.images.find import find_images
from lcam_cli.images.stream import stream_batches
from lcam_cli.methods.attention_file import find_attention, load_attention
from lcam_cli.methods.bounded_logit import PositionLogits, hard_selection
from lcam_cli.methods.trained_head import TrainedHead, head_scores


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("pictures")
    parser.add_argument("--backbone", help="where it is code: file.py:function")
    given = parser.parse_args()

    file = load_attention(find_attention(given.run))
    settings, learned = file.settings, file.attention
    if settings is None or not isinstance(learned, PositionLogits | TrainedHead):
        parser.error(f"{given.run} is no run of --mode bla")
    head = learned if isinstance(learned, TrainedHead) else None
    logits = head.logits if head else learned
    frozen = recall_backbone(
        str(file.path),
        settings.trained_on or settings.identity,
        Given(given.backbone),
        class_names=settings.class_names,
        preprocess=settings.preprocess,
    )
    engine = Engine(frozen, precision="fp32")
    sizes, agree = [], []
    paths = find_images([given.pictures]).paths
    for batch in stream_batches(paths, frozen.preprocess, engine.batch_size, workers=2):
        if batch.indices:
            seen = engine.forward(engine.pixels(batch.images))
            chosen = hard_selection(logits.to(engine.device)(seen.A))
            size = chosen.sum((1, 2))
            a = chosen / size[:, None, None]
            sizes.append(size.long().cpu())
            agree.append((scores(engine, seen, a, head).argmax(1) == seen.predicted).cpu())
    tell(torch.cat(sizes), torch.cat(agree), frozen.feature_shape[1] * frozen.feature_shape[2])


@torch.no_grad()
def scores(engine: Engine, seen: Forward, a: Tensor, head: TrainedHead | None) -> Tensor:
    """Logits (B, R) of the head on Σ a·A, for weights a (B, P, Q) that sum to 1."""
    if head is None:
        return engine.head(seen.A * (a * a[0].numel()).unsqueeze(1), seen.around)
    return head_scores(seen.A, a, head.W.to(a), head.b.to(a))


def tell(sizes: Tensor, agree: Tensor, positions: int) -> None:
    """Print the agreement, quantiles of the sizes, and how many images have each size."""
    count = len(sizes)
    print(f"{count} images, {positions} positions each")
    print(f"top-1 of the hard explanation is the plain classifier's: {agree.float().mean():.2%}")
    shares = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
    quantiles = sizes.float().quantile(torch.tensor(shares), interpolation="nearest")
    told = ", ".join(f"{s:.0%}: {int(q)}" for s, q in zip(shares, quantiles, strict=True))
    mean = float(sizes.float().mean())
    print(f"positions at quantiles {told}; mean {mean:.1f} ({mean / positions:.1%} of the image)")
    edges = sorted({round(k * positions / 10) for k in range(11)})
    for low, high in itertools.pairwise(edges):
        inside = (sizes > low) & (sizes <= high)
        n = int(inside.sum())
        kept = f"{agree[inside].float().mean():.0%} agree" if n else ""
        print(f"{low + 1:4d}–{high:<4d} {n:5d} {'#' * round(50 * n / count)} {kept}")


if __name__ == "__main__":
    main()
