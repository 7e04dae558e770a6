from __future__ import annotations

import io
import os
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lcam_cli.errors import LcamError
from lcam_cli.images.find import find_images, read_path_list


def touch(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def below(folder: Path, paths: list[str]) -> list[str]:
    return [os.path.relpath(path, folder) for path in paths]


def test_a_folder_gives_its_pictures_in_byte_order_of_components(tmp_path: Path) -> None:
    touch(
        tmp_path, "b.jpg", "a/z.png", "a.jpg", "a/b/1.webp", "B.JPG", "é.gif", "a-1.tiff", "10.bmp"
    )
    expected = ["10.bmp", "B.JPG", "a/b/1.webp", "a/z.png", "a-1.tiff", "a.jpg", "b.jpg", "é.gif"]
    found = find_images([str(tmp_path)])
    assert below(tmp_path, found.paths) == expected
    assert expected == sorted(expected, key=lambda p: [os.fsencode(c) for c in p.split("/")])
    assert found.skipped == []
    assert found.root == str(tmp_path)


def test_no_pictures_no_mention(tmp_path: Path) -> None:
    touch(
        tmp_path,
        "x.jpg",
        "notes.txt",
        "maps.h5",
        "paper.pdf",
        "s.eps",
        ".h.jpg",
        ".git/y.jpg",
        "jpg",
    )
    found = find_images([str(tmp_path)])
    assert below(tmp_path, found.paths) == ["x.jpg"]
    assert found.skipped == []


def test_a_file_named_directly_is_taken_whatever_its_name(tmp_path: Path) -> None:
    touch(tmp_path, "no_extension", ".hidden", "a b ü.txt", "x.jpg", "x.png")
    names = ["x.png", "no_extension", ".hidden", "a b ü.txt", "x.jpg"]
    found = find_images([str(tmp_path / name) for name in names])
    assert below(tmp_path, found.paths) == names


def test_the_same_path_counts_once_where_it_comes_first_and_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path, "a.jpg", "b.jpg", "sub/c.jpg")
    monkeypatch.chdir(tmp_path)
    found = find_images(["b.jpg", ".", "./sub/../b.jpg", str(tmp_path / "a.jpg"), "sub"])
    assert found.paths == ["b.jpg", "./a.jpg", "./sub/c.jpg"]
    assert found.root == str(tmp_path)
    # b.jpg in the folder and by itself again, a.jpg, and sub/c.jpg.
    assert found.passed_over.lines() == ["4 paths were named twice: each path counts once"]


def test_the_root_holds_every_input(tmp_path: Path) -> None:
    touch(tmp_path, "in/a/1.jpg", "in/b/deep/2.jpg")
    folders = [str(tmp_path / "in/a"), str(tmp_path / "in/b/deep/2.jpg")]
    assert find_images(folders).root == str(tmp_path / "in")


def test_links(tmp_path: Path) -> None:
    touch(tmp_path, "set/real.jpg", "other/far.jpg", "other/linked/inside.jpg")
    (tmp_path / "set/zz.jpg").symlink_to("real.jpg")  # a second name
    (tmp_path / "set/far.jpg").symlink_to("../other/far.jpg")
    (tmp_path / "set/folder").symlink_to("../other/linked")
    (tmp_path / "set/loop").symlink_to(".")
    (tmp_path / "set/loop.jpg").symlink_to(".")
    (tmp_path / "set/gone.jpg").symlink_to("nowhere")  # reading will say what is wrong
    (tmp_path / "set/self.jpg").symlink_to("self.jpg")
    found = find_images([str(tmp_path / "set")])
    expected = ["far.jpg", "gone.jpg", "real.jpg", "self.jpg", "zz.jpg"]
    assert below(tmp_path / "set", found.paths) == expected
    (line,) = found.passed_over.lines()
    assert line.startswith(f"skipped 3 links to folders: {tmp_path}/set/folder …")
    # A link to a folder that is named itself is followed.
    named = find_images([str(tmp_path / "set/folder")])
    assert below(tmp_path / "set", named.paths) == ["folder/inside.jpg"]


