from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from lcam_cli.maps.atomic import (
    atomic_file,
    cannot_write,
    human_size,
    remove_leftovers,
    write_atomically,
)


def write_half_and_fail(path: Path) -> None:
    path.write_text("half")
    raise FileNotFoundError


def test_a_file_is_whole_or_not_there(tmp_path: Path) -> None:
    target = tmp_path / "new" / "file"
    with pytest.raises(FileNotFoundError), atomic_file(target) as temporary:
        write_half_and_fail(temporary)
    assert list(target.parent.iterdir()) == []
    with atomic_file(target) as temporary:
        temporary.write_text("whole")
        assert not target.exists()
    assert target.read_text() == "whole"


def test_data_is_on_disk_before_the_name_and_the_name_before_the_return(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def seen_fsync(descriptor: int) -> None:
        done.append(f"sync {Path(f'/proc/self/fd/{descriptor}').readlink().name}")
        fsync(descriptor)

    def seen_replace(self: Path, target: Path) -> Path:
        done.append("rename")
        return replace(self, target)

    if not Path("/proc/self/fd").is_dir():
        pytest.skip("needs /proc")
    monkeypatch.setattr(os, "fsync", seen_fsync)
    monkeypatch.setattr(Path, "replace", seen_replace)
    write_atomically(tmp_path / "new" / "a.png", b"data")
    assert done == [f"sync {tmp_path.name}", "sync .a.png.lcam.tmp", "rename", "sync new"]


def test_a_leftover_is_replaced_even_where_it_is_a_link(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"kept")
    (tmp_path / ".a.png.lcam.tmp").symlink_to(victim)
    write_atomically(tmp_path / "a.png", b"data")
    assert victim.read_bytes() == b"kept"
    assert not (tmp_path / "a.png").is_symlink()
    assert {path.name for path in tmp_path.iterdir()} == {"victim", "a.png"}


def test_leftovers_are_removed_everywhere_and_nothing_else_is(tmp_path: Path) -> None:
    kept = [tmp_path / "a.png", tmp_path / "sub" / ".hidden.tmp", tmp_path / "x.lcam.tmp"]
    left = [tmp_path / ".a.png.lcam.tmp", tmp_path / "sub" / ".b.png.lcam.tmp"]
    (tmp_path / "sub").mkdir()
    for path in [*kept, *left]:
        path.touch()
    remove_leftovers(tmp_path)
    assert [path.exists() for path in kept] == [True, True, True]
    assert [path.exists() for path in left] == [False, False]


def test_the_longest_names_have_room_for_the_temporary_ones(tmp_path: Path) -> None:
    from lcam_cli.maps.names import output_name

    target = tmp_path / output_name("x" * 255, 999_999, "webp")
    with atomic_file(target) as temporary:
        temporary.touch()
    assert target.exists()


def test_a_full_disk_is_told_with_what_is_missing(tmp_path: Path) -> None:
    full = OSError(errno.ENOSPC, "No space left on device")
    target = tmp_path / "not" / "made.h5"
    error = cannot_write(
        target, full, needed=f"at least {human_size(12_345_678)}", hint="free some"
    )
    assert "No space left on device: at least 12.3 MB more is needed, " in error.what
    assert error.what.endswith(" free on that disk")
    other = cannot_write(target, OSError(errno.EIO, ""), needed="1 byte", hint="")
    assert other.what == f"cannot write {target}: {os.strerror(errno.EIO)}"
