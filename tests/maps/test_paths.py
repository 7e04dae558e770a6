from __future__ import annotations

from pathlib import Path

import pytest

from lcam_cli.maps.paths import resolve_path, stored_path


@pytest.mark.parametrize(
    ("picture", "root", "stored"),
    [
        ("/data/a/b.jpg", "/data", "a/b.jpg"),
        ("/data/b.jpg", "/", "data/b.jpg"),
        ("/database/b.jpg", "/data", "/database/b.jpg"),
        ("/data/../x.jpg", "/data", "/x.jpg"),
        ("/data/caf\udcff.jpg", "/data", "caf\udcff.jpg"),
    ],
)
def test_stored_paths(picture: str, root: str, stored: str) -> None:
    assert stored_path(picture, root) == stored


def test_relative_paths_start_in_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    name = stored_path("photos/a.jpg", str(tmp_path))
    assert name == "photos/a.jpg"
    assert resolve_path(name, tmp_path, named_by_caller=False) == tmp_path / "photos/a.jpg"
