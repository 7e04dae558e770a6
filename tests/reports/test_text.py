"""Names from outside, made safe to show."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lcam_cli.reports.text import printable, tiled_words


def test_what_prints_stays() -> None:
    assert printable("naïve 犬 [bold] | Ωmega.png") == "naïve 犬 [bold] | Ωmega.png"


def test_what_does_not_is_written_out() -> None:
    assert printable("a\x1b[2J\n\tb") == "a\\x1b[2J\\n\\tb"
    assert printable("\u202egnp.exe") == "\\u202egnp.exe"
    assert printable("caf\udce9") == "caf\\udce9"


@given(st.text(st.characters(codec=None)))
def test_anything_becomes_one_line_that_can_be_encoded(text: str) -> None:
    shown = printable(text)
    assert shown.isprintable()
    assert len(shown.encode("utf-8").splitlines()) <= 1


def test_what_tiles_is_said_and_nothing_of_what_does_not() -> None:
    assert tiled_words({"cam": None, "rise": None}) == []
    assert tiled_words({"cam": "asked", "rise": None}) == ["cells tile the image (--no-align)"]
    (words,) = tiled_words({"cam": None, "tame": "unknown", "sise": "unknown"})
    assert words == "not aligned: tame, sise (the positions of the cells are not known)"
