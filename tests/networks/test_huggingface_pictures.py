"""The image that reaches a Hugging Face network is the one that its own processor makes."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from lcam_cli.errors import BadImageError, LcamError
from lcam_cli.images.decoder import Decoder
from lcam_cli.images.preprocess import Preprocess
from lcam_cli.images.request import Request
from lcam_cli.networks.registry import load_network
from tests.networks.hugging_face import SMALL, edit_json, processor_of, write_folder

transformers: Any = pytest.importorskip("transformers")

SIZES = ((131, 97), (97, 131), (500, 333), (40, 301), (33, 35), (64, 64))
QUICK = ("vit", "deit", "convnext", "convnextv2", "efficientnet", "mobilevit", "levit")
QUICK += ("poolformer", "dinov2-registers", "mobilenet-v2")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Pictures of odd sizes, JPEG and PNG in turn."""
    folder, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    paths = []
    for i, (width, height) in enumerate(SIZES):
        coarse = rng.integers(0, 256, (height // 6 + 2, width // 6 + 2, 3), dtype=np.uint8)
        picture = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
        paths.append(folder / f"{i}.{'png' if i % 2 else 'jpg'}")
        picture.save(paths[-1])
    return paths


@pytest.fixture(scope="module")
def decoder() -> Iterator[Decoder]:
    """A reading process, as every run has them."""
    one = Decoder()
    yield one
    one.close()


def given(decoder: Decoder, path: Path, preprocess: Preprocess) -> Tensor:
    """The network's input, (1, C, H, W), as the engine makes it of what the process reads."""
    pixels = torch.from_numpy(decoder.read(Request(str(path), preprocess=preprocess)).pixels)
    mean, std = (
        torch.tensor(values).view(-1, 1, 1) for values in (preprocess.mean, preprocess.std)
    )
    return ((pixels.permute(2, 0, 1).float() / 255 - mean) / std)[None]


def wanted(processor: Any, path: Path, mode: str = "RGB") -> Tensor:
    picture = Image.open(path).convert(mode)
    values: Tensor = processor(picture, return_tensors="pt")["pixel_values"].float()
    return values


def grey_levels(one: Tensor, two: Tensor, preprocess: Preprocess) -> float:
    """The largest difference of two inputs, in steps of an 8-bit image."""
    assert one.shape == two.shape
    std = torch.tensor(preprocess.std).view(-1, 1, 1)
    return float(((one - two).abs() * std * 255).max())


def compare(kind: str, folder: Path, files: list[Path], decoder: Decoder) -> dict[str, Any]:
    """Ours against both of transformers' processors, and the logits of both inputs."""
    own = write_folder(folder, kind)
    network = load_network(f"hf/{folder}")
    row: dict[str, Any] = {}
    for backend in ("Pil", ""):
        processor = processor_of(kind, backend)
        flips = getattr(processor, "do_flip_channel_order", False)
        pixels, logits = [], []
        for path in files:
            ours = given(decoder, path, network.preprocess)
            theirs = wanted(processor, path)
            shown = ours.flip(1) if flips else ours
            pixels.append(grey_levels(shown, theirs, network.preprocess))
            with torch.no_grad():
                a, b = network.module(ours).logits, own(theirs).logits
            logits.append(float((a - b).abs().max() / b.abs().max()))
        row[backend] = (max(pixels), max(logits))
    return row


def check(row: dict[str, Any]) -> None:
    """With Pillow the same; with torchvision, which rounds between the axes, nearly."""
    assert row["Pil"][0] < 0.01
    assert row["Pil"][1] < 1e-4
    assert row[""][0] < 3.01


@pytest.mark.parametrize("kind", QUICK)
def test_pictures_and_logits_are_the_processors(
    kind: str, tmp_path: Path, files: list[Path], decoder: Decoder
) -> None:
    check(compare(kind, tmp_path, files[:4], decoder))


@pytest.mark.slow
def test_the_table_of_all_architectures(
    tmp_path: Path, files: list[Path], decoder: Decoder
) -> None:
    """Print it with ``-s``."""
    print(f"\n{'':20}{'on Pillow':>24}{'on torchvision':>24}")
    print(f"{'':20}{'grey levels':>14}{'logits':>10}{'grey levels':>14}{'logits':>10}")
    for kind in SMALL:
        row = compare(kind, tmp_path / kind, files, decoder)
        numbers = "".join(f"{p:>14.4f}{q:>10.1e}" for p, q in row.values())
        print(f"{kind:20}{numbers}")
        check(row)


SQUARE, WIDE = {"height": 32, "width": 32}, {"height": 24, "width": 40}


@pytest.mark.parametrize(
    "settings",
    [
        {"do_normalize": False},
        {"do_rescale": False},
        {"do_rescale": False, "do_normalize": False},
        {"rescale_factor": 1 / 127.5},
        {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.9, 0.8, 0.7]},
        {"image_mean": 0.4, "image_std": 0.3},
        {"size": 32},
        {"size": WIDE},
        *({"resample": number} for number in range(6)),
    ],
)
def test_every_setting_is_followed(
    settings: dict[str, Any], tmp_path: Path, files: list[Path], decoder: Decoder
) -> None:
    write_folder(tmp_path, "vit", processor=settings)
    preprocess = load_network(f"hf/{tmp_path}", "none").preprocess
    processor = processor_of("vit", "Pil", **settings)
    for path in files:
        ours, theirs = given(decoder, path, preprocess), wanted(processor, path)
        assert grey_levels(ours, theirs, preprocess) < 0.01


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("deit", {"size": {"height": 40, "width": 48}, "crop_size": WIDE}),
        ("deit", {"size": {"height": 45, "width": 45}, "crop_size": SQUARE}),
        ("deit", {"do_center_crop": False}),
        ("bit", {"size": {"shortest_edge": 45}, "crop_size": 32}),
        ("bit", {"size": {"shortest_edge": 32}, "crop_size": SQUARE}),
        ("bit", {"do_resize": False, "crop_size": SQUARE}),
        ("convnext", {"size": {"shortest_edge": 96}, "crop_pct": 0.7}),
        ("convnext", {"size": {"shortest_edge": 400}}),
        ("poolformer", {"crop_pct": None, "size": {"shortest_edge": 70}}),
        ("poolformer", {"size": {"height": 64, "width": 64}}),
        ("levit", {"size": {"height": 80, "width": 90}}),
        ("efficientnet", {"include_top": False, "rescale_offset": False}),
        ("efficientnet", {"do_normalize": False}),
        ("mobilevit", {"do_flip_channel_order": False, "do_normalize": True}),
    ],
)
def test_every_setting_of_other_processors_is_followed(
    kind: str, settings: dict[str, Any], tmp_path: Path, files: list[Path], decoder: Decoder
) -> None:
    write_folder(tmp_path, kind, processor=settings)
    preprocess = load_network(f"hf/{tmp_path}", "none").preprocess
    processor = type(processor_of(kind, "Pil")).from_pretrained(tmp_path)
    for path in files:
        ours, theirs = given(decoder, path, preprocess), wanted(processor, path)
        assert grey_levels(ours, theirs, preprocess) < 0.01


