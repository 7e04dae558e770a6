"""Overlays for a folder: `lcam explain` over a plain loop of the grad-cam package.

    python benchmarks/overlays.py mobilenet_v2 ../shared/real/photos

The loop reads an image, explains it with GradCAM and saves an overlay, one after the other, as
that package's examples do, in a process of its own; only its loop is timed. The command is timed
from its third batch to the third before the last. The loop's overlays are 224 pixels wide, the
command's as wide as the image.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import side_by_side as s

_AROUND = 192

_LOOP = """
import sys, time, numpy as np, torchvision
from pathlib import Path
from PIL import Image
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.image import preprocess_image, show_cam_on_image
name, layer, folder, out, count = sys.argv[1:]
model = torchvision.models.get_model(name, weights=None).eval()
cam = GradCAM(model=model, target_layers=[model.get_submodule(layer)])
for k, path in enumerate(sorted(Path(folder).iterdir())[: int(count) + 2]):
    if k == 2:
        start = time.perf_counter()
    image = Image.open(path).convert("RGB")
    scale = 256 / min(picture.size)
    image = image.resize([round(side * scale) for side in picture.size])
    left, top = (image.width - 224) // 2, (image.height - 224) // 2
    pixels = np.float32(image.crop((left, top, left + 224, top + 224))) / 255
    x = preprocess_image(pixels, mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225])
    map = cam(input_tensor=x, targets=None)[0]
    Image.fromarray(show_cam_on_image(pixels, map, use_rgb=True)).save(Path(out) / f"{k}.png")
print(int(count) / (time.perf_counter() - start))
"""


def grad_cam_rate(name: str, layer: str, folder: Path, out: Path, count: int) -> float:
    """Images a second of the plain loop."""
    out.mkdir(exist_ok=True)
    command = [sys.executable, "-c", _LOOP, name, layer, str(folder), str(out), str(count)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("backbone")
    parser.add_argument("photos", type=Path)
    parser.add_argument("--layer", default="features.18", help="the loop's target layer")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--loop-images", type=int, default=20)
    parser.add_argument("--overlay-format", default="png")
    parser.add_argument("--precision", default="fp32", help="the command's; the loop has fp32")
    given = parser.parse_args()

    ours, theirs = [], []
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        folder = s.folder_of(given.photos, given.images + _AROUND, work / "photos")
        network = ("--backbone", given.backbone, "--weights", "none")
        s.lcam(
            *("train", folder, *network, "--recipe", "paper", "--epochs", "1"),
            *("--batch-size", "8", "--max-images", "8", "--out", work / "run", "--quiet"),
        )
        for _ in range(given.rounds):
            theirs.append(
                grad_cam_rate(given.backbone, given.layer, folder, work / "loop", given.loop_images)
            )
            ours.append(
                s.steady_rate(
                    *(folder, "--attention", work / "run", "--out", work / "maps.h5"),
                    *("--overlays", work / "overlays", "--overlay-format", given.overlay_format),
                    *("--precision", given.precision, "--overwrite", "--quiet"),
                )
            )
    print(s.machine())
    what = f"{given.precision}, overlays as {given.overlay_format}"
    print(f"{given.backbone}, {what}, {given.rounds} rounds")
    print(s.row("grad-cam, a plain loop", theirs, "images/s"))
    print(s.row("lcam explain --overlays", ours, "images/s"))
    print(s.row("lcam / grad-cam", [a / b for a, b in zip(ours, theirs, strict=True)]))


if __name__ == "__main__":
    main()
