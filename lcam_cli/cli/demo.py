"""``lcam demo``: the main job on images that the program makes itself. Needs no network."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from lcam_cli.cli import options as o
from lcam_cli.cli.console import Console
from lcam_cli.cli.run import run_command
from lcam_cli.errors import LcamError

TRAIN_PER_CLASS = 30
PHOTOS_PER_CLASS = 8
# Images that break the planted shortcut: without them nobody would see it fail.
BOATS_ASHORE = 8
OTHERS_AFLOAT = 2

SETTINGS = """\
# What the commands use in this folder by default.
[defaults]
backbone = "lcam-demo"

[train]
data = "train"
"""

COMMANDS = (
    ("train", "--mode", "img"),
    ("explain", "./photos", "--out", "maps.h5", "--overlays", "overlays"),
    ("evaluate", "--nu", "100,50,15"),
    ("diagnose", "./photos", "./misplaced", "--labels", "folders", "--report", "errors"),
)

# Measures of where a map lies, and what they ask.
MEANINGS = {
    "pointing": "is the highest pixel on it?",
    "energy": "how much of the map is on it?",
    "iou": "how well does a box fit it?",
}


def demo(
    context: typer.Context,
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Folder to create and fill.")
    ] = Path("lcam-demo"),
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an earlier demo.")
    ] = False,
    seed: o.Seed = 0,
    quiet: o.Quiet = False,
    debug: o.Debug = False,
    config: o.Config = None,
) -> None:
    """See it all on generated images, with a small classifier.

    Trains, explains, evaluates and diagnoses. The images show ten kinds of object on textured
    backgrounds. One class has a planted shortcut, a background that always comes with it, and its
    maps reveal that.
    """
    console = Console(quiet)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())) and not overwrite:
        raise LcamError(f"{folder} exists and is not empty", "pass --overwrite or another DIR")
    from lcam_cli.demo import pictures
    from lcam_cli.demo.overview import draw_overview

    console.info(f"making images in {folder}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, count, own_seed in (
            ("train", TRAIN_PER_CLASS, pictures.TRAIN_SEED),
            ("photos", PHOTOS_PER_CLASS, pictures.PHOTOS_SEED),
        ):
            pictures.write_pictures(
                folder / name, per_class=count, seed=own_seed, masks=folder / "masks" / name
            )
        pictures.write_misplaced(folder / "misplaced", ashore=BOATS_ASHORE, afloat=OTHERS_AFLOAT)
        (folder / "lcam.toml").write_text(SETTINGS, "utf-8")
    except OSError as error:
        raise LcamError(f"cannot write to {folder}: {error.strerror}", "pass another DIR") from None
    with _working_in(folder):
        for words in COMMANDS:
            again = ["--overwrite"] if overwrite and words[0] != "evaluate" else []
            console.info("")
            console.info(f"$ lcam {' '.join(words)}")
            typed = [*words, *again, "--seed", str(seed), *(["--quiet"] if quiet else [])]
            if code := run_command(context.find_root().command, typed):
                raise typer.Exit(code)
        from lcam_cli.runs.demo import object_scores

        masks = Path("masks") / "photos"
        others, boats = object_scores(Path("maps.h5"), masks, pictures.SHORTCUT_CLASS)
        draw_overview(Path("maps.h5"), Path("overlays"), Path("overview.png"))
    shortcut = pictures.SHORTCUT_CLASS
    console.result(
        f"\nWhere the maps lie, by the true masks of the objects, in percent:\n"
        f"{_table({f'{len(pictures.CLASSES) - 1} other classes': others, f'{shortcut}s': boats})}\n"
        f"Less of the {shortcut}s' maps is on the object: this classifier has learned a planted\n"
        f"shortcut, the {pictures.SHORTCUT_GROUND}. It misclassifies {shortcut}s ashore and other "
        f"objects on {pictures.SHORTCUT_GROUND},\nand the diagnosis shows why.\n"
        f"\nLook at {folder / 'overview.png'}, at every image in {folder / 'overlays'}, and at\n"
        f"{folder / 'errors' / 'index.html'}.\n"
        f"\nTry next:\n"
        f"  cd {folder}\n"
        f"  lcam explain ./photos --class {shortcut} --out {shortcut}.h5 --overlays {shortcut}\n"
        f"  lcam explain ./photos --method gradcam --out gradcam.h5\n"
        f"  lcam evaluate gradcam.h5 --nu 100,50,15"
    )


def _table(scores: Mapping[str, Mapping[str, float]]) -> str:
    """Measures by the images that they are of, a line a measure."""
    lines = [" " * 43 + "".join(f"{pictures:>18}" for pictures in scores)]
    for name, meaning in MEANINGS.items():
        numbers = "".join(f"{measured[name]:18.1f}" for measured in scores.values())
        lines.append(f"  {name:10}{meaning:31}{numbers}")
    return "\n".join(lines)


@contextmanager
def _working_in(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)
