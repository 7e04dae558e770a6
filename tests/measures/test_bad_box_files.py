"""Files of boxes that are refused, in part or as a whole."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lcam_cli.errors import LcamError
from lcam_cli.measures.object_files.read import Run, read_objects
from tests.measures.object_files import (
    BOX,
    IN_VIEW,
    Pictures,
    coco,
    refusal,
    voc,
    voc_object,
    write,
)

CSV = {
    "cat.jpg,1,2,3": "line 1 has 4 columns",
    "1.jpg,1,2,3,4\n1.jpg,1,2,3,4,cat,5\n": "line 2 has 7 columns",
    "1.jpg,1,2,3,4\n2.jpg\n": "line 2 has 1 column",
    "1.jpg,1,2,3,4\n\n1.jpg,1,two,3,4\n": "line 3: y0 is 'two', not a number",
    "1.jpg,1,2,3,nan": "line 1: y1 is 'nan', not a finite number",
    "1.jpg,1,2,3,1e999": "line 1: y1 is '1e999', not a finite number",
    "1.jpg,1,2,1_0,9": "line 1: x1 is '1_0', not a number",
    "1.jpg,30,20,10,60": "the box is empty: x1 is not above x0",
    "1.jpg,30,20,50,20": "the box is empty: y1 is not above y0",
    ",1,2,3,4": "line 1 has no image name",
    "name,x,y,w,h\n1.jpg,1,2,3,4": "line 1 has no column x0, y0, x1, y1: 'name,x,y,w,h'",
    "": "has no boxes",
    "name,x0,y0,x1,y1\n": "has no boxes",
    "a" * 200_000 + ",1,2,3,4": "line 1 is not CSV",
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
    "no JSON": ("{", "is not JSON"),
    "a list": ([], "is JSON but not an object"),
    "no images": ({"annotations": []}, "has no 'images'"),
    "empty images": ({"images": [], "annotations": []}, "lists no images"),
    "no annotations": ({"images": []}, "has no 'annotations'"),
    "images no list": ({"images": {}, "annotations": []}, "'images' is not a list of objects"),
    "image no object": ({"images": [1], "annotations": []}, "'images' is not a list of objects"),
    "no file_name": ({"images": [{"id": 1}], "annotations": []}, "an image has no file_name"),
    "outline alone": (
        without_box(segmentation={"counts": "abc", "size": [1, 1]}),
        "annotation 0 has an outline but no bbox",
    ),
    "no box": (without_box(), "annotation 0 has no bbox of four numbers"),
    "three numbers": (annotated(bbox=[1, 2, 3]), "annotation 0 has no bbox of four numbers"),
    "words": (annotated(bbox=[1, 2, "wide", 3]), "a number of its bbox is 'wide', not a number"),
    "true": (annotated(bbox=[1, 2, True, 3]), "a number of its bbox is True, not a number"),
    "NaN": (annotated(bbox=[1, 2, float("nan"), 3]), "is nan, not a finite number"),
    "huge": (annotated(bbox=[1, 2, 10**400, 3]), "not a finite number"),
    "infinite": (json.dumps(annotated(bbox=[1, 2, "?", 3])).replace('"?"', "1e999"), "is inf, not"),
    "of no image": (annotated(image_id=99), "annotation 0 is of image 99, which is not among"),
    "image a list": (annotated(image_id=[1]), "an entry's image_id is [1], not a whole"),
    "of no category": (annotated(category_id=2), "is of category 2, which is not among"),
    "deep": ("[" * 100_000, "is nested too deeply"),
    "digits": ('{"images": ' + "1" * 5000 + "}", "has a number with thousands of digits"),
    "Latin-1": ('{"images": "café"}'.encode("latin-1"), "is not UTF-8 text (byte 15)"),
    "zeros": (bytes(1000), "is not JSON"),
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
        assert "has another size for an image than the image itself" in pictures.lines[0]


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
    assert "a box is outside its image" in pictures.lines[0]


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
        assert "1 box is empty or negative and skipped, e.g. " in line


BOMB = """<?xml version="1.0"?>
<!DOCTYPE annotation [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>
<annotation><object><name>&b;</name></object></annotation>"""
OUTSIDE = """<!DOCTYPE annotation [<!ENTITY secret SYSTEM "{file}">]>
<annotation><filename>&secret;</filename></annotation>"""

VOC = {
    "<annotation>": "is not XML",
    "no XML at all": "is not XML",
    "": "is not XML",
    BOMB: "declares a document type (<!DOCTYPE …>), which lcam does not read",
    '<!DOCTYPE annotation SYSTEM "http://example.org/x.dtd"><annotation/>': "document type",
    voc(voc_object(1, 1, "wide", 9)): "xmax is 'wide', not a number",
    voc(voc_object(1, 1, "nan", 9)): "xmax is 'nan', not a finite number",
    voc("<object><name>cat</name></object>"): "an object has no bndbox with xmin",
    voc(voc_object("&undefined;", 1, 2, 3)): "is not XML",
    "<a>" * 1000: "is nested more than 32 deep",
    "<?xml version='1.0' encoding='no-such'?><annotation/>": "is not XML",
    "<annotation>\ud800</annotation>": "is not XML",
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
    assert "1 of 2 names match no image of this run, e.g. 2" in pictures.warnings[0]


def test_other_xml_is_passed_over_and_counted(tmp_path: Path) -> None:
    write(tmp_path / "v" / "1.xml", voc(voc_object(31, 21, 50, 60)))
    write(tmp_path / "v" / "2.xml", "<project/>")
    pictures = Pictures(["1.jpg", "2.jpg"]).read(boxes=tmp_path / "v")
    assert "1 XML files are not an <annotation> and are skipped, e.g. 2.xml" in pictures.warnings[0]


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
        f"{tmp_path / 'v'}: 2 links are not followed because they lead to folders or outside this "
        "folder, e.g. 1.xml"
    )


def test_boxes_and_masks_together_are_refused(tmp_path: Path) -> None:
    with pytest.raises(LcamError, match="--boxes and --masks are both set"):
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
