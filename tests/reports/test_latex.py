"""The table as LaTeX."""

from __future__ import annotations

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
    text = to_latex(results(row("a\n\\end{tabular}", (1.0, 2.0))))
    assert text.count(r"\end{tabular}") == 1
