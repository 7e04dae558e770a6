"""Exported programs: the same network as before the export, and no door for a stranger's code."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pickle
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import get_model
from torchvision.models.resnet import BasicBlock

from lcam_cli.engine.backbone import Backbone, load_backbone
from lcam_cli.engine.engine import Engine
from lcam_cli.errors import LcamError
from lcam_cli.images.preprocess import Preprocess
from lcam_cli.networks.network import Network
from tests.faults.counts import count
from tests.programs import LAYOUTS, changed, changed_json, entries, export, relaid, write
from tests.tiny import tiny_network
from tests.transformers import tiny_swin, tiny_vit

# What these entries are called, in any layout.
MODEL = ("models/model.json", "serialized_exported_program.json")
SAMPLES = ("data/sample_inputs/model.pt", "serialized_example_inputs.pt")
PICKLED = {
    "weights": ("data/weights/model.pt", "serialized_state_dict.pt"),
    "constants": ("data/constants/model.pt", "serialized_constants.pt"),
}
SAVED = Path(__file__).parent / "exported"

EXPORTED = ["resnet18", "efficientnet_b0", "squeezenet1_1", "swin_t"]
EXPORTED += ["mobilenet_v2", "vgg11", "densenet121", "vit_b_32"]


class _Residual(nn.Module):
    """A ResNet in small: modules and functions, one of them called twice, and in place."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, 2, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(4)
        self.relu = nn.ReLU(inplace=True)
        self.pool = nn.MaxPool2d(2)
        self.layer1 = nn.Sequential(BasicBlock(4, 4), BasicBlock(4, 4))
        self.drop = nn.Dropout()
        self.fc = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer1(self.pool(self.relu(self.bn1(self.conv1(x)))))
        x = torch.flatten(nn.functional.adaptive_avg_pool2d(x, 1), 1)
        return self.fc(self.drop(x))


def _residual() -> nn.Module:
    torch.manual_seed(5)
    network = _Residual()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 2)
    return network


def plain(network: nn.Module, side: int = 32) -> Backbone:
    return Backbone(Network(network, "own", "none", preprocess=Preprocess(side, side)))


