"""Boxes from COCO, Pascal VOC and CSV: what they mean in the view."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lcam_cli.engine.backbone import Backbone
from lcam_cli.measures.object_files.read import Run, read_objects
from tests.measures.object_files import (
    BOX,
    IN_VIEW,
    WHOLE,
    Pictures,
    coco,
    refusal,
    voc,
    voc_object,
    write,
)
from tests.tiny import tiny_backbone


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    made = tiny_backbone()
    made.class_names = ["cat", "dog", "tench, Tinca tinca", "crane"]
    return made


# --- what they mean ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["coco", "voc", "csv"])
def test_all_formats_say_the_same(tmp_path: Path, kind: str) -> None:
    x0, y0, x1, y1 = BOX
    path = tmp_path / "boxes"
    if kind == "coco":
        path = write(tmp_path / "b.json", coco({"cat/1.jpg": [BOX], "cat/2.jpg": []}))
    elif kind == "voc":
        write(path / "cat" / "1.xml", voc(voc_object(x0 + 1, y0 + 1, x1, y1)))
        write(path / "cat" / "2.xml", voc(""))
    else:
        path = write(tmp_path / "b.csv", f"cat/1.jpg,{x0},{y0},{x1},{y1}\n")
    pictures = Pictures(["cat/1.jpg", "cat/2.jpg"]).read(boxes=path)
    found = pictures.objects()
    assert pictures.boxes() == [[IN_VIEW], []]
    assert found.known.tolist() == [True, False]
    drawn = np.zeros((20, 20), bool)
    drawn[5:15, 5:10] = True
    np.testing.assert_array_equal(found.inside[0].numpy(), drawn)
    assert not found.inside[1].any()
    assert pictures.warnings == [
        f"{path}: 1 of 2 images has no box, so measures that need one skip them, e.g. cat/2.jpg"
    ]


@pytest.mark.parametrize(
    "text",
    [
        "1.jpg,30,20,50,60",
        "name,x0,y0,x1,y1\n1.jpg,30,20,50,60",
        "\ufefffilename;xmin;ymin;xmax;ymax\r\n1.jpg;30;20;50;60\r\n",
        "# boxes\n\nclass,left,right,top,bottom,image\nbird,30,50,20,60,1.jpg\n",
        '"1.jpg", 30.0, 2e1, 50, 60, "a bird, a big one"',
        "1,30,20,50,60",  # the name without its extension
        "1.jpg,30,20,50,60,",
    ],
)
def test_csv_with_and_without_a_header(tmp_path: Path, text: str) -> None:
    pictures = Pictures(["1.jpg"]).read(boxes=write(tmp_path / "b.csv", text))
    assert pictures.boxes() == [[IN_VIEW]]


def test_several_lines_a_picture(tmp_path: Path) -> None:
    text = "1.jpg,30,20,50,60\n2.jpg,10,0,90,80\n1.jpg,10,0,14,4\n"
    pictures = Pictures(["1.jpg", "2.jpg"]).read(boxes=write(tmp_path / "b.csv", text))
    assert pictures.boxes() == [[IN_VIEW, [0, 0, 1, 1]], [[0, 0, 20, 20]]]


def test_voc_counts_pixels_from_1_and_includes_the_last(tmp_path: Path) -> None:
    write(tmp_path / "v" / "1.xml", voc(voc_object(1, 1, 100, 80)))
    pictures = Pictures(["1.jpg"], crop_box=WHOLE).read(boxes=tmp_path / "v")
    assert pictures.boxes() == [[[0, 0, 20, 20]]]


def test_parts_of_a_voc_object_are_not_its_box(tmp_path: Path) -> None:
    head = "<part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin></bndbox></part>"
    text = voc(voc_object(31, 21, 50, 60).replace("</object>", f"{head}</object>"))
    write(tmp_path / "v" / "1.xml", text)
    assert Pictures(["1.jpg"]).read(boxes=tmp_path / "v").boxes() == [[IN_VIEW]]


def test_outlines_are_not_read_where_there_is_a_box(tmp_path: Path) -> None:
    file = coco({"1.jpg": [BOX]})
    file["annotations"][0]["segmentation"] = {"counts": "RLE", "size": [80, 100]}
    assert Pictures(["1.jpg"]).read(boxes=write(tmp_path / "b.json", file)).boxes() == [[IN_VIEW]]


def test_a_box_smaller_than_a_pixel_of_the_view_marks_one(tmp_path: Path) -> None:
    path = write(tmp_path / "b.csv", "1.jpg,50.5,41.0,51,41.5")
    pictures = Pictures(["1.jpg"]).read(boxes=path)
    assert pictures.objects().inside[0].nonzero().tolist() == [[10, 10]]


# --- what lies where -----------------------------------------------------------------------------


def test_what_reaches_out_of_view_or_picture_is_cut(tmp_path: Path) -> None:
    path = write(tmp_path / "b.csv", "1.jpg,-20,-20,50,60\n2.jpg,70,40,130,99")
    pictures = Pictures(["1.jpg", "2.jpg"]).read(boxes=path)
    assert pictures.boxes() == [[[0, 0, 10, 15]], [[15, 10, 20, 20]]]
    assert pictures.lines == []


def test_boxes_outside_are_counted_once_whatever_is_asked_of_them(tmp_path: Path) -> None:
    text = "1.jpg,120,0,130,9\n1.jpg,30,20,50,60\n2.jpg,0,0,9,80\n3.jpg,0,90,9,99\n4.jpg,-9,0,0,5"
    path = write(tmp_path / "b.csv", text)
    pictures = Pictures([f"{n}.jpg" for n in range(1, 5)]).read(boxes=path)
    for explained in (0, 1, 2):
        assert pictures.boxes(explained) == [[IN_VIEW], [], [], []]
    assert pictures.objects().known.tolist() == [True, False, False, False]
    assert pictures.lines == [
        f"{path}: a box is outside its image and is skipped: 3 images, e.g. 1.jpg "
        "(120 0 130 9 in 100 × 80)",
        f"{path}: no object is in the part of the image that the network sees, so the image is "
        "skipped: 1 image, "
        "e.g. 2.jpg",
    ]


@pytest.mark.parametrize(
    ("width", "height", "told"),
    [
        (200, 160, "200 × 160 in the file, but the image is 100 × 80"),
        (80, 100, "turned on its side"),
    ],
)
def test_boxes_of_another_size_of_picture_are_not_used(
    tmp_path: Path, width: int, height: int, told: str
) -> None:
    file = coco({"1.jpg": [BOX], "2.jpg": [BOX]})
    file["images"][0] |= {"width": width, "height": height}
    file["images"][1] |= {"width": 100, "height": 80}
    size = f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>"
    write(tmp_path / "v" / "1.xml", voc(voc_object(31, 21, 50, 60), size))
    right = "<size><width>100</width><height>80</height></size>"
    write(tmp_path / "v" / "2.xml", voc(voc_object(31, 21, 50, 60), right))
    for path in (write(tmp_path / "b.json", file), tmp_path / "v"):
        pictures = Pictures(["1.jpg", "2.jpg"]).read(boxes=path)
        assert pictures.boxes() == [[], [IN_VIEW]]
        (line,) = pictures.lines
        assert (
            "another size for an image than the image itself, so the image is skipped: 1 image"
            in line
        )
        assert told in line


def test_a_size_of_0_says_nothing(tmp_path: Path) -> None:
    size = "<size><width>0</width><height>0</height></size>"
    write(tmp_path / "v" / "1.xml", voc(voc_object(31, 21, 50, 60), size))
    assert Pictures(["1.jpg"]).read(boxes=tmp_path / "v").boxes() == [[IN_VIEW]]


# --- classes -------------------------------------------------------------------------------------


def test_boxes_count_for_their_class(tmp_path: Path, backbone: Backbone) -> None:
    text = "1.jpg,30,20,50,60,cat\n1.jpg,10,0,14,4,1\n2.jpg,30,20,50,60,DOG"
    path = write(tmp_path / "b.csv", text)
    pictures = Pictures(["1.jpg", "2.jpg"], backbone=backbone).read(boxes=path)
    assert pictures.boxes(0) == [[IN_VIEW], []]
    assert pictures.boxes(1) == [[[0, 0, 1, 1]], [IN_VIEW]]
    assert pictures.boxes(2) == [[], []]
    assert pictures.warnings == []
    assert pictures.lines == [
        f"{path}: no box has the explained class, so the image is skipped: 2 images, e.g. 2.jpg"
    ]


def test_classes_that_the_classifier_lacks_count_for_all(
    tmp_path: Path, backbone: Backbone
) -> None:
    names = ["cat", "person", "a", "b", "c", "d", "e", "f"]
    categories = [{"id": 10 * i, "name": name} for i, name in enumerate(names)]
    boxes = [(*BOX, 10 * i) for i in range(1, 8)]
    file = coco({"1.jpg": boxes, "2.jpg": [(*BOX, 0)]}, categories=categories)
    path = write(tmp_path / "b.json", file)
    pictures = Pictures(["1.jpg", "2.jpg"], backbone=backbone).read(boxes=path)
    assert pictures.boxes(1) == [[IN_VIEW] * 7, []]
    assert pictures.warnings == [
        f"{path}: boxes of person, a, b, c, d and 2 more count for every class: the classifier has "
        "no class with that name, or several"
    ]


def test_without_categories_boxes_have_no_class(tmp_path: Path, backbone: Backbone) -> None:
    path = write(tmp_path / "b.json", coco({"1.jpg": [(*BOX, 0)]}))
    assert Pictures(["1.jpg"], backbone=backbone).read(boxes=path).boxes(3) == [[IN_VIEW]]


# --- names ---------------------------------------------------------------------------------------


def test_names_of_no_picture_are_counted(tmp_path: Path) -> None:
    path = write(tmp_path / "b.csv", "1.jpg,30,20,50,60\n8.jpg,1,1,2,2\n9.jpg,1,1,2,2\n")
    pictures = Pictures(["1.jpg"]).read(boxes=path)
    assert pictures.warnings == [f"{path}: 2 of 3 names match no image of this run, e.g. 8.jpg"]


@pytest.mark.parametrize("name", ["image_1.jpg", "image_1"])
def test_a_name_that_two_pictures_claim(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / "b.csv", f"{name},30,20,50,60")
    error = refusal(Pictures(["cat/image_1.jpg", "dog/image_1.jpg"]), path)
    assert error.what == (
        f"{path}: the name {name} fits several images: cat/image_1.jpg, dog/image_1.jpg"
    )


def test_unicode_writes_an_accent_in_two_ways(tmp_path: Path) -> None:
    path = write(tmp_path / "b.csv", "cafe\u0301.jpg,30,20,50,60")
    assert Pictures(["a/caf\u00e9.jpg"]).read(boxes=path).boxes() == [[IN_VIEW]]
    error = refusal(Pictures(["a/caf\u00e9.jpg", "b/caf\u00e9.jpg"]), path)
    assert "fits several images: a/caf\u00e9.jpg, b/caf\u00e9.jpg" in error.what


def test_long_names_are_cut_in_messages(tmp_path: Path) -> None:
    path = write(tmp_path / "b.json", coco({"x" * 100_000 + ".jpg": [BOX]}))
    assert len(refusal(Pictures(["1.jpg"]), path).what) < 400


def test_two_pictures_that_differ_in_their_extension(tmp_path: Path) -> None:
    path = write(tmp_path / "b.csv", "1,30,20,50,60")
    error = refusal(Pictures(["1.jpg", "1.png"]), path)
    assert error.what.endswith("the name 1 fits several images: 1.jpg, 1.png")
    path = write(tmp_path / "b.csv", "1.png,30,20,50,60")
    assert Pictures(["1.jpg", "1.png"]).read(boxes=path).boxes() == [[], [IN_VIEW]]


def test_two_names_that_fit_one_picture(tmp_path: Path) -> None:
    path = write(tmp_path / "b.csv", "a/1.jpg,30,20,50,60\nb/1.jpg,30,20,50,60")
    error = refusal(Pictures(["1.jpg"]), path)
    assert "the names a/1.jpg and b/1.jpg both fit the image 1.jpg" in error.what


def test_names_of_the_folder_above_and_of_this_one(tmp_path: Path) -> None:
    path = write(tmp_path / "b.csv", "1.jpg,30,20,50,60\nphotos/1.jpg,10,0,90,80")
    error = refusal(Pictures(["1.jpg"], root="/x/photos"), path)
    assert "the names 1.jpg and photos/1.jpg both fit the image 1.jpg" in error.what


def test_imagenet_as_it_is_laid_out(tmp_path: Path) -> None:
    rows = [f"n0144076{k}/ILSVRC2012_val_0000000{k}.JPEG" for k in range(3)]
    for k in range(3):
        write(tmp_path / "val" / f"ILSVRC2012_val_0000000{k}.xml", voc(voc_object(31, 21, 50, 60)))
    assert Pictures(rows).read(boxes=tmp_path / "val").boxes() == [[IN_VIEW]] * 3


def test_pictures_can_be_asked_for_by_their_paths(tmp_path: Path) -> None:
    path = write(tmp_path / "b.csv", "cat/1.jpg,30,20,50,60\ndog/1.jpg,10,0,90,80")
    files = [str(tmp_path / "in" / name / "1.jpg") for name in ("dog", "cat")]
    run = Run.of_files(files, str(tmp_path / "in"))
    pictures = Pictures(files)
    pictures.source = read_objects(path, None, run, None)
    assert pictures.boxes() == [[[0, 0, 20, 20]], [IN_VIEW]]


def test_no_name_is_a_picture(tmp_path: Path) -> None:
    path = write(tmp_path / "b.csv", "9.jpg,30,20,50,60")
    error = refusal(Pictures(["1.jpg", "2.jpg"]), path)
    assert error.what == f"{path} has no box for any of the 2 images, e.g. 9.jpg"
    assert "'1.jpg'" in error.hint