def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    name = b"caf\xe9 \xff.jpg"
    try:
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)).touch()
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    touch(tmp_path, "z.jpg")
    found = find_images([str(tmp_path)])
    assert [os.fsencode(Path(path).name) for path in found.paths] == [name, b"z.jpg"]


@pytest.mark.parametrize("name", ["gone.jpg", "gone/", "nul\0byte.jpg"])
def test_a_missing_input_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(LcamError) as caught:
        find_images([f"{tmp_path}/{name}"])
    assert name in caught.value.what
    assert caught.value.hint


def test_a_folder_without_pictures_is_named_even_beside_others(tmp_path: Path) -> None:
    touch(tmp_path, "full/a.jpg", "void/readme.txt")
    with pytest.raises(LcamError, match=r"no images in .*void"):
        find_images([str(tmp_path / "full"), str(tmp_path / "void")])


def test_a_folder_of_other_files_is_told_what_would_be_read(tmp_path: Path) -> None:
    touch(tmp_path, "a.xyz", "deep/b.XYZ", "notes.txt", ".hidden.txt", "README")
    with pytest.raises(LcamError, match="no images in") as caught:
        find_images([str(tmp_path)])
    assert "it has 4 other files (2 .xyz, 1 " in caught.value.hint
    assert "lcam reads .jpg, .jpeg, .png" in caught.value.hint


def test_nothing_at_all() -> None:
    with pytest.raises(LcamError, match="no images"):
        find_images(["-"], [])


def test_a_list_stands_where_the_dash_is(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "b.jpg", "f/c.jpg", "d.jpg", "e/readme")
    listed = [str(tmp_path / name) for name in ("b.jpg", "gone.jpg", "f", "e")]
    found = find_images([str(tmp_path / "d.jpg"), "-", str(tmp_path / "a.jpg")], listed)
    assert below(tmp_path, found.paths) == ["d.jpg", "b.jpg", "f/c.jpg", "a.jpg"]
    assert [skipped.path for skipped in found.skipped] == [listed[1], listed[3]]
    assert "no such file" in found.skipped[0].reason
    assert find_images([str(tmp_path / "a.jpg")], listed).paths == [str(tmp_path / "a.jpg")]


def test_an_unreadable_folder(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "shut/b.jpg")
    shut = tmp_path / "shut"
    shut.chmod(0)
    if os.access(shut, os.R_OK):
        pytest.skip("this user may list every folder")
    try:
        found = find_images([str(tmp_path)])
        with pytest.raises(LcamError, match="permission denied"):
            find_images([str(shut)])
    finally:
        shut.chmod(0o700)
    assert below(tmp_path, found.paths) == ["a.jpg"]
    assert [skipped.path for skipped in found.skipped] == [str(shut)]
    assert "permission denied" in found.skipped[0].reason


@pytest.mark.slow
def test_deeper_than_calls_can_nest(tmp_path: Path) -> None:
    folders = [f"{tmp_path}/{'/'.join(['d'] * depth)}" for depth in range(1, 1100)]
    for folder in folders:
        Path(folder).mkdir()
    picture = f"{folders[-1]}/a.jpg"
    Path(picture).touch()
    try:
        assert find_images([str(tmp_path)]).paths == [picture]
    finally:  # pytest's own removal would nest as deep
        Path(picture).unlink()
        for folder in reversed(folders):
            Path(folder).rmdir()


@pytest.mark.slow
def test_a_hundred_thousand_files_are_quick(tmp_path: Path) -> None:
    for k in range(100):
        (tmp_path / f"class{k}").mkdir()
        for i in range(1000):
            os.close(os.open(f"{tmp_path}/class{k}/{i}.jpg", os.O_CREAT))
    begun = time.perf_counter()
    found = find_images([str(tmp_path)])
    assert time.perf_counter() - begun < 10  # about 1 s on a slow laptop
    assert len(found.paths) == 100_000


def test_lists_of_lines() -> None:
    stream = io.BytesIO(b"a b.jpg\n\n  \nwin.jpg\r\n\xff.jpg\n lead and trail \nlast")
    expected = ["a b.jpg", "win.jpg", os.fsdecode(b"\xff.jpg"), " lead and trail ", "last"]
    assert list(read_path_list(stream, nul=False)) == expected


