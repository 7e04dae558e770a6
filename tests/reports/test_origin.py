"""Addresses of originals: whatever a name holds, it leads to its file or nowhere."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import unquote_to_bytes, urlsplit

import pytest

from lcam_cli.reports.origin import ALIGNED, Origin, alignment_words

NAMES = [
    "a b.jpg",
    "javascript:alert(1).jpg",
    "100%25#x?y&z.jpg",
    '"><img src=x onerror=alert(1)>.jpg',
    "sub/ü\U0001f600.jpg",
    "\udcff not unicode.jpg",
    "back\\slash.jpg",
]


@pytest.mark.parametrize("name", NAMES)
def test_an_address_is_relative_and_leads_to_the_file(tmp_path: Path, name: str) -> None:
    root, page = tmp_path / "photos", tmp_path / "reports" / "one"
    original = root / name
    original.parent.mkdir(parents=True)
    original.write_bytes(b"")
    link = Origin("", str(root)).link(page, name)
    assert link.isascii()
    parts = urlsplit(link)
    assert (parts.scheme, parts.netloc, parts.query, parts.fragment) == ("", "", "", "")
    assert not set(link) & set("<>\"'\\ :")
    found = os.fsencode(page) + b"/" + unquote_to_bytes(link)
    assert os.path.normpath(found) == os.fsencode(original)


def test_what_is_not_there_has_no_address(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"")
    assert Origin("", str(tmp_path)).link(tmp_path, "a.jpg") == "a.jpg"
    assert Origin("", str(tmp_path)).link(tmp_path, "b.jpg") == ""
    assert Origin("", str(tmp_path)).link(tmp_path, "shard.tar/a.jpg") == "", "in an archive"
    assert Origin("", str(tmp_path)).link(tmp_path, "a\0.jpg") == ""
    assert Origin().link(tmp_path, "a.jpg") == "", "nobody knows where they lie"


def test_alignment_is_in_words() -> None:
    assert alignment_words({"cam": None}) == ALIGNED
    assert "--no-align" in alignment_words({"cam": "asked"})
    assert "not aligned: cam" in alignment_words({"cam": "unknown", "rise": None})
