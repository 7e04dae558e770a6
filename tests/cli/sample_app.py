"""A command line made of our frame and two small commands; the tests run it as a process."""

from __future__ import annotations

import json
import sys
import time
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from lcam_cli.__main__ import run
from lcam_cli.cli import backbone_options, options
from lcam_cli.cli.app import add_command, new_app
from lcam_cli.cli.console import Console, interruptible
from lcam_cli.cli.measure_options import Nus, parse_nus
from lcam_cli.errors import LcamError


def train(
    data: Annotated[str, typer.Argument(metavar="DATA")] = "",
    epochs: Annotated[int, typer.Option(min=1, help="How often.")] = 7,
    class_names: Annotated[list[str] | None, typer.Option("--class", help="Which.")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Stop at the first.")] = False,
    lambda_tv: float = 0.01,
    nu: Nus = None,
    mean: backbone_options.Mean = None,
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    batch_size: options.BatchSize = None,
    workers: options.Workers = None,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
    config: options.Config = None,
) -> None:
    """Print every option as it arrived."""
    arrived = {key: value for key, value in locals().items() if key != "config"}
    console = Console(quiet)
    console.info("a note")
    console.result(json.dumps({**arrived, "nu": parse_nus(nu)}))


def fail() -> None:
    raise LcamError("no such\nimage 'a\x1b[31m.png'", "look again")


def bug() -> None:
    raise RuntimeError("boom")


def ctrl_c() -> None:
    raise KeyboardInterrupt


def exit_3() -> None:
    raise typer.Exit(3)


def torch_imported(console: Console) -> None:
    console.result(str("torch" in sys.modules))


def table(console: Console) -> None:
    drawn = Table("name")
    drawn.add_row(Text("é" * 100))
    console.table(drawn)


def result_and_exit(console: Console) -> None:
    console.result("found")
    raise typer.Exit(3)


def flood(console: Console) -> None:
    while True:
        console.result("x" * 1000)


def progress(console: Console) -> None:
    with console.working():
        time.sleep(0.15)
        with console.progress(3, "explain", "images") as bar:
            bar.advance(2)
            console.info("[bold]in between[/bold]")
            bar.note("loss 0.5 [red]")
            bar.advance(1)
        console.info("done")
        console.result("a result")
        console.info("after it")


def wait(console: Console) -> None:
    with interruptible() as interrupt:
        console.info("ready")
        while not interrupt.stop:
            time.sleep(0.01)
    console.info("saved")
    raise typer.Exit(130)


def wait_deaf(console: Console) -> None:
    with interruptible():
        console.info("ready")
        while True:
            time.sleep(0.01)


ENDINGS = {"lcam-error": fail, "bug": bug, "ctrl-c": ctrl_c, "exit-3": exit_3}
ACTS = {
    "torch": torch_imported,
    "table": table,
    "result-and-exit": result_and_exit,
    "flood": flood,
    "progress": progress,
    "wait": wait,
    "wait-deaf": wait_deaf,
}


def act(
    how: Annotated[str, typer.Argument()],
    images: Annotated[list[str] | None, typer.Argument()] = None,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
    config: options.Config = None,
) -> None:
    """End in one of the ways a command can end, or do one of the things it can do."""
    console = Console(quiet)
    if how in ENDINGS:
        ENDINGS[how]()
    if how in ACTS:
        ACTS[how](console)
    for name in images or []:
        console.result(name)
        console.info(name)


app = new_app()
add_command(app, train)
add_command(app, act)

if __name__ == "__main__":
    sys.exit(run(app, sys.argv[1:]))
