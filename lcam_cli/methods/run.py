"""Calling a method: what it is handed, and what it has to give, whoever wrote it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lcam_cli.engine.engine import Engine, Forward
from lcam_cli.errors import LcamError
from lcam_cli.methods.base import Maps, Method
from lcam_cli.methods.lent import unchanged, unwritten
from lcam_cli.networks.users_code import users_error
from lcam_cli.plugins import RUNNING, TELL, is_own, plugin_code

_ROUNDING = 1e-3
"""How far outside of [0, 1] a value may lie that is then taken as 0 or 1."""


@dataclass(frozen=True)
class CheckedMaps:
    """Maps of one class an image, as a method has to make them.

    Attributes:
        maps: They, float32, with values in [0, 1] where they are numbers.
        who: Who made them, for messages.
        ends: The least and the greatest value of each map before, (2, B); None where they are known
            to be in range, as those of lcam's own methods.
    """

    maps: Maps
    who: str
    ends: Tensor | None = None

    def check_range(self) -> None:
        """Refuse values outside [0, 1]. It waits for the device, so it comes after all is begun.

        Raises:
            LcamError: There are some, in maps that are finite.
        """
        if self.ends is None:
            return
        low, high = self.ends[:, self.ends.isfinite().all(0)].cpu().numpy()
        if len(low) and (low.min() < -_ROUNDING or high.max() > 1 + _ROUNDING):
            raise LcamError(
                f"{self.who} returns values from {low.min():.4g} to {high.max():.4g}, "
                "not from 0 to 1",
                TELL,
            )


def run_method(engine: Engine, method: Method, forward: Forward, classes: Tensor) -> CheckedMaps:
    """Have a method explain a batch.

    A method that is not lcam's own is handed copies: what it does to them is nobody else's matter.

    Args:
        engine: The engine with the classifier.
        method: The method.
        forward: The images, B of them.
        classes: A class an image, (B,), int64.

    Raises:
        LcamError: It fails, changes what it is handed, or gives something else than maps. It is a
            NetworkChangedError where nothing can go on.
    """
    if is_own(method):
        with unwritten(method.name, _tensors(forward, classes)):
            return CheckedMaps(_in_range(method(engine, forward, classes)), method.name)
    who = f"the plug-in {method.name}"
    forward, classes = _copy(forward), classes.clone()
    with (
        plugin_code(f"{who} failed", type(method).__module__, but=RUNNING),
        unwritten(who, _tensors(forward, classes)),
        unchanged(who, engine.backbone.network),
    ):
        try:
            given: object = method(engine, forward, classes)
        except LcamError:
            raise
        except Exception as error:
            if users := users_error(error):  # the network that it runs is the user's
                raise users from error
            raise
        maps = _checked(given, who, forward)
        V = maps.saliency
        return CheckedMaps(_in_range(maps), who, torch.stack(V.flatten(1).aminmax(dim=1)))


def _checked(maps: object, who: str, forward: Forward) -> Maps:
    """What a method gave as maps, float32, where the images are."""
    if not isinstance(maps, Maps):
        raise LcamError(f"{who} does not return Maps but a {type(maps).__name__}", TELL)
    wanted = (len(forward.x), *forward.x.shape[2:])
    V = _numbers(maps.saliency, f"{who} returns maps", forward)
    if V.shape != wanted:
        raise LcamError(f"{who} returns maps of shape {tuple(V.shape)}, not {wanted}", TELL)
    if maps.cam is None:
        return Maps(V)
    L = _numbers(maps.cam, f"{who} returns a cam", forward)
    if L.ndim != len(wanted) or len(L) != len(V):
        raise LcamError(
            f"{who} returns a cam of shape {tuple(L.shape)}, not ({len(V)}, P, Q)", TELL
        )
    return Maps(V, L)


def _numbers(values: object, what: str, forward: Forward) -> Tensor:
    if not isinstance(values, Tensor):
        raise LcamError(f"{what} as a {type(values).__name__}, not as a Tensor", TELL)
    if not values.is_floating_point():
        kind = str(values.dtype).removeprefix("torch.")
        raise LcamError(f"{what} of {kind}, not of float32", TELL)
    return values.detach().to(forward.x.device, torch.float32)


def _in_range(maps: Maps) -> Maps:
    return Maps(maps.saliency.clamp(0, 1), maps.cam)


def _tensors(forward: Forward, classes: Tensor) -> dict[str, Tensor]:
    return {
        "forward.x": forward.x,
        "forward.A": forward.A,
        "forward.logits": forward.logits,
        "classes": classes,
        **{f"forward.others[{name!r}]": one for name, one in forward.others.items()},
        **{f"forward.around[{i}]": one for i, one in enumerate(forward.around)},
    }


def _copy(forward: Forward) -> Forward:
    return replace(
        forward,
        x=forward.x.clone(),
        A=forward.A.clone(),
        logits=forward.logits.clone(),
        others={name: one.clone() for name, one in forward.others.items()},
        around=tuple(one.clone() for one in forward.around),
        shared=None,  # what others of lcam's own go on with
        graph=None,
    )


def why_failed(error: Exception, name: str) -> str:
    """Why a method failed, without its name, which stands before."""
    if isinstance(error, LcamError):
        return error.what.removeprefix(f"the plug-in {name} ").removeprefix("failed: ")
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]
