"""Boxes from COCO, Pascal VOC and CSV: what they mean in the view, and what is refused."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lcam_cli.engine.backbone import Backbone
from lcam_cli.errors import LcamError
from lcam_cli.measures.object_files.read import Run, read_objects
from tests.measures.object_files import WHOLE, Pictures
from tests.tiny import tiny_backbone

# In a view of x from 10 to 90 and all 80 rows, drawn as 20 × 20: a quarter of the size.
BOX, IN_VIEW = (30, 20, 50, 60), [5, 5, 10, 15]


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    made = tiny_backbone()
    made.class_names = ["cat", "dog", "tench, Tinca tinca", "crane"]
    return made


def coco(boxes: dict[str, list[Any]], **more: Any) -> dict[str, Any]:
    """A COCO file: of each picture, boxes as x0, y0, x1, y1 and a category's number, if any."""
    images = [{"id": 7 + i, "file_name": name} for i, name in enumerate(boxes)]
    annotations = []
    for image, some in zip(images, boxes.values(), strict=True):
        for x0, y0, x1, y1, *category in some:
            one: dict[str, Any] = {"id": len(annotations), "image_id": image["id"]}
            one["bbox"] = [x0, y0, x1 - x0, y1 - y0]
            annotations.append(one | ({"category_id": category[0]} if category else {}))
    return {"images": images, "annotations": annotations} | more


def write(path: Path, content: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_text(content if isinstance(content, str) else json.dumps(content), "utf-8")
    return path


def voc(objects: str, size: str = "", root: str = "annotation") -> str:
    return f"<{root}><filename>%s</filename>{size}{objects}</{root}>"


def voc_object(x0: object, y0: object, x1: object, y1: object, name: str = "thing") -> str:
    return (
        f"<object><name>{name}</name><bndbox><xmin>{x0}</xmin><ymin>{y0}</ymin>"
        f"<xmax>{x1}</xmax><ymax>{y1}</ymax></bndbox></object>"
    )


def refusal(pictures: Pictures, path: Path) -> LcamError:
    with pytest.raises(LcamError) as caught:
        pictures.read(boxes=path)
    assert "\n" not in caught.value.what
    assert caught.value.hint
    return caught.value


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
        f"{path}: 1 of 2 pictures has no box, so the measures that ask for one leave them out, "
        "e.g. cat/2.jpg"
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
        f"{path}: a box lies outside its picture and is left out: 3 pictures, e.g. 1.jpg "
        "(120 0 130 9 in 100 × 80)",
        f"{path}: no object lies in what the network sees, so the picture is left out: 1 picture, "
        "e.g. 2.jpg",
    ]


@pytest.mark.parametrize(
    ("width", "height", "told"),
    [(200, 160, "200 × 160 in the file, the picture 100 × 80"), (80, 100, "turned on its side")],
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
        assert "another size than it has, so the picture is left out: 1 picture" in line
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
        f"{path}: no box is of the class explained, so the picture is left out: 2 pictures, "
        "e.g. 2.jpg"
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
        "no class, or several, of that name"
    ]


def test_without_categories_boxes_have_no_class(tmp_path: Path, backbone: Backbone) -> None:
    path = write(tmp_path / "b.json", coco({"1.jpg": [(*BOX, 0)]}))
    assert Pictures(["1.jpg"], backbone=backbone).read(boxes=path).boxes(3) == [[IN_VIEW]]


# --- names ---------------------------------------------------------------------------------------


def test_names_of_no_picture_are_counted(tmp_path: Path) -> None:
    path = write(tmp_path / "b.csv", "1.jpg,30,20,50,60\n8.jpg,1,1,2,2\n9.jpg,1,1,2,2\n")
    pictures = Pictures(["1.jpg"]).read(boxes=path)
    assert pictures.warnings == [f"{path}: 2 of 3 names are of no picture of this run, e.g. 8.jpg"]


@pytest.mark.parametrize("name", ["image_1.jpg", "image_1"])
def test_a_name_that_two_pictures_claim(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / "b.csv", f"{name},30,20,50,60")
    error = refusal(Pictures(["cat/image_1.jpg", "dog/image_1.jpg"]), path)
    assert error.what == (
        f"{path}: the name {name} fits several pictures: cat/image_1.jpg, dog/image_1.jpg"
    )


