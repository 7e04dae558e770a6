"""What a recipe of ``lcam train`` gives: modes trained on several jobs, beside untrained methods.

For those who change a recipe. REAL is a folder of real data, laid out like this:

    mobilenet_v2_imagenet1k_fp16.pt, tf_efficientnet_lite0_imagenet1k_fp16.pt   state dicts
    train/, photos/, val/                                                       photographs
    few/train/, few/val/                                                        in class folders

Jobs are NETWORK (trained on ``train/``), NETWORK-N (on N of its images, others for every seed)
and NETWORK-few (a head of the classes of ``few/train/``, which is fine-tuned here first). During
development a fifth of ``train/`` is held out and measured together with ``photos/``, and of
``few/train/`` a third; with --final all of it is trained on, and ``val/`` and ``few/val/`` are
measured. Choose nothing by those.

    python benchmarks/recipes.py REAL OUT --modes img --seeds 0 --set lr=0.001
    python benchmarks/recipes.py REAL OUT --final --curves 200
    python benchmarks/recipes.py REAL OUT --pictures 30,100,300,1000 --road 0 --plot curve.png

It prints a table, writes it to OUT/table.md with every number in OUT/results.json, and keeps in OUT
what it has trained and measured: a run that was stopped goes on, and another recipe in the same OUT
measures its own rows alone. A run is known by its recipe, seed, images and weights; where the
code of training changed, name another OUT.

Measuring a row takes about 5 forward passes an image for AD, IC and AG, 20 for ROAD and 60 for the
curves; training takes about 4 an epoch. Counted at 85 passes a second (MobileNetV2, one core), that
is an hour for one mode and seed of all six jobs of development, most of it ROAD, and 5 hours for
three modes and seeds with --final. --road 200 takes ROAD on 200 images, --road 0 leaves it out.
Rows that need no training are measured once for all jobs of a network.
"""

from __future__ import annotations

import argparse
import ast
import csv
import hashlib
import json
import random
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import recipes_table as t
import torch
from side_by_side import machine
from torch import Tensor, nn

from lcam_cli import (
    BackboneOptions,
    CompareOptions,
    Engine,
    EngineOptions,
    Recipe,
    Reporter,
    TrainOptions,
    compare_folder,
    load_backbone,
    recipe_for,
    train_attention,
)
from lcam_cli.images.find import find_images
from lcam_cli.images.stream import stream_batches
from lcam_cli.maps.atomic import atomic_file
from lcam_cli.networks.weights.checkpoint import sha256_of_file
from lcam_cli.runs import train_outcome

SPLIT_SEED = 0
"""Of what is held out, which is the same for all seeds of training: their rows are paired."""


@dataclass(frozen=True)
class Network:
    """A classifier, as ``--backbone`` names it, and the file of its weights in REAL."""

    backbone: str
    weights: str


NETWORKS = {
    "mobilenet": Network("mobilenet_v2", "mobilenet_v2_imagenet1k_fp16.pt"),
    "efficientnet": Network(
        "timm/tf_efficientnet_lite0", "tf_efficientnet_lite0_imagenet1k_fp16.pt"
    ),
}
JOBS = (
    *("mobilenet", "efficientnet", "mobilenet-few", "efficientnet-few"),
    *("mobilenet-100", "mobilenet-1000"),
)
CURVE = ("mobilenet",)
"""What ``--pictures`` takes where no job is named."""


@dataclass(frozen=True)
class Job:
    """A classifier, and the images that an attention is trained and measured on.

    Attributes:
        name: ``NETWORK``, ``NETWORK-few`` or ``NETWORK-N``.
        network: The classifier; of ``few`` with another head.
        few: Whether it is the small job with classes of its own.
        pictures: How many are trained on; None for all.
    """

    name: str
    network: Network
    few: bool
    pictures: int | None

    @classmethod
    def named(cls, name: str) -> Job:
        network, _, kind = name.partition("-")
        if network not in NETWORKS or not (kind in ("", "few") or kind.isdecimal()):
            raise SystemExit(f"{name!r} is no job: NETWORK, NETWORK-few or NETWORK-100, of networks"
                             f" {', '.join(NETWORKS)}")  # fmt: skip
        return cls(name, NETWORKS[network], kind == "few", int(kind) if kind.isdecimal() else None)

    def split(self, real: Path, part: float, *, final: bool) -> tuple[list[str], list[str]]:
        """The images to train on and those to measure, in an order that chance has made."""
        if self.few:
            classes = sorted(path for path in (real / "few/train").iterdir() if path.is_dir())
            found, others = [shuffled(folder) for folder in classes], shuffled(real / "few/val")
            part = 1 / 3
        else:
            found, others = [shuffled(real / "train")], shuffled(real / "val")
        if final:
            return mixed([path for paths in found for path in paths]), others
        held = [round(part * len(paths)) for paths in found]
        measured = [path for paths, n in zip(found, held, strict=True) for path in paths[:n]]
        trained = [path for paths, n in zip(found, held, strict=True) for path in paths[n:]]
        photos = [] if self.few else shuffled(real / "photos")
        return mixed(trained), mixed(measured + photos)

    def drawn(self, paths: Sequence[str], seed: int) -> list[str]:
        """As many of the images as the job trains on; other ones for every seed."""
        if self.pictures is None:
            return list(paths)
        if self.pictures > len(paths):
            raise SystemExit(f"{self.name}: there are {len(paths)} images to train on")
        return random.Random(seed).sample(list(paths), self.pictures)


