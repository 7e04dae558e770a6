"""Draw the pictures of the methods' pages: every method on the same generated photographs.

    python docs/make_pictures.py

It takes some minutes: the learned methods are trained first, on the demo's pictures.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

from lcam_cli.demo.pictures import write_pictures

PICTURES = Path(__file__).with_name("pictures")
SHOWN = ("ball", "boat", "leaf", "shell")
FAMILIES = {
    "lcam": "lcam-img,lcam-fm,cam,gradcam,scorecam,rise",
    "learned": "lcam-img,bla,bla-hard,l2x-f,amg,tame",
    "gradient": "gradcam,gradcam++,xgradcam,layercam,smoothgradcam++,integrated-gradcam",
    "ablation": "gradcam,ablationcam",
    "perturbation": "scorecam,rise,groupcam,sidu,sise,adasise",
}
MODES = ("img", "fm", "bla", "l2x-f", "amg", "tame")


def lcam(*words: str, cwd: Path) -> None:
    """Run a command in a folder."""
    subprocess.run([sys.executable, "-m", "lcam_cli", *words, "--quiet"], cwd=cwd, check=True)


def main() -> None:
    """Train, explain and draw."""
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        write_pictures(work / "train", per_class=40, seed=0)
        for mode in MODES:
            lcam("train", "train", "--backbone", "lcam-demo", "--mode", mode, cwd=work)
        write_pictures(work / "all", per_class=1, seed=11)
        shown = [str(next((work / "all" / label).iterdir())) for label in SHOWN]
        for family, methods in FAMILIES.items():
            figure = str(work / f"{family}.png")
            words = ["--backbone", "lcam-demo", "--methods", methods, "--rise-masks", "1000"]
            lcam("compare", *shown, *words, "--no-floor", "--figure", figure, cwd=work)
            with Image.open(figure) as drawn:
                drawn.thumbnail((900, 1600))
                drawn.convert("RGB").save(PICTURES / f"{family}.jpg", quality=88)


if __name__ == "__main__":
    main()
