"""The paper's Table 1 in its three forms."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace

import pytest
from rich.console import Console

from lcam_cli.measures.score import Difference, Score, Scores
from lcam_cli.reports.columns import BEST, SECOND, columns
from lcam_cli.reports.results import Results, Row, to_json
from lcam_cli.reports.table import caption, to_csv, to_markdown, to_rich
from tests.reports.sample import FOUR, Plain, many, nu_score, results, row


def ranks(title: str, *rows: object) -> list[int]:
    shown = columns(results(*rows) if rows else FOUR)  # type: ignore[arg-type]
    return list(next(column.ranks for column in shown if column.title == title))


def test_columns_are_the_papers() -> None:
    assert [column.title for column in columns(FOUR)] == [
        *("method", "AD(100)", "IC(100)", "AD(12.5)", "IC(12.5)", "#FW", "mean V", "images/s"),
    ]


def test_low_ad_and_high_ic_are_best_and_random_is_not_ranked() -> None:
    assert ranks("AD(100)") == [SECOND, 0, BEST, 0]
    assert ranks("IC(100)") == [SECOND, 0, BEST, 0]
    assert ranks("AD(12.5)") == [BEST, 0, SECOND, 0]
    assert ranks("#FW") == [0, 0, 0, 0]


def test_numbers_that_look_equal_share_a_rank() -> None:
    rows = [row("a", (10.001, 5.0)), row("b", (10.004, 5.0)), row("c", (11.0, 5.0))]
    assert ranks("AD(100)", *rows) == [BEST, BEST, SECOND]
    assert ranks("IC(100)", *rows) == [BEST, BEST, BEST]


def test_one_method_is_not_the_best_of_itself() -> None:
    assert ranks("AD(100)", row("gradcam", (10.0, 5.0)), row("random", (1.0, 5.0))) == [0, 0]


def test_a_nu_that_a_row_lacks_is_left_blank() -> None:
    shown = columns(results(row("a", (10.0, 5.0), (20.0, 3.0)), row("b", (11.0, 4.0))))
    assert next(column.cells for column in shown if column.title == "AD(12.5)") == ["20.00", ""]


def test_markdown_to_the_letter() -> None:
    text = to_markdown(results(row("a|b", (10.0, 5.0)), row("gradcam", (11.0, 6.0))))
    assert text == (
        "| method | AD(100) ↓ | IC(100) ↑ | #FW | mean V | images/s |\n"
        "| --- | ---: | ---: | ---: | ---: | ---: |\n"
        "| a\\|b | **10.00** | <u>5.00</u> | 1 | 0.123 | 61.2 |\n"
        "| gradcam | <u>11.00</u> | **6.00** | 1 | 0.123 | 61.2 |\n"
        "\n"
        "vgg16, IMAGENET1K\\_V1, features.29; 650 images (2 skipped); fp32 on cpu\n"
    )


def test_markdown_takes_no_markup_or_links_from_names() -> None:
    name = "<img src=x> &lt; $x$ ~~b~~ ![i](http://e.org) www.e.org"
    assert (
        to_markdown(results(row(name, (1.0, 2.0))))
        .splitlines()[2]
        .startswith(r"| \<img src=x\> \&lt; \$x\$ \~\~b\~\~ \!\[i\](http\://e.org) www\.e.org |")
    )


def test_markdown_keeps_its_columns_whatever_a_measure_is_called() -> None:
    name = "a|b\nc"
    one = Row("m", Scores({}, {name: Score(1.0, None)}), 1, 0.5, 9.0)
    head = to_markdown(replace(results(), rows=[one], measures=[Plain(name)])).splitlines()[0]
    assert r"| a\|b\nc ↑ |" in head


def test_csv_has_a_line_a_method_and_nu() -> None:
    lines = list(csv.DictReader(io.StringIO(to_csv(FOUR))))
    assert [(line["method"], line["nu"]) for line in lines[:3]] == [
        *(("lcam-img", "100"), ("lcam-img", "12.5"), ("gradcam", "100")),
    ]
    assert lines[0] == {
        "method": "lcam-img",
        "nu": "100",
        "ad": "12.9600",
        "ad_low": "11.9600",
        "ad_high": "13.9600",
        "ic": "41.2500",
        "ic_low": "39.2500",
        "ic_high": "43.2500",
        "images": "650",
        "forward_passes": "1",
        "mean_saliency": "0.1235",
        "images_per_second": "61.2500",
        "mask_space": "pixel",
        "keep": "values",
    }


def test_csv_survives_any_name_and_runs_none() -> None:
    names = ['=cmd("x")', 'a,"b"\nc', "-1+1", " @sum(1)", "＝1", "a=b"]
    lines = list(csv.DictReader(io.StringIO(to_csv(results(*(row(n, (1, 2)) for n in names))))))
    assert [line["method"] for line in lines] == [
        *('\'=cmd("x")', 'a,"b"\\nc', "'-1+1", "' @sum(1)", "'＝1", "a=b"),
    ]


def drawn(width: int | None, **options: object) -> str:
    console = Console(file=io.StringIO(), width=width, **options)  # type: ignore[arg-type]
    console.print(to_rich(FOUR))
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    return text


def test_terminal_table_marks_best_and_second() -> None:
    text = drawn(120, force_terminal=True, color_system="standard")
    assert "\x1b[1m8.74\x1b[0m" in text
    assert "\x1b[4m12.96\x1b[0m" in text
    assert "650 images (2 skipped)" in text


@pytest.mark.parametrize("width", [60, 80, 200])
def test_a_narrow_terminal_cuts_nothing(width: int) -> None:
    console = Console(file=io.StringIO(), width=width)
    console.print(to_rich(FOUR, width))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    for column in columns(FOUR):
        for part in (column.measure, column.better, *([f"({column.nu:g})"] if column.nu else [])):
            assert part in " ".join(text.split())
        for cell in column.cells:
            assert cell in text
    assert text.count("650 images") == 1
    assert text.count("gradcam") == (2 if width == 60 else 1)


def test_what_a_speed_is_of_and_what_hides_is_said() -> None:
    scored = replace(FOUR, speed="scored", mask_space="normalized")
    assert "| scored/s |" in to_markdown(scored)
    assert "; hidden pixels have the mean colour; " in caption(scored)
    assert "| images/s |" in to_markdown(FOUR)
    long = replace(FOUR, weights=f"sha256:{'0123456789abcdef' * 4}", images=1)
    assert ", sha256:0123456789ab, " in caption(long)
    assert "; 1 image (2 skipped); " in caption(long)


def test_the_floor_is_marked_where_it_equals_the_best() -> None:
    score = nu_score(5.0, 0.0, (5.0, 5.0), (0.0, 0.0), *[Difference(0.0, (0.0, 0.0))] * 2)
    rows = [Row(name, Scores({15.0: score}), 1, 0.5, 1.0) for name in ("a", "b", "random")]
    text = to_markdown(results(*rows))
    assert "| a | **5.00** | **0.00** |" in text
    assert "| random | 5.00≈ | 0.00≈ |" in text


def test_terminal_table_takes_no_markup_or_escapes_from_names() -> None:
    console = Console(file=io.StringIO(), width=120)
    console.print(to_rich(results(row("[red]x[/red]\x1b[2J", (1.0, 2.0)))))
    assert "[red]x[/red]\\x1b[2J" in console.file.getvalue()  # type: ignore[attr-defined]


def compared() -> Results:
    """Two methods that do not differ at ν = 100, and do at 12.5; and an insertion curve."""

    def made(name: str, ad: float, low: float, high: float, auc: float) -> Row:
        same = Difference(ad - 10, (low, high))
        close = nu_score(ad, 5.0, (ad, ad), (5.0, 5.0), same, Difference(0.0, (0.0, 0.0)))
        far = nu_score(ad, 5.0, (ad, ad), (5.0, 5.0), Difference(ad - 10, (ad - 10, ad - 10)))
        curve = Score(auc, (auc, auc), Difference(auc - 0.5, (-1.0, 1.0)))
        return Row(name, Scores({100.0: close, 12.5: far}, {"insertion": curve}), None, 0.5, 1.0)

    return results(made("a", 10.0, 0.0, 0.0, 0.5), made("b", 11.0, -0.5, 2.5, 0.25))


def test_rows_that_do_not_differ_from_the_best_are_marked() -> None:
    text = to_markdown(compared())
    assert "| a | **10.00** | **5.00** | **10.00** | **5.00** | **0.500** | ? |" in text
    assert "| b | <u>11.00</u>≈ | **5.00** | <u>11.00</u> | **5.00** | <u>0.250</u>≈ | ? |" in text
    assert "≈: no significant difference" in text
    console = Console(file=io.StringIO(), width=120)
    console.print(to_rich(compared()))
    assert "11.00≈" in console.file.getvalue()  # type: ignore[attr-defined]


def test_csv_and_json_have_the_differences_and_the_curves() -> None:
    lines = list(csv.DictReader(io.StringIO(to_csv(compared()))))
    assert lines[2]["ad_diff_to_best"] == "1.0000"
    assert (lines[2]["ad_diff_low"], lines[2]["ad_diff_high"]) == ("-0.5000", "2.5000")
    assert lines[2]["insertion"] == "0.2500"
    assert lines[2]["forward_passes"] == ""
    entry = json.loads(to_json(compared()))["rows"][1]
    assert entry["nu"]["100"]["ad_diff_to_best"] == 1.0
    assert entry["nu"]["100"]["ad_diff_ci95"] == [-0.5, 2.5]
    assert entry["insertion"]["auc"] == 0.25
    assert entry["forward_passes"] is None


@pytest.mark.parametrize("width", [80, 100, 160])
def test_intervals_are_not_cut_either(width: int) -> None:
    console = Console(file=io.StringIO(), width=width)
    console.print(to_rich(many(), width, intervals=True))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    assert text.count("14.00 to 16.00") == 11 + 3, (
        "the last method, and AD, IC, AG(15) of the first"
    )


def heads(results: Results, width: int | None) -> list[list[str]]:
    """The words of each table's head, from its first or its first two lines, without arrows."""
    console = Console(file=io.StringIO(), width=width or 1000)
    console.print(to_rich(results, width))
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert width is None or max(map(len, lines)) <= width
    found = []
    for k, line in enumerate(lines):
        words = f"{lines[k - 1]} {line}".translate(str.maketrans("┃┏┳┓━↓↑", " " * 7)).split()
        if "method" in words and "method" in line.split()[:2]:
            found.append([word for word in words if word != "method"])
    return found


