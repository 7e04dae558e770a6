"""Masks: what they mean in the network's view, and what of them is not used."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lcam_cli.errors import LcamError
from lcam_cli.images.mask import nearest
from tests.measures.object_files import WHOLE, Pictures


def mask(width: int = 100, height: int = 80) -> np.ndarray:
    """An object at x 30 to 50 and y 20 to 60 of an image of 100 × 80."""
    found = np.zeros((height, width), np.uint8)
    found[height // 4 : 3 * height // 4, 3 * width // 10 : width // 2] = 1
    return found


def drawn() -> np.ndarray:
    """That object in the view of 20 × 20."""
    found = np.zeros((20, 20), bool)
    found[5:15, 5:10] = True
    return found


def save(path: Path, values: np.ndarray | Image.Image, **how: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = values if isinstance(values, Image.Image) else Image.fromarray(values)
    picture.save(path, "PNG", **how)
    return path


def palette() -> Image.Image:
    """Colours by number: number 0 is white, and number 1, the object, is black."""
    picture = Image.fromarray(mask()).convert("P")
    picture.putpalette([255, 255, 255, 0, 0, 0] + [9] * 750)
    picture.putdata(mask().flatten().tolist())
    return picture


def rgba() -> Image.Image:
    """Red objects, of which the right half is transparent; and a transparent blue ground."""
    values = np.zeros((80, 100, 4), np.uint8)
    values[..., 2] = 9
    values[20:60, 30:50] = (1, 0, 0, 255)
    values[20:60, 50:70] = (1, 0, 0, 0)
    return Image.fromarray(values)


KINDS = {
    "1 of 255": mask(),
    "255": mask() * 255,
    "1 bit": Image.fromarray(mask() > 0),
    "1 of 65535": mask().astype(np.uint16),
    "palette": palette(),
    "one channel of three": np.stack([mask() * 0, mask(), mask() * 0], 2),
    "grey with alpha": Image.merge("LA", [Image.fromarray(mask())] * 2),
    "colours with alpha": rgba(),
}


@pytest.mark.parametrize("kind", KINDS)
def test_above_0_is_the_object(tmp_path: Path, kind: str) -> None:
    save(tmp_path / "cat" / "1.png", KINDS[kind])
    pictures = Pictures(["cat/1.jpg"]).read(masks=tmp_path)
    found = pictures.objects()
    np.testing.assert_array_equal(found.inside[0].numpy(), drawn())
    assert found.known.tolist() == [True]
    assert pictures.boxes() == [[[5, 5, 10, 15]]]
    assert pictures.lines == pictures.warnings == []


def test_each_connected_part_has_its_box(tmp_path: Path) -> None:
    values = mask()
    values[0:8, 82:90] = 1
    save(tmp_path / "1.png", values)
    save(tmp_path / "3.png", mask())
    pictures = Pictures(["1.jpg", "2.jpg", "3.jpg"]).read(masks=tmp_path)
    assert pictures.boxes() == [[[18, 0, 20, 2], [5, 5, 10, 15]], [], [[5, 5, 10, 15]]]
    assert pictures.warnings == [
        f"{tmp_path}: 1 of 3 images has no mask, so measures that need one skip them, e.g. 2.jpg"
    ]


def test_masks_of_another_size_are_scaled_and_told_of_once(tmp_path: Path) -> None:
    for name in ("1", "2"):
        save(tmp_path / f"{name}.png", mask(200, 160))
    save(tmp_path / "3.png", mask(10, 40))
    pictures = Pictures(["1.jpg", "2.jpg", "3.jpg"]).read(masks=tmp_path)
    for one in pictures.objects().inside.numpy():
        np.testing.assert_array_equal(one, drawn())
    pictures.objects(1)
    assert pictures.lines == [
        f"{tmp_path}: a mask has another size than its image and is scaled: 3 images, "
        "e.g. 1.jpg (1.png: 200 × 160, the image 100 × 80)"
    ]


def test_what_lies_out_of_view_is_outside(tmp_path: Path) -> None:
    values = np.zeros((80, 100), np.uint8)
    values[:, :14] = 1
    save(tmp_path / "1.png", values)
    values[:, 10:14] = 0
    save(tmp_path / "2.png", values)
    pictures = Pictures(["1.jpg", "2.jpg"]).read(masks=tmp_path)
    assert pictures.boxes() == [[[0, 0, 1, 20]], []]
    assert pictures.objects().known.tolist() == [True, False]
    assert pictures.lines == [
        f"{tmp_path}: no object is in the part of the image that the network sees, so the image is "
        "skipped: 1 image, e.g. 2.jpg"
    ]


def test_the_pixel_at_the_centre_counts() -> None:
    """Against every pixel's own arithmetic, for views that reach out of the image too."""
    rng = np.random.default_rng(1)
    values = rng.random((7, 11)) < 0.5
    box, size, side = (-3.0, 1.3, 25.0, 17.9), (22, 21), 9
    found = nearest(values, box, size, (side, side))
    for i in range(side):
        for j in range(side):
            x = (box[0] + (j + 0.5) * (box[2] - box[0]) / side) * 11 / size[0]
            y = (box[1] + (i + 0.5) * (box[3] - box[1]) / side) * 7 / size[1]
            within = 0 <= x < 11 and 0 <= y < 7
            assert found[i, j] == (within and bool(values[int(y), int(x)]))


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def enormous() -> bytes:
    """A PNG that says it has 10¹⁰ pixels."""
    header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"0"))