def test_unicode_writes_an_accent_in_two_ways(tmp_path: Path) -> None:
    path = write(tmp_path / "b.csv", "cafe\u0301.jpg,30,20,50,60")
    assert Pictures(["a/caf\u00e9.jpg"]).read(boxes=path).boxes() == [[IN_VIEW]]
    error = refusal(Pictures(["a/caf\u00e9.jpg", "b/caf\u00e9.jpg"]), path)
    assert "fits several pictures: a/caf\u00e9.jpg, b/caf\u00e9.jpg" in error.what


def test_long_names_are_cut_in_messages(tmp_path: Path) -> None:
    path = write(tmp_path / "b.json", coco({"x" * 100_000 + ".jpg": [BOX]}))
    assert len(refusal(Pictures(["1.jpg"]), path).what) < 400


def test_two_pictures_that_differ_in_their_extension(tmp_path: Path) -> None:
    path = write(tmp_path / "b.csv", "1,30,20,50,60")
    error = refusal(Pictures(["1.jpg", "1.png"]), path)
    assert error.what.endswith("the name 1 fits several pictures: 1.jpg, 1.png")
    path = write(tmp_path / "b.csv", "1.png,30,20,50,60")
    assert Pictures(["1.jpg", "1.png"]).read(boxes=path).boxes() == [[], [IN_VIEW]]


def test_two_names_that_fit_one_picture(tmp_path: Path) -> None:
    path = write(tmp_path / "b.csv", "a/1.jpg,30,20,50,60\nb/1.jpg,30,20,50,60")
    error = refusal(Pictures(["1.jpg"]), path)
    assert "the names a/1.jpg and b/1.jpg both fit the picture 1.jpg" in error.what


def test_names_of_the_folder_above_and_of_this_one(tmp_path: Path) -> None:
    path = write(tmp_path / "b.csv", "1.jpg,30,20,50,60\nphotos/1.jpg,10,0,90,80")
    error = refusal(Pictures(["1.jpg"], root="/x/photos"), path)
    assert "the names 1.jpg and photos/1.jpg both fit the picture 1.jpg" in error.what


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
    assert error.what == f"{path} has a box for none of the 2 pictures, e.g. 9.jpg"
    assert "'1.jpg'" in error.hint


# --- bad files -----------------------------------------------------------------------------------

CSV = {
    "cat.jpg,1,2,3": "line 1 has 4 columns",
    "1.jpg,1,2,3,4\n1.jpg,1,2,3,4,cat,5\n": "line 2 has 7 columns",
    "1.jpg,1,2,3,4\n2.jpg\n": "line 2 has 1 column",
    "1.jpg,1,2,3,4\n\n1.jpg,1,two,3,4\n": "line 3: y0 is 'two', not a number",
    "1.jpg,1,2,3,nan": "line 1: y1 is 'nan', not a finite number",
    "1.jpg,1,2,3,1e999": "line 1: y1 is '1e999', not a finite number",
    "1.jpg,1,2,1_0,9": "line 1: x1 is '1_0', not a number",
    "1.jpg,30,20,10,60": "nothing lies in the box: x1 is not above x0",
    "1.jpg,30,20,50,20": "nothing lies in the box: y1 is not above y0",
    ",1,2,3,4": "line 1 names no picture",
    "name,x,y,w,h\n1.jpg,1,2,3,4": "line 1 names no column x0, y0, x1, y1: 'name,x,y,w,h'",
    "": "has no boxes",
    "name,x0,y0,x1,y1\n": "has no boxes",
    "a" * 200_000 + ",1,2,3,4": "line 1 is no CSV",
}


@pytest.mark.parametrize("text", CSV)
def test_csv_that_is_refused(tmp_path: Path, text: str) -> None:
    error = refusal(Pictures(["1.jpg"]), write(tmp_path / "b.csv", text))
    assert CSV[text] in error.what
    assert len(error.what) < 400


def annotated(**change: Any) -> dict[str, Any]:
    file = coco({"1.jpg": [BOX]}, categories=[{"id": 1, "name": "cat"}])
    file["annotations"][0] |= change
    return file


