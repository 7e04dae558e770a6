"""Real photographs in every kind of file, and the real network in two: the answers agree.

What comes out is held to that of the 8-bit files, and where it can be to torchvision's own
preparation and a forward pass by hand.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from torchvision.transforms import v2

from tests.cli import job
from tests.cli.job import Lcam

pytestmark = [pytest.mark.real, pytest.mark.slow]

lcam = job.lcam

PHOTOS = 4
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


class Found(NamedTuple):
    """What a run of ``lcam explain`` found, a row per image in the order of the paths."""

    classes: np.ndarray[Any, Any]
    scores: np.ndarray[Any, Any]
    cam: np.ndarray[Any, Any]
    saliency: np.ndarray[Any, Any]
    err: str


Explain = Callable[..., Found]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def weights(real: Path) -> Path:
    return real / "mobilenet_v2_imagenet1k_fp16.pt"


@pytest.fixture
def photos(real: Path) -> list[Path]:
    return sorted((real / "photos").glob("*.JPEG"))[1::50][:PHOTOS]


@pytest.fixture
def explain(lcam: Lcam, weights: Path) -> Explain:
    """Explain images by CAM, with the real network unless another one is named."""

    def call(*words: str | Path) -> Found:
        network = () if "--backbone" in words else ("--backbone", "mobilenet_v2")
        known = ("--weights", weights) if network else ()
        options = ("--method", "cam", "--map-dtype", "float32", "--workers", "1", "--overwrite")
        done = lcam("explain", *words, *network, *known, *options)
        assert done.code == 0, done.err
        with h5py.File("maps.h5") as file:
            order = np.argsort(file["path"].asstr()[:], kind="stable")
            names = ("predicted_index", "confidence", "cam", "saliency")
            return Found(*(file[name][:][order] for name in names), done.err)

    return call


def greys(photos: list[Path]) -> list[np.ndarray[Any, Any]]:
    return [np.asarray(Image.open(photo).convert("L")) for photo in photos]


def agree(found: Found, expected: Found, *, scores: float = 0.04) -> None:
    """The same classes; scores and maps that differ by what rounding to 8 bits can change."""
    assert found.classes.tolist() == expected.classes.tolist()
    np.testing.assert_allclose(found.scores, expected.scores, atol=scores)
    for ours, theirs in zip(found.saliency, expected.saliency, strict=True):
        assert np.corrcoef(ours.ravel(), theirs.ravel())[0, 1] > 0.99


def mobilenet(weights: Path) -> torch.nn.Module:
    network = torchvision.models.mobilenet_v2()
    network.load_state_dict(torch.load(weights, weights_only=True))
    return network.eval()


def score_of_grey(grey: np.ndarray[Any, Any], weights: Path) -> float:
    """The largest score, by torchvision's transforms of float32 alone."""
    values = torch.from_numpy(grey.astype(np.float32) / 255)[None]
    prepare = v2.Compose(
        [v2.Resize(256, antialias=True), v2.CenterCrop(224), v2.Normalize(MEAN, STD)]
    )
    with torch.inference_mode():
        return float(mobilenet(weights)(prepare(values.expand(3, -1, -1))[None]).softmax(1).max())


def test_deep_greys_are_their_8_bit_twins(
    photos: list[Path], explain: Explain, weights: Path
) -> None:
    for kind in ("8", "12", "16", "float"):
        Path(kind).mkdir()
    for number, grey in enumerate(greys(photos)):
        Image.fromarray(grey).save(f"8/{number}.png")
        twelve = (grey.astype(np.float64) * 4095 / 255).round().astype(np.uint16)
        Image.fromarray(twelve).save(f"12/{number}.png")
        Image.fromarray(grey.astype(np.uint16) * 257).save(f"16/{number}.png")
        Image.fromarray(grey.astype(np.float32) / 255).save(f"float/{number}.tif")
    expected, by_hand = explain("8"), [score_of_grey(grey, weights) for grey in greys(photos)]
    for found in (explain("12", "--window", "0,4095"), explain("16"), explain("float")):
        agree(found, expected)
        # Nearer than that to what was never rounded: nothing is lost on the way to the network.
        np.testing.assert_allclose(found.scores, by_hand, atol=0.002)

    dark = explain("12")
    assert "--window" in dark.err, "a sixteenth of the range is too little to go unnoticed"
    assert dark.classes.tolist() != expected.classes.tolist(), "so dark are other classes"


