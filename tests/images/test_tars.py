"""Pictures in tars: the same as from a folder, in any order, and nothing from outside."""

from __future__ import annotations

import io
import json
import os
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from lcam_cli.__main__ import run
from lcam_cli.cli.app import lcam_app
from lcam_cli.cli.console import Console
from lcam_cli.cli.options import picture_options
from lcam_cli.errors import BadImageError, LcamError
from lcam_cli.images.decoder import read_whole
from lcam_cli.images.find import Skipped, find_images
from lcam_cli.images.tars import expand_braces, locate
from lcam_cli.runs import pipes
from lcam_cli.runs.options import PictureOptions
from lcam_cli.runs.pictures import find_pictures
from tests.tiny import write_pictures

MANY = 10**8
TYPED = PictureOptions(run_commands=True)


def pack(tar: Path, pictures: list[str]) -> None:
    """A shard as WebDataset's writers make them: an image, then its label, under one key."""
    with tarfile.open(tar, "w") as shard:
        for path in pictures:
            shard.add(path, Path(path).name)
            label = tarfile.TarInfo(f"{Path(path).stem}.cls")
            label.size = 1
            shard.addfile(label, io.BytesIO(b"7"))


def member(shard: tarfile.TarFile, name: str, content: bytes = b"x", **changes: object) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for key, value in changes.items():
        setattr(info, key, value)
    shard.addfile(info, io.BytesIO(content))


@pytest.fixture
def shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Two shards of 10 and 5 images, which lie in a folder as well."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.py").write_text("from tests.tiny import tiny_network as net\n")
    paths = write_pictures(tmp_path / "photos", 15)
    Path(paths[3]).write_text("no picture")
    tars = [tmp_path / f"shards-{i:03}.tar" for i in range(2)]
    pack(tars[0], paths[:10])
    pack(tars[1], paths[10:])
    return tars


def test_pictures_are_read_from_their_place(shards: list[Path]) -> None:
    found = find_images([str(tar) for tar in shards])
    assert [Path(p).name for p in found.paths] == [f"{i:03}.jpg" for i in range(15)]
    assert found.paths[12] == f"{shards[1]}/012.jpg"
    assert found.root == str(shards[0].parent)
    assert found.skipped == []
    for path in (found.paths[14], found.paths[0]):
        same = shards[0].parent / "photos" / Path(path).name
        np.testing.assert_array_equal(read_whole(path, MANY), read_whole(str(same), MANY))
    with pytest.raises(BadImageError, match="not an image"):
        read_whole(found.paths[3], MANY)
    with pytest.raises(BadImageError, match="no such image in its tar"):
        read_whole(f"{shards[0]}/absent.jpg", MANY)
    # Each once, however often its tar is named.
    assert find_images([str(shards[0]), "shards-000.tar"]).paths == found.paths[:10]


def test_a_folder_named_like_a_tar_is_a_folder(tmp_path: Path) -> None:
    (path,) = write_pictures(tmp_path / "odd.tar", 1)
    assert locate(path) == (path, None, None, path)
    assert find_images([str(tmp_path / "odd.tar")]).paths == [path]


def test_broken_shards_are_listed_and_give_what_is_whole(shards: list[Path]) -> None:
    content = shards[0].read_bytes()
    cut = shards[0].with_name("cut.tar")
    with tarfile.open(shards[0]) as tar:
        fourth = tar.getmember("004.jpg")
    cut.write_bytes(content[: fourth.offset_data + 10])
    header = shards[0].with_name("header.tar")
    header.write_bytes(content[: fourth.offset] + b"garbage" * 500)
    empty, text = cut.with_name("empty.tar"), cut.with_name("text.tar")
    empty.write_bytes(b"")
    text.write_text("no tar at all" * 100)
    found = find_images([str(cut), str(empty), str(text), str(shards[1]), str(header)])
    assert [p for p in found.paths if "cut" in p] == [f"{cut}/{i:03}.jpg" for i in range(4)]
    assert len(found.paths) == 4 + 5 + 4
    reasons = {Path(s.path).name: s.reason for s in found.skipped}
    assert set(reasons) == {"cut.tar", "empty.tar", "text.tar", "header.tar"}
    assert "after 4 images" in reasons["cut.tar"]
    assert "after 4 images: the tar has no end" in reasons["header.tar"]
    with pytest.raises(LcamError, match="no images to work on"):
        find_images([str(text)])


