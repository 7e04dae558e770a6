"""Where options come from: the command line, the environment, the file, the default."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Run


def write(folder: Path, text: str | bytes, name: str = "lcam.toml") -> None:
    (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())


def arrived(lcam: Run, *args: str, **env: str) -> dict[str, object]:
    done = lcam(*args, env=env)
    assert done.returncode == 0, done.stderr
    loaded: dict[str, object] = json.loads(done.stdout)
    return loaded


def test_precedence_of_all_four(process: Run, tmp_path: Path) -> None:
    assert arrived(process, "train")["epochs"] == 7
    write(tmp_path, "[train]\nepochs = 3\n")
    assert arrived(process, "train")["epochs"] == 3
    assert arrived(process, "train", LCAM_TRAIN_EPOCHS="4")["epochs"] == 4
    assert arrived(process, "train", "--epochs", "5", LCAM_TRAIN_EPOCHS="4")["epochs"] == 5


def test_every_kind_of_value_from_a_file(lcam: Run, tmp_path: Path) -> None:
    write(
        tmp_path,
        '[train]\ndata = "photos"\nlambda-tv = 0.5\nclass = ["cat", "dog"]\nstrict = true\n'
        'batch_size = 32\nworkers = "auto"\nnu = [100, 12.5]\nmean = [0.5, 0.4, 0.3]\n',
    )
    got = arrived(lcam, "train")
    assert got["data"] == "photos"
    assert got["lambda_tv"] == 0.5
    assert got["class_names"] == ["cat", "dog"]
    assert got["strict"] is True
    assert got["batch_size"] == 32
    assert got["workers"] is None
    assert got["nu"] == [100, 12.5]
    assert got["mean"] == "0.5,0.4,0.3"


def test_a_single_value_for_a_repeatable_option(lcam: Run, tmp_path: Path) -> None:
    write(tmp_path, '[train]\nnu = "50,15"\nclass = 207\n')
    got = arrived(lcam, "train")
    assert got["nu"] == [50, 15]
    assert got["class_names"] == ["207"]


def test_every_kind_of_value_from_the_environment(lcam: Run) -> None:
    got = arrived(
        lcam,
        "train",
        LCAM_TRAIN_DATA="photos",
        LCAM_TRAIN_STRICT="1",
        LCAM_TRAIN_CLASS="cat dog",
        LCAM_TRAIN_NU="50,15",
        LCAM_TRAIN_BATCH_SIZE="8",
    )
    assert (got["data"], got["strict"], got["batch_size"]) == ("photos", True, 8)
    assert got["class_names"] == ["cat", "dog"]
    assert got["nu"] == [50, 15]


def test_an_argument_typed_wins_over_the_file(lcam: Run, tmp_path: Path) -> None:
    write(tmp_path, '[train]\ndata = "photos"\n')
    assert arrived(lcam, "train", "others")["data"] == "others"


def test_a_list_of_images_from_a_file(lcam: Run, tmp_path: Path) -> None:
    write(tmp_path, '[act]\nhow = "print"\nimages = ["a.png", "b c.png"]\n')
    assert lcam("act").stdout == "a.png\nb c.png\n"


@pytest.mark.parametrize(
    ("args", "env"),
    [
        (["--config", "mine.toml", "train"], {}),
        (["train", "--config", "mine.toml"], {}),
        (["train"], {"LCAM_CONFIG": "mine.toml"}),
    ],
)
def test_a_file_named_replaces_the_one_found(
    lcam: Run, tmp_path: Path, args: list[str], env: dict[str, str]
) -> None:
    write(tmp_path, "[train]\nepochs = 3\nworkers = 2\n")
    write(tmp_path, "[train]\nepochs = 9\n", "mine.toml")
    got = arrived(lcam, *args, **env)
    assert (got["epochs"], got["workers"]) == (9, None)


def test_a_byte_order_mark_is_no_matter(lcam: Run, tmp_path: Path) -> None:
    write(tmp_path, b"\xef\xbb\xbf[train]\nepochs = 3\n")
    assert arrived(lcam, "train")["epochs"] == 3


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[train]\nepoch = 3\n", ["lcam.toml", "'epoch'", "epochs"]),
        ("[trian]\nepochs = 3\n", ["lcam.toml", "[trian]", "train"]),
        ("[act]\nhov = 'x'\n[train]\nepochs = 3\n", ["[act]", "'hov'", "how"]),
        ("[train]\nconfig = 'x'\n", ["[train]", "'config'"]),
        ("epochs = 3\n", ["'epochs'", "[explain]"]),
        ("[train]\nepochs = 'many'\n", ["--epochs", "'many'", "lcam.toml: [train] epochs"]),
        ("[train]\nclass = [true]\n", ["[train] class", "True"]),
        ("[train]\nbatch-size = 0\n", ["--batch-size", "'0'", "[train] batch-size"]),
        ("[train]\nepochs = true\n", ["[train] epochs", "True"]),
        ("[train]\nstrict = 'yes'\n", ["[train] strict", "'yes'", "true or false"]),
        ("[train]\nmean = {r = 1}\n", ["[train] mean", "'r': 1"]),
        ("[train]\n\nepochs 3\n", ["lcam.toml", "line 3"]),
        (b"[train]\n# \xff\n", ["lcam.toml", "not UTF-8", "byte 10"]),
        ("[defaults]\nepoch = 3\n", ["[defaults]", "'epoch'", "did you mean epochs"]),
        ("[defaults]\nepochs = 'many'\n", ["'many'", "lcam.toml: [defaults] epochs"]),
        ("[defaults]\nstrict = 'yes'\n", ["[defaults] strict", "'yes'", "true or false"]),
        ("[defaults]\ndata = 'photos'\n", ["[defaults]", "'data'"]),
        ("[defaults]\nconfig = 'x'\n", ["[defaults]", "'config'"]),
        ("[default]\nepochs = 3\n", ["[default]", "defaults"]),
    ],
)
def test_a_wrong_file_is_told_in_two_lines(
    lcam: Run, tmp_path: Path, text: str | bytes, told: list[str]
) -> None:
    write(tmp_path, text)
    done = lcam("train")
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 2
    for words in told:
        assert words in done.stderr


def test_defaults_are_taken_by_every_command_that_has_the_option(lcam: Run, tmp_path: Path) -> None:
    write(tmp_path, "[defaults]\nepochs = 3\nbatch_size = 8\nquiet = true\n")
    got = arrived(lcam, "train")
    assert (got["epochs"], got["batch_size"], got["quiet"]) == (3, 8, True)
    done = lcam("act", "print", "a.png")
    assert (done.stdout, done.stderr) == ("a.png\n", ""), "it has --quiet alone"
    assert arrived(lcam, "train", LCAM_TRAIN_EPOCHS="4")["epochs"] == 4


def test_a_commands_own_section_wins_over_the_defaults(lcam: Run, tmp_path: Path) -> None:
    write(tmp_path, "[train]\nbatch_size = 4\n[defaults]\nbatch-size = 8\nepochs = 3\n")
    got = arrived(lcam, "train")
    assert (got["epochs"], got["batch_size"]) == (3, 4)


def test_a_missing_file_is_told(lcam: Run) -> None:
    done = lcam("train", "--config", "nowhere.toml")
    assert done.returncode == 2
    assert "nowhere.toml" in done.stderr


def test_a_wrong_variable_is_named(lcam: Run) -> None:
    done = lcam("train", env={"LCAM_TRAIN_EPOCHS": "x"})
    assert done.returncode == 2
    assert "LCAM_TRAIN_EPOCHS" in done.stderr
    assert "'x'" in done.stderr


def test_help_works_beside_a_broken_file(lcam: Run, tmp_path: Path) -> None:
    write(tmp_path, "[[[")
    assert lcam("train", "--help").returncode == 0