def check_same(path: Path, network: nn.Module, side: int = 32) -> Backbone:
    """Load an export and hold it against the network it is of; returns it."""
    ours, own = load_backbone(str(path)), plain(network, side)
    assert ours.preprocess.image_size == side
    assert ours.identity.layer == own.identity.layer
    assert ours.identity.weights.startswith("sha256:")
    assert ours.feature_shape == own.feature_shape
    assert ours.is_split
    assert own.grid is not None
    assert ours.grid == own.grid
    x = torch.rand(3, 3, side, side, generator=torch.Generator().manual_seed(1))
    classes = torch.tensor([0, 1, 2])
    seen, expected = (Engine(b, device="cpu").forward(x) for b in (ours, own))
    torch.testing.assert_close(seen.logits, expected.logits, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(seen.A, expected.A, rtol=1e-4, atol=1e-5)
    g, wanted = (
        Engine(b, device="cpu").feature_gradients(s, classes)
        for b, s in ((ours, seen), (own, expected))
    )
    assert wanted.abs().max() > 0
    torch.testing.assert_close(g, wanted, rtol=1e-3, atol=1e-5)
    return ours


@pytest.mark.parametrize("dynamic", [True, False])
@pytest.mark.parametrize("build", [_residual, tiny_network])
def test_a_cnn_is_the_network_it_was(
    tmp_path: Path, build: Callable[[], nn.Module], dynamic: bool
) -> None:
    path = export(build(), tmp_path / "net.pt2", batch=2 if dynamic else 1, dynamic=dynamic)
    check_same(path, build())


@pytest.mark.slow
@pytest.mark.parametrize("build", [tiny_vit, tiny_swin])
def test_a_transformer_is_the_network_it_was(
    tmp_path: Path, build: Callable[[], nn.Module]
) -> None:
    check_same(export(build(), tmp_path / "net.pt2"), build())


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_is_read(tmp_path: Path, layout: str) -> None:
    check_same(relaid(export(_residual(), tmp_path / "net.pt2"), layout), _residual())


@pytest.mark.parametrize("path", sorted(SAVED.glob("*.pt2")), ids=lambda path: path.stem)
def test_what_older_versions_wrote_is_read(path: Path) -> None:
    check_same(path, _residual())


def test_its_layers_have_the_names_of_its_modules(tmp_path: Path) -> None:
    path = export(_residual(), tmp_path / "net.pt2")
    x = torch.rand(2, 3, 32, 32)
    for layer in ("conv1", "relu", "layer1.0", "layer1.0.bn1", "layer1.1.conv2"):
        own = Backbone(Network(_residual(), "own", "none", preprocess=Preprocess(32, 32)), layer)
        ours = load_backbone(str(path), layer=layer)
        torch.testing.assert_close(ours.features(x), own.features(x), rtol=1e-4, atol=1e-5)
        A, _, around = ours.forward(x)
        torch.testing.assert_close(ours.head(A, around), own(x), rtol=1e-4, atol=1e-5)
    assert ours.class_names == ["0", "1", "2", "3", "4"]
    with pytest.raises(LcamError, match="no layer 'layer2'"):
        load_backbone(str(path), layer="layer2")


def test_a_modules_name_may_have_hyphens_as_regnets_do(tmp_path: Path) -> None:
    named = nn.Sequential(OrderedDict([("block-1", tiny_network()), ("act", nn.Softplus())]))
    ours = load_backbone(str(export(named, tmp_path / "net.pt2")), layer="block-1.3")
    own = Backbone(Network(named, "own", "none", preprocess=Preprocess(32, 32)), "block-1.3")
    x = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(ours.features(x), own.features(x))
    torch.testing.assert_close(ours(x), own(x))


def test_the_head_that_pools_and_multiplies_is_known(tmp_path: Path) -> None:
    head = load_backbone(str(export(_residual(), tmp_path / "net.pt2"))).linear_head()
    assert head is not None
    assert torch.equal(head.weight, _residual().fc.weight)


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPORTED[: count(suite=4, full=len(EXPORTED))])
def test_torchvisions_are_the_networks_they_were(tmp_path: Path, name: str) -> None:
    torch.manual_seed(0)
    network = get_model(name).eval()
    if name == "vit_b_32":
        nn.init.normal_(network.heads.head.weight, std=0.02)
    check_same(export(network, tmp_path / "net.pt2", side=224), network, 224)


@pytest.mark.parametrize(
    ("build", "batch"), [(tiny_vit, 1), (tiny_vit, 2), (lambda: nn.Sequential(tiny_network()), 3)]
)
def test_a_batch_of_one_size_alone_is_told(
    tmp_path: Path, build: Callable[[], nn.Module], batch: int
) -> None:
    network = build()
    if batch == 3:
        network.append(_ByBatch())
    path = export(network, tmp_path / "net.pt2", batch=batch, dynamic=False)
    with pytest.raises(LcamError, match="batches of one size") as caught:
        load_backbone(str(path))
    assert "torch.export.Dim('batch')" in caught.value.hint


class _ByBatch(nn.Module):
    """What an image gets depends on the others."""

    def forward(self, logits: Tensor) -> Tensor:
        return logits - logits.mean(0, keepdim=True)


class _Two(nn.Module):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return x.mean((2, 3)) + y.mean((2, 3))


