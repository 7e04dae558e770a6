"""Code of other packages: whatever it does is one line that names it, but for the user's Ctrl-C."""

from __future__ import annotations

import logging
import os
import signal
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType

import pytest

from lcam_cli.errors import LcamError
from lcam_cli.plugins import entry_points_of, load, plugin_code
from tests.packages import write_package


def fail(code: str) -> LcamError:
    """The error in which a plug-in's code ends."""
    module = ModuleType("brought")
    with pytest.raises(LcamError) as caught, plugin_code("it failed", "brought.part"):
        exec(compile(code, "/somewhere/brought.py", "exec"), vars(module))
    return caught.value


@pytest.mark.parametrize(
    ("code", "what"),
    [
        ("1\n1 / 0", "it failed: ZeroDivisionError: division by zero ({0}2)"),
        ("raise ValueError('two\\nlines')", "it failed: ValueError: two lines ({0}1)"),
        ("assert False", "it failed: AssertionError ({0}1)"),
        ("import sys; sys.exit('why')", "it failed: it called sys.exit('why') ({0}1)"),
        ("raise KeyboardInterrupt", "it failed: KeyboardInterrupt ({0}1)"),
        ("import json; json.loads('[')", "it failed: JSONDecodeError: Expecting value: {1} ({0}1)"),
    ],
)
def test_whatever_it_raises_is_one_line_with_its_own_place(code: str, what: str) -> None:
    place, json_place = "/somewhere/brought.py, line ", "line 1 column 2 (char 1)"
    assert fail(code).what == what.format(place, json_place)


def test_its_own_error_and_the_users_ctrl_c_pass() -> None:
    assert fail("from lcam_cli import LcamError; raise LcamError('what', 'do')").hint == "do"
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    module = ModuleType("brought")
    code = f"import os, time; os.kill({os.getpid()}, {int(signal.SIGINT)}); time.sleep(5)"
    try:
        with pytest.raises(KeyboardInterrupt), plugin_code("it failed", "brought"):
            exec(code, vars(module))
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_malformed_list_takes_nothing_from_other_packages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(logging.getLogger("lcam"), "propagate", True)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "lcam_fine", raising=False)
    for name, group in (("odd", "lcam.methods"), ("other", "others")):
        write_package(tmp_path, f"lcam_{name}", "", group, {})
        info = tmp_path / f"lcam_{name}-1.0.dist-info"
        (info / "entry_points.txt").write_text(f"[{group}]\nx\n")
    write_package(tmp_path, "lcam_fine", "make = print", "lcam.methods", {"fine": "lcam_fine:make"})
    assert load(entry_points_of("lcam.methods")["fine"], "method") is print
    begin = "the entry points of a package are malformed and ignored"
    assert {record.getMessage() for record in caplog.records} == {
        f"{begin}: {tmp_path}/lcam_odd-1.0.dist-info"
    }
    sys.modules.pop("lcam_fine")


def test_a_value_that_names_nothing_is_named() -> None:
    with pytest.raises(
        LcamError, match=r"'odd' .* does not load: '::' does not have the form package"
    ):
        load(EntryPoint("odd", "::", "lcam.methods"), "method")
