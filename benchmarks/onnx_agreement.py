"""MobileNetV2 with real weights, as ONNX and in PyTorch: predicted classes, and AD of maps.

    python benchmarks/onnx_agreement.py ../shared/real/mobilenet_v2_imagenet1k_fp16.pt PHOTOS

The ONNX file is made in a temporary folder. `lcam explain` says what both predict, and `lcam
compare` scores RISE and Score-CAM of both.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import warnings
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import side_by_side as s
import torch
import torchvision

from lcam_cli.networks.weights.file import load_weights


def export(weights: Path, file: Path) -> None:
    """Write MobileNetV2 with these weights as ONNX, for batches of any size."""
    network = torchvision.models.mobilenet_v2()
    load_weights(network, str(weights), "mobilenet_v2")
    pictures = torch.rand(2, 3, 224, 224)
    with warnings.catch_warnings():  # of what the exporter itself calls
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network.eval(),
            (pictures,),
            str(file),
            dynamo=False,
            input_names=["pictures"],
            output_names=["logits"],
            dynamic_axes={"pictures": {0: "batch"}, "logits": {0: "batch"}},
        )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("weights", type=Path)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--images", type=int, default=200, help="whose classes are compared")
    parser.add_argument("--map-images", type=int, default=200, help="whose maps are scored")
    parser.add_argument("--rise-masks", type=int, default=500)
    parser.add_argument("--nu", default="50")
    given = parser.parse_args()

    print(s.machine())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        photos = s.folder_of(given.photos, given.images, folder / "photos")
        export(given.weights, folder / "mobilenet_v2.onnx")
        networks = {
            "PyTorch": ("--backbone", "mobilenet_v2", "--weights", given.weights),
            "ONNX": ("--backbone", folder / "mobilenet_v2.onnx"),
        }
        predicted: dict[str, np.ndarray[Any, Any]] = {}
        for what, network in networks.items():
            maps = folder / f"{what}.h5"
            s.lcam("explain", photos, *network, "--method", "cam", "--out", maps, "--quiet")
            with h5py.File(maps) as file:
                predicted[what] = file["predicted_index"][:]
            run = s.lcam(
                *("compare", photos, *network, "--methods", "rise,scorecam", "--quiet"),
                *("--rise-masks", given.rise_masks, "--nu", given.nu, "--format", "json"),
                *("--max-images", given.map_images),
            )
            for row in json.loads(run.stdout)["rows"]:
                ad, ic = (row["nu"][given.nu][measure] for measure in ("ad", "ic"))
                print(
                    f"{what:<8} {row['method']:<9} AD({given.nu}) {ad:.2f}  IC({given.nu}) {ic:.2f}"
                )
    same = predicted["PyTorch"] == predicted["ONNX"]
    print(f"the same top-1 on {same.sum()} of {len(same)} pictures")


if __name__ == "__main__":
    main()
