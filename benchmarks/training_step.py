"""What a training step costs over the passes that it cannot do without.

    python benchmarks/training_step.py mobilenet_v2

L-CAM-Img: over one forward pass, and one forward and backward to the input. L-CAM-Fm: over one
forward pass. All take turns; ratios are taken within a round. Weights are random.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import side_by_side as s
import torch

from lcam_cli.engine.backbone import load_backbone
from lcam_cli.engine.engine import Engine
from lcam_cli.training.recipes import recipe_for
from lcam_cli.training.rows import SharedRows, classifier_rows
from lcam_cli.training.step import Trainer


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("backbone")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=4, help="steps a turn")
    parser.add_argument("--batch-size", type=int, default=32)
    given = parser.parse_args()

    engine = Engine(load_backbone(given.backbone, "none"))
    side, n = engine.backbone.preprocess.image_size, given.batch_size
    x = torch.rand(n, 3, side, side, device=engine.device)
    x = x.contiguous(memory_format=torch.channels_last)
    recipe = recipe_for("auto", given.backbone)
    W0 = classifier_rows(engine, x[:2])
    rows = SharedRows(W0.cpu(), torch.ones(W0.shape[1])).to(engine.device)
    img, fm = (Trainer(engine, rows, recipe, mode) for mode in ("img", "fm"))

    def forward() -> None:
        with torch.no_grad(), engine.autocast():
            engine.backbone(x)

    def forward_and_backward() -> None:
        masked = x.detach().clone().requires_grad_()
        with engine.autocast():
            score = engine.backbone(masked).float().sum()
        score.backward()

    turns: dict[str, Callable[[], object]] = {
        "forward": forward,
        "forward and backward to the input": forward_and_backward,
        "L-CAM-Img step": lambda: img.step(x, 1.0),
        "L-CAM-Fm step": lambda: fm.step(x, 1.0),
    }

    def seconds(work: Callable[[], object]) -> float:
        start = s.now(engine)
        for _ in range(given.steps):
            work()
        return (s.now(engine) - start) / given.steps

    for work in turns.values():
        work()
    rounds = [{name: seconds(work) for name, work in turns.items()} for _ in range(given.rounds)]
    print(s.machine())
    print(
        f"{given.backbone}, {engine.hardware.precision}, batch {n}, {given.rounds} rounds: "
        "median (lowest to highest)"
    )
    for name in turns:
        print(s.row(name, [1000 * r[name] for r in rounds], "ms"))
    floor = [r["forward"] + r["forward and backward to the input"] for r in rounds]
    image = [r["L-CAM-Img step"] / f for r, f in zip(rounds, floor, strict=True)]
    print(s.row("L-CAM-Img step / its three passes", image))
    fm = [r["L-CAM-Fm step"] / r["forward"] for r in rounds]
    print(s.row("L-CAM-Fm step / one forward", fm))


if __name__ == "__main__":
    main()
