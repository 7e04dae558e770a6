"""How long ``lcam`` takes from its start to the first map, or to the first training step.

    python benchmarks/start.py explain mobilenet_v2 --photos DIR
    python benchmarks/start.py explain vit_b_16 --photos DIR --weights FILE --method lcam
    python benchmarks/start.py train vgg16 --photos DIR

The real command runs, a process a round, with clocks around what it calls. In every round a process
that imports torch and torchvision alone takes its turn: what the command takes beyond that is what
counts. Phases are exclusive: what one calls that has a clock of its own is not its time. ``lcam``
as method trains an attention first, for one epoch.
"""

from __future__ import annotations

import argparse
import functools
import importlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_REST = "all else"
# What has a clock: the phase, and where the function's name is looked up when it is called.
_CLOCKS = (
    ("find the pictures", "lcam_cli.runs.{command}_outcome", "find_pictures"),
    ("hash the weights", "lcam_cli.networks.weights.file", "sha256_of_file"),
    ("read the weights", "lcam_cli.networks.weights.file", "read_content"),
    ("build the network", "lcam_cli.runs.backbone", "load_network"),
    ("build the network", "lcam_cli.engine.backbone", "load_network"),
    ("first run", "lcam_cli.engine.plain", "first_run"),
    ("logits, probabilities", "lcam_cli.engine.backbone", "plain_classifier"),
    ("target layer", "lcam_cli.engine.optimise", "target_by_gradients"),
    ("target layer", "lcam_cli.engine.optimise", "choose_target"),
    ("compare the ways", "lcam_cli.engine.backbone", "cut_at_target"),
    ("fold", "lcam_cli.engine.optimise", "replace_batch_norms"),
    ("split", "lcam_cli.engine.optimise", "split"),
    ("end of gradients", "lcam_cli.engine.backbone", "find_end_of_gradients"),
    ("engine", "lcam_cli.runs.{command}_outcome", "new_engine"),
    ("grids", "lcam_cli.engine.backbone", "find_grids"),
    ("output", "lcam_cli.runs.explain_run", "Outputs"),
    ("first batch: read", "lcam_cli.images.stream", "_batch"),
    ("first batch: forward", "lcam_cli.engine.engine", "Engine.forward"),
    ("first batch: maps", "lcam_cli.methods.explain", "_Explaining.begin"),
    ("W0", "lcam_cli.training.start", "classifier_rows"),
    ("scale of the features", "lcam_cli.training.start", "feature_scale"),
    ("what can be learned", "lcam_cli.training.learnable", "Prospects.add"),
    ("fingerprint of the run", "lcam_cli.training.loop", "fingerprint"),
    ("checkpoint", "lcam_cli.training.loop", "save_checkpoint"),
)
# What ends the first map or comes before the first step.
_ENDS = {
    "explain": ("lcam_cli.runs.outputs", "Outputs.append"),
    "train": ("lcam_cli.training.loop", "Trainer.step"),
}