def without_box(**more: Any) -> dict[str, Any]:
    file = annotated(**more)
    del file["annotations"][0]["bbox"]
    return file


COCO: dict[str, tuple[object, str]] = {
    "no JSON": ("{", "is no JSON"),
    "a list": ([], "is JSON, but no object"),
    "no images": ({"annotations": []}, "has no 'images'"),
    "empty images": ({"images": [], "annotations": []}, "names no images"),
    "no annotations": ({"images": []}, "has no 'annotations'"),
    "images no list": ({"images": {}, "annotations": []}, "'images' is no list of objects"),
    "image no object": ({"images": [1], "annotations": []}, "'images' is no list of objects"),
    "no file_name": ({"images": [{"id": 1}], "annotations": []}, "an image has no file_name"),
    "outline alone": (
        without_box(segmentation={"counts": "abc", "size": [1, 1]}),
        "annotation 0 has an outline and no bbox",
    ),
    "no box": (without_box(), "annotation 0 has no bbox of four numbers"),
    "three numbers": (annotated(bbox=[1, 2, 3]), "annotation 0 has no bbox of four numbers"),
    "words": (annotated(bbox=[1, 2, "wide", 3]), "a number of its bbox is 'wide', not a number"),
    "true": (annotated(bbox=[1, 2, True, 3]), "a number of its bbox is True, not a number"),
    "NaN": (annotated(bbox=[1, 2, float("nan"), 3]), "is nan, not a finite number"),
    "huge": (annotated(bbox=[1, 2, 10**400, 3]), "not a finite number"),
    "infinite": (json.dumps(annotated(bbox=[1, 2, "?", 3])).replace('"?"', "1e999"), "is inf, not"),
    "of no image": (annotated(image_id=99), "annotation 0 is of image 99, which is not among"),
    "image a list": (annotated(image_id=[1]), "an entry's image_id is [1], neither"),
    "of no category": (annotated(category_id=2), "is of category 2, which is not among"),
    "deep": ("[" * 100_000, "is nested too deeply"),
    "digits": ('{"images": ' + "1" * 5000 + "}", "has a number of thousands of digits"),
    "Latin-1": ('{"images": "café"}'.encode("latin-1"), "is not UTF-8 text (byte 15)"),
    "zeros": (bytes(1000), "is no JSON"),
}


@pytest.mark.parametrize("side", [10**12, 10**400, 1e300])
def test_a_size_that_no_picture_has_is_another_size(tmp_path: Path, side: float) -> None:
    file = coco({"1.jpg": [BOX]})
    file["images"][0] |= {"width": side, "height": 80}
    size = f"<size><width>{side}</width><height>80</height></size>"
    write(tmp_path / "v" / "1.xml", voc(voc_object(31, 21, 50, 60), size))
    for path in (write(tmp_path / "b.json", file), tmp_path / "v"):
        pictures = Pictures(["1.jpg"]).read(boxes=path)
        assert pictures.boxes() == [[]]
        assert "gives a picture another size than it has" in pictures.lines[0]


@pytest.mark.parametrize(
    ("size", "found"),
    [((100.0, 80.0), [IN_VIEW]), ((99.0, 80.0), []), ((0, 80), [IN_VIEW]), (("?", 80), [IN_VIEW])],
)
def test_sizes_may_be_floats_and_what_is_no_size_is_none(
    tmp_path: Path, size: tuple[object, object], found: list[object]
) -> None:
    file = coco({"1.jpg": [BOX]})
    file["images"][0] |= {"width": size[0], "height": size[1]}
    assert Pictures(["1.jpg"]).read(boxes=write(tmp_path / "b.json", file)).boxes() == [found]


@pytest.mark.filterwarnings("error")
def test_edges_further_out_than_float32_reaches_are_edges(tmp_path: Path) -> None:
    text = "1.jpg,-1e300,-1e39,1e300,1e39\n2.jpg,1e300,1,2e300,9"
    pictures = Pictures(["1.jpg", "2.jpg"]).read(boxes=write(tmp_path / "b.csv", text))
    assert pictures.boxes() == [[[0, 0, 20, 20]], []]
    assert "a box lies outside its picture" in pictures.lines[0]