@pytest.mark.parametrize("width", [80, 120, 160, 400])
def test_many_measures_are_parted_by_sense(width: int) -> None:
    parted = heads(many(), width)
    titles = " ".join(
        column.title if width == 400 or column.nu is None else f"{column.measure} ({column.nu:g})"
        for column in list(columns(many()))[1:]
    ).split()
    assert sorted(word for head in parted for word in head) == sorted(titles), "each column once"
    if width == 400:
        assert len(parted) == 1
        return
    of_costs = next(head for head in parted if "#FW" in head)
    assert not {"iou", "AD"} & set(of_costs), "what maps cost stands alone"
    assert parted[0][:9] == ["AD", "IC", "AG"] * 3
    assert parted[1][0] == "insertion"


def test_a_default_run_fits_80_columns_with_all_its_measures_side_by_side() -> None:
    usual = many()
    usual = replace(usual, measures=usual.measures[:3])
    assert [len(head) for head in heads(usual, 80)] == [18, 4]


def test_a_pipe_marks_the_best_and_says_what_signs_mean() -> None:
    console = Console(file=io.StringIO(), width=1000)
    console.print(to_rich(FOUR, None))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert " 8.74* " in text
    assert " 12.96 " in text
    assert "↓ lower is better, ↑ higher is better, * best\n" in text
    assert "#FW: forward passes a map costs, mean V: mean of the maps, 0 to 1\n" in text
    console = Console(file=io.StringIO(), width=1000)
    console.print(to_rich(FOUR, 1000))
    terminal = console.file.getvalue()  # type: ignore[attr-defined]
    assert "*" not in terminal
    assert "bold: best, underlined: second" in terminal


