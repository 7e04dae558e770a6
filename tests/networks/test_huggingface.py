"""Hugging Face's classifiers: where they come from, what is known of them, their weights."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import logging
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from lcam_cli.engine.backbone import Backbone, load_backbone
from lcam_cli.engine.recall import Given, recall_backbone
from lcam_cli.errors import LcamError
from lcam_cli.networks.registry import load_network, runs_user_code
from tests.networks.hugging_face import edit_json, model_of, write_folder

transformers: Any = pytest.importorskip("transformers")


def pictures(side: int = 32) -> torch.Tensor:
    return torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small ViT and a small ResNet."""
    folder = tmp_path_factory.mktemp("huggingface")
    for kind in ("vit", "resnet"):
        write_folder(folder / kind, kind)
    return folder


@pytest.fixture
def vit(made: Path, tmp_path: Path) -> Path:
    """A copy of the ViT's folder, to be changed."""
    return Path(shutil.copytree(made / "vit", tmp_path / "vit"))


def test_a_folder_is_read_without_a_network(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a connection is made")

    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    own = model_of("vit")
    for name in (f"hf/{made / 'vit'}", str(made / "vit")):
        network = load_network(name)
        assert network.name == name
        torch.testing.assert_close(network.module(pictures()).logits, own(pictures()).logits)
        assert not runs_user_code(name)


def test_the_identity_is_that_of_the_files_bytes(made: Path) -> None:
    network = load_network(str(made / "vit"))
    weights = made / "vit" / "model.safetensors"
    assert network.weights == f"sha256:{hashlib.sha256(weights.read_bytes()).hexdigest()}"
    assert network.weights_file == str(weights)


def recalled(backbone: Backbone) -> Backbone:
    """The classifier of a file that says what this one is."""
    names, preprocess = backbone.class_names, backbone.preprocess
    return recall_backbone(
        "a file", backbone.identity, Given(), class_names=names, preprocess=preprocess
    )


def test_it_is_found_again_also_from_elsewhere(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(made)
    backbone = load_backbone("hf/vit")
    monkeypatch.chdir("/")
    again = recalled(backbone)
    assert again.identity == backbone.identity
    torch.testing.assert_close(again(pictures()), backbone(pictures()))


def test_the_users_own_names_of_folders_do_not_hide_other_sources(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(made / "vit", tmp_path / "resnet18")
    monkeypatch.chdir(tmp_path)
    assert load_network("resnet18", "none").class_names[0] == "tench"  # torchvision's
    assert load_network("hf/resnet18").class_names == []


@pytest.mark.parametrize("kind", ["parts", "bin", "bin in parts", "half"])
def test_weights_in_every_form_are_the_same(vit: Path, kind: str) -> None:
    own = model_of("vit")
    state = load_file(vit / "model.safetensors")
    (vit / "model.safetensors").unlink()
    if kind == "bin":
        torch.save(state, vit / "pytorch_model.bin")
    elif kind == "half":
        save_file({k: v.half() for k, v in state.items()}, vit / "model.safetensors")
    elif kind == "parts":
        with contextlib.redirect_stderr(io.StringIO()):
            own.save_pretrained(vit, max_shard_size="10kB")
        assert len(list(vit.glob("model-*.safetensors"))) > 1
    else:
        names = sorted(state)
        halves = {"one.bin": names[::2], "two.bin": names[1::2]}
        for file, part in halves.items():
            torch.save({k: state[k] for k in part}, vit / file)
        table = {k: file for file, part in halves.items() for k in part}
        (vit / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": table}))
    network = load_network(f"hf/{vit}")
    tolerance = 1e-2 if kind == "half" else 1e-6
    torch.testing.assert_close(
        network.module(pictures()).logits, own(pictures()).logits, rtol=tolerance, atol=tolerance
    )
    assert all(p.dtype == torch.float32 for p in network.module.parameters())
    assert network.weights.startswith("sha256:")


def test_safetensors_are_taken_where_there_are_both(vit: Path) -> None:
    torch.save({"nothing": torch.zeros(1)}, vit / "pytorch_model.bin")
    assert load_network(f"hf/{vit}").weights_file.endswith("model.safetensors")


@pytest.mark.skipif(transformers.__version__.startswith("4."), reason="it does not know them")
def test_old_names_are_known(vit: Path) -> None:
    state = load_file(vit / "model.safetensors")
    assert any("encoder.layer." in name for name in state)  # of transformers 4
    bare = {k.removeprefix("vit."): v for k, v in state.items()}  # of a base model
    save_file(bare, vit / "model.safetensors")
    network = load_network(f"hf/{vit}")
    own = model_of("vit")
    torch.testing.assert_close(network.module(pictures()).logits, own(pictures()).logits)


def test_a_file_of_ones_own_takes_the_folders_place(made: Path, tmp_path: Path) -> None:
    own = model_of("vit", seed=5)
    checkpoint = {"epoch": 3, "state_dict": {f"model.{k}": v for k, v in own.state_dict().items()}}
    torch.save(checkpoint, tmp_path / "mine.pt")
    old = {f"module.{k}": v for k, v in own.state_dict().items()}
    save_file(old, tmp_path / "mine.safetensors")
    for file in ("mine.pt", "mine.safetensors"):
        network = load_network(f"hf/{made / 'vit'}", str(tmp_path / file))
        torch.testing.assert_close(network.module(pictures()).logits, own(pictures()).logits)
        digest = hashlib.sha256((tmp_path / file).read_bytes()).hexdigest()
        assert network.weights == f"sha256:{digest}"
        assert network.weights_file == str(tmp_path / file)


def test_two_in_one_file_have_two_identities(
    made: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    one, two = (model_of("vit", seed=seed) for seed in (5, 6))
    both = {"model": one.state_dict(), "model_ema": two.state_dict()}
    torch.save(both, tmp_path / "both.pt")
    name = f"hf/{made / 'vit'}"
    averaged = load_network(name, f"{tmp_path}/both.pt")
    assert "using model_ema" in caplog.text
    plain = load_network(name, f"{tmp_path}/both.pt#model")
    assert plain.weights != averaged.weights
    torch.testing.assert_close(plain.module(pictures()).logits, one(pictures()).logits)
    torch.testing.assert_close(averaged.module(pictures()).logits, two(pictures()).logits)


def test_random_weights_come_of_the_seed_and_the_config_alone(vit: Path) -> None:
    (vit / "model.safetensors").unlink()
    torch.manual_seed(0)
    before = torch.get_rng_state()
    a, b, c = (load_network(f"hf/{vit}", "none", seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert a.weights == "none:seed=1"
    assert torch.equal(a.module(pictures()).logits, b.module(pictures()).logits)
    assert not torch.equal(a.module(pictures()).logits, c.module(pictures()).logits)


LABELS = {str(i): f"LABEL_{i}" for i in range(5)}


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (LABELS, "01234"),
        ({"4": "e", "1": "b", "0": "a", "3": "d", "2": "c"}, "abcde"),  # in any order
        ({**LABELS, "1": "one"}, ["0", "one", "2", "3", "4"]),
        ({"0": "a", "1": "b", "2": "c", "3": "d", "9": "x"}, ["a", "b", "c", "d", "4"]),
        (dict.fromkeys(LABELS, "crane"), ["crane"] * 5),
        ({**LABELS, "0": "two\nlines"}, ["two lines", "1", "2", "3", "4"]),
    ],
)
def test_class_names_are_those_of_id2label(vit: Path, labels: Any, names: Any) -> None:
    edit_json(vit / "config.json", id2label=labels, label2id=None)
    assert load_backbone(f"hf/{vit}").class_names == list(names)


@pytest.mark.parametrize(
    ("problem", "activation"),
    [
        (None, "softmax"),
        ("single_label_classification", "softmax"),
        ("multi_label_classification", "sigmoid"),
    ],
)
def test_the_activation_is_that_of_the_problem_unless_the_user_says_other(
    vit: Path, problem: str | None, activation: str
) -> None:
    edit_json(vit / "config.json", problem_type=problem)
    assert load_backbone(f"hf/{vit}").identity.activation == activation
    assert load_backbone(f"hf/{vit}", activation="softmax").identity.activation == "softmax"
    assert load_backbone(f"hf/{vit}", activation="sigmoid").identity.activation == "sigmoid"


def test_settings_that_change_how_it_runs_or_what_it_gives_stay_as_they_are(vit: Path) -> None:
    edit_json(
        vit / "config.json",
        return_dict=False,
        output_attentions=True,
        output_hidden_states=True,
        torchscript=True,
        attn_implementation="someone/kernels",
        _attn_implementation="flash_attention_2",
        _attn_implementation_internal="someone/kernels",
        dtype="float16",
        torch_dtype="float16",
        use_kernels=True,
    )
    network = load_network(f"hf/{vit}")
    output = network.module(pictures())
    torch.testing.assert_close(output.logits, model_of("vit")(pictures()).logits)
    assert output.attentions is None
    assert output.hidden_states is None
    assert network.module.config._attn_implementation == "sdpa"


def test_nothing_is_printed(vit: Path, capfd: pytest.CaptureFixture[str]) -> None:
    state = load_file(vit / "model.safetensors")
    save_file(state | {"vit.pooler.dense.weight": torch.zeros(3)}, vit / "model.safetensors")
    level = logging.getLogger("transformers").level
    load_network(f"hf/{vit}")
    load_network(f"hf/{vit}", "none")
    assert capfd.readouterr() == ("", "")
    assert logging.getLogger("transformers").level == level


def test_nothing_of_transformers_is_imported_for_other_networks() -> None:
    code = (
        "import sys; import lcam_cli.cli.app; from lcam_cli.networks.registry import find_source; "
        "assert find_source('resnet18') and find_source('hf/org/name'); "
        "assert not {'transformers', 'huggingface_hub'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_a_missing_package_is_named(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(LcamError, match="transformers is not installed") as error:
        load_network(f"hf/{made / 'vit'}")
    assert "pip install 'lcam-cli[hf]'" in error.value.hint


# --- the hub --------------------------------------------------------------------------------------


@pytest.fixture
def hub(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache that holds org/vit as the hub's client keeps it, and no network."""
    from huggingface_hub import constants

    cache = tmp_path / "cache"
    repository = cache / "models--org--vit"
    commit = "0123456789abcdef0123456789abcdef01234567"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit)
    snapshot = repository / "snapshots" / commit
    snapshot.mkdir(parents=True)
    (repository / "blobs").mkdir()
    for file in (made / "vit").iterdir():
        blob = hashlib.sha256(file.read_bytes()).hexdigest()
        shutil.copy(file, repository / "blobs" / blob)
        (snapshot / file.name).symlink_to(f"../../blobs/{blob}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return snapshot


def test_the_hubs_cache_is_read(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = load_backbone("hf/org/vit")
    own = model_of("vit")
    torch.testing.assert_close(backbone(pictures()), own(pictures()).logits)
    assert backbone.identity.weights_file == str(hub / "model.safetensors")
    again = recalled(backbone)
    assert again.identity == backbone.identity
    # Its links lead out of the folder, to where the cache keeps files.
    assert load_network(str(hub)).weights == backbone.identity.weights


def test_what_cannot_be_got_from_the_hub_is_said_in_a_line(hub: Path) -> None:
    with pytest.raises(
        LcamError, match=r"^cannot download config.json of org/other from the hub: "
    ):
        load_network("hf/org/other")
    (hub / "model.safetensors").unlink()
    with pytest.raises(
        LcamError, match=r"^cannot download model.safetensors of org/vit from the hub"
    ):
        load_network("hf/org/vit")
    for name in ("hf/a/b/c", "hf/../x", "hf//nowhere/at/all"):
        with pytest.raises(LcamError, match="there is no folder"):
            load_network(name)
