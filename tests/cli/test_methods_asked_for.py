"""Groups of methods, contrasts with near classes, and several layers, by the command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lcam_cli.maps.hdf5.reader import MapsFile
from lcam_cli.runs.wanted import wanted_methods
from tests.cli import job
from tests.cli.job import Lcam
from tests.tiny import write_pictures

lcam = job.lcam
NETWORK = ("--backbone", "own.py:net", "--image-size", "32", "--batch-size", "4")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.py").write_text("from tests.tiny import tiny_network as net\n")
    write_pictures(tmp_path / "photos", 5)
    return tmp_path


def rows(lcam: Lcam, *words: str, code: int = 0) -> dict[str, dict[str, Any]]:
    done = lcam("compare", "photos", *NETWORK, "--format", "json", *words)
    assert done.code == code, done.err
    return {row["method"]: row for row in json.loads(done.out)["rows"]}


def test_methods_are_named_by_groups(folder: Path, lcam: Lcam) -> None:
    found = rows(lcam, "--methods", "features,gradcam", "--no-floor")
    assert list(found) == ["cam", "eigencam", "gradcam"]
    assert found["eigencam"]["explains_no_class"] is True
    assert "explains_no_class" not in found["cam"]
    one_pass = list(rows(lcam, "--methods", "one-pass"))
    assert list(rows(lcam)) == one_pass
    cheap = {"gradcam", "gradcam++", "xgradcam", "layercam", "hirescam", "cam"}
    assert set(one_pass) == {*cheap, "eigencam", "eigengradcam", "random"}


def test_groups_add_up() -> None:
    both = wanted_methods(["one-pass", "perturbation", "random"])
    asked = {one.name: one for one in both}
    assert not asked["rise"].one_pass
    assert asked["gradcam"].one_pass
    assert asked["random"].by_name
    assert "random" not in {one.name for one in wanted_methods(["all"])}
    assert wanted_methods(["gradcam", "gradient"])[0].name == "gradcam"
    assert wanted_methods(["gradient", "gradcam"])[0].by_name


def test_what_of_a_group_cannot_explain_the_network_is_left_out(folder: Path, lcam: Lcam) -> None:
    done = lcam("compare", "photos", *NETWORK, "--methods", "transformer,gradcam")
    assert done.code == 0
    assert done.err.count("skipped rollout, gae, legrad: each reads attention") == 1
    unasked = lcam("compare", "photos", *NETWORK)
    assert unasked.code == 0
    assert "rollout" not in unasked.err
    named = lcam("compare", "photos", *NETWORK, "--methods", "gradcam,rollout")
    assert named.code == 2


def test_no_learned_ones(folder: Path, lcam: Lcam) -> None:
    done = lcam("compare", "photos", *NETWORK, "--methods", "learned")
    assert done.code == 2
    assert "no methods to compare" in done.err
    assert "there is no trained attention for this backbone in runs/" in done.err


def test_a_table_says_what_explains_no_class(folder: Path, lcam: Lcam) -> None:
    done = lcam("compare", "photos", *NETWORK, "--methods", "eigencam,gradcam", "--report", "page")
    assert done.code == 0, done.err
    assert "explains no class: eigencam" in " ".join(done.out.split())
    assert "explains no class: eigencam" in (folder / "page" / "index.html").read_text()


def explained(lcam: Lcam, *words: str) -> MapsFile:
    out = f"{len(list(Path().glob('*.h5')))}.h5"
    done = lcam("explain", "photos", *NETWORK, "--out", out, *words)
    assert done.code == 0, done.err
    return MapsFile(Path(out))


def test_a_contrast_is_recorded(folder: Path, lcam: Lcam) -> None:
    with explained(lcam, "--method", "gradcam", "--contrast", "2:0.5") as maps:
        assert maps.info.method == "gradcam"
        assert maps.info.method_params["contrast"] == "2:0.5"
        ours = maps.rows(0, 5).saliency
    with explained(lcam, "--method", "gradcam") as maps:
        assert "contrast" not in maps.info.method_params
        assert abs(maps.rows(0, 5).saliency - ours).max() > 0.01
    with explained(lcam, "--method", "finercam") as maps:
        finer = maps.rows(0, 5).saliency
        assert maps.info.method_params["contrast"] == "3:1"
    with explained(lcam, "--method", "gradcam", "--contrast", "3") as maps:
        assert (maps.rows(0, 5).saliency == finer).all()


def test_maps_of_a_contrast_and_of_layers_are_made_again(folder: Path, lcam: Lcam) -> None:
    words = ("--method", "gradcam", "--contrast", "2", "--layer", "1", "--layer", "3")
    explained(lcam, *words, "--fuse", "product", "--map-dtype", "float32").close()
    done = lcam("evaluate", "0.h5", *NETWORK[:2], "--metrics", "coherency", "--format", "json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["rows"][0]["coherency"] is not None


def test_several_layers_are_recorded_and_fused(folder: Path, lcam: Lcam) -> None:
    with explained(lcam, "--method", "layercam", "--layer", "1", "--layer", "3") as maps:
        params = maps.info.method_params
        assert (params["layers"], params["fuse"]) == (["1", "3"], "max")
        assert maps.info.layer == "3"
        assert maps.info.aligned
        assert maps.rows(0, 5).cam is None
    with explained(lcam, "--method", "layercam", "--layer", "1") as maps:
        assert maps.info.layer == "1"
        assert "layers" not in maps.info.method_params


def test_rows_of_a_comparison_say_their_contrast(folder: Path, lcam: Lcam) -> None:
    words = ("--contrast", "2", "--layer", "1", "--layer", "3")
    found = rows(lcam, "--methods", "gradcam,hirescam", *words)
    assert list(found) == ["gradcam (2:1)", "hirescam (2:1)", "random"]
    assert all(row["align"] for row in found.values())
    done = lcam("compare", "photos", *NETWORK, *words)
    assert "skipped cam, eigencam: each does not support --contrast" in done.err
    assert done.code == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--method", "rise", "--contrast", "3"), "rise does not support --contrast"),
        (("--method", "gradcam", "--contrast", "x"), "--contrast 'x' is not K or K:ALPHA"),
        (
            ("--method", "gradcam", "--fuse", "max"),
            "gradcam has only one layer, so there is nothing to fuse",
        ),
        (
            ("--method", "cam", "--layer", "1", "--layer", "3"),
            "cam cannot fuse the maps of several layers",
        ),
        (("--method", "lcam", "--contrast", "3"), "lcam does not support --contrast"),
        (("--method", "lcam", "--layer", "1", "--layer", "3"), "lcam explains only the layer"),
        (("--contrast", "3"), "lcam does not support --contrast"),
        (("--method", "gradient"), "gradient is a group of methods, but one method is needed"),
        (("--method", "all"), "`lcam compare --methods all`"),
    ],
)
def test_what_does_not_go_together_is_refused(
    folder: Path, lcam: Lcam, words: tuple[str, ...], said: str
) -> None:
    done = lcam("explain", "photos", *NETWORK, *words)
    assert done.code == 2
    assert said in done.err
    assert not Path("maps.h5").exists()


@pytest.mark.parametrize(
    ("typed", "meant"), [("gradients", "gradient"), ("onepass", "one-pass"), ("pixels", "pixel")]
)
def test_a_mistyped_group_is_told(folder: Path, lcam: Lcam, typed: str, meant: str) -> None:
    done = lcam("compare", "photos", *NETWORK, "--methods", f"gradcam,{typed}")
    assert done.code == 2
    assert f"unknown method '{typed}'" in done.err
    assert meant in done.err.partition("did you mean")[2].split("?")[0].strip().split(", ")


def test_of_one_class_there_is_nothing_to_tell_it_from(folder: Path, lcam: Lcam) -> None:
    text = "from tests.tiny import tiny_network\nnet = lambda: tiny_network(1)\n"
    (folder / "own.py").write_text(text)
    one = (*NETWORK, "--activation", "sigmoid")
    for words in (("finercam",), ("gradcam", "--contrast", "3")):
        done = lcam("explain", "photos", *one, "--method", *words)
        assert done.code == 2
        assert f"{words[0]} contrasts a class with others, but own.py:net has only one" in done.err
    done = lcam("compare", "photos", *one, "--methods", "gradient")
    assert done.code == 0, done.err
    assert "skipped finercam: " in done.err


def test_a_named_method_that_takes_no_contrast_is_refused(folder: Path, lcam: Lcam) -> None:
    done = lcam("compare", "photos", *NETWORK, "--methods", "gradcam,rise", "--contrast", "3")
    assert done.code == 2
    assert "rise does not support --contrast\n" in done.err
    assert "gradcam, gradcam++" in done.err