@given(st.lists(st.binary(min_size=1, max_size=20).filter(lambda name: b"\0" not in name)))
def test_lists_with_nul_hold_any_name(names: list[bytes]) -> None:
    for end in (b"", b"\0"):
        stream = io.BytesIO(b"\0".join(names) + end)
        assert list(read_path_list(stream, nul=True)) == [os.fsdecode(name) for name in names]


def test_a_nul_list_longer_than_a_block() -> None:
    names = [f"{'n' * (k % 300)}{k}" for k in range(2000)]
    stream = io.BytesIO("\0".join(names).encode())
    assert list(read_path_list(stream, nul=True)) == names


def test_a_picture_of_two_names_counts_by_each(tmp_path: Path) -> None:
    """Two classes' folders may hold links to one file, soft or hard."""
    touch(tmp_path, "cat/a.jpg", "store/b.jpg")
    for name in ("cat/b.jpg", "dog/b.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).symlink_to(tmp_path / "store/b.jpg")
    (tmp_path / "dog/a.jpg").hardlink_to(tmp_path / "cat/a.jpg")
    found = find_images([str(tmp_path)])
    assert below(tmp_path, found.paths) == [
        "cat/a.jpg",
        "cat/b.jpg",
        "dog/a.jpg",
        "dog/b.jpg",
        "store/b.jpg",
    ]
    assert found.passed_over.lines() == []
    # A folder and a link to it, both named: two names of each image.
    (tmp_path / "other").symlink_to("cat")
    named = [str(tmp_path / "cat"), str(tmp_path / "other")]
    assert len(find_images(named).paths) == 4


JPEG = bytes.fromhex("ffd8ffe000104a464946")
HEIC = bytes.fromhex("0000001c667479706865696300000000")


def write(folder: Path, **files: bytes) -> None:
    for name, content in files.items():
        path = folder / name.replace("__", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def test_pictures_and_scans_that_are_not_read_are_told_once(tmp_path: Path) -> None:
    touch(tmp_path, "x.jpg", "deep/a.nii.gz", "B.NII.GZ", "c.mha", "d.npz", "e.jxl")
    touch(tmp_path, "deep/x.tar")
    found = find_images([str(tmp_path), str(tmp_path / "x.jpg"), f"{tmp_path}/."])
    unread = found.passed_over.unread
    assert unread.extensions == {".nii.gz": 2, ".mha": 1, ".npz": 1, ".jxl": 1, ".tar": 1}
    assert unread.line() == (
        f"2 .nii.gz, 1 .jxl, 1 .mha, 1 .npz, 1 .tar in {tmp_path} are not read (export the slices "
        "of volumes as PNG or TIFF; save each array as .npy; convert other formats to PNG; to read "
        "the images in a tar, pass the tar itself)"
    )
    assert found.skipped == []


def test_what_a_file_without_a_picture_s_extension_is_its_beginning_tells(tmp_path: Path) -> None:
    volume = bytes(344) + b"n+1\0"
    write(tmp_path, x__jpg=JPEG, no_extension=JPEG, scan=volume, phone=HEIC)
    write(tmp_path, photo__jpg_large=JPEG, README=b"Readme", Makefile=b"all:\n", word__doc=b"\xd0")
    write(tmp_path, label__txt=JPEG)  # never looked into
    os.mkfifo(tmp_path / "pipe")  # nor waited for
    found = find_images([str(tmp_path)])
    assert found.passed_over.unread.extensions == {"": 3, ".jpg_large": 1}
    (line,) = found.passed_over.lines()
    assert line.startswith("3 files without an extension, 1 .jpg_large in ")
    assert line.endswith(
        "are not read (for files without an image's extension, pass the files themselves)"
    )
    assert find_images([str(tmp_path / "no_extension")]).passed_over.lines() == []


def test_what_systems_leave_behind_and_labels_are_not_told(tmp_path: Path) -> None:
    touch(tmp_path, "a.JPG", "._a.JPG", "__MACOSX/a.jpg", "__MACOSX/._a.jpg", "@eaDir/a.jpg/S.jpg")
    touch(tmp_path, "$RECYCLE.BIN/x.jpg", ".thumbnails/x.png", "Icon\r", "desktop.ini")
    touch(tmp_path, "labels.csv", "a.txt", "a.json", "a.xml", "weights.pt", "maps.h5")
    write(tmp_path, Thumbs__db=JPEG)
    (tmp_path / ".DS_Store").write_bytes(JPEG)
    found = find_images([str(tmp_path)])
    assert below(tmp_path, found.paths) == ["a.JPG"]
    assert found.passed_over.lines() == []
    assert found.skipped == []


def test_a_folder_of_scans_alone_is_told_what_to_do(tmp_path: Path) -> None:
    touch(tmp_path, "a.nii.gz", "Thumbs.db", "labels.csv")
    with pytest.raises(LcamError, match="no images in") as caught:
        find_images([str(tmp_path)])
    assert caught.value.hint.startswith(
        "it has 2 other files (1 .csv, 1 .nii.gz); export the slices of volumes as PNG or TIFF"
    )


def own_pictures(folder: Path) -> list[str]:
    """What the commands leave, by its names and marks; returns the user's own images."""
    touch(folder, "drawn/sub/a.jpg.3.png", "drawn/b.png.12.webp")
    write(folder, **{"drawn/.lcam-made": b'{"overlays": true}\n'})
    touch(folder, "pngs/maps/sub/a.jpg.3.png", "pngs/maps/maps.jsonl", "pngs/overlays/a.jpg.3.jpg")
    write(folder, **{"pngs/maps/info.json": b'{"schema": "lcam-maps-png/1", "method": "x"}\n'})
    touch(folder, "report/index.html", "report/lcam-files/images/000000.jpg")
    touch(folder, "runs/net-img/losses.png", "runs/net-img/log.csv")
    touch(folder, "figure.png")
    write(folder, **{".lcam-made": b'{"figures": ["figure.png"]}\n'})
    touch(folder, "demo/masks/train/a/00.png", "demo/overview.png", "demo/overlays/a.jpg.1.png")
    write(folder, **{"demo/lcam.toml": b'[train]\nbackbone = "lcam-demo"\n'})
    users = ["drawn/frame.0001.png", "drawn/own.jpg", "demo/photos/a.jpg", "pngs/maps/mine.png"]
    users += ["a.jpg", "b/a.jpg.3.png", "c/losses.png", "c/overview.png", "c/masks/a.png"]
    users += ["overlays/a.jpg.3.png", "report/index.jpg", "d/info.json.png", "z/a.jpg"]
    touch(folder, *users)
    write(folder, **{"d/info.json": b'{"schema": "other"}', "d/x.jpg.3.png": b""})
    write(folder, **{"z/.lcam-made": b"[[[" * 100, "z/x.jpg.3.png": b""})
    return sorted(
        [*users, "d/x.jpg.3.png", "z/x.jpg.3.png"],
        key=lambda path: [os.fsencode(part) for part in path.split("/")],
    )


def test_what_lcam_wrote_is_passed_over_and_told_and_nothing_else(tmp_path: Path) -> None:
    users = own_pictures(tmp_path)
    found = find_images([str(tmp_path)])
    assert below(tmp_path, found.paths) == users
    (line,) = found.passed_over.lines()
    told = line.removeprefix("skipped lcam's own images: ").split(", ")
    t = tmp_path
    assert sorted(told) == sorted(
        [
            f"2 overlays in {t}/drawn",
            f"1 map in {t}/pngs/maps",
            f"1 overlay in {t}/pngs/overlays",
            f"1 report image in {t}/report/lcam-files",
            f"1 loss curve in {t}/runs/net-img",
            f"1 figure in {t}",
            f"1 mask in {t}/demo/masks",
            f"1 overview in {t}/demo",
            f"1 overlay in {t}/demo/overlays",
        ]
    )
    # Named itself, such a file is taken; its folder is not.
    assert find_images([str(tmp_path / "drawn/b.png.12.webp")]).paths
    with pytest.raises(LcamError, match="no images in") as caught:
        find_images([str(tmp_path / "runs")])
    assert f"lcam's own images are skipped: 1 loss curve in {t}/runs" in caught.value.hint