def cut_short(path: Path) -> bytes:
    noise = np.random.default_rng(0).integers(0, 255, (80, 100), np.uint8)
    return save(path, noise).read_bytes()[:4000]


def jpeg(path: Path) -> bytes:
    Image.fromarray(mask()).save(path, "JPEG")
    return path.read_bytes()


def test_bad_masks_leave_their_pictures_out(tmp_path: Path) -> None:
    folder, spare = tmp_path / "masks", tmp_path / "spare"
    bad = {
        "empty": b"",
        "text": b"no PNG",
        "jpeg": jpeg(spare),
        "cut": cut_short(spare),
        "huge": enormous(),
        "zeros": save(spare, mask() * 0).read_bytes(),
        "turned": save(spare, mask(80, 100)).read_bytes(),
    }
    folder.mkdir()
    for name, data in bad.items():
        (folder / f"{name}.png").write_bytes(data)
    save(folder / "good.png", mask())
    pictures = Pictures([*(f"{name}.jpg" for name in bad), "good.jpg"]).read(masks=folder)
    assert pictures.objects().known.tolist() == [False] * len(bad) + [True]
    lines = "\n".join(pictures.lines)
    for told in (
        "(empty file): 1 image, e.g. empty.jpg (empty.png)",
        "(not a PNG, or damaged at its start): 2 images, e.g. text.jpg (text.png)",
        "(truncated PNG): 1 image, e.g. cut.jpg",
        "(too many pixels: ",
        "(a mask without an object: all its values are 0): 1 image, e.g. zeros.jpg",
        "(it is turned on its side: masks must match the upright image): 1 image, e.g. turned.jpg",
    ):
        assert told in lines
    assert len(pictures.lines) == 6


def test_links_out_of_the_folder_are_not_followed(tmp_path: Path) -> None:
    secret = save(tmp_path / "elsewhere" / "1.png", mask())
    folder = tmp_path / "masks"
    inside = save(folder / "2.png", mask())
    (folder / "1.png").symlink_to(secret)
    (folder / "sub").symlink_to(tmp_path / "elsewhere")
    (folder / "round").symlink_to(folder)
    (folder / "3.png").symlink_to(inside)
    pictures = Pictures(["1.jpg", "2.jpg", "3.jpg"]).read(masks=folder)
    assert pictures.objects().known.tolist() == [False, True, True]
    assert pictures.warnings[0] == (
        f"{folder}: 3 links are not followed because they lead to folders or outside this folder, "
        "e.g. 1.png"
    )


def test_a_mask_that_becomes_a_link_is_not_read(tmp_path: Path) -> None:
    secret = save(tmp_path / "elsewhere" / "1.png", mask())
    path = save(tmp_path / "masks" / "1.png", mask())
    pictures = Pictures(["1.jpg"]).read(masks=tmp_path / "masks")
    path.unlink()
    path.symlink_to(secret)
    assert pictures.objects().known.tolist() == [False]
    assert "(a link that leads outside the folder): 1 image" in pictures.lines[0]