def shuffled(folder: Path) -> list[str]:
    return mixed(find_images([str(folder)]).paths)


def mixed(paths: Sequence[str]) -> list[str]:
    return random.Random(SPLIT_SEED).sample(list(paths), len(paths))


@dataclass(frozen=True)
class Settings:
    """What was asked for.

    Attributes:
        real: The folder of real data.
        out: Where results go.
        modes: What is trained, as ``--mode`` names it.
        seeds: Of training.
        recipe: Its name.
        changes: Fields of the recipe that are changed.
        part: The share of ``train/`` that is held out.
        final: Whether all of it is trained on, and ``val/`` is measured.
        limit: Images to train on and to measure at most; None for all.
        road: Images that ROAD is measured on; None for all.
        curves: Images that insertion and deletion are measured on.
        engine: Where the networks run.
    """

    real: Path
    out: Path
    modes: tuple[str, ...]
    seeds: tuple[int, ...]
    recipe: str
    changes: Mapping[str, Any]
    part: float
    final: bool
    limit: int | None
    road: int | None
    curves: int
    engine: EngineOptions = field(default_factory=EngineOptions)

    def recipe_of(self, backbone: str, mode: str) -> Recipe:
        own = recipe_for(self.recipe if mode in ("img", "fm") else "auto", backbone, mode)
        return replace(own, **self.changes)


def fine_tuned(network: Network, real: Path, out: Path, engine: EngineOptions) -> Path:
    """A state dict of the network with a head of the classes of ``few/train``, made once."""
    target = out / "weights" / f"{Path(network.backbone).name}-few.pt"
    if target.exists():
        return target
    weights = real / network.weights
    backbone = Engine(load_backbone(network.backbone, str(weights)), device=engine.device)
    folder = real / "few/train"
    paths = find_images([str(folder)]).paths
    classes = sorted({Path(path).parent.name for path in paths})
    labels = torch.tensor([classes.index(Path(path).parent.name) for path in paths])
    head = trained_head(pooled_features(backbone, paths, engine.workers or 1), labels)
    state = torch.load(weights, weights_only=True)
    *_, weight, bias = state  # the head is last in both
    state |= {weight: head.weight.detach(), bias: head.bias.detach()}
    target.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(target) as temporary:
        torch.save({key: value.float() for key, value in state.items()}, temporary)
    return target


def pooled_features(engine: Engine, paths: Sequence[str], workers: int) -> Tensor:
    """What the network's last linear layer is given, (N, K)."""
    linear = [m for m in engine.backbone.network.modules() if isinstance(m, nn.Linear)][-1]
    found: list[Tensor] = []
    seen = linear.register_forward_pre_hook(lambda _, given: found.append(given[0].cpu()))
    for batch in stream_batches(paths, engine.backbone.preprocess, 32, workers=workers):
        if batch.skipped:
            raise SystemExit(f"{batch.skipped[0].path}: {batch.skipped[0].reason}")
        engine.forward(engine.normalise(engine.pixels(batch.images)))
    seen.remove()
    return torch.cat(found)