def test_members_lead_nowhere_else(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "secret.jpg")
    good = (tmp_path / "secret.jpg").read_bytes()
    tar = tmp_path / "bad.tar"
    with tarfile.open(tar, "w") as shard:
        member(shard, "../secret.jpg", good)
        member(shard, "/etc/secret.jpg", good)
        member(shard, "link.jpg", b"", type=tarfile.SYMTYPE, linkname="secret.jpg")
        member(shard, "hard.jpg", b"", type=tarfile.LNKTYPE, linkname="../secret.jpg")
        member(shard, "pipe.jpg", b"", type=tarfile.FIFOTYPE)
        member(shard, "folder/good.jpg", good)
        member(shard, "folder/good.jpg", good)
        member(shard, ".hidden.jpg", good)
        member(shard, "label.txt")
    found = find_images([str(tar)])
    assert found.paths == [f"{tar}/folder/good.jpg"]
    assert len(found.skipped) == 6
    for skipped in found.skipped:
        if "good" not in skipped.path:
            with pytest.raises(BadImageError):
                read_whole(skipped.path, MANY)


def test_a_header_that_says_more_than_there_is(tmp_path: Path) -> None:
    tar = tmp_path / "liar.tar"
    with tarfile.open(tar, "w") as shard:
        member(shard, "a.jpg", b"x" * 600)
    content = bytearray(tar.read_bytes())
    info = tarfile.TarInfo("a.jpg")
    info.size = 1 << 40
    content[:512] = info.tobuf(tarfile.GNU_FORMAT)
    tar.write_bytes(content)
    with pytest.raises(LcamError, match="no images"):
        find_images([str(tar)])


def test_braces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert expand_braces("s-{008..011}.tar") == [f"s-{i:03}.tar" for i in (8, 9, 10, 11)]
    for plain in ("s.tar", "s-{3..1}.tar", "s-{a..b}.tar", "s-{0..999999999}.tar"):
        assert expand_braces(plain) == [plain]
    Path("s-{1..2}.jpg").touch()
    assert expand_braces("s-{1..2}.jpg") == ["s-{1..2}.jpg"]


NETWORK = ["--backbone", "own.py:net", "--weights", "none", "--image-size", "32"]
NETWORK += ["--batch-size", "4", "--workers", "2"]


def test_explain_train_and_evaluate_take_shards_for_folders(shards: list[Path]) -> None:
    def lcam(*words: str) -> int:
        return run(lcam_app(), list(words))

    method = ["--method", "gradcam", "--overlays"]
    assert lcam("explain", "photos", *NETWORK, *method, "a", "--out", "folder.h5") == 3
    tars = "shards-{000..001}.tar"
    assert lcam("explain", tars, *NETWORK, *method, "b", "--out", "tars.h5") == 3
    with (
        h5py.File("folder.h5", locking=False) as folder,
        h5py.File("tars.h5", locking=False) as tar,
    ):
        for name in ("saliency", "class_index", "confidence", "crop_box"):
            np.testing.assert_array_equal(tar[name][:], folder[name][:])
        assert list(tar["path"].asstr())[-1] == "shards-001.tar/014.jpg"
        assert list(tar["skipped/path"].asstr()) == ["shards-000.tar/003.jpg"]
    assert len(list(Path("b").rglob("*.png"))) == len(list(Path("a").rglob("*.png"))) == 14
    assert lcam("evaluate", "tars.h5", "--backbone", "own.py:net") == 0
    short = [*NETWORK, "--epochs", "1", "--out"]
    assert lcam("train", "photos", *short, "one") == lcam("train", tars, *short, "two") == 3
    one, two = (load_file(Path(out, "attention.safetensors")) for out in ("one", "two"))
    for name, values in one.items():
        assert torch.equal(two[name], values)


def test_shards_of_webdataset_itself(shards: list[Path]) -> None:
    webdataset = pytest.importorskip("webdataset")
    with webdataset.TarWriter("own.tar") as writer:
        for path in sorted(Path("photos").iterdir()):
            writer.write({"__key__": path.stem, "jpg": path.read_bytes(), "cls": 3})
    found = find_images(["own.tar"])
    assert [os.path.basename(p) for p in found.paths] == [f"{i:03}.jpg" for i in range(15)]  # noqa: PTH119
    np.testing.assert_array_equal(
        read_whole("own.tar/005.jpg", MANY), read_whole("photos/005.jpg", MANY)
    )