def test_what_ends_no_line_may_be_in_a_name(tmp_path: Path) -> None:
    names = ["a\u2028b.jpg", "c\x0bd.jpg", "e\x85f.jpg"]
    text = "\r".join(f"{name},30,20,50,60" for name in names)
    pictures = Pictures(names).read(boxes=write(tmp_path / "b.csv", text.encode()))
    assert pictures.boxes() == [[IN_VIEW]] * 3


@pytest.mark.parametrize("case", COCO)
def test_coco_that_is_refused(tmp_path: Path, case: str) -> None:
    content, expected = COCO[case]
    error = refusal(Pictures(["1.jpg"]), write(tmp_path / "b.json", content))
    assert expected in error.what
    assert len(error.what) < 400


@pytest.mark.parametrize("box", [(30, 20, 30, 60), (30, 20, 50, 20), (50, 20, 30, 60)])
def test_empty_boxes_of_coco_and_voc_are_counted(
    tmp_path: Path, box: tuple[int, int, int, int]
) -> None:
    x0, y0, x1, y1 = box
    write(
        tmp_path / "v" / "1.xml",
        voc(voc_object(x0 + 1, y0 + 1, x1, y1) + voc_object(31, 21, 50, 60)),
    )
    for path in (write(tmp_path / "b.json", coco({"1.jpg": [box, BOX]})), tmp_path / "v"):
        pictures = Pictures(["1.jpg"]).read(boxes=path)
        assert pictures.boxes() == [[IN_VIEW]]
        (line,) = pictures.warnings
        assert "1 box is empty or negative and left out, e.g. " in line


BOMB = """<?xml version="1.0"?>
<!DOCTYPE annotation [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>
<annotation><object><name>&b;</name></object></annotation>"""
OUTSIDE = """<!DOCTYPE annotation [<!ENTITY secret SYSTEM "{file}">]>
<annotation><filename>&secret;</filename></annotation>"""

VOC = {
    "<annotation>": "is no XML",
    "no XML at all": "is no XML",
    "": "is no XML",
    BOMB: "declares a document type (<!DOCTYPE …>), which is not read",
    '<!DOCTYPE annotation SYSTEM "http://example.org/x.dtd"><annotation/>': "document type",
    voc(voc_object(1, 1, "wide", 9)): "xmax is 'wide', not a number",
    voc(voc_object(1, 1, "nan", 9)): "xmax is 'nan', not a finite number",
    voc("<object><name>cat</name></object>"): "an object has no bndbox with xmin",
    voc(voc_object("&undefined;", 1, 2, 3)): "is no XML",
    "<a>" * 1000: "is nested more than 32 deep",
    "<?xml version='1.0' encoding='no-such'?><annotation/>": "is no XML",
    "<annotation>\ud800</annotation>": "is no XML",
}


@pytest.mark.parametrize("text", VOC)
def test_voc_that_is_refused(tmp_path: Path, text: str) -> None:
    write(tmp_path / "v" / "1.xml", text.encode("utf-8", "surrogatepass"))
    error = refusal(Pictures(["1.jpg"]), tmp_path / "v")
    assert error.what.startswith(f"{tmp_path / 'v' / '1.xml'}")
    assert VOC[text] in error.what


def test_entities_are_never_fetched(tmp_path: Path) -> None:
    secret = write(tmp_path / "secret", "secret")
    write(tmp_path / "v" / "1.xml", OUTSIDE.format(file=secret.as_uri()))
    assert "document type" in refusal(Pictures(["1.jpg"]), tmp_path / "v").what


def test_latin_1_xml_that_says_so_is_read(tmp_path: Path) -> None:
    text = "<?xml version='1.0' encoding='ISO-8859-1'?>" + voc(
        voc_object(31, 21, 50, 60, "caf\xe9")
    )
    write(tmp_path / "v" / "1.xml", text.encode("latin-1"))
    assert Pictures(["1.jpg"]).read(boxes=tmp_path / "v").boxes() == [[IN_VIEW]]