def trained_head(features: Tensor, labels: Tensor) -> nn.Linear:
    """A linear layer on pooled features: Adam, 30 epochs of batches of 32."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        head = nn.Linear(features.shape[1], int(labels.max()) + 1)
        adam = torch.optim.Adam(head.parameters(), lr=1e-3)
        for _ in range(30):
            for batch in torch.randperm(len(labels)).split(32):
                adam.zero_grad()
                nn.functional.cross_entropy(head(features[batch]), labels[batch]).backward()
                adam.step()
    return head


@dataclass(frozen=True)
class Trained:
    """A finished run: its folder, what it is one of, and how long it took."""

    folder: Path
    mode: str
    seed: int
    pictures: int
    seconds: float
    chosen: str | None

    @property
    def method(self) -> str:
        """What ``lcam compare`` calls it, but for the run that it may add."""
        return f"lcam-{self.mode}" if self.mode in ("img", "fm") else self.mode

    def row_in(self, rows: Mapping[str, Any]) -> str:
        alone = self.method in rows
        return self.method if alone else f"{self.method} ({self.folder.name})"


def train(
    job: Job, mode: str, seed: int, paths: Sequence[str], weights: Path, settings: Settings
) -> Trained:
    """Train as ``lcam train`` does, or find what an earlier run has trained."""
    recipe = settings.recipe_of(job.network.backbone, mode)
    known_by = json.dumps([recipe.to_json(), sha256_of_file(weights), sorted(paths)])
    digest = hashlib.sha256(known_by.encode()).hexdigest()[:8]
    folder = settings.out / "runs" / job.name / f"{mode}-{seed}-{digest}"
    record = folder / "run.json"
    if not record.exists():
        say(f"{job.name}: training {mode}, seed {seed}, on {len(paths)} pictures")
        options = TrainOptions(
            mode=mode,
            seed=seed,
            out=folder,
            overwrite=True,
            backbone=BackboneOptions(job.network.backbone, str(weights)),
            engine=settings.engine,
        )
        start = time.perf_counter()
        # The command has no option for every field of a recipe.
        with mock.patch.object(train_outcome, "recipe_for", return_value=recipe):
            train_attention(list(paths), options, reporter=Reporter(on_warning=say))
        seconds = time.perf_counter() - start
        chosen = None
        if (selection := folder / "selection.json").exists():
            chosen = json.loads(selection.read_text())["chosen"]
        write_json(record, {"seconds": seconds, "chosen": chosen, "recipe": recipe.to_json()})
    kept = json.loads(record.read_text())
    return Trained(folder, mode, seed, len(paths), kept["seconds"], kept["chosen"])


def measure(
    job: Job, runs: Sequence[Trained], paths: Sequence[str], weights: Path, settings: Settings
) -> dict[str, dict[str, t.Numbers]]:
    """Measure all rows on the same images: by kind of measure and row, a number an image."""
    kinds: dict[str, tuple[int | None, dict[str, Any]]] = {
        "values": (None, {"metrics": ("ad", "ic", "ag")}),
        "whole": (None, {"metrics": ("ad",), "nu": (50.0, 15.0), "keep": "whole"}),
        "road": (settings.road, {"metrics": ("road",), "nu": (100.0,)}),
        "curves": (settings.curves, {"metrics": ("insertion", "deletion"), "nu": (100.0,)}),
    }
    found = {}
    for kind, (count, asked) in kinds.items():
        if count == 0:
            continue
        shown = list(paths[:count])
        say(f"{job.name}: measuring {kind} on {len(shown)} pictures")
        lines = settings.out / "pictures" / f"{job.name}-{kind}.csv"
        lines.parent.mkdir(parents=True, exist_ok=True)
        options = CompareOptions(
            methods=(*t.UNTRAINED, t.FLOOR),
            attentions=tuple(run.folder for run in runs),
            per_image=lines,
            overwrite=True,
            resume=True,
            state=settings.out / "compared",
            backbone=BackboneOptions(job.network.backbone, str(weights)),
            engine=settings.engine,
            **asked,
        )
        compare_folder(shown, options, reporter=Reporter(on_warning=say))
        found[kind] = numbers_in(lines, runs)
    return found


def numbers_in(lines: Path, runs: Sequence[Trained]) -> dict[str, t.Numbers]:
    """The numbers of ``--per-image``, by row: an untrained method, or (mode, seed)."""
    rows: dict[str, dict[str, list[float]]] = {}
    with lines.open(encoding="utf-8", newline="") as file:
        for line in csv.DictReader(file):
            row = rows.setdefault(line["method"], {column: [] for column in t.columns_in(line)})
            for column, numbers in row.items():
                numbers.append(float(line[column] or "nan"))
    names = {name: name for name in (*t.UNTRAINED, t.FLOOR)}
    names |= {t.row_of(run.method, run.seed): run.row_in(rows) for run in runs}
    return {
        name: {column: np.array(numbers) for column, numbers in rows[of].items()}
        for name, of in names.items()
    }


def run_job(job: Job, settings: Settings) -> dict[str, Any]:
    """Train and measure; see ``recipes_table.summary``."""
    trained_on, measured = job.split(settings.real, settings.part, final=settings.final)
    trained_on, measured = trained_on[: settings.limit], measured[: settings.limit]
    weights = settings.real / job.network.weights
    if job.few:
        weights = fine_tuned(job.network, settings.real, settings.out, settings.engine)
    runs = [
        train(job, mode, seed, job.drawn(trained_on, seed), weights, settings)
        for mode in settings.modes
        for seed in settings.seeds
    ]
    numbers = measure(job, runs, measured, weights, settings)
    by_method: dict[str, list[Trained]] = {}
    for run in runs:
        by_method.setdefault(run.method, []).append(run)
    learned = {
        method: {
            "seeds": [run.seed for run in same],
            "seconds": [round(run.seconds, 1) for run in same],
            "chosen": [run.chosen for run in same],
            "pictures": same[0].pictures,
        }
        for method, same in by_method.items()
    }
    return t.summary(job.name, len(measured), numbers, learned)


def changed(words: Sequence[str]) -> dict[str, Any]:
    """The fields of ``--set``, each of the kind that the recipe has there."""
    kinds = {one.name: one.type for one in fields(Recipe)}
    found: dict[str, Any] = {}
    for word in words:
        name, _, text = word.partition("=")
        if name not in kinds:
            raise SystemExit(f"--set {word}: a recipe has {', '.join(kinds)}")
        if kinds[name] == "int":
            found[name] = int(text)
        elif kinds[name] in ("float", "float | None"):
            found[name] = None if text == "None" else float(text)
        elif kinds[name] == "bool":
            found[name] = bool(ast.literal_eval(text))
        else:
            found[name] = text
    return found


def say(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {line}", file=sys.stderr, flush=True)


def write_json(target: Path, what: object) -> None:
    with atomic_file(target) as temporary:
        temporary.write_text(json.dumps(what, indent=1))


def listed(kind: Callable[[str], Any]) -> Callable[[str], tuple[Any, ...]]:
    return lambda text: tuple(kind(word) for word in text.split(","))


def main(words: Sequence[str] | None = None) -> None:
    """Run the jobs and print the table."""
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    parser.add_argument("real", type=Path, metavar="REAL")
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument("--jobs", type=listed(str), help=f"default {','.join(JOBS)}")
    parser.add_argument("--pictures", type=listed(int), help="a learning curve: each job with each")
    parser.add_argument("--modes", type=listed(str), default="img,fm,tame")
    parser.add_argument("--seeds", type=listed(int), default="0,1,2")
    parser.add_argument("--recipe", default="auto", help="of img and fm; others have auto alone")
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE")
    parser.add_argument("--part", type=float, default=0.2, help="of train/ that is held out")
    parser.add_argument("--final", action="store_true", help="measure val/ and few/val/")
    parser.add_argument("--road", type=int, help="pictures; default all")
    parser.add_argument("--curves", type=int, default=0, help="pictures; default none")
    parser.add_argument("--max-images", type=int, help="to train on and to measure, to try it")
    parser.add_argument("--plot", type=Path, help="a PNG of the learning curve")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--workers", type=int, default=1)
    given = parser.parse_args(words)

    jobs = [Job.named(name) for name in given.jobs or (CURVE if given.pictures else JOBS)]
    if given.pictures:
        if any(job.pictures for job in jobs):
            raise SystemExit("--pictures goes with jobs that say no number")
        jobs = [replace(job, name=f"{job.name}-{n}", pictures=n)
                for job in jobs for n in given.pictures]  # fmt: skip
    settings = Settings(
        real=given.real.resolve(),
        out=given.out.resolve(),
        modes=given.modes,
        seeds=given.seeds,
        recipe=given.recipe,
        changes=changed(given.set),
        part=given.part,
        final=given.final,
        limit=given.max_images,
        road=given.road,
        curves=given.curves,
        engine=EngineOptions(device=given.device, workers=given.workers),
    )
    settings.out.mkdir(parents=True, exist_ok=True)
    results = []
    for job in jobs:
        results.append(run_job(job, settings))
        write_json(settings.out / "results.json", results)
        (settings.out / "table.md").write_text(t.table(results) + "\n")
    kind = "val/ and few/val/" if settings.final else "held-out images and photos/"
    recipe = " ".join([settings.recipe, *given.set])
    print(f"{machine()}\nrecipe {recipe}; measured on {kind}\n\n{t.table(results)}")
    if given.plot:
        t.plot(results, given.plot)


if __name__ == "__main__":
    main()
