"""The recipes for networks of other libraries run as they stand on the page.

Each on a small network of random weights that lies where the recipe looks for it, and with the real
command. What comes out is held to what the library itself finds in the same images: its own
reading, its own preparation, its own forward pass. A library that is not installed skips its test.
"""

from __future__ import annotations

import importlib.util
import json
import runpy
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.models import ResNet18_Weights, resnet18

from tests.cli import job
from tests.cli.job import Lcam
from tests.docs import small_networks
from tests.docs.blocks import blocks_of
from tests.docs.small_networks import (
    IMAGENET,
    PIXELS,
    RECIPES,
    RUN_BY_RECIPES,
    photos,
    prepared,
    recipe,
    settle,
)

lcam = job.lcam
folder = small_networks.folder


def test_every_block_of_the_page_is_run_here() -> None:
    tests = Path(__file__).read_text(encoding="utf-8")
    for block in blocks_of(RECIPES):
        assert block.note.startswith(RUN_BY_RECIPES), block
        name = block.note.removeprefix(RUN_BY_RECIPES).removesuffix(f" {block.language}")
        assert f'"{name}"' in tests, block


def run(block: str, lcam: Lcam) -> str:
    """Run a block's lines one by one, ``lcam`` and ``python`` in this process; what was told."""
    told = ""
    for line in block.replace("\\\n", " ").splitlines():
        program, *words = shlex.split(line)
        if program == "lcam":
            done = lcam(*words, "--workers", "1")
            assert done.code == 0, f"{line}\n{done.err}"
            told += done.err
            if "--overlays" in words:
                folder = Path(words[words.index("--overlays") + 1])
                assert len(list(folder.glob("*.png"))) == 2
        elif program == "python":
            runpy.run_path(words[0], run_name="__main__")
        else:
            subprocess.run(["bash", "-euc", line], check=True)
    return told


def maps(file: str = "maps.h5") -> tuple[np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
    """Classes found, scores of the classes explained, their indices, and the preparation."""
    with h5py.File(file) as h5:
        assert (np.ptp(h5["saliency"][:].astype(float), axis=(1, 2)) > 0.5).all(), "flat maps"
        return (
            h5["predicted_index"][:],
            h5["confidence"][:],
            h5["class_index"][:],
            json.loads(h5.attrs["preprocess"]),
        )


def holds(scores: torch.Tensor, channels: int, file: str = "maps.h5", atol: float = 1e-4) -> None:
    """The maps are of the classes and scores (N, R) that the library finds."""
    predicted, confidence, explained, preprocess = maps(file)
    theirs = scores.detach().numpy()
    assert predicted.tolist() == theirs.argmax(1).tolist()
    np.testing.assert_allclose(confidence, theirs[np.arange(len(theirs)), explained], atol=atol)
    assert len(preprocess["mean"]) == channels


SMALL = {"image_size": 224, "num_labels": 3, "id2label": {0: "ant", 1: "bee", 2: "cat"}}


def hugging_face(transformers: Any) -> dict[str, Any]:
    """Small classifiers with their image processors, under the names that the recipe takes."""
    vit = transformers.ViTConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        patch_size=32, **SMALL,
    )  # fmt: skip
    convnext = transformers.ConvNextConfig(hidden_sizes=[8, 8, 16, 16], depths=[1] * 4, **SMALL)
    return {
        "google/vit-base-patch16-224": (
            transformers.ViTForImageClassification(vit),
            transformers.ViTImageProcessor(),
        ),
        "facebook/convnext-tiny-224": (
            transformers.ConvNextForImageClassification(convnext),
            transformers.ConvNextImageProcessor(size={"shortest_edge": 224}, crop_pct=0.875),
        ),
    }


def test_hugging_face(folder: Path, lcam: Lcam) -> None:
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    paths = photos(300, tall=True)
    for name, parts in hugging_face(transformers).items():
        for part in parts:
            part.save_pretrained(name)
    exec(recipe("hugging face", "python"))
    run(recipe("hugging face", "sh"), lcam)
    images = [Image.open(path) for path in paths]
    for saved in ("vit", "convnext"):
        network = transformers.AutoModelForImageClassification.from_pretrained(saved)
        processor = transformers.AutoImageProcessor.from_pretrained(saved)
        x = torch.cat([processor(image, return_tensors="pt")["pixel_values"] for image in images])
        holds(network(x).logits.softmax(1), 3, f"{saved}.h5", atol=1e-3)
        with h5py.File(f"{saved}.h5") as file:
            assert file["classes"].asstr()[:].tolist() == ["ant", "bee", "cat"]


