"""The table as LaTeX."""

from __future__ import annotations

import dataclasses
import re

from hypothesis import given, settings
from hypothesis import strategies as st

from lcam_cli.reports.latex import escaped, to_latex
from tests.reports.sample import results, row


def test_to_the_letter() -> None:
    text = to_latex(results(row("a_b&c", (10.0, 5.0)), row("gradcam", (11.0, 6.0))))
    assert text.splitlines()[1:] == [
        r"\begin{tabular}{lrrrrr}",
        r"\hline",
        r"method & AD(100) & IC(100) & \#FW & mean V & images/s \\",
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
    assert escaped("[9in]*") == "{[}9in]{*}"
    text = to_latex(results(row("a\n\\end{tabular}", (1.0, 2.0))))
    assert text.count(r"\end{tabular}") == 1


# What LaTeX acts on, in every mixture, among other characters.
hostile = st.text(st.sampled_from(list('\\\\{}[]*$&#^_%~<>|"\n\r\u2028\x00a1 -')) | st.characters())


@settings(max_examples=300, deadline=None)
@given(method=hostile, backbone=hostile)
def test_any_name_is_text(method: str, backbone: str) -> None:
    """Less what we escape with, nothing is left that LaTeX acts on; no line is added."""
    plain = results(row("gradcam", (1.0, 2.0)), row("name", (3.0, 4.0)))
    named = results(row("gradcam", (1.0, 2.0)), row(method, (3.0, 4.0)))
    text = to_latex(dataclasses.replace(named, backbone=backbone)).splitlines()
    assert len(text) == len(to_latex(plain).splitlines())
    assert text[0].startswith("% ")
    cell = text[6].split(r" & \underline", 1)[0]
    ours = r"\\text(backslash|asciitilde|asciicircum|less|greater|bar|quotedbl)"
    left = re.sub(ours + r"\{\}|\\[&%$#_{}]|\{[\[*]\}|\$\\(times|approx)\$", "", cell)
    assert not re.search(r"[\\{}$&#^_%~\[*]", left), text[6]
