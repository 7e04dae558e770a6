"""The first image through a network: where that fails, the cause is looked for and named."""

from __future__ import annotations

import contextlib
import inspect
import io
import math
import re
from collections.abc import Iterator
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from lcam_cli.engine.device import is_out_of_memory
from lcam_cli.errors import LcamError, one_line, plural
from lcam_cli.networks.users_code import needed_arguments, raised, users_error

# Sizes that networks are trained with.
_SQUARES = (224, 32, 64, 299, 384, 28, 256, 128, 96, 112, 192, 288, 320, 448, 512)
_RECTANGLES = (
    *((180, 320), (240, 320), (256, 128), (128, 64), (32, 128), (120, 160), (144, 256)),
    *((48, 160), (192, 256), (256, 192), (360, 640), (480, 640)),
)
_LARGEST = 512
_LINEAR = re.compile(r"shapes cannot be multiplied \(\d+x(\d+) and (\d+)x\d+\)")
# Errors that no other size would fix.
_OF_CODE = (AttributeError, ImportError, KeyError, NameError, NotImplementedError, SystemExit)
_WRAP = "wrap it: a module whose forward(self, x) returns self.network"
_DTYPES = re.compile(
    r"(Half|BFloat16|Double|c10::\w+)\b.*\b(Half|BFloat16|Double|Float|float)|"
    r"same dtype|scalar type",
    re.IGNORECASE,
)


def first_run(
    name: str, network: nn.Module, picture: Tensor, *, find_channels: bool = True
) -> tuple[Any, Tensor]:
    """Run a network once.

    Args:
        name: What the user calls it.
        network: The network.
        picture: (1, C, H, W).
        find_channels: Whether a network that fails may be given an image of as many channels as
            its first layer takes.

    Returns:
        What it gives, and the image that it gives it for.

    Raises:
        LcamError: It fails, or is no network for images.
    """
    calls: list[tuple[nn.Module, Any]] = []
    try:
        with torch.no_grad(), _first_layers(network, calls):
            output = network(picture.clone())
    except (Exception, SystemExit) as error:
        if isinstance(error, LcamError):
            raise
        if isinstance(error, Exception) and is_out_of_memory(error):
            raise
        _check_dimensions(name, calls, failed=True)
        channels = _channels_taken(network, picture, calls, error)
        if channels == picture.shape[1]:
            _refuse(name, network, picture, error)
        if not find_channels:
            raise LcamError(
                f"{name} expects {plural(channels, 'channel')}, not {picture.shape[1]}",
                f"pass --channels {channels}, or remove it",
            ) from error
        other = picture[:, [channel % picture.shape[1] for channel in range(channels)]]
        return first_run(name, network, other, find_channels=False)
    _check_dimensions(name, calls, failed=False)
    return output, picture


def _refuse(name: str, network: nn.Module, picture: Tensor, error: BaseException) -> NoReturn:
    """Say why a network fails on an image of as many channels as it takes."""
    _check_arguments(name, network, picture, error)
    text = one_line(error)
    failed = f"{name} fails on a {tuple(picture.shape)} input: {text}"
    if "more than 1 value per channel when training" in text:
        raise LcamError(failed, "remove .train() and training=True from its forward()") from error
    if not isinstance(error, _OF_CODE):
        for height, width in _others(picture.shape[2], picture.shape[3], text):
            if not _runs(network, height, width, picture.shape[1]):
                continue
            square = height == width
            typed, which = (height, "") if square else (f"{height}x{width}", " (rows × columns)")
            raise LcamError(
                failed, f"pass --image-size {typed}: it expects {height}×{width}{which}"
            ) from error
        if re.search(r"(image|input)\W(size|height|width)", text, re.IGNORECASE):
            raise LcamError(failed, "set --image-size to the size it was trained with") from error
    users = users_error(error, name)
    if _DTYPES.search(text):
        hint = "remove .half(), .bfloat16() and .double(): lcam runs networks in float32"
    elif "same device" in text:
        hint = "create tensors on the device of the image: device=x.device"
    else:
        hint = "fix its forward() (--debug shows the traceback)"
    what = f"{name} {raised(error)}" if isinstance(error, _OF_CODE) else failed
    raise LcamError(users.what if users else what, hint) from error