def dicom(folder: str) -> Path:
    """A radiograph of 12 bits, whose own window shows a part of its values."""
    pydicom = pytest.importorskip("pydicom", reason="pydicom is not installed")
    taken = pydicom.Dataset()
    taken.file_meta = pydicom.dataset.FileMetaDataset()
    taken.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    taken.SOPClassUID = pydicom.uid.ComputedRadiographyImageStorage
    taken.SOPInstanceUID = "1.2.3"
    cells = Image.fromarray(np.random.default_rng(1).integers(0, 256, (5, 4), np.uint8))
    values = np.asarray(cells.resize((224, 224), Image.Resampling.BICUBIC)).astype(np.uint16) * 16
    taken.set_pixel_data(values, "MONOCHROME2", 12)
    taken.WindowCenter, taken.WindowWidth = 2000, 1000
    Path(folder).mkdir()
    path = Path(folder) / "0.dcm"
    taken.save_as(path, enforce_file_format=True)
    return path


@pytest.mark.slow
def test_torchxrayvision(folder: Path, lcam: Lcam) -> None:
    xrv = pytest.importorskip("torchxrayvision", reason="torchxrayvision is not installed")
    paths = photos(224, grey=True)
    x = torch.stack([torch.from_numpy(xrv.datasets.normalize(np.array(Image.open(p)), 255))[None]
                     for p in paths])  # fmt: skip
    network = xrv.models.DenseNet(weights=None)
    settle(network, x)
    url = xrv.models.model_urls["densenet121-res224-all"]["weights_url"]
    cache = Path(xrv.utils.get_cache_dir()).expanduser()
    cache.mkdir(parents=True)
    torch.save(network, cache / Path(url).name)
    Path("xrays.py").write_text(recipe("torchxrayvision", "python"))
    told = run(recipe("torchxrayvision", "sh"), lcam)
    assert "has 1 input channel: colour becomes luminance" in told
    scores = network(x).sigmoid()
    holds(scores, 1)
    with h5py.File("maps.h5") as file:
        assert set(file["class_name"].asstr()) == {"Pneumonia"}
    # DICOM, as the library reads it.
    taken = dicom("dicom")
    values = torch.from_numpy(xrv.utils.read_xray_dcm(taken))[None, None]
    line = recipe("torchxrayvision", "sh").splitlines(keepends=True)[1:]
    typed = "".join(line).replace("./photos", "./dicom").strip()
    run(f"{typed} --window 0,4095 --out dicom.h5", lcam)
    holds(network(values).sigmoid(), 1, "dicom.h5")
    # With its calibration the library gives other numbers, in the same order within a class.
    calibrated = xrv.models.DenseNet(weights="densenet121-res224-all")(x)
    assert (calibrated - scores).abs().max() > 0.1
    assert calibrated.argsort(0).equal(scores.argsort(0))


def test_monai(folder: Path, lcam: Lcam) -> None:
    nets = pytest.importorskip("monai.networks.nets", reason="monai is not installed")
    from monai import transforms

    paths = photos(64, grey=True)
    scale = transforms.ScaleIntensityRange(0, 255, 0, 1)
    load = transforms.Compose(
        [transforms.LoadImage(image_only=True), transforms.EnsureChannelFirst(), scale]
    )
    x = torch.stack([load(path).as_tensor() for path in paths])
    assert x[0, 0].T.numpy() == pytest.approx(np.array(Image.open(paths[0])) / 255)
    network = nets.DenseNet121(spatial_dims=2, in_channels=1, out_channels=6)
    settle(network, x)
    torch.save(network.state_dict(), "best_metric_model.pth")
    Path("mednist.py").write_text(recipe("monai", "python"))
    run(recipe("monai", "sh"), lcam)
    holds(network(x).softmax(1), 1)


def test_ultralytics(folder: Path, lcam: Lcam) -> None:
    ultralytics = pytest.importorskip("ultralytics", reason="ultralytics is not installed")
    paths = photos(224, tall=True)
    yolo = ultralytics.YOLO("yolo11n-cls.yaml")
    settle(yolo.model, prepared(paths[:1] * 2, PIXELS))
    yolo.save("best.pt")
    Path("yolo.py").write_text(recipe("ultralytics", "python"))
    run(recipe("ultralytics", "sh"), lcam)
    found = ultralytics.YOLO("best.pt").predict([str(p) for p in paths], imgsz=224, verbose=False)
    holds(torch.stack([result.probs.data for result in found]), 3, atol=1e-3)


@pytest.mark.slow
def test_fastai(folder: Path, lcam: Lcam) -> None:
    vision = pytest.importorskip("fastai.vision.all", reason="fastai is not installed")
    paths = photos(224, tall=True)
    kinds = [("train", kind) for kind in "abc"] + [("valid", kind) for kind in "abc"]
    for part, kind in kinds:
        (Path("data") / part / kind).mkdir(parents=True)
        Image.open(paths[0]).save(Path("data") / part / kind / "0.png")
    normalise = vision.Normalize.from_stats(*IMAGENET)  # as vision_learner does if pretrained
    data = vision.ImageDataLoaders.from_folder(
        "data", valid="valid", item_tfms=vision.Resize(224), batch_tfms=normalise, bs=2,
        num_workers=0,
    )  # fmt: skip
    learner = vision.vision_learner(data, resnet18, pretrained=False)
    settle(learner.model, prepared(paths[:1] * 2, IMAGENET))
    learner.path = Path()
    learner.export("learner.pkl")
    learner.save("mine", with_opt=False)
    Path("pets.py").write_text(recipe("fastai", "python"))
    run(recipe("fastai", "sh"), lcam)
    with learner.no_bar():
        scores = torch.stack([learner.predict(path)[2] for path in paths])
    holds(scores, 3)
    assert Path("names.txt").read_text().split() == ["a", "b", "c"]
    Path("body.py").write_text(recipe("fastai state dict", "python"))
    run(recipe("fastai state dict", "sh"), lcam)
    holds(scores, 3, "again.h5")


