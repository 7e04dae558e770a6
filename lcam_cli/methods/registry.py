"""The names that ``--method`` and ``--methods`` know."""

from __future__ import annotations

import dataclasses
import inspect
import logging
from dataclasses import dataclass
from importlib.metadata import EntryPoint

from lcam_cli.engine.backbone import Backbone
from lcam_cli.engine.engine import no_gradients
from lcam_cli.errors import LcamError, did_you_mean
from lcam_cli.methods.ablation import AblationCam
from lcam_cli.methods.base import Method
from lcam_cli.methods.cam import Cam
from lcam_cli.methods.copies import IntegratedGradCam, SmoothGradCamPlusPlus
from lcam_cli.methods.gradient import GradCam, GradCamPlusPlus, LayerCam, XGradCam
from lcam_cli.methods.groupcam import GroupCam
from lcam_cli.methods.noise import RandomMap
from lcam_cli.methods.options import MethodOptions
from lcam_cli.methods.plugins import MakeMethod, find_plugins, load_plugin, make_plugin
from lcam_cli.methods.rise import Rise
from lcam_cli.methods.scorecam import ScoreCam
from lcam_cli.methods.sidu import Sidu
from lcam_cli.methods.sise import Sise
from lcam_cli.methods.trained import is_trained

log = logging.getLogger("lcam")

_DEFAULTS = MethodOptions()

_NEEDS = {"layer": True, "gradients": False}
"""What the function of a plug-in may say of its method, as a line here does, and the defaults.

It may also say ``cells``; by default that is what ``layer`` is.
"""


@dataclass(frozen=True)
class Entry:
    """One line of ``--list-methods``: what it is, and how it is made.

    Attributes:
        summary: The line.
        make: Makes it for a backbone.
        layer: Whether it looks at the target layer.
        gradients: Whether it needs gradients of the logits at the target layer.
        cells: Whether its maps are made of a layer's cells, and so are placed by where these lie.
        plugin: The entry point, where a package brings it.
    """

    summary: str
    make: MakeMethod
    layer: bool = True
    gradients: bool = False
    cells: bool = True
    plugin: EntryPoint | None = None


def _rise(backbone: Backbone, options: MethodOptions) -> Method:
    is_vgg = backbone.identity.name.rpartition("/")[2].startswith("vgg")
    masks = (4000 if is_vgg else 8000) if options.rise_masks is None else options.rise_masks
    return Rise(masks, options.rise_cells, options.rise_p, options.seed)


METHODS: dict[str, Entry] = {
    "gradcam": Entry(
        "gradients averaged to channel weights (Selvaraju 2017)",
        lambda *_: GradCam(),
        gradients=True,
    ),
    "gradcam++": Entry(
        "positive gradients, weighted by position (Chattopadhay 2018)",
        lambda *_: GradCamPlusPlus(),
        gradients=True,
    ),
    "xgradcam": Entry(
        "gradients averaged where the features are (Fu 2020)", lambda *_: XGradCam(), gradients=True
    ),
    "layercam": Entry(
        "positive gradients, a weight a position (Jiang 2021)",
        lambda *_: LayerCam(),
        gradients=True,
    ),
    "smoothgradcam++": Entry(
        "Grad-CAM++ on 25 noisy copies (Omeiza 2019)",
        lambda _, options: SmoothGradCamPlusPlus(seed=options.seed),
        gradients=True,
    ),
    "integrated-gradcam": Entry(
        "Grad-CAM's weights averaged from black to the picture (Sattarzadeh 2021)",
        lambda *_: IntegratedGradCam(),
        gradients=True,
    ),
    "cam": Entry(
        "weights of the linear head; needs one (Zhou 2016)", lambda backbone, _: Cam(backbone)
    ),
    "ablationcam": Entry(
        "what the score loses without each channel, by the head alone (Desai 2020)",
        lambda backbone, _: AblationCam(backbone.feature_shape[0]),
    ),
    "scorecam": Entry(
        "feature maps as masks, a forward pass a channel (Wang 2020)",
        lambda backbone, _: ScoreCam(backbone.feature_shape[0]),
    ),
    "groupcam": Entry(
        "32 groups of feature maps against a blurred picture (Zhang 2021)",
        lambda *_: GroupCam(),
    ),
    "sidu": Entry(
        "feature maps as masks, by similarity and uniqueness (Muddamsetty 2020)",
        lambda backbone, _: Sidu(backbone.feature_shape[0]),
    ),
    "sise": Entry(
        "feature maps of several blocks as masks, fused (Sattarzadeh 2021)",
        lambda backbone, _: Sise(backbone),
        gradients=True,
    ),
    "adasise": Entry(
        "sise with fewer masks, their number chosen by itself (Sudhakar 2021)",
        lambda backbone, _: Sise(backbone, adaptive=True),
        gradients=True,
    ),
    "rise": Entry(
        "random masks, thousands of forward passes (Petsiuk 2018)", _rise, layer=False, cells=False
    ),
    "random": Entry(
        "noise: the floor any method must beat",
        lambda _, options: RandomMap(options.seed),
        layer=False,
    ),
}
"""The methods that come along. What is trained needs an attention file: see ``trained``."""


