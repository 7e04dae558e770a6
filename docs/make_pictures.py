"""Draw the images of the methods' pages: every method on the same generated photographs.

    python docs/make_pictures.py [FAMILY ...]

Of all families it takes some minutes: learned methods are trained first, on the demo's images.
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
    "gradient": "gradcam,gradcam++,xgradcam,layercam,hirescam,eigengradcam,shapleycam,finercam,"
    "refinecam,smoothgradcam++,integrated-gradcam",
    "ablation": "gradcam,ablationcam,reciprocam",
    "perturbation": "scorecam,rise,groupcam,opticam,sidu,sise,adasise",
    "transformer": "rollout,gae,legrad,layercam",
    "pixel": "saliency,inputxgradient,ig,smoothgrad,gradientshap,occlusion",
}
TRAINED = ("lcam", "learned")
MODES = ("img", "fm", "bla", "l2x-f", "amg", "tame")


def lcam(*words: str, cwd: Path) -> None:
    """Run a command in a folder."""
    subprocess.run([sys.executable, "-m", "lcam_cli", *words, "--quiet"], cwd=cwd, check=True)


def backbone(family: str) -> str:
    """The demo's network that a family explains."""
    return "lcam-demo-vit" if family == "transformer" else "lcam-demo"


def main() -> None:
    """Train, explain and draw."""
    wanted = sys.argv[1:] or list(FAMILIES)
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        if not set(TRAINED).isdisjoint(wanted):
            write_pictures(work / "train", per_class=40, seed=0)
            for mode in MODES:
                lcam("train", "train", "--backbone", "lcam-demo", "--mode", mode, cwd=work)
        write_pictures(work / "all", per_class=1, seed=11)
        shown = [str(next((work / "all" / label).iterdir())) for label in SHOWN]
        for family in wanted:
            figure = str(work / f"{family}.png")
            words = ["--backbone", backbone(family), "--methods", FAMILIES[family]]
            words += ["--rise-masks", "1000", "--no-floor", "--figure", figure]
            lcam("compare", *shown, *words, cwd=work)
            with Image.open(figure) as drawn:
                drawn.thumbnail((900, 1600))
                drawn.convert("RGB").save(PICTURES / f"{family}.jpg", quality=88)


if __name__ == "__main__":
    main()