def test_lightning(folder: Path, lcam: Lcam) -> None:
    lightning = pytest.importorskip("lightning", reason="lightning is not installed")
    paths = photos(224)
    Path("classifier.py").write_text(recipe("lightning", "python"))
    module = runpy.run_path("classifier.py")["build"]()
    data = torch.utils.data.TensorDataset(torch.rand(2, 3, 64, 64), torch.tensor([0, 1]))
    trainer = lightning.Trainer(
        max_epochs=2, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(module, torch.utils.data.DataLoader(data, batch_size=2))
    trainer.save_checkpoint("last.ckpt")
    told = run(recipe("lightning", "sh"), lcam)
    assert "ignored in last.ckpt" in told
    assert "loss.weight" in told
    prepare = ResNet18_Weights.DEFAULT.transforms()
    x = torch.stack([prepare(Image.open(path)) for path in paths])
    scores = module.eval()(x).softmax(1)
    holds(scores, 3)
    holds(scores, 3, "plain.h5")
    done = lcam("explain", "photos", "--backbone", "classifier.py:Classifier", "--method", "cam")
    assert "needs arguments (classes), but lcam passes none" in done.err


def tiny_clip(folder: Path, transformers: Any) -> None:
    """A CLIP of two small transformers, with a tokenizer that spells."""
    folder.mkdir(parents=True)
    letters = "abcdefghijklmnopqrstuvwxyz."
    pieces = [*letters, *(f"{c}</w>" for c in letters), "<|startoftext|>", "<|endoftext|>"]
    vocab = {piece: number for number, piece in enumerate(pieces)}
    (folder / "vocab.json").write_text(json.dumps(vocab))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = transformers.CLIPTokenizer(
        str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=32
    )
    tokenizer.save_pretrained(folder)
    start, end = len(vocab) - 2, len(vocab) - 1
    size = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2}
    text = {"vocab_size": len(vocab), "max_position_embeddings": 32, "bos_token_id": start}
    text |= {"eos_token_id": end, "pad_token_id": end}
    config = transformers.CLIPConfig(
        text_config={**size, **text, "num_hidden_layers": 2},
        vision_config={**size, "image_size": 224, "patch_size": 32, "num_hidden_layers": 2},
        projection_dim=16,
    )
    transformers.CLIPModel(config).save_pretrained(folder)
    transformers.CLIPImageProcessor().save_pretrained(folder)


def test_clip(folder: Path, lcam: Lcam) -> None:
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    name = "openai/clip-vit-base-patch32"  # found here before it is looked for on the Hub
    tiny_clip(Path(name), transformers)
    paths = photos(224)
    Path("zeroshot.py").write_text(recipe("clip", "python"))
    run(recipe("clip", "sh"), lcam)
    clip = transformers.CLIPModel.from_pretrained(name)
    processor = transformers.CLIPProcessor.from_pretrained(name)
    prompts = [f"a photo of a {name}." for name in ("cat", "dog", "boat")]
    images = [Image.open(path) for path in paths]
    asked = processor(text=prompts, images=images, return_tensors="pt", padding=True)
    holds(clip(**asked).logits_per_image.softmax(1), 3)


@pytest.mark.slow
def test_keras(folder: Path, lcam: Lcam) -> None:
    for package in ("keras", "onnxscript", "onnxruntime"):  # importing keras chooses a backend
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    paths = photos(224)
    Path("names.txt").write_text("ant\nbee\ncat\n")
    made = f"""
import os
os.environ["KERAS_BACKEND"] = "torch"
import keras
import numpy as np

keras.utils.set_random_seed(0)
layers = keras.layers
model = keras.Sequential([
    layers.Input((224, 224, 3)), layers.Rescaling(1 / 127.5, offset=-1),
    layers.Conv2D(8, 5, strides=4, activation="relu"),
    layers.Conv2D(12, 5, strides=4, activation="relu"),
    layers.GlobalAveragePooling2D(), layers.Dense(3, activation="softmax"),
])
model.save("mine.keras")
x = [np.array(keras.utils.load_img(path)) for path in {[str(p) for p in paths]}]
np.save("scores.npy", model.predict(np.stack(x).astype("float32"), verbose=0))
"""
    script = made + recipe("keras", "python")  # in a process where nobody has chosen a backend
    subprocess.run([sys.executable, "-W", "ignore", "-c", script], check=True)
    told = run(recipe("keras", "sh"), lcam)
    assert "mine.onnx returns probabilities" in told
    holds(torch.from_numpy(np.load("scores.npy")), 3)
