"""Which class does an image have, by a file or by its folder? Worked out by hand."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from lcam_cli.engine.backbone import Backbone
from lcam_cli.errors import LcamError
from lcam_cli.measures.labels import labels_of_files, read_labels
from lcam_cli.networks.class_names import find_class
from tests.tiny import tiny_backbone

ANIMALS = ["cat", "dog", "tench, Tinca tinca", "Egyptian cat"]
CALTECH = ["cat/image_0001.jpg", "cat/image_0002.jpg", "dog/image_0001.jpg", "dog/image_0002.jpg"]


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    made = tiny_backbone()
    made.class_names = ANIMALS
    return made


def labels(
    folder: Path, text: str | bytes, rows: list[str], backbone: Backbone, root: str = "/photos"
) -> tuple[dict[str, int], list[str]]:
    """The labels of some rows by a file of that text, and what was told."""
    file = folder / "labels.txt"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    told: list[str] = []
    return read_labels(str(file), rows, backbone, root=root, warn=told.append), told


@pytest.mark.parametrize(
    "prefix",
    ["", "./", "/photos/", "/elsewhere/caltech/", "photos/", "C:\\data\\", "../photos/"],
)
def test_names_that_repeat_in_every_folder_are_told_apart_by_it(
    tmp_path: Path, backbone: Backbone, prefix: str
) -> None:
    lines = [f"{prefix}{row} {row[:3]}" for row in CALTECH]
    text = "\n".join(lines).replace("/", "\\" if "\\" in prefix else "/")
    found, told = labels(tmp_path, text, CALTECH, backbone)
    assert found == dict(zip(CALTECH, [0, 0, 1, 1], strict=True))
    assert told == []


def test_of_one_class_alone_the_root_says_which(tmp_path: Path, backbone: Backbone) -> None:
    text = "\n".join(f"{row} {row[:3]}" for row in CALTECH)
    rows = ["image_0001.jpg", "image_0002.jpg"]
    found, told = labels(tmp_path, text, rows, backbone, root="/photos/dog")
    assert found == {"image_0001.jpg": 1, "image_0002.jpg": 1}
    assert told == [f"2 of 4 lines of {tmp_path / 'labels.txt'} match no image"]


def test_the_last_part_alone_is_enough_where_it_is_nobody_elses(
    tmp_path: Path, backbone: Backbone
) -> None:
    rows = ["a/1.jpg", "a/2.jpg", "b/2.jpg"]
    found, told = labels(tmp_path, "1.jpg cat\n2.jpg dog\n", rows, backbone)
    assert found == {"a/1.jpg": 0}
    assert "1 of 2 lines" in told[0]
    assert "fit several images or lines, e.g. line 2 `2.jpg dog`" in told[0]
    # The same last part in another line: whose is `1.jpg`?
    found, told = labels(tmp_path, "1.jpg cat\nc/1.jpg dog\na/2.jpg dog", rows[:2], backbone)
    assert found == {"a/2.jpg": 1}


def test_a_name_that_is_a_rows_own_means_that_row(tmp_path: Path, backbone: Backbone) -> None:
    rows = ["1.jpg", "sub/1.jpg"]
    found, _ = labels(tmp_path, "1.jpg cat\nsub/1.jpg dog\n", rows, backbone)
    assert found == {"1.jpg": 0, "sub/1.jpg": 1}


def test_other_folders_above_do_not_make_one_picture_of_two(
    tmp_path: Path, backbone: Backbone
) -> None:
    rows = ["train/cat/1.jpg", "val/cat/1.jpg", "val/cat/2.jpg"]
    text = "x/cat/1.jpg cat\ny/cat/2.jpg dog\n"
    found, told = labels(tmp_path, text, rows, backbone)
    assert found == {"val/cat/2.jpg": 1}
    assert "`x/cat/1.jpg cat`" in told[0]


def test_spellings_of_one_name_are_one(tmp_path: Path, backbone: Backbone) -> None:
    rows = ["cat/a.JPEG", "cat/b.jpg", "cat/caf\u00e9.jpg"]
    text = "cat/a.jpeg cat\n./cat//x/../b.JPG dog\ncat/cafe\u0301.jpg cat\n"
    found, _ = labels(tmp_path, text, rows, backbone)
    assert found == {"cat/a.JPEG": 0, "cat/b.jpg": 1, "cat/caf\u00e9.jpg": 0}
    both = ["cat/a.jpg", "cat/a.JPG"]  # two images: here the case does count
    found, _ = labels(tmp_path, "cat/a.jpg cat\ncat/a.JPG dog\n", both, backbone)
    assert found == {"cat/a.jpg": 0, "cat/a.JPG": 1}


@pytest.mark.parametrize(
    "text",
    [
        "image_0001.jpg 0\nimage_0001.jpg 1\n",
        "cat/image_0001.jpg 0\n./cat/image_0001.jpg 1\n",
        "cat/image_0001.jpg 0\n/photos/cat/image_0001.jpg 1\n",
    ],
)
def test_a_picture_of_two_classes_is_an_error_that_shows_both(
    tmp_path: Path, backbone: Backbone, text: str
) -> None:
    with pytest.raises(LcamError, match="two classes") as caught:
        labels(tmp_path, text, CALTECH, backbone)
    first, second = text.splitlines()
    assert f"line 1 `{first}`, line 2 `{second}`" in caught.value.what


def test_the_same_class_twice_is_fine(tmp_path: Path, backbone: Backbone) -> None:
    text = "cat/image_0001.jpg 0\n/photos/cat/image_0001.jpg CAT\ncat/image_0001.jpg cat\n"
    found, told = labels(tmp_path, text, CALTECH, backbone)
    assert (found, told) == ({"cat/image_0001.jpg": 0}, [])


@pytest.mark.parametrize(
    "line",
    [
        "a b.jpg 2",
        "a b.jpg\t2",
        "a b.jpg,2",
        "a b.jpg;2",
        "a b.jpg, 2,",
        '"a b.jpg",2',
        '"a b.jpg" "2"',
        "a b.jpg tench, Tinca tinca",
        "a b.jpg,tench, Tinca tinca",
        'a b.jpg,"tench, Tinca tinca"',
        '"a b.jpg","tench, Tinca tinca"',
        '"a b.jpg"\ttench, Tinca tinca',
        "St. Bernard v1.2/a b.jpg 2",
    ],
)
@pytest.mark.parametrize("header", ["", "filename,label\n", "image class\n", "# made by hand\n\n"])
def test_a_line_is_a_name_and_a_class(
    tmp_path: Path, backbone: Backbone, line: str, header: str
) -> None:
    row = "St. Bernard v1.2/a b.jpg"
    found, told = labels(tmp_path, header + line, [row], backbone)
    assert (found, told) == ({row: 2}, [])


def test_columns_go_by_their_header(tmp_path: Path, backbone: Backbone) -> None:
    text = 'id,split,Class Name,File Path\n7,val,"tench, Tinca tinca","my cats/1.jpg"\n'
    found, _ = labels(tmp_path, text, ["my cats/1.jpg"], backbone)
    assert found == {"my cats/1.jpg": 2}
    found, _ = labels(tmp_path, "label\tfilename\ndog\t1.jpg\n", ["1.jpg"], backbone)
    assert found == {"1.jpg": 1}
    with pytest.raises(LcamError, match=r"line 2: 'dog' has no class"):
        labels(tmp_path, "label\tfilename\ndog\n", ["1.jpg"], backbone)


def test_what_only_looks_like_a_header_is_a_picture(tmp_path: Path) -> None:
    backbone = tiny_backbone()
    backbone.class_names = ["label", "cat", "dog", "owl"]
    found, _ = labels(tmp_path, "image label\nb.jpg cat\n", ["image", "b.jpg"], backbone)
    assert found == {"image": 0, "b.jpg": 1}
    # It is looked for in the first line alone.
    found, told = labels(tmp_path, "b.jpg cat\nimage,target\n", ["b.jpg"], backbone)
    assert "1 of 2 lines" in told[0]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_marks_and_line_ends_of_spreadsheets(
    tmp_path: Path, backbone: Backbone, encoding: str
) -> None:
    text = "image\tlabel\r\ncafé.jpg\tEgyptian cat\r\n\r\nb.jpg\tdog\r\n"
    found, told = labels(tmp_path, text.encode(encoding), ["café.jpg", "b.jpg"], backbone)
    assert (found, told) == ({"café.jpg": 3, "b.jpg": 1}, [])


def test_numbers_from_one_are_named_as_such(tmp_path: Path, backbone: Backbone) -> None:
    text = "\n".join(f"{i}.jpg {i}" for i in (1, 2, 3, 4))
    with pytest.raises(LcamError, match="class index 4 is out of range") as caught:
        labels(tmp_path, text, ["1.jpg", "4.jpg", "2.jpg"], backbone)
    assert "count from 1, and the classifier's from 0 to 3" in caught.value.hint
    assert "--classes FILE" in caught.value.hint
    with pytest.raises(LcamError) as other:
        labels(tmp_path, "1.jpg 17\n", ["1.jpg"], backbone)
    assert "count from 1" not in other.value.hint
    with pytest.raises(LcamError, match="there is no class named '²'"):
        labels(tmp_path, "1.jpg ²\n", ["1.jpg"], backbone)


def test_classes_of_lines_without_a_picture_do_not_matter(
    tmp_path: Path, backbone: Backbone
) -> None:
    found, told = labels(tmp_path, "a.jpg cat\nother.jpg unheard of\n", ["a.jpg"], backbone)
    assert found == {"a.jpg": 0}
    assert told == [f"1 of 2 lines of {tmp_path / 'labels.txt'} match no image"]
    with pytest.raises(LcamError, match="has no label for any of the 1 images"):
        labels(tmp_path, "other.jpg cat\n", ["a.jpg"], backbone)


def test_folders_name_classes_the_root_too(backbone: Backbone) -> None:
    assert read_labels("folders", ["1.jpg", "2.jpg"], backbone, root="/sorted/dog") == {
        "1.jpg": 1,
        "2.jpg": 1,
    }
    assert read_labels("folders", ["cat/1.jpg", "dog/1.jpg"], backbone) == {
        "cat/1.jpg": 0,
        "dog/1.jpg": 1,
    }


def test_pictures_on_disk_are_named_from_their_root(tmp_path: Path, backbone: Backbone) -> None:
    file = tmp_path / "labels.csv"
    file.write_text("name,label\n" + "\n".join(f"{row},{row[:3]}" for row in CALTECH))
    paths = [str(tmp_path / "photos" / row) for row in CALTECH]
    found = labels_of_files(str(file), paths, str(tmp_path / "photos"), backbone)
    assert list(found.values()) == [0, 0, 1, 1]


def test_wordnet_ids_are_classes_of_imagenet_alone(tmp_path: Path) -> None:
    names = [f"class {i}" for i in range(1000)]
    imagenet = SimpleNamespace(num_classes=1000, class_index=lambda one: find_class(one, names))
    found, _ = labels(
        tmp_path, "a.JPEG n01440764\nb.JPEG,n01443537", ["a.JPEG", "b.JPEG"], cast(Any, imagenet)
    )
    assert found == {"a.JPEG": 0, "b.JPEG": 1}