@pytest.mark.real
@pytest.mark.slow
def test_real_pictures_in_shards(real: Path, tmp_path: Path) -> None:
    pictures = [p for p in find_images([str(real / "train")]).paths if p.lower().endswith("jpg")]
    some = pictures[:: max(1, len(pictures) // 24)][:24]
    names = [f"{i:03}.jpg" for i in range(len(some))]
    (tmp_path / "photos").mkdir()
    for path, name in zip(some, names, strict=True):
        (tmp_path / "photos" / name).symlink_to(path)
    with tarfile.open(tmp_path / "shard.tar", "w", dereference=True) as shard:
        for name in names:
            shard.add(tmp_path / "photos" / name, name)
    words = ["--backbone", "mobilenet_v2", "--weights"]
    words += [str(real / "mobilenet_v2_imagenet1k_fp16.pt"), "--method", "gradcam", "--out"]
    for source in ("photos", "shard.tar"):
        out = str(tmp_path / f"{source}.h5")
        assert run(lcam_app(), ["explain", str(tmp_path / source), *words, out]) == 0
    with (
        h5py.File(tmp_path / "photos.h5", locking=False) as folder,
        h5py.File(tmp_path / "shard.tar.h5", locking=False) as tar,
    ):
        np.testing.assert_array_equal(tar["saliency"][:], folder["saliency"][:])


# --- Pipes --------------------------------------------------------------------------------------


def test_what_a_command_prints_is_a_tar_like_others(
    shards: list[Path], capfd: pytest.CaptureFixture[str]
) -> None:
    explain = ["explain", "--backbone", "own.py:net", "--weights", "none", "--image-size", "32"]
    explain += ["--method", "gradcam", "--device", "cpu", "--workers", "1"]
    command = "pipe:echo run >> runs.txt; cat shards-{000..001}.tar"
    assert run(lcam_app(), [*explain, command, "--out", "piped.h5"]) == 3
    assert run(lcam_app(), [*explain, *map(str, shards), "--out", "plain.h5"]) == 3
    with h5py.File("piped.h5") as piped, h5py.File("plain.h5") as plain:
        np.testing.assert_array_equal(piped["saliency"][()], plain["saliency"][()])
    capfd.readouterr()
    # It is there when the maps are scored, and for another run.
    own = ["--backbone", "own.py:net", "--weights", "none", "--device", "cpu", "--format", "json"]
    assert run(lcam_app(), ["evaluate", "piped.h5", *own]) == 0
    scored = json.loads(capfd.readouterr().out)
    assert scored["images"] == 14
    assert run(lcam_app(), ["evaluate", "plain.h5", *own]) == 0
    assert json.loads(capfd.readouterr().out)["rows"][0]["nu"] == scored["rows"][0]["nu"]
    assert run(lcam_app(), [*explain, command, "--out", "again.h5"]) == 3
    assert Path("runs.txt").read_text() == "run\n" * 2, "one run a shard"


def test_a_command_that_fails_is_listed(
    shards: list[Path], capfd: pytest.CaptureFixture[str]
) -> None:
    found = find_pictures(["pipe:cat absent.tar", str(shards[0])], TYPED, Console())
    assert len(found.paths) == 10
    (skipped,) = found.skipped
    assert skipped == Skipped(str(pipes.place_of("pipe:cat absent.tar")), "its command failed")
    assert "absent" not in skipped.path, "a command may hold a password"
    with pytest.raises(LcamError, match="cat half: it ended with exit code 1"):
        find_pictures(["pipe:cat shards-000.tar; cat half"], TYPED, Console())
    for nothing, why in (("true", "empty file"), ("head -c 3000 shards-000.tar", "a tar")):
        with pytest.raises(LcamError, match=why):
            find_pictures([f"pipe:{nothing}"], TYPED, Console())
    assert not list(Path("runs/pipes").iterdir()), "half a tar is not kept"


def test_jobs_that_share_a_tar_fetch_it_once(shards: list[Path]) -> None:
    slow = "pipe:echo run >> runs.txt; head -c 3000 shards-000.tar; sleep 1; "
    slow += "tail -c +3001 shards-000.tar"
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda _: find_pictures([slow], TYPED, Console()), range(3)))
    assert [len(one.paths) for one in found] == [10, 10, 10]
    assert Path("runs.txt").read_text() == "run\n"


def test_what_is_wrong_with_the_only_tar_is_told(shards: list[Path]) -> None:
    Path("half.tar").write_bytes(shards[0].read_bytes()[:100])
    with pytest.raises(LcamError, match=r"no images to work on: half.tar: cannot be read as a"):
        find_images(["half.tar"])


def test_a_list_runs_no_commands(shards: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    class Stdin:
        buffer = io.BytesIO(b"pipe:touch ran\nshards-000.tar\n")

    monkeypatch.setattr("sys.stdin", Stdin)
    as_typed = picture_options({"max_images": None, "strict": False, "null": False})
    found = find_pictures(["-"], as_typed, Console())
    assert len(found.paths) == 10
    assert [skipped.path for skipped in found.skipped] == ["pipe:touch ran"]
    assert not Path("ran").exists()