class Clocks:
    """Exclusive seconds a phase, of the main thread."""

    def __init__(self, began: float) -> None:
        self.seconds: dict[str, float] = {}
        self._phases = [_REST]
        self._last = began

    def turn(self) -> None:
        """Book the time since the last turn to the phase that runs."""
        now = time.monotonic()
        phase = self._phases[-1]
        self.seconds[phase] = self.seconds.get(phase, 0.0) + now - self._last
        self._last = now

    @contextmanager
    def of(self, phase: str) -> Iterator[None]:
        """Book what runs within to a phase."""
        self.turn()
        self._phases.append(phase)
        try:
            yield
        finally:
            self.turn()
            self._phases.pop()

    def around(self, phase: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, with a clock around it."""

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            if threading.current_thread() is not threading.main_thread():
                return function(*args, **kwargs)
            with self.of(phase):
                return function(*args, **kwargs)

        return call


def child(command: str, into: str, began: float, arguments: list[str]) -> None:
    """Run the command with clocks in it, up to the first map or through the first step."""
    clocks = Clocks(began)

    def end() -> None:
        clocks.turn()
        Path(into).write_text(json.dumps(clocks.seconds))
        shutil.rmtree(Path(into).parent / "out", ignore_errors=True)
        os._exit(0)

    with clocks.of("import the command line"):
        readers = importlib.import_module(f"lcam_cli.runs.{command}")
        main = importlib.import_module("lcam_cli.__main__").main
    start_readers = clocks.around("start the readers", readers.start_readers)

    def started(workers: int | None) -> int:
        count: int = start_readers(workers)
        with clocks.of("import"):
            importlib.import_module(f"lcam_cli.runs.{command}_outcome")
        for phase, module, name in _CLOCKS:
            if (place := sys.modules.get(module.format(command=command))) is None:
                continue
            *owner, last = name.split(".")
            holder = functools.reduce(getattr, owner, place)
            if hasattr(holder, last):
                setattr(holder, last, clocks.around(phase, getattr(holder, last)))
        module, name = _ENDS[command]
        owner_name, last = name.split(".")
        holder = getattr(importlib.import_module(module), owner_name)
        own = clocks.around("first step", getattr(holder, last))

        def ends(*args: Any) -> None:
            if command == "train":
                clocks.turn()
                own(*args)
            end()

        setattr(holder, last, ends)
        return count

    readers.start_readers = started  # type: ignore[attr-defined]
    sys.argv = ["lcam", command, *arguments]
    main()


def seconds_of(command: str, arguments: list[str]) -> dict[str, float]:
    """The phases of one run.

    Raises:
        SystemExit: It failed; with what it said.
    """
    with tempfile.TemporaryDirectory() as folder:
        into = Path(folder) / "seconds.json"
        out = Path(folder) / "out" / ("maps.h5" if command == "explain" else "run")
        out.parent.mkdir()
        words = [sys.executable, __file__, "--child", command, str(into), str(time.monotonic())]
        done = subprocess.run(
            [*words, *arguments, "--out", str(out)], capture_output=True, text=True, check=False
        )
        if not into.exists():
            raise SystemExit(f"lcam {command} {' '.join(arguments)}: {done.stderr}")
        seconds: dict[str, float] = json.loads(into.read_text())
    return seconds


def seconds_to_import() -> float:
    """What a process takes that imports torch and torchvision, and does nothing else."""
    began = time.monotonic()
    words = "import torch, torchvision, time; print(time.monotonic())"  # without the process's end
    done = subprocess.run([sys.executable, "-c", words], check=True, capture_output=True, text=True)
    return float(done.stdout) - began


def row(name: str, values: list[float]) -> str:
    """A line of the table: the median, and lowest to highest."""
    middle = statistics.median(values)
    return f"{name:<34}{middle:>8.3f} s  ({min(values):.3f} to {max(values):.3f})"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("command", choices=("explain", "train"))
    parser.add_argument("backbone", nargs="+")
    parser.add_argument("--photos", required=True)
    parser.add_argument("--weights", default="none", help="none, or FILE with {} for the backbone")
    parser.add_argument("--method", default="gradcam")
    parser.add_argument("--max-images", default="1")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--brief", action="store_true", help="the sums alone")
    given, more = parser.parse_known_args()

    cases: dict[str, list[str]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for backbone in given.backbone:
            weights = given.weights.replace("{}", backbone.replace("/", "_"))
            network = ["--backbone", backbone, "--weights", weights]
            words = [given.photos, "--max-images", given.max_images, *more]
            if given.command == "train":
                cases[backbone] = [*words, *network]
            elif given.method == "lcam":
                run = str(Path(folder) / backbone.replace("/", "_"))
                few = ["--max-images", "4", "--epochs", "1", "--recipe", "paper"]
                training = ["train", given.photos, *few, *network, "--init", "random"]
                subprocess.run(
                    [sys.executable, "-m", "lcam_cli", *training, "--out", run],
                    check=True,
                    capture_output=True,
                )
                cases[backbone] = [*words, "--attention", run]
            else:
                cases[backbone] = [*words, "--method", given.method, *network]
        rounds: dict[str, list[dict[str, float]]] = {backbone: [] for backbone in cases}
        imports: list[float] = []
        for _ in range(given.rounds):
            imports.append(seconds_to_import())
            for backbone, words in cases.items():
                rounds[backbone].append(seconds_of(given.command, words))
    print(row("import torch, torchvision", imports))
    for backbone, found in rounds.items():
        sums = [sum(seconds.values()) for seconds in found]
        print(f"\n{given.command} {backbone} --weights {given.weights}, {given.method}:")
        print(row("from start to end", sums))
        beyond = [s - i for s, i in zip(sums, imports, strict=True)]
        print(row("beyond the import", beyond))
        if given.command == "train":
            before = [s - one["first step"] for s, one in zip(sums, found, strict=True)]
            print(row("before the first step", before))
        if not given.brief:
            for phase in dict.fromkeys(phase for seconds in found for phase in seconds):
                print(row(f"    {phase}", [seconds.get(phase, 0.0) for seconds in found]))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2], sys.argv[3], float(sys.argv[4]), sys.argv[5:])
    else:
        main()