def test_pictures_that_are_not_resized_have_the_networks_size_or_are_skipped(
    tmp_path: Path, files: list[Path], decoder: Decoder
) -> None:
    write_folder(tmp_path, "vit", processor={"do_resize": False}, config={"image_size": 64})
    preprocess = load_network(f"hf/{tmp_path}").preprocess
    with pytest.raises(BadImageError, match=r"it is 131×97 .* only takes 64×64, not resized"):
        given(decoder, files[0], preprocess)
    theirs = wanted(processor_of("vit", "Pil", do_resize=False), files[5])
    assert grey_levels(given(decoder, files[5], preprocess), theirs, preprocess) < 0.01


def test_a_network_of_one_channel_gets_luminance(
    tmp_path: Path, files: list[Path], decoder: Decoder
) -> None:
    if transformers.__version__.startswith("4."):
        pytest.skip("its processors take no grey pictures")
    own = {"image_mean": [0.4], "image_std": [0.2]}
    write_folder(tmp_path, "vit", processor=own, config={"num_channels": 1})
    preprocess = load_network(f"hf/{tmp_path}").preprocess
    assert preprocess.input_shape == (1, 32, 32)
    processor = processor_of("vit", "Pil", **own)
    for path in files:
        ours, theirs = given(decoder, path, preprocess), wanted(processor, path, "L")
        assert grey_levels(ours, theirs, preprocess) < 0.01


def test_mean_and_std_of_another_number_of_channels_are_averaged_and_this_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    own = {"image_mean": [0.3, 0.4, 0.5], "image_std": [0.1, 0.2, 0.3]}
    write_folder(tmp_path, "vit", processor=own, config={"num_channels": 1})
    preprocess = load_network(f"hf/{tmp_path}").preprocess
    assert preprocess.mean == pytest.approx((0.4,))
    assert "expects 1 channels, but preprocessor_config.json has mean and std for 3" in caplog.text


@pytest.mark.parametrize(
    "names",
    [
        {"image_processor_type": "ViTImageProcessorFast"},
        {"image_processor_type": "ViTImageProcessorPil"},
        {"image_processor_type": None, "feature_extractor_type": "ViTFeatureExtractor"},
        {"image_processor_type": None},  # that of the architecture
        {"processor_class": "X", "auto_map": {"AutoImageProcessor": "mine.Processor"}},
    ],
)
def test_old_and_new_names_are_one_processor(names: dict[str, Any], tmp_path: Path) -> None:
    write_folder(tmp_path, "vit")
    before = load_network(f"hf/{tmp_path}").preprocess
    edit_json(tmp_path / "preprocessor_config.json", **names)
    if transformers.__version__ < "5" and "Fast" in str(names.get("image_processor_type")):
        before = replace(before, crop_rounding="even")  # those crop as torchvision does
    assert load_network(f"hf/{tmp_path}").preprocess == before


