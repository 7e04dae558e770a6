"""What a training step costs over the passes that it cannot do without, in each precision.

    python benchmarks/training_step.py mobilenet_v2 --precision fp32 --precision bf16

L-CAM-Img and TAME: over one forward pass, and one forward and backward to the input; TAME also over
these and its branches, forward and backward. L-CAM-Fm: over one forward pass, and over that and the
head there and back. Passes and steps are in the same precision. All take turns, in an order that
changes from round to round; ratios are taken within a round. Weights are random.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable, Iterable, Mapping, Sequence

import side_by_side as s
import torch
from torch import Tensor

from lcam_cli.engine.backbone import load_backbone
from lcam_cli.engine.engine import Engine
from lcam_cli.training.learned import TrainingBatch
from lcam_cli.training.recipes import Mode, Recipe, recipe_for
from lcam_cli.training.rows import SharedRows, classifier_rows
from lcam_cli.training.settings import TrainingSettings
from lcam_cli.training.shown import DRAWS
from lcam_cli.training.step import Trainer
from lcam_cli.training.tame import TameModule, default_layers

Turn = Callable[[], object]

MODES: tuple[Mode, ...] = ("img", "fm", "tame")
FORWARD, BACKWARD = "forward", "forward and backward to the input"
HEAD, BRANCHES = "head there and back", "branches there and back"


def turns_of(engine: Engine, x: Tensor, modes: Sequence[Mode]) -> dict[str, Turn]:
    """The passes and the steps of an engine on images (B, 3, H, W)."""
    given = engine.normalise(x)
    recipe = recipe_for("auto", engine.backbone.identity.name)
    W0 = classifier_rows(engine, x[:2]).cpu()
    rows = SharedRows(W0, torch.ones(W0.shape[1]), recipe.kernel).to(engine.device)
    forward = engine.forward(x)

    def one_forward() -> None:
        with torch.no_grad():
            engine.backbone(given)

    def forward_and_backward() -> None:
        engine.backbone(given.detach().requires_grad_()).sum().backward()

    def head_and_back() -> None:
        A = forward.A.detach().requires_grad_()
        engine.head(A, forward.around).sum().backward()

    turns: dict[str, Turn] = {FORWARD: one_forward, BACKWARD: forward_and_backward}
    if "fm" in modes:
        turns[HEAD] = head_and_back
    for mode in modes:
        if mode != "tame":
            turns[step_of(mode)] = step(Trainer(engine, rows, recipe, mode), x)
    if "tame" in modes:
        turns |= turns_of_tame(engine, x, W0, recipe)
    return turns


def turns_of_tame(engine: Engine, x: Tensor, W0: Tensor, recipe: Recipe) -> dict[str, Turn]:
    """TAME's step at its default layers, and its branches alone."""
    # An engine of its own: from now on it keeps these layers' outputs in every forward pass.
    engine = Engine(engine.backbone, precision=engine.hardware.precision)
    layers = default_layers(engine.backbone)
    scales = [torch.ones(K) for K, *_ in engine.backbone.shapes_of(layers)]
    settings = TrainingSettings("tame", recipe, layers=layers)
    tame = TameModule(layers, scales, W0, settings).to(engine.device)
    forward = engine.forward(x)
    engine.outputs_of(forward, layers)
    batch = TrainingBatch(forward, forward.predicted, torch.rand(len(x), DRAWS))
    return {
        BRANCHES: lambda: tame.map_of(engine, batch, recipe).sum().backward(),
        step_of("tame"): step(Trainer(engine, tame, recipe, "tame"), x),
    }


def step(trainer: Trainer, x: Tensor) -> Turn:
    """A turn of a step with images (B, 3, H, W)."""
    return lambda: trainer.step(x, 1.0)


def step_of(mode: Mode) -> str:
    """The name of a mode's step."""
    return f"{mode} step"


def print_table(name: str, turns: Iterable[str], rounds: Sequence[Mapping[str, float]]) -> None:
    """Print one precision's times, and the steps over their passes, from seconds a round."""
    print(name)
    for turn in turns:
        print(s.row(f"  {turn}", [1000 * r[turn] for r in rounds], "ms"))
    three = (FORWARD, BACKWARD)
    floors = {
        "img": [three],
        "fm": [(FORWARD,), (FORWARD, HEAD)],
        "tame": [three, (*three, BRANCHES)],
    }
    for mode in MODES:
        for floor in floors[mode] if step_of(mode) in turns else ():
            ratios = [r[step_of(mode)] / sum(r[one] for one in floor) for r in rounds]
            print(s.row(f"  {step_of(mode)} / ({' + '.join(floor)})", ratios))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("backbone")
    parser.add_argument("--precision", action="append", help="repeatable; default fp32")
    parser.add_argument("--mode", action="append", choices=MODES, help="repeatable; default all")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--batch-size", type=int, default=32)
    given = parser.parse_args()

    n, turns = given.batch_size, {}
    for precision in given.precision or ["fp32"]:
        engine = Engine(load_backbone(given.backbone, "none"), precision=precision)
        side = engine.backbone.preprocess.image_size
        x = torch.rand(n, 3, side, side, device=engine.device)
        x = x.contiguous(memory_format=torch.channels_last)
        for turn, work in turns_of(engine, x, given.mode or list(MODES)).items():
            turns[precision, turn] = work
            work()

    rounds: list[dict[tuple[str, str], float]] = []
    for _ in range(given.rounds):
        rounds.append({})
        for key in random.sample(list(turns), len(turns)):
            start = s.now(engine)
            turns[key]()
            rounds[-1][key] = s.now(engine) - start
    print(s.machine())
    print(f"{given.backbone}, batch {n}, {given.rounds} rounds: median (lowest to highest)")
    for precision in dict.fromkeys(precision for precision, _ in turns):
        own = [{turn: t for (p, turn), t in r.items() if p == precision} for r in rounds]
        print_table(precision, own[0], own)


if __name__ == "__main__":
    main()