def test_pictures_of_any_channels_and_shape(tmp_path: Path) -> None:
    network = nn.Sequential(
        nn.Conv2d(2, 5, 3, stride=4, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(5 * 12 * 20, 3)
    ).eval()
    path, x = tmp_path / "net.pt2", torch.rand(2, 2, 48, 80)
    batch = torch.export.Dim("batch", max=64)
    program = torch.export.export(network, (x,), dynamic_shapes=({0: batch},), strict=False)
    torch.export.save(program, path)
    backbone = load_backbone(str(path))
    assert backbone.preprocess.input_shape == (2, 48, 80)
    assert backbone.preprocess.resize == round(48 * 256 / 224)
    assert backbone.feature_shape == (5, 12, 20)
    assert backbone.grid is not None
    assert "normalised with mean 0.449" in backbone.notes[0]
    torch.testing.assert_close(backbone(x), network(x), rtol=1e-4, atol=1e-5)


class _OfSequences(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean(2)


class _Filled(nn.Module):
    """Changes its own buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros(3))

    def forward(self, x: Tensor) -> Tensor:
        self.count.add_(1)
        return x.mean((2, 3)) * self.count


def test_what_is_no_classifier_in_eval_mode_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "net.pt2"
    x = torch.rand(2, 3, 32, 32)
    cases: list[tuple[nn.Module, tuple[Tensor, ...], str]] = [
        (_residual().train(), (x,), "training mode|changes its own weights"),
        (_Two(), (x, x), "2 inputs"),
        (_Filled(), (x,), "changes its own weights"),
        (_OfSequences(), (x[:, 0],), "not images"),
    ]
    for network, inputs, told in cases:
        torch.export.save(torch.export.export(network, inputs, strict=False), path)
        with pytest.raises(LcamError, match=told):
            load_backbone(str(path))


# --- files from strangers -------------------------------------------------------------------------


class _Attack:
    def __init__(self, target: Path) -> None:
        self._target = target

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self._target}",)


def test_pickles_in_it_are_not_opened(tmp_path: Path) -> None:
    path, target = export(tiny_network(), tmp_path / "net.pt2"), tmp_path / "ran"
    attack = pickle.dumps(_Attack(target))
    # Sample inputs are a pickle in every archive. They are not needed: the file loads.
    changed(path, lambda name, content: attack if name.endswith(SAMPLES) else content)
    assert load_backbone(str(path)).num_classes == 4
    assert not target.exists()
    (sample,) = (one for name, one in entries(path).items() if name.endswith(SAMPLES))
    pickle.loads(sample)  # the attack is real
    assert target.exists()
    target.unlink()

    def pickled(table: dict[str, Any]) -> None:
        for entry in table["config"].values():
            entry["use_pickle"] = True

    changed_json(relaid(path), "weights_config.json", pickled)
    changed(path, lambda name, content: attack if "/weight_" in name else content)
    with pytest.raises(LcamError, match="would need unpickling"):
        load_backbone(str(path))
    assert not target.exists()


@pytest.mark.parametrize("layout", LAYOUTS[:-1])
@pytest.mark.parametrize("kind", ["weights", "constants"])
def test_pickled_weights_are_tensors_or_refused(tmp_path: Path, layout: str, kind: str) -> None:
    path, target = relaid(export(tiny_network(), tmp_path / "net.pt2"), layout), tmp_path / "ran"
    whole = entries(path)
    (name,) = (n for n in whole if n.endswith(PICKLED[kind]))
    claims = torch.zeros(1).expand(10**6, 10**6)  # in a file of a few bytes
    for held in (_Attack(target), {"0.weight": _Attack(target)}, {"0.weight": claims}, {"a": 1}):
        write(path, whole | {name: _saved(held)})
        with pytest.raises(LcamError, match="would need unpickling"):
            load_backbone(str(path))
        assert not target.exists()
    for content in (b"", b"PK", whole[name][:-200], pickle.dumps(_Attack(target))):
        write(path, whole | {name: content})
        with pytest.raises(LcamError, match=r"cannot read .*net\.pt2"):
            load_backbone(str(path))
        assert not target.exists()
    torch.load(io.BytesIO(_saved(_Attack(target))), weights_only=False)  # the attack is real
    assert target.exists()


def _saved(held: object) -> bytes:
    file = io.BytesIO()
    torch.save(held, file)
    return file.getvalue()


def test_text_in_it_is_not_evaluated(tmp_path: Path) -> None:
    path, target = export(tiny_network(), tmp_path / "net.pt2"), tmp_path / "ran"
    attack = f"__import__('os').system('touch {target}')"

    def everywhere(told: Any) -> Any:
        if isinstance(told, list):
            return [everywhere(one) for one in told]
        if not isinstance(told, dict):
            return told
        changes = {"expr_str": attack, "guards_code": [attack], "stack_trace": attack}
        return {k: changes.get(k, everywhere(v)) for k, v in told.items()}

    def change(program: dict[str, Any]) -> None:
        program.update(everywhere(program))
        assert attack in json.dumps(program)

    changed_json(path, MODEL, change)
    assert load_backbone(str(path)).num_classes == 4
    assert not target.exists()


@pytest.mark.parametrize(
    "target",
    [
        "torch.ops.aten.from_file.default",
        "torch.ops.aten.save.default",
        "torch.ops.higher_order.cond",
        "torch.load",
        "torch.hub.load",
        "_operator.attrgetter",
        "_operator.call",
        "math.floor",
        "#os.system",
        "os.system",
    ],
)
def test_a_function_that_is_not_arithmetic_is_refused(tmp_path: Path, target: str) -> None:
    path = export(tiny_network(), tmp_path / "net.pt2")

    def change(program: dict[str, Any]) -> None:
        program["graph_module"]["graph"]["nodes"][0]["target"] = target

    changed_json(path, MODEL, change)
    with pytest.raises(LcamError, match="which is not known to lcam") as caught:
        load_backbone(str(path))
    assert target in caught.value.what


@pytest.mark.parametrize("where", ["parameter", "module"])
def test_names_are_not_taken_for_code(tmp_path: Path, where: str) -> None:
    path, target = export(tiny_network(), tmp_path / "net.pt2"), tmp_path / "ran"
    name = f'0"), __import__("os").system("touch {target}"), getattr(self, "0'

    def weights(table: dict[str, Any]) -> None:
        table["config"][f"{name}.weight"] = table["config"].pop("0.weight")

    def program(told: dict[str, Any]) -> None:
        if where == "parameter":
            for spec in told["graph_module"]["signature"]["input_specs"]:
                if spec.get("parameter", {}).get("parameter_name") == "0.weight":
                    spec["parameter"]["parameter_name"] = f"{name}.weight"
        for node in told["graph_module"]["graph"]["nodes"] if where == "module" else ():
            stack = node["metadata"].get("nn_module_stack", "")
            node["metadata"]["nn_module_stack"] = stack.replace(",1,", f",{name},")

    if where == "parameter":
        changed_json(path, "weights_config.json", weights)
    changed_json(path, MODEL, program)
    with pytest.raises(LcamError, match="a part named"):
        load_backbone(str(path))
    assert not target.exists()


def test_weights_that_claim_more_than_they_hold_are_refused(tmp_path: Path) -> None:
    path = relaid(export(tiny_network(), tmp_path / "net.pt2"))

    def larger(table: dict[str, Any]) -> None:
        meta = table["config"]["0.weight"]["tensor_meta"]
        meta["sizes"] = [{"as_int": 10**6}, {"as_int": 10**6}]
        meta["strides"] = [{"as_int": 0}, {"as_int": 0}]

    changed_json(path, "weights_config.json", larger)
    with pytest.raises(LcamError, match=r"claims .* numbers but has 135"):
        load_backbone(str(path))

    def beyond(table: dict[str, Any]) -> None:
        meta = table["config"]["0.weight"]["tensor_meta"]
        meta["sizes"], meta["strides"] = [{"as_int": 5}], [{"as_int": 10**6}]

    changed_json(path, "weights_config.json", beyond)
    with pytest.raises(LcamError, match="cannot read"):
        load_backbone(str(path))


def test_damaged_files_are_one_error(tmp_path: Path) -> None:
    path = export(tiny_network(), tmp_path / "net.pt2")
    whole = path.read_bytes()
    for content in (b"", b"PK\x03\x04", whole[: len(whole) // 2], whole[:-100]):
        path.write_bytes(content)
        with pytest.raises(LcamError):
            load_backbone(str(path))
    torch.save({"weight": torch.ones(3)}, path)
    with pytest.raises(LcamError, match="holds no exported programs"):
        load_backbone(str(path))
    with pytest.raises(LcamError, match="no such file"):
        load_backbone(str(tmp_path / "none.pt2"))


@pytest.mark.slow
def test_any_part_of_the_json_may_be_wrong(tmp_path: Path) -> None:
    """Each value of the graph replaced in turn: an error of ours, or a network; nothing else."""
    path = export(tiny_network(), tmp_path / "net.pt2")
    (name,) = (n for n in entries(path) if n.endswith(MODEL))
    told = json.loads(entries(path)[name])
    nodes = told["graph_module"]["graph"]["nodes"]
    keys = [(i, key) for i, node in enumerate(nodes) for key in node]
    for (i, key), wrong in ((k, w) for k in keys for w in (None, 7, [], {})):
        kept = nodes[i][key]
        nodes[i][key] = wrong
        changed(path, lambda n, content: json.dumps(told).encode() if n == name else content)
        with contextlib.suppress(LcamError):
            load_backbone(str(path))
        nodes[i][key] = kept
