"""What users read is spelled right and says things plainly: messages, pages, README, changelog.

A phrase that readers stumbled over is not written again: each has what to write instead. Messages
are the string literals of the package; of pages the prose counts, not the code.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT

PHRASES: tuple[tuple[str, str], ...] = (
    (r"(?<!there )\b(is|are) no (?!longer\b|more\b|less\b)", "is not a …"),
    (
        r"\b(one|(one|a) (row|line|number|value|map|name|weight|score)) a "
        r"(line|row|image|class|channel|pixel|method|layer|block|frame|file)\b",
        "one per …",
    ),
    (r"\bin no (row|shard|folder)\b", "not in any …"),
    (r"\blured\b", "misled"),
    (r"\bmend(s|ed)?\b", "fix"),
    (r"\bby the seed\b", "drawn with --seed"),
    (r"\bnobody let in\b", "what is missing, in a plain sentence"),
    (r"\bgive one of them\b", "pass only one of them"),
    (r"\bsay with\b", "pass"),
    (r"(^|[.:;] )read are\b", "lcam reads …"),
    (r"\btaken is\b", "lcam uses …"),
    (r"\b(comes?|brings?|brought) along\b", "comes with, includes"),
    (r"\banew\b", "again"),
    (r"\b(?-i:picture|[Pp]ictures)\b", "image"),  # Picture is a class
    (r"\b(is|are|was|were|be) passed over\b|^passed over\b", "skip"),
    (r"\bby itself\b", "automatically"),
    (r"\b(go(es)?|going) on (with|without)\b", "continue with"),
    (r"\bof (its|their) own\b", "its own …, separate"),
    (r"\bas many (are|as (are|there))\b", "the same number"),
    (r"\bnone that\b", "not one that"),
    (r"\bdo(es)? not go with\b", "cannot be used with"),
    (r"\btells? its author\b", "report this to its author"),
)
"""What is not written, as regular expressions without regard to case, and what is."""

PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
MODULES = sorted((ROOT / "lcam_cli").rglob("*.py"))

# Fenced blocks, code within a line, comments, tags, and where links lead.
_NOT_PROSE = re.compile(
    r"^[ ]*```.*?^[ ]*```|`[^`]*`|<!--.*?-->|<[^>]+>|\]\([^)]*\)|^\[[^]]+\]: .*?$",
    re.MULTILINE | re.DOTALL,
)


def found_in(text: str) -> list[str]:
    """Return what is wrong with a text, a line for each phrase."""
    return [
        f"{match[0]!r}: write {instead!r}"
        for phrase, instead in PHRASES
        for match in re.finditer(phrase, " ".join(text.split()), re.IGNORECASE)
    ]


def messages_of(source: str) -> Iterator[tuple[int, str]]:
    """Yield the texts of a module: its string literals of several words, without docstrings.

    Of an f-string, what stands between its values.
    """
    tree = ast.parse(source)
    nodes = list(ast.walk(tree))
    skipped = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
    skipped |= {
        id(part) for node in nodes if isinstance(node, ast.JoinedStr) for part in node.values
    }
    for node in nodes:
        if id(node) in skipped:
            continue
        if isinstance(node, ast.JoinedStr):
            parts = (
                str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values
            )
            text = "".join(parts)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            text = node.value
        else:
            continue
        if " " in text:
            yield node.lineno, text


def prose_of(markdown: str) -> str:
    """Return a page's text without its code."""
    return _NOT_PROSE.sub(" ", markdown)


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("mine.bin is no weights file", "'is no ': write 'is not a …'"),
        ("a text file, one name a line", "'one name a line': write 'one per …'"),
        ("the names, one a line", "'one a line': write 'one per …'"),
        ("Read are .jpg and rarer ones", "'Read are': write 'lcam reads …'"),
        ("mend that line", "'mend': write 'fix'"),
        ("take N of the images, by\n  the seed", "'by the seed'"),
        ("3 pictures", "'pictures': write 'image'"),
        ("There is no file; it is no longer there; one name per line", ""),
    ],
)
def test_a_phrase_is_found(text: str, wrong: str) -> None:
    assert "; ".join(found_in(text)).startswith(wrong)
    assert bool(found_in(text)) == bool(wrong)


def test_messages_are_literals_and_pages_are_prose() -> None:
    source = '"""One a line."""\nx = f"{a.no} is no " f"text", "key"\n"""A text of x."""\n'
    assert list(messages_of(source)) == [(2, "{} is no text")]
    page = "An image.\n```console\n$ lcam ./pictures\n```\n![A map](pictures/a.png), `no picture`\n"
    assert not found_in(prose_of(page))
    assert found_in(prose_of(page + "A picture."))


def test_messages_say_things_plainly() -> None:
    wrong = [
        f"{module.relative_to(ROOT)}:{line}: {one}"
        for module in MODULES
        for line, text in messages_of(module.read_text("utf-8"))
        for one in found_in(text)
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pages_say_things_plainly(page: Path) -> None:
    wrong = found_in(prose_of(page.read_text("utf-8")))
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(("text", "status"), [("The image is recieved.", 65), ("An image.", 0)])
def test_spelling_errors_are_found(tmp_path: Path, text: str, status: int) -> None:
    (tmp_path / "page.md").write_text(text)
    assert _codespell(tmp_path / "page.md").returncode == status


def test_words_are_spelled_right() -> None:
    done = _codespell("docs", "README.md", "CHANGELOG.md", "lcam_cli")
    assert done.returncode == 0, done.stdout + done.stderr


def _codespell(*paths: str | os.PathLike[str]) -> subprocess.CompletedProcess[str]:
    pytest.importorskip("codespell_lib")
    command = [sys.executable, "-m", "codespell_lib", "--toml", "pyproject.toml", *paths]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