@pytest.mark.parametrize(
    ("masks", "pictures", "told"),
    [
        (["1.png"], ["a/1.jpg", "b/1.jpg"], "the name 1 fits several images: a/1.jpg, b/1.jpg"),
        (["a/1.png", "b/1.png"], ["c/1.jpg"], "the names a/1 and b/1 both fit the image c/1.jpg"),
        (["1.png", "a/1.png"], ["a/1.jpg"], "the names 1 and a/1 both fit the image a/1.jpg"),
        (["1.png", "1.PNG"], ["1.jpg"], "1.PNG and 1.png belong to the same image"),
        (["9.png"], ["1.jpg"], "has no mask for any of the 1 images, e.g. 9"),
        (["9.txt"], ["1.jpg"], "holds no PNG, only 1 other files"),
        ([], ["1.jpg"], "holds no PNG, only 0 other files"),
    ],
)
def test_names_that_are_refused(
    tmp_path: Path, masks: list[str], pictures: list[str], told: str
) -> None:
    for name in masks:
        save(tmp_path / name, mask())
    if len(list(tmp_path.rglob("*.*"))) < len(masks):
        pytest.skip("a file system to which case does not count")
    with pytest.raises(LcamError) as caught:
        Pictures(pictures).read(masks=tmp_path)
    assert told in caught.value.what
    assert caught.value.hint


def test_a_picture_is_not_its_own_mask(tmp_path: Path) -> None:
    save(tmp_path / "1.png", mask())
    with pytest.raises(LcamError, match=r"1\.png is an image of this run, not its mask"):
        Pictures(["1.png"], root=str(tmp_path)).read(masks=tmp_path)


def test_a_folder_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(LcamError, match="is not a folder"):
        Pictures(["1.jpg"]).read(masks=tmp_path / "none")


def test_bare_stems_of_a_whole_tree(tmp_path: Path) -> None:
    for name in ("1", "2"):
        save(tmp_path / f"{name}.png", mask())
    pictures = Pictures(["cat/1.JPEG", "dog/2.jpg"], crop_box=WHOLE).read(masks=tmp_path)
    assert pictures.objects().known.tolist() == [True, True]


def test_other_masks_are_another_identity(tmp_path: Path) -> None:
    save(tmp_path / "1.png", mask())
    pictures = Pictures(["1.jpg"]).read(masks=tmp_path)
    assert pictures.source is not None
    before = pictures.source.identity
    assert Pictures(["1.jpg"]).read(masks=tmp_path).source.identity == before  # type: ignore[union-attr]
    save(tmp_path / "1.png", np.random.default_rng(0).integers(0, 2, (80, 100), np.uint8))
    assert pictures.source.identity != before


def test_a_picture_is_not_its_own_mask_through_a_link_either(tmp_path: Path) -> None:
    save(tmp_path / "photos" / "1.png", mask())
    (tmp_path / "link").symlink_to("photos")
    with pytest.raises(LcamError, match=r"1\.png is an image of this run, not its mask"):
        Pictures(["1.png"], root=str(tmp_path / "photos")).read(masks=tmp_path / "link")


def test_boxes_and_masks_agree_in_a_view_that_is_no_square(tmp_path: Path) -> None:
    seen = {"crop_box": (10.0, 20.0, 90.0, 60.0), "view_size": (10, 20)}
    values = np.zeros((80, 100), np.uint8)
    values[24:40, 30:70] = 255
    (tmp_path / "masks").mkdir()
    save(tmp_path / "masks" / "a.png", values)
    (tmp_path / "boxes.csv").write_text("path,x0,y0,x1,y1\na.jpg,30,24,70,40\n")
    by_mask = Pictures(["a.jpg"], **seen).read(masks=tmp_path / "masks").objects()  # type: ignore[arg-type]
    by_box = Pictures(["a.jpg"], **seen).read(boxes=tmp_path / "boxes.csv").objects()  # type: ignore[arg-type]
    expected = torch.zeros(1, 10, 20, dtype=torch.bool)
    expected[0, 1:5, 5:15] = True  # 4 pixels of the image are one of the view
    assert torch.equal(by_mask.inside, expected)
    assert torch.equal(by_box.inside, expected)
    assert by_box.boxes[0].tolist() == [[5, 1, 15, 5]]
    assert by_mask.boxes[0].tolist() == [[5, 1, 15, 5]]