def test_many_measures_are_three_tables_in_markdown() -> None:
    text = to_markdown(many())
    tables = [part.splitlines() for part in text.strip().split("\n\n")]
    assert [len(table) for table in tables] == [8, 8, 8, 1]
    assert [table[0].count("|") - 1 for table in tables[:3]] == [10, 12, 4]
    assert all(table[0].startswith("| method |") for table in tables[:3])
    few = to_markdown(many(nus=(100.0,)))
    assert len(few.strip().split("\n\n")) == 4, "1 + 3 + 11 + 3 columns are too many"
    assert to_markdown(FOUR).count("| --- |") == 1


def test_intervals_stand_with_their_numbers_where_they_are_wanted() -> None:
    markdown = to_markdown(FOUR, intervals=True)
    assert "| **8.74** (7.74 to 9.74) | **51.30** (49.30 to 53.30) |" in markdown
    assert "to 9.74" not in to_markdown(FOUR)
    console = Console(file=io.StringIO(), width=300)
    console.print(to_rich(FOUR, 300, intervals=True))
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    (rise,) = [k for k, line in enumerate(lines) if "rise" in line]
    assert "8.74" in lines[rise]
    assert "7.74 to 9.74" in lines[rise + 1]


def test_whole_pixels_are_said_in_the_caption_and_in_csv() -> None:
    whole = replace(FOUR, keep="whole")
    assert "; kept pixels unchanged; " in caption(whole)
    assert "shown whole" not in caption(FOUR)
    assert {line["keep"] for line in csv.DictReader(io.StringIO(to_csv(whole)))} == {"whole"}