@contextlib.contextmanager
def _first_layers(network: nn.Module, calls: list[tuple[nn.Module, Any]]) -> Iterator[None]:
    """Note the layers with weights that are called, with what they are given."""

    def note(module: nn.Module, given: tuple[Any, ...]) -> None:
        calls.append((module, given[0].shape if given and torch.is_tensor(given[0]) else None))

    layers = [
        m
        for m in network.modules()
        if isinstance(m, nn.modules.conv._ConvNd | nn.Linear | nn.modules.batchnorm._BatchNorm)
        and not isinstance(m, torch.jit.ScriptModule)
    ]
    hooks = [layer.register_forward_pre_hook(note) for layer in layers]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _check_dimensions(name: str, calls: list[tuple[nn.Module, Any]], *, failed: bool) -> None:
    """Check that the first layer is not for volumes or sequences."""
    calls = [call for call in calls if not isinstance(call[0], nn.modules.batchnorm._BatchNorm)]
    if not calls:
        return
    layer, shape = calls[0]
    for kind, what, whole in ((nn.Conv3d, "volumes", 5), (nn.Conv1d, "sequences", 3)):
        # A wrapper may make one of an image. Without its batch, an image passes for a volume.
        if isinstance(layer, kind) and shape is not None and len(shape) != whole:
            raise LcamError(
                f"{name} is a network for {what} (it begins with a {type(layer).__name__}): lcam "
                "explains images, (B, C, H, W)",
                f"pass a network for two-dimensional images, or {_WRAP} of the {what} made from x",
            )


def _channels_taken(
    network: nn.Module,
    picture: Tensor,
    calls: list[tuple[nn.Module, Any]],
    error: BaseException,
) -> int:
    """How many channels a network takes that fails on an image; the image's, if not known."""
    text, given, (height, width) = str(error), picture.shape[1], picture.shape[2:]
    input_shape = re.search(r"expected input(\[[\d, ]+\]) to have (\d+) channels?", text)
    norm = re.search(rf"running_mean should contain {given} elements not (\d+)", text)
    if input_shape is not None and input_shape[1] == str(list(picture.shape)):
        return int(input_shape[2])
    if norm is not None:
        return int(norm[1])
    first = calls[0][0] if calls else None
    own = getattr(first, "in_channels", getattr(first, "num_features", given))
    if own != given and _runs(network, height, width, own):
        return int(own)
    if _takes_grey(network, picture, text):
        return 1
    return given


def _check_arguments(name: str, network: nn.Module, picture: Tensor, error: BaseException) -> None:
    """Check that an image is all that its forward needs."""
    if not isinstance(error, TypeError):
        return
    try:
        signature = inspect.signature(network.forward)
    except (TypeError, ValueError):
        return
    try:
        signature.bind(picture)
    except TypeError:
        needed = needed_arguments(signature)
        if len(needed) < 2:
            what = f"forward() does not accept an image as its first argument: {signature}"
        else:
            more = "another argument" if len(needed) == 2 else "other arguments"
            what = f"forward() needs {more} ({', '.join(needed[1:])})"
        raise LcamError(
            f"{name}: its {what}", f"{_WRAP}(x, …) with the other arguments filled in"
        ) from error


def _others(height: int, width: int, text: str) -> Iterator[tuple[int, int]]:
    """Other sizes to try, (H, W).

    Those that the error speaks of, usual ones, then guesses; of a rectangle the turned one first.
    """
    if height != width:
        yield width, height
    side = round(math.sqrt(height * width))
    named = [int(n) for n in re.findall(r"\b\d{2,3}\b", text)]
    linear = _LINEAR.search(text)
    near = sorted(_SQUARES, key=lambda s: abs(s - side))
    squares = dict.fromkeys((*named, *near))
    tried = {(height, width), (width, height)}
    usual = [(s, s) for s in squares if 0 < s <= _LARGEST]
    yield from (size for size in usual if size not in tried)
    for rows, columns in _RECTANGLES:
        yield rows, columns
        yield columns, rows
    if linear is not None:  # flattened features: their number goes with the area
        about = round(side * math.sqrt(int(linear[2]) / max(1, int(linear[1]))))
        guesses = sorted(range(about - 16, about + 17), key=lambda s: abs(s - about))
        yield from ((guess, guess) for guess in guesses if 0 < guess <= _LARGEST)


def _takes_grey(network: nn.Module, picture: Tensor, text: str) -> bool:
    """Whether pixels that are flattened first are those of one channel, of any usual size."""
    if _LINEAR.search(text) is None or picture.shape[1] == 1:
        return False
    sizes = [(picture.shape[2], picture.shape[3]), *((s, s) for s in _SQUARES)]
    given = picture.shape[1]
    return any(_runs(network, *size, 1) and not _runs(network, *size, given) for size in sizes)


def _runs(network: nn.Module, height: int, width: int, channels: int) -> bool:
    silent = io.StringIO()
    try:
        with (
            torch.no_grad(),
            contextlib.redirect_stdout(silent),
            contextlib.redirect_stderr(silent),
        ):
            network(torch.randn(1, channels, height, width))
    except (Exception, SystemExit):  # the user's code can raise anything
        return False
    return True
