"""docs/add-a-method.md, carried out as it stands: in lcam, and in a package with an entry point."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lcam_cli.__main__ import run
from lcam_cli.cli.app import lcam_app
from lcam_cli.engine.backbone import Backbone
from lcam_cli.engine.engine import Engine
from lcam_cli.images.preprocess import Preprocess
from lcam_cli.images.stream import stream_batches
from lcam_cli.maps.hdf5.reader import MapsFile
from lcam_cli.methods.registry import METHODS, make_method
from lcam_cli.networks.network import Network
from tests.conftest import ROOT
from tests.docs.blocks import blocks_of
from tests.packages import Install
from tests.tiny import tiny_backbone, tiny_network, write_pictures

PAGE = ROOT / "docs" / "add-a-method.md"


def block(what: str) -> str:
    """The page's block that is a file (``as NAME``) or a change of one (``to NAME``)."""
    (found,) = (one.code for one in blocks_of(PAGE) if one.note.endswith(f", {what}"))
    return found


def changed(text: str, diff: str) -> str:
    """``text`` after a diff, whose hunks begin with ``@@`` and fit at exactly one place."""
    for hunk in diff.split("@@\n")[1:]:
        lines = hunk.splitlines(keepends=True)
        before = "".join(line[1:] or "\n" for line in lines if line[0] != "+")
        after = "".join(line[1:] or "\n" for line in lines if line[0] != "-")
        assert text.count(before) == 1, before
        text = text.replace(before, after)
    return text


def load(monkeypatch: pytest.MonkeyPatch, name: str, code: str) -> ModuleType:
    """Make a module of code, where imports find it."""
    module = ModuleType(name)
    monkeypatch.setitem(sys.modules, name, module)
    exec(compile(code, name, "exec"), vars(module))
    return module


def test_in_lcam(monkeypatch: pytest.MonkeyPatch) -> None:
    load(monkeypatch, "lcam_cli.methods.elementwise", block("as lcam_cli/methods/elementwise.py"))
    source = (ROOT / "lcam_cli" / "methods" / "table.py").read_text()
    added = changed(source, block("to lcam_cli/methods/table.py"))
    table = load(monkeypatch, "lcam_cli.methods.changed_table", added)
    monkeypatch.setitem(METHODS, "elementwise", table.METHODS["elementwise"])
    method = make_method("elementwise", tiny_backbone())
    assert method.name == "elementwise"
    tests = load(monkeypatch, "test_elementwise", block("as tests/methods/test_elementwise.py"))
    tests.test_the_map_is_the_equation()
    docs = (ROOT / "docs" / "methods-gradient.md").read_text()
    assert "`elementwise`" in changed(docs, block("to docs/methods-gradient.md"))


def test_in_a_package(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    install: Install,
) -> None:
    project = tomllib.loads(block("as pyproject.toml"))["project"]
    install(
        "lcam_elementwise", block("as lcam_elementwise.py"), project["entry-points"]["lcam.methods"]
    )

    assert run(lcam_app(), ["explain", "--list-methods"]) == 0
    listed = capsys.readouterr().out.splitlines()
    assert next(line for line in listed if line.startswith("elementwise ")).endswith(
        "(Pillai 2021)"
    )

    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.py").write_text("from tests.tiny import tiny_network as net\n")
    write_pictures(tmp_path / "photos", 3)
    words = "explain photos --method elementwise --backbone own.py:net --image-size 32 --layer 2"
    more = ["--top-k", "2", "--map-dtype", "float32", "--device", "cpu"]
    assert run(lcam_app(), [*words.split(), *more]) == 0
    with MapsFile(Path("maps.h5")) as maps:
        assert (maps.info.method, maps.info.aligned) == ("elementwise", True)
        placed = maps.rows(0, 6).saliency
    assert run(lcam_app(), [*words.split(), *more, "--no-align", "--overwrite"]) == 0
    with MapsFile(Path("maps.h5")) as maps:
        assert (maps.info.method, maps.info.aligned) == ("elementwise", False)
        rows, preprocess = maps.rows(0, 6), Preprocess.from_json(maps.info.preprocess)
    paths = sorted(str(path) for path in Path("photos").iterdir())
    (pictures,) = stream_batches(paths, preprocess, 3, workers=1)
    network = Network(tiny_network(), "own", "none", preprocess=preprocess)
    engine = Engine(Backbone(network, "2"), device="cpu")
    x = engine.pixels(pictures.images).repeat_interleave(2, 0)
    for X, y, V, put in zip(x, rows.class_index, rows.saliency, placed, strict=True):
        zeta = written_out(engine, X, int(y))
        tiled = F.interpolate(zeta[None, None], X.shape[1:], mode="bilinear")[0, 0]
        torch.testing.assert_close(torch.from_numpy(V), tiled)
        # Two convolutions of stride 2 with padding 1: the cells lie at pixels 0, 4, 8, ….
        torch.testing.assert_close(torch.from_numpy(put[::4, ::4]), zeta)


def written_out(engine: Engine, X: Tensor, y: int) -> Tensor:
    """ζ(Σ_k ReLU(A_k ⊙ ∂f_y/∂A_k)) of one image (3, H, W), channel by channel."""
    network = tiny_network()
    A = network[:3](engine.normalise(X[None])).detach().requires_grad_()
    (g,) = torch.autograd.grad(network[3:](A.clone())[0, y], A)
    L = torch.zeros(A.shape[2:])
    for k in range(A.shape[1]):
        L += (A.detach()[0, k] * g[0, k]).clamp_min(0)
    return (L - L.min()) / (L.max() - L.min())
