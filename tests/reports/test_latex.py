"""The table as LaTeX."""

from __future__ import annotations

import dataclasses
import re

from hypothesis import given
from hypothesis import strategies as st

from lcam_cli.reports.latex import escaped, to_latex
from tests.reports.sample import many, results, row


def test_to_the_letter() -> None:
    text = to_latex(results(row("a_b&c", (10.0, 5.0)), row("gradcam", (11.0, 6.0))))
    assert text.splitlines()[1:] == [
        r"\begin{tabular}{lrrrrr}",
        r"\hline",
        r"method & AD(100) $\downarrow$ & IC(100) $\uparrow$ & \#FW & mean V & images/s \\",
        r"\hline",
        r"a\_b\&c & \textbf{10.00} & \underline{5.00} & 1 & 0.123 & 61.2 \\",
        r"gradcam & \underline{11.00} & \textbf{6.00} & 1 & 0.123 & 61.2 \\",
        r"\hline",
        r"\end{tabular}",
    ]
    assert text.splitlines()[0].startswith("% vgg16, ")


def test_names_run_no_commands() -> None:
    assert escaped(r"\input{x}%$~^") == (
        r"\textbackslash{}input\{x\}\%\$\textasciitilde{}\textasciicircum{}"
    )
    text = to_latex(results(row("a\n\\end{tabular}", (1.0, 2.0))))
    assert text.count(r"\end{tabular}") == 1
    named = dataclasses.replace(results(row("a", (1.0, 2.0))), backbone="b\n\\input{x}")
    assert to_latex(named).splitlines()[1] == r"\begin{tabular}{lrrrrr}"


def test_names_are_no_arguments_of_the_row_before() -> None:
    text = to_latex(results(row("a", (1.0, 2.0)), row("[9cm]", (1.0, 2.0)), row("*b", (1.0, 2.0))))
    assert re.search(r"\\\\\s*[\[*]", text) is None
    assert escaped("[x]*") == "{[}x{]}{*}"


def test_names_are_set_as_they_are_spelt() -> None:
    assert escaped('"a"---?`') == r"{\char34}a{\char34}-{}-{}-?{}`"


@given(st.text())
def test_whatever_stands_in_a_name_braces_match_and_nothing_is_special(name: str) -> None:
    text = escaped(name)
    # What is left without the escapes written by us has no special character any more.
    bare = re.sub(r"\\text[a-z]+\{\}|\$\\(times|approx)\$|\{\\char34\}", "", text)
    bare = re.sub(r"\\[&%$#_{}]|\{[\[\]*]?\}", "", bare)
    assert not set(bare) & set("\\{}$&#^_~%[]*")


def test_many_measures_are_three_tabulars_and_intervals_are_small() -> None:
    text = to_latex(many(), intervals=True)
    assert [len(given) for given in re.findall(r"begin\{tabular\}\{l(r+)\}", text)] == [9, 11, 3]
    assert r"\textbf{100.00} {\scriptsize (99.00 to 101.00)}" in text
    assert r"\scriptsize" not in to_latex(many())