def test_dicom_of_photographs(photos: list[Path], explain: Explain) -> None:
    pytest.importorskip("pydicom", reason="pydicom is not installed")
    from tests.images.dicom_files import dicom

    for kind in ("grey", "grey-dcm", "colour", "colour-dcm"):
        Path(kind).mkdir()
    for number, (photo, grey) in enumerate(zip(photos, greys(photos), strict=True)):
        # Stored values of 16 bits; the window takes in 12 of them, from 1000 on.
        values = (1000 + grey.astype(np.float64) * 4095 / 255).round().astype(np.uint16)
        window = {"WindowCenter": 1000 + 2048, "WindowWidth": 4096}
        Path(f"grey-dcm/{number}.dcm").write_bytes(dicom(values, **window))
        Image.fromarray(grey).save(f"grey/{number}.png")
        colour = np.asarray(Image.open(photo).convert("RGB"))
        Path(f"colour-dcm/{number}.dcm").write_bytes(dicom(colour))
        Image.fromarray(colour).save(f"colour/{number}.png")
    agree(explain("grey-dcm"), explain("grey"))
    agree(explain("colour-dcm"), explain("colour"), scores=1e-5)


def test_jpeg_files_a_table_and_arrays(photos: list[Path], explain: Explain) -> None:
    pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    from pyarrow import parquet

    Path("arrays").mkdir()
    for number, photo in enumerate(photos):
        np.save(f"arrays/{number}.npy", np.asarray(Image.open(photo).convert("RGB")))
    rows = [{"bytes": photo.read_bytes(), "path": photo.name} for photo in photos]
    column = pa.array(rows, pa.struct({"bytes": pa.binary(), "path": pa.string()}))
    parquet.write_table(pa.table({"image": column}), "photos.parquet")

    files, table, arrays = explain(*photos), explain("photos.parquet"), explain("arrays")
    for name in ("classes", "scores", "cam", "saliency"):
        assert np.array_equal(getattr(table, name), getattr(files, name)), name
        assert np.array_equal(getattr(arrays, name), getattr(files, name)), name


@pytest.mark.parametrize("fit", ["squash", "crop"])
def test_wide_inputs(photos: list[Path], explain: Explain, weights: Path, fit: str) -> None:
    """180 rows by 320 columns, against torchvision's transforms and CAM by hand."""
    found = explain(
        *photos, "--image-size", "180x320", "--fit", fit, "--overlays", "overlays", "--no-caption"
    )
    assert found.saliency.shape == (PHOTOS, 180, 320)
    assert found.cam.shape == (PHOTOS, 6, 10)

    network: Any = mobilenet(weights)
    for number, photo in enumerate(photos):
        image = Image.open(photo).convert("RGB")
        if fit == "squash":
            size = (180, 320)
        else:  # until it covers 206 x 366, which is 256/224 of the input; rounded down
            width, height = image.size
            size = (
                (height * 366 // width, 366)
                if width * 206 < height * 366
                else (206, width * 206 // height)
            )
        prepare = v2.Compose(
            [
                *(v2.Resize(size), v2.CenterCrop((180, 320)), v2.PILToTensor()),
                *(v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)),
            ]
        )
        with torch.inference_mode():
            features = network.features(prepare(image)[None])
            scores = network.classifier(features.mean((2, 3))).softmax(1)[0]
            best = int(scores.argmax())
            cam = torch.einsum("k,khw->hw", network.classifier[1].weight[best], features[0])
        assert found.classes[number] == best
        assert found.scores[number] == pytest.approx(float(scores[best]), abs=0.03)
        assert np.corrcoef(found.cam[number].ravel(), cam.ravel())[0, 1] > 0.99
    drawn = sorted(Path("overlays").rglob("*.png"))
    assert [Image.open(path).size for path in drawn] == [Image.open(path).size for path in photos]


def test_onnx(photos: list[Path], explain: Explain, weights: Path) -> None:
    for package in ("onnx", "onnxruntime"):
        pytest.importorskip(package, reason=f"{package} is not installed")
    with warnings.catch_warnings():  # of what the exporter itself calls
        warnings.simplefilter("ignore")
        torch.onnx.export(
            mobilenet(weights),
            (torch.rand(2, 3, 224, 224),),
            "mobilenet_v2.onnx",
            dynamo=False,
            input_names=["pictures"],
            output_names=["logits"],
            dynamic_axes={"pictures": {0: "batch"}, "logits": {0: "batch"}},
        )
    ours, theirs = explain(*photos), explain(*photos, "--backbone", "mobilenet_v2.onnx")
    assert ours.classes.tolist() == theirs.classes.tolist()
    np.testing.assert_allclose(theirs.scores, ours.scores, atol=1e-3)
    np.testing.assert_allclose(theirs.saliency, ours.saliency, atol=1e-3)
    np.testing.assert_allclose(theirs.cam, ours.cam, atol=1e-3 * float(np.abs(ours.cam).max()))
