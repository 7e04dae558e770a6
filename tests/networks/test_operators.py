"""What an exported program may call: the rule held against every function that PyTorch has."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from lcam_cli.engine.backbone import load_backbone
from lcam_cli.errors import LcamError
from lcam_cli.networks.operators import ATEN, find_function
from lcam_cli.networks.program_graph import is_known
from tests.networks.test_program import MODEL, SAVED, check_same
from tests.programs import changed_json, export

# None of these is arithmetic on a tensor of one's own. Each is searched for in the names allowed.
HARMFUL = """
    file save load set_ storage data resize as_strided empty record_stream foreach_ rpc quant
    packed qparams pin_memory print assert sparse mkldnn cudnn miopen mps_ vulkan cuda nested
    _coo _csr backward fused_adam fused_sgd requires_grad retain_grad _version item is_ random
    rand normal_ bernoulli uniform multinomial dropout poisson exponential geometric cauchy
    philox sobol histogramdd unique nonzero_static triton plan_cache weight_int prepack
    copy_from max_unpool embedding_bag embedding_renorm shallow_copy dep_token lazy_clone
"""
# The same by whole names, in case PyTorch renames what the words above look for.
REFUSED = """
    from_file.default save.default set_.source_Tensor set_.source_Storage set_.default
    set_data.default resize_.default resize_as_.default _resize_output_.default
    as_strided.default as_strided_.default empty.memory_format empty_like.default
    empty_strided.default new_empty.default data.default record_stream.default
    _pin_memory.default pin_memory.default requires_grad_.default _foreach_add_.Scalar
    _foreach_mul.Scalar _fused_adam_.default _print.default _assert_async.msg
    quantize_per_tensor.default q_scale.default quantized_lstm.default
    fbgemm_pack_gemm_matrix_fp16.default _wrapped_linear_prepack.default
    _local_scalar_dense.default item.default is_nonzero.default rand.default randn.default
    bernoulli_.float normal_.default dropout.default native_dropout.default add.out
    fill.Scalar_out conv2d.out cat.out batch_norm_update_stats.default native_batch_norm.default
    _native_batch_norm_legit.default embedding_renorm_.default convolution_backward.default
    embedding_dense_backward.default _embedding_bag.default _sparse_coo_tensor_unsafe.default
    to_sparse.default to_mkldnn.default _cudnn_rnn.default __ior__.Tensor __ilshift__.Tensor
    einsum.sublist add.int mul.left_t
"""
# Of a kind that the list has no line for: in place, with a tensor for a number, with rounding, …
ALLOWED = """
    fill_.Tensor fill_.Scalar add_.Tensor sub_.Tensor masked_fill_.Tensor zero_.default
    copy_.default clamp_.Tensor clamp_min_.default pow_.Scalar div.Tensor_mode div_.Scalar_mode
    eq.Tensor lt_.Tensor gelu_.default celu_.default squeeze_.dim t_.default erfinv.default
    special_i1.default bitwise_left_shift.Tensor index_put_.default scatter_.value tril_.default
    mean.default conv2d.default conv2d.padding upsample_bilinear2d.default
    upsample_bilinear2d.vec max.dim