def known_methods() -> dict[str, Entry]:
    """All methods that can be named: those that come along, then installed plug-ins.

    A plug-in that does not load, or takes a name that is not free, is warned of and left out.
    """
    known = dict(METHODS)
    for name, point in find_plugins().items():
        if name in METHODS or is_trained(name):
            log.warning("the plug-in method %r (%s) takes a name of lcam's own", name, point.value)
            continue
        try:
            known[name] = _plugin_entry(point)
        except LcamError as error:
            log.warning("%s", error.what + (f"; {error.hint}" if error.hint else ""))
    return known


def find_method(name: str) -> Entry:
    """Find a method by name; only the plug-in that is named is loaded.

    Raises:
        LcamError: No method has that name, or the plug-in that has it does not load.
    """
    if name in METHODS:
        return METHODS[name]
    if is_trained(name):
        raise LcamError(
            f"{name} comes from training",
            "in Python: LCam.of_file(load_attention(FILE)), for a file of lcam train",
        )
    plugins = find_plugins()
    if name in plugins:
        return _plugin_entry(plugins[name])
    raise LcamError(
        f"unknown method {name!r}",
        f"{did_you_mean(name, [*METHODS, *plugins])} "
        "`lcam explain --list-methods` lists all.".strip(),
    )


def make_method(
    name: str,
    backbone: Backbone,
    *,
    seed: int | None = None,
    options: MethodOptions = _DEFAULTS,
) -> Method:
    """Make a method that needs no training.

    Args:
        name: As ``--list-methods`` lists it.
        backbone: What it will explain.
        seed: Of whatever it draws; default that of ``options``.
        options: Its settings.

    Raises:
        LcamError: No method has that name, it cannot explain this backbone (it may need gradients
            that there are not), or a setting is out of range.
    """
    if seed is not None:
        options = dataclasses.replace(options, seed=seed)
    entry = find_method(name)
    if entry.layer:
        backbone.need_layer(name)
    if entry.gradients and not backbone.differentiable:
        raise no_gradients(backbone, name, advice_without_gradients(backbone))
    if entry.plugin is not None:
        return make_plugin(entry.plugin, entry.make, backbone, options)
    return entry.make(backbone, options)


def advice_without_gradients(backbone: Backbone) -> str:
    """A hint: the methods that come along and need no gradients, but for the floor."""
    names = [n for n, entry in METHODS.items() if not entry.gradients and n != RandomMap.name]
    if backbone.linear_head() is None:
        names.remove(Cam.name)
    return f"methods that need none: {', '.join(names)}"


def _plugin_entry(point: EntryPoint) -> Entry:
    make = load_plugin(point)
    lines = (inspect.getdoc(make) or "a plug-in").splitlines()
    needs = {what: bool(getattr(make, what, default)) for what, default in _NEEDS.items()}
    cells = bool(getattr(make, "cells", needs["layer"]))
    return Entry(lines[0], make, **needs, cells=cells, plugin=point)