def test_large_files_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "v" / "1.xml", b"<annotation>" + bytes(1 << 24))
    assert "is larger than 16 MiB" in refusal(Pictures(["1.jpg"]), tmp_path / "v").what
    path = tmp_path / "b.json"
    with path.open("wb") as file:
        file.truncate((1 << 30) + 1)  # no bytes of its own
    assert "is larger than 1024 MiB" in refusal(Pictures(["1.jpg"]), path).what


def test_only_the_runs_xml_files_are_read(tmp_path: Path) -> None:
    write(tmp_path / "v" / "1.xml", voc(voc_object(31, 21, 50, 60)))
    write(tmp_path / "v" / "2.xml", "broken")
    pictures = Pictures(["1.jpg"]).read(boxes=tmp_path / "v")
    assert pictures.boxes() == [[IN_VIEW]]
    assert "1 of 2 names are of no picture of this run, e.g. 2" in pictures.warnings[0]


def test_other_xml_is_passed_over_and_counted(tmp_path: Path) -> None:
    write(tmp_path / "v" / "1.xml", voc(voc_object(31, 21, 50, 60)))
    write(tmp_path / "v" / "2.xml", "<project/>")
    pictures = Pictures(["1.jpg", "2.jpg"]).read(boxes=tmp_path / "v")
    assert "1 XML files are no <annotation> and are passed over, e.g. 2.xml" in pictures.warnings[0]


@pytest.mark.parametrize(
    ("name", "told"),
    [("none.csv", "cannot read"), ("v", "is a folder without XML files"), ("1.xml", "is one XML")],
)
def test_what_is_there_is_no_file_of_boxes(tmp_path: Path, name: str, told: str) -> None:
    (tmp_path / "v").mkdir()
    write(tmp_path / "1.xml", voc(voc_object(31, 21, 50, 60)))
    assert told in refusal(Pictures(["1.jpg"]), tmp_path / name).what


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "b.csv")
    assert "is not a regular file" in refusal(Pictures(["1.jpg"]), tmp_path / "b.csv").what


def test_links_out_of_the_folder_are_not_followed(tmp_path: Path) -> None:
    outside = write(tmp_path / "elsewhere" / "1.xml", voc(voc_object(31, 21, 50, 60)))
    inside = write(tmp_path / "v" / "sub" / "3.xml", voc(voc_object(31, 21, 50, 60)))
    (tmp_path / "v" / "1.xml").symlink_to(outside)
    (tmp_path / "v" / "2.xml").symlink_to(inside)
    (tmp_path / "v" / "all").symlink_to(tmp_path / "elsewhere")
    pictures = Pictures(["1.jpg", "2.jpg"]).read(boxes=tmp_path / "v")
    assert pictures.boxes() == [[], [IN_VIEW]]
    assert pictures.warnings[0] == (
        f"{tmp_path / 'v'}: 2 links are not followed, to folders or out of this folder, e.g. 1.xml"
    )


def test_boxes_and_masks_together_are_refused(tmp_path: Path) -> None:
    with pytest.raises(LcamError, match="--boxes and --masks are both given"):
        read_objects(tmp_path, tmp_path, Run(["1.jpg"]), None)


def test_as_many_as_imagenets_take_little_memory(tmp_path: Path) -> None:
    rows = [f"{k // 50:04}/{k:06}.jpg" for k in range(20_000)]
    lines = (f"{k:06}.jpg,1,2,30,40,{k % 4}\n{k:06}.jpg,5,6,70,80\n" for k in range(20_000))
    path = write(tmp_path / "b.csv", "".join(lines))
    pictures = Pictures(rows).read(boxes=path)
    kept = vars(pictures.source).values()
    arrays = sum(one.nbytes for one in kept if isinstance(one, np.ndarray))
    assert arrays < 50 * len(rows) * 2
    assert len(pictures.objects(names=rows[-2:]).boxes) == 2


def test_other_boxes_are_another_identity(tmp_path: Path) -> None:
    found = []
    for text in ("1.jpg,30,20,50,60", "1.jpg,30,20,50,60.5", "\n1.jpg,30,20,50,60\n9.jpg,1,1,2,2"):
        source = Pictures(["1.jpg"]).read(boxes=write(tmp_path / "b.csv", text)).source
        assert source is not None
        found.append(source.identity)
    assert found[0] == found[2] != found[1]