def test_an_old_file_with_numbers_for_sizes_is_read(
    tmp_path: Path, files: list[Path], decoder: Decoder
) -> None:
    write_folder(tmp_path, "deit")
    old = {
        "feature_extractor_type": "DeiTFeatureExtractor",
        "do_center_crop": True,
        "do_normalize": True,
        "do_resize": True,
        "crop_size": 32,
        "size": 37,
        "resample": 3,
        "image_mean": [0.485, 0.456, 0.406],
        "image_std": [0.229, 0.224, 0.225],
    }
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(old))
    preprocess = load_network(f"hf/{tmp_path}").preprocess
    processor = type(processor_of("deit", "Pil")).from_pretrained(tmp_path)
    theirs = wanted(processor, files[0])
    assert grey_levels(given(decoder, files[0], preprocess), theirs, preprocess) < 0.01


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("vit", {"image_size": 32, "fit": "squash", "mean": (0.5,) * 3}),
        ("swin", {"image_size": 32, "fit": "squash"}),
        ("deit", {"image_size": 32, "resize": (37, 37), "fit": "crop"}),
        ("clip", {"image_size": 32, "resize": 32, "interpolation": "bicubic"}),
        ("levit", {"image_size": 64, "resize": 73}),
        ("mobilevit", {"image_size": 64, "resize": 64}),
        ("resnet", {"image_size": 384, "fit": "squash"}),  # its config.json has no size
    ],
)
def test_without_a_file_it_is_the_architectures_default_and_this_is_said(
    kind: str, expected: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_folder(tmp_path, kind)
    (tmp_path / "preprocessor_config.json").unlink()
    preprocess = load_network(f"hf/{tmp_path}").preprocess
    assert {name: getattr(preprocess, name) for name in expected} == expected
    assert "has no preprocessor_config.json: images are prepared as" in caplog.text


def test_free_shapes_are_cut_to_their_centre_and_this_is_said(
    tmp_path: Path, files: list[Path], decoder: Decoder, caplog: pytest.LogCaptureFixture
) -> None:
    free = {"size": {"shortest_edge": 32}, "do_center_crop": False}
    write_folder(tmp_path, "bit", processor=free)
    preprocess = load_network(f"hf/{tmp_path}").preprocess
    assert "lcam uses the square in the centre" in caplog.text
    theirs = wanted(processor_of("bit", "Pil", **free), files[0])
    cut = theirs[..., (theirs.shape[3] - 32) // 2 :][..., :32]
    assert grey_levels(given(decoder, files[0], preprocess), cut, preprocess) < 0.01


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"do_pad": True}, "the processor has do_pad, which lcam does not do"),
        ({"image_processor_type": "DonutImageProcessor"}, "whose steps lcam does not know"),
        ({"image_processor_type": "Nobodys"}, "whose steps lcam does not know"),
        ({"size": {"longest_edge": 40}}, "the processor resizes to {'longest_edge': 40}"),
        ({"size": "x"}, "cannot be read by transformers"),
        ({"image_mean": [1, 2]}, "as many numbers as mean"),
        ({"image_std": [0, 1, 1]}, "must be above 0"),
        ({"image_std": float("inf")}, "must be finite"),
        ({"rescale_factor": float("nan")}, "must be finite"),
        ({"rescale_factor": 0}, "is inconsistent"),
        ({"resample": 17}, "is inconsistent"),
        ({"resample": -1}, "is inconsistent"),
        ({"crop_size": {"height": 64, "width": 64}}, "adds black around images"),
        ({"do_center_crop": False, "size": {"height": 0, "width": 5}}, "from 1 to 8192"),
        ({"do_center_crop": False, "size": {"height": 10**6, "width": 5}}, "from 1 to 8192"),
        (
            {"size": {"shortest_edge": 40}, "crop_size": WIDE},
            "crops 24×40 of a shorter side of 40 pixels",
        ),
    ],
)
def test_what_cannot_be_done_here_is_refused_in_a_line(
    settings: dict[str, Any], words: str, tmp_path: Path
) -> None:
    write_folder(tmp_path, "deit")
    edit_json(tmp_path / "preprocessor_config.json", **settings)
    if "do_pad" in settings and transformers.__version__.startswith("4."):
        pytest.skip("its processor has no such step")
    with pytest.raises(LcamError) as error:
        load_network(f"hf/{tmp_path}")
    assert words in f"{error.value.what} {error.value.hint}"
    assert "preprocessor_config.json" in error.value.what
    assert "\n" not in error.value.what


def test_the_flip_of_channels_is_in_the_first_layer(tmp_path: Path) -> None:
    own = write_folder(tmp_path, "mobilevit")
    network = load_network(f"hf/{tmp_path}")
    x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(network.module(x).logits, own(x.flip(1)).logits)


def test_the_reader_is_quiet_about_what_is_in_order(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        for kind in ("vit", "deit", "convnext", "mobilevit"):
            write_folder(tmp_path / kind, kind)
            load_network(f"hf/{tmp_path / kind}")
    assert not [r for r in caplog.records if r.name == "lcam"]