"""


def _names() -> list[str]:
    """Every function of ATen in this PyTorch, as a program would write it."""
    schemas = torch._C._jit_get_all_schemas()
    found = {(s.name, s.overload_name or "default") for s in schemas}
    return sorted(f"{ATEN}{n.removeprefix('aten::')}.{o}" for n, o in found if "aten::" in n)


@pytest.fixture(scope="module")
def allowed() -> dict[str, torch._ops.OpOverload]:
    found = {name: find_function(name) for name in _names()}
    return {name: f for name, f in found.items() if isinstance(f, torch._ops.OpOverload)}


def test_no_allowed_name_is_of_a_harmful_kind(allowed: dict[str, torch._ops.OpOverload]) -> None:
    assert 600 < len(allowed) < len(_names()) / 3
    operations = {name.removeprefix(ATEN).partition(".")[0] for name in allowed}
    assert {o for o in operations if any(word in o for word in HARMFUL.split())} == set()
    # Of the internal ones, those alone that the list names.
    assert sorted(o for o in operations - {"_fused_rms_norm"} if o.startswith("_")) == [
        "__and__",
        "__or__",
        "__xor__",
        "_adaptive_avg_pool2d",
        "_log_softmax",
        "_native_batch_norm_legit_no_training",
        "_softmax",
        "_to_copy",
        "_unsafe_view",
        "_upsample_bicubic2d_aa",
        "_upsample_bilinear2d_aa",
        "_upsample_nearest_exact1d",
        "_upsample_nearest_exact2d",
    ]


def test_all_that_is_allowed_makes_tensors_and_changes_its_first_argument_at_most(
    allowed: dict[str, torch._ops.OpOverload],
) -> None:
    types: set[str] = set()
    for name, function in allowed.items():
        written = str(function._schema)  # aten::fill_.Tensor(Tensor(a!) self, Tensor value) -> …
        given, _, made = written.rpartition(" -> ")
        assert re.fullmatch(r"\(?(Tensor(\([^)]*\))?(\[\])?( \w+)?(, )?)+\)?", made), written
        in_place = re.search(r"[a-z0-9]_\.", name) is not None
        assert given.count("!") == in_place, written
        assert not in_place or "(Tensor(a!) self" in given, written
        types.update(str(argument.type) for argument in function._schema.arguments)
    words = set(re.findall(r"\w+", " ".join(types))) - {"List", "Optional"}
    assert words == {"Tensor", "number", "int", "float", "bool", "str", "Device"}


@pytest.mark.parametrize("name", REFUSED.split())
def test_what_does_more_than_arithmetic_is_refused(name: str) -> None:
    assert find_function(ATEN + name) is None


def test_no_line_is_needed_for_a_variant() -> None:
    assert [name for name in ALLOWED.split() if find_function(ATEN + name) is None] == []


@pytest.mark.parametrize(
    "target",
    [
        "torch.ops.quantized.add.default",
        "torch.ops.prims.add.default",
        "torch.ops.aten.add",
        "torch.ops.aten.add.Tensor.__call__",
        "torch.ops.aten.__class__.__name__",
        "torch.ops.aten.add.__class__",
        "torch.ops.aten.add.op",
        "torch.ops.aten..default",
        "torch.ops.load_library",
        " torch.ops.aten.add.Tensor",
    ],
)
def test_what_is_no_function_of_that_form_is_refused(target: str) -> None:
    assert find_function(target) is None


def test_what_each_version_exports_is_known() -> None:
    # As tests/networks/exported/write.py found it; what this PyTorch has not, it cannot call.
    versions = json.loads((SAVED / "functions.json").read_text())
    assert "2.6.0" in versions
    assert len(versions) > 1
    for version, functions in versions.items():
        assert len(functions) > 50, version
        unknown = [name for name in functions if not is_known(name) and _is_here(name)]
        assert unknown == [], version


def _is_here(name: str) -> bool:
    operation, _, overload = name.removeprefix(ATEN).partition(".")
    return not name.startswith(ATEN) or hasattr(getattr(torch.ops.aten, operation, None), overload)


class _InPlace(nn.Module):
    """In-place variants on tensors of its own: some on a view, some with a tensor for a number."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 1)
        self.conv = nn.Conv2d(4, 4, 3, stride=2, padding=1)
        self.fc = nn.Linear(4, 5)
        self.register_buffer("level", torch.tensor(0.25))

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(self.stem(x).neg_())
        mask = x.new_zeros(4, 16, 16)
        mask[:, 2:, :].fill_(self.level)
        mask[0, 0] = 1
        x = nn.functional.celu_(x.mul_(mask.unsqueeze_(0)).clamp_min_(-0.5))
        return self.fc(x.mean((2, 3)).sub_(self.level).div_(0.5))


def test_in_place_variants_run_as_they_did(tmp_path: Path) -> None:
    torch.manual_seed(3)
    network = _InPlace()
    check_same(export(network, tmp_path / "net.pt2"), network)


class _Changes(nn.Module):
    """Changes its own buffer through a view of it, or the image."""

    def __init__(self, which: str) -> None:
        super().__init__()
        self.fc = nn.Linear(3, 4)
        self.which = which
        self.register_buffer("seen", torch.zeros(2, 3))

    def forward(self, x: Tensor) -> Tensor:
        if self.which == "pictures":
            x.mul_(2)
        else:
            self.seen.view(-1)[:3].add_(1)
        return self.fc(x.mean((2, 3)) + self.seen[0])


@pytest.mark.parametrize("which", ["pictures", "own weights"])
def test_a_program_changes_neither_its_weights_nor_the_pictures(tmp_path: Path, which: str) -> None:
    path = export(_Changes(which), tmp_path / "net.pt2")

    def leave_out_the_mutation(program: dict[str, object]) -> None:  # as a stranger's file may
        signature = program["graph_module"]["signature"]  # type: ignore[index]
        specs = signature["output_specs"]
        signature["output_specs"] = [s for s in specs if "user_output" in s]

    what = which.replace("pictures", "images")
    with pytest.raises(LcamError, match=f"changes its ({what}|own)|more than logits"):
        load_backbone(str(path))
    changed_json(path, MODEL, leave_out_the_mutation)
    with pytest.raises(LcamError, match=f"changes its {which.replace('pictures', 'images')}"):
        load_backbone(str(path))
