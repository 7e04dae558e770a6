"""An ONNX classifier as a module of PyTorch, which onnxruntime computes."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lcam_cli.errors import LcamError, plural
from lcam_cli.networks.foreign import ForeignNetwork
from lcam_cli.networks.onnx_graph.cutting import Given, Part
from lcam_cli.networks.onnx_graph.geometry import run_geometry
from lcam_cli.networks.onnx_graph.inspection import OnnxFile
from lcam_cli.networks.onnx_graph.layouts import TensorKind, channels_last
from lcam_cli.networks.onnx_graph.linear import last_linear
from lcam_cli.networks.onnx_graph.names import find_tensor, module_name
from lcam_cli.networks.onnx_graph.plan import Asked, Plan, make_plan
from lcam_cli.networks.onnx_graph.sandbox import kinds_of
from lcam_cli.networks.onnx_graph.session import DTYPE_OF_TYPE, PartSession, devices

_LAST_TO_FIRST, _FIRST_TO_LAST = (0, 3, 1, 2), (0, 2, 3, 1)


class OnnxNetwork(ForeignNetwork):
    """A classifier: images (B, C, H, W), float32, to what the model gives.

    Args:
        name: What the user calls it.
        file: The model.
    """

    runtime = "onnxruntime"

    def __init__(self, name: str, file: OnnxFile) -> None:
        super().__init__()
        self._name = name
        self._file = file
        self.devices = devices()
        self._plan: Plan | None = None
        self._kinds: dict[str, TensorKind] = {}
        self._layer = ""

    def cut_at(self, layer: str | None, output: str, shape: tuple[int, int, int]) -> str | None:
        """See :meth:`ForeignNetwork.cut_at`. The model is first run in a process of its own."""
        self._check_shape(shape)
        model = self._file.model
        try:
            tensor = None if layer is None else find_tensor(model.graph, layer)
        except LcamError as error:
            raise LcamError(f"{self._name}: {error.what}", error.hint) from None
        asked = Asked(tensor, output, shape)
        self._kinds = kinds_of(self._file.path, asked)
        self._plan = plan = make_plan(model, self._file.pictures, self._kinds, asked)
        runners = [
            _Runner(self._name, self._file, part, given)
            for part, given in zip(plan.parts, plan.given, strict=True)
        ]
        if not plan.layer:
            self.whole = runners[0]
            self.no_layer = "for other methods, pass feature maps of its graph: --layer NAME"
            return None
        self.before, self.after = runners
        self._layer = module_name(plan.layer)
        self._add_layer(FeatureMaps())
        linear = last_linear(model.graph, plan.parts[1].ends[0], self._file.fill)
        if linear is not None:
            self.after.add_module("linear", linear)  # after it, in the order of modules
        return self._layer

    def forward(self, x: Tensor) -> Any:
        """What the model gives for images: a tensor, or tensors by name where there are several.

        Raises:
            LcamError: onnxruntime fails.
        """
        assert self._plan is not None
        plan = self._plan
        if self._file.pictures.channels_last:
            x = x.permute(_FIRST_TO_LAST)
        if plan.layer:
            before = self.before(x)
            maps = before[0]
            if plan.channels_last:
                maps = maps.permute(_LAST_TO_FIRST)
            maps = self.get_submodule(self._layer)(maps)
            if plan.channels_last:
                maps = maps.permute(_FIRST_TO_LAST)
            outputs = self.after(maps, *(before[i] for i in range(1, len(plan.given[1]))))
        else:
            outputs = self.whole(x)
        if len(plan.names) > 1 or plan.names[0]:
            named = {name: outputs[i] for i, name in enumerate(plan.names)}
            if plan.last_step:
                named = {name: _last_step(t, plan.last_step) for name, t in named.items()}
            return named
        return _last_step(outputs[0], plan.last_step)

    def follow_places(self, picture: Tensor) -> None:
        """See :meth:`ForeignNetwork.follow_places`."""
        assert self._plan is not None
        file = self._file
        given = file.pictures.value.name
        orders = channels_last(file.model, self._kinds, given, file.pictures.channels_last)
        maps = run_geometry(file.model.graph, self._plan.layer, given, picture, orders, self._kinds)
        self.get_submodule(self._layer)(maps)

    def _add_layer(self, module: nn.Module) -> None:
        """Have a module under the layer's name, dots included."""
        parent: nn.Module = self
        *outer, own = self._layer.split(".")
        for part in outer:
            if part not in parent._modules:
                parent.add_module(part, nn.Module())
            parent = parent.get_submodule(part)
        parent.add_module(own, module)

    def _check_shape(self, shape: tuple[int, int, int]) -> None:
        """Check that the model takes images (C, H, W)."""
        taken = self._file.pictures
        channels, height, width = shape
        if taken.channels is not None and taken.channels != channels:
            raise LcamError(
                f"{self._name} expects {plural(taken.channels, 'channel')}, not {channels}",
                f"pass --channels {taken.channels}, or remove it",
            )
        if taken.height not in (None, height) or taken.width not in (None, width):
            size = f"{taken.height or height}x{taken.width or width}"
            raise LcamError(
                f"{self._name} expects images of {size} (rows × columns), not {height}x{width}",
                "remove --image-size",
            )


class FeatureMaps(nn.Module):
    """The place of the target layer: its output is A."""

    def forward(self, maps: Tensor) -> Tensor:
        """The feature maps as they are."""
        return maps


class _Runner(nn.Module):
    """A part of a model, run where its input is, with as many threads as PyTorch uses."""

    def __init__(self, name: str, file: OnnxFile, part: Part, given: tuple[Given, ...]) -> None:
        super().__init__()
        self._name, self._file, self._part, self._given = name, file, part, given
        self._session: PartSession | None = None
        self._opened_for: tuple[int, int | None] = (0, None)

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """What the part gives, without gradients; real numbers are float32."""
        device = tensors[0].device
        arrays = [_as_array(t, one) for t, one in zip(tensors, self._given, strict=True)]
        outputs = self._session_for(device).run(arrays)
        return tuple(_as_tensor(output).to(device) for output in outputs)

    def _session_for(self, device: torch.device) -> PartSession:
        gpu = (device.index or 0) if device.type == "cuda" else None
        wanted = (torch.get_num_threads(), gpu)
        if self._session is None or self._opened_for != wanted:
            self._session = None  # before there is another
            content = self._file.write(self._part, self._given)
            self._session = PartSession(
                self._name, content, self._given, self._part.ends, threads=wanted[0], gpu=gpu
            )
            self._opened_for = wanted
        return self._session


def _as_array(tensor: Tensor, given: Given) -> Any:
    """A tensor as onnxruntime takes it; of the same memory where that can be."""
    wanted = DTYPE_OF_TYPE[given.kind.type]
    tensor = tensor.detach().cpu()
    if wanted == np.uint8:
        tensor = tensor.round().clamp(0, 255)
    return tensor.contiguous().numpy().astype(wanted, copy=False)


def _as_tensor(array: Any) -> Tensor:
    """What onnxruntime gives, real numbers as float32; of the same memory where that can be."""
    tensor = torch.from_numpy(array if array.flags.writeable else array.copy())
    return tensor.float() if tensor.is_floating_point() else tensor


def _last_step(outputs: Any, step: str) -> Any:
    """What was taken off the graph's end, where it is seen (``engine.probabilities``)."""
    if step == "sigmoid":
        return torch.sigmoid(outputs)
    if step == "log_softmax":
        return torch.log_softmax(outputs, -1)
    return torch.softmax(outputs, -1) if step else outputs
