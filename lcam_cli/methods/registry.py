"""The names that ``--method`` and ``--methods`` know."""

from __future__ import annotations

import dataclasses
import inspect
import logging
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import EntryPoint

from lcam_cli.engine.backbone import Backbone
from lcam_cli.engine.no_gradients import no_gradients
from lcam_cli.engine.taps import check_gradients
from lcam_cli.errors import CannotExplainError, LcamError
from lcam_cli.methods.base import Method
from lcam_cli.methods.contrasted import Contrasted
from lcam_cli.methods.families import FAMILIES, FLOOR, GROUPS
from lcam_cli.methods.fused import Fused, check_layers
from lcam_cli.methods.names import unknown_method
from lcam_cli.methods.options import MethodOptions
from lcam_cli.methods.plugins import find_plugins, load_plugin, make_plugin
from lcam_cli.methods.preferred import advice
from lcam_cli.methods.refinecam import REFINECAM
from lcam_cli.methods.table import METHODS, Entry
from lcam_cli.methods.trained import is_trained
from lcam_cli.plugins import TELL, plugin_name

__all__ = [
    "METHODS",
    "Ability",
    "Entry",
    "abilities",
    "find_method",
    "known_methods",
    "make_method",
    "try_method",
    "which_explain",
]

log = logging.getLogger("lcam")

_DEFAULTS = MethodOptions()


@dataclass(frozen=True)
class Ability:
    """Whether a method can explain a network.

    Attributes:
        name: The method's.
        entry: Its line.
        method: Itself; None where it cannot.
        why_not: Why it cannot, in a line.
        remedy: What would help apart from another method; mostly nothing.
    """

    name: str
    entry: Entry
    method: Method | None
    why_not: str = ""
    remedy: str = ""


def known_methods() -> dict[str, Entry]:
    """All methods that can be named: those that come along, then installed plug-ins.

    A plug-in that does not load, or takes a name that is not free, is warned of and left out.
    """
    known = dict(METHODS)
    for name, point in find_plugins().items():
        if name in METHODS or name in GROUPS or is_trained(name):
            log.warning(
                "the plug-in method %r (%s) has a name that lcam itself uses", name, point.value
            )
            continue
        try:
            known[name] = _plugin_entry(point)
        except LcamError as error:
            log.warning("%s", error.what + (f"; {error.hint}" if error.hint else ""))
    return known


def find_method(name: str, *, or_groups: bool = False) -> Entry:
    """Find a method by name; only the plug-in that is named is loaded.

    Args:
        name: As ``--list-methods`` lists it.
        or_groups: Whether the name of a group could have been meant.

    Raises:
        LcamError: No method has that name, or the plug-in that has it does not load.
    """
    if name in METHODS:
        return METHODS[name]
    if is_trained(name):
        raise LcamError(
            f"{name} comes from training",
            "in Python, use LCam.of_file(load_attention(FILE)) with a file from lcam train",
        )
    if name in GROUPS:
        raise LcamError(
            f"{name} is a group of methods, but one method is needed",
            f"use groups with `lcam compare --methods {name}`; "
            "`lcam explain --list-methods` lists their methods",
        )
    plugins = find_plugins()
    if name in plugins:
        return _plugin_entry(plugins[name])
    raise unknown_method(name, [*METHODS, *plugins, *(GROUPS if or_groups else ())])


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
        LcamError: No method has that name, or a setting is out of range.
        CannotExplainError: It cannot explain this backbone; the hint says which methods can.
    """
    if seed is not None:
        options = dataclasses.replace(options, seed=seed)
    try:
        return try_method(name, backbone, options)
    except CannotExplainError as error:
        hints = filter(None, (error.remedy, which_explain(backbone, options, like=name)))
        raise CannotExplainError(error.what, "; ".join(hints), error.remedy) from None


def which_explain(backbone: Backbone, options: MethodOptions = _DEFAULTS, *, like: str = "") -> str:
    """A hint: which methods can explain a backbone, and which of them to take.

    Every method is tried, which takes some passes of one image: it is for errors. Those of the
    family of the method ``like`` come first.
    """
    family = find_method(like).family if like else ""
    found = abilities(backbone, options)
    able = [one for one in found if one.method and one.entry.family != FLOOR]
    return advice([one.name for one in sorted(able, key=lambda one: one.entry.family != family)])


def abilities(backbone: Backbone, options: MethodOptions = _DEFAULTS) -> list[Ability]:
    """Try every method that needs no training on a backbone, the floor too."""
    found = []
    for name, entry in known_methods().items():
        try:
            made = try_method(name, backbone, options)
        except CannotExplainError as error:
            found.append(Ability(name, entry, None, error.what, error.remedy))
        except LcamError as error:  # the options, or a package's own error
            found.append(Ability(name, entry, None, error.what, error.hint))
        else:
            found.append(Ability(name, entry, made))
    return found


def try_method(name: str, backbone: Backbone, options: MethodOptions = _DEFAULTS) -> Method:
    """As :func:`make_method`, but where it cannot explain the backbone, others are not tried.

    Raises:
        LcamError: As there.
        CannotExplainError: It cannot explain this backbone.
    """
    entry = find_method(name)
    if entry.layer:
        backbone.need_layer(name)
    if entry.gradients and not backbone.differentiable:
        raise no_gradients(backbone, name)
    if entry.picture_gradients and backbone.picture_gradients_end:
        raise no_gradients(backbone, name, picture=True)
    contrast = options.contrast or entry.contrast
    if contrast is not None and not entry.contrasts:
        able = ", ".join(contrasting())
        raise LcamError(
            f"{name} does not support --contrast", f"use one of these, which do: {able}"
        )
    if contrast is not None and backbone.num_classes == 1:
        raise CannotExplainError(
            f"{name} contrasts a class with others, but {backbone.identity.name} has only one "
            "class",
            remedy="" if entry.contrast else "remove --contrast",
        )
    method = _made(name, entry, backbone, options)
    return method if contrast is None else Contrasted(method, contrast, name)


def _made(name: str, entry: Entry, backbone: Backbone, options: MethodOptions) -> Method:
    """Make a method, of one layer or of several."""
    if name == REFINECAM:
        return entry.make(backbone, options)
    check_layers(name, options.layers, options.fuse)
    if len(options.layers) < 2 or not entry.layer:
        if entry.plugin is not None:
            return make_plugin(entry.plugin, entry.make, backbone, options)
        return entry.make(backbone, options)
    if not entry.fuses or entry.plugin is not None:
        raise LcamError(
            f"{name} cannot fuse the maps of several layers",
            f"pass one --layer, or use a method that can: {', '.join(_fusing())}",
        )
    each = options.of_one_layer()
    methods: dict[str, Method] = {}
    for layer in options.layers:
        at = backbone.at(layer)
        if entry.gradients and not at.differentiable:
            raise no_gradients(at, name, "pass other layers")
        methods[at.identity.layer] = entry.make(at, each)
    if entry.reads and entry.gradients:
        check_gradients(backbone, list(methods))
    how = options.fuse or "max"
    return Fused(methods, how, reads=entry.reads, gradients=entry.gradients)


def is_classless(name: str) -> bool:
    """Whether a method that comes along makes the same map of an image for every class."""
    return name in METHODS and METHODS[name].classless


def is_of_pixels(name: str) -> bool:
    """Whether a method, or a row of its maps in a comparison, looks at single pixels.

    Few pixels of such maps are bright, so that they are drawn with other limits.
    """
    with suppress(LcamError):  # it comes from training, or from a package that is not here
        return find_method(name.partition(" (")[0]).family == "pixel"
    return False


def contrasting() -> list[str]:
    """The methods whose gradients may be those of a contrast."""
    return [name for name, entry in METHODS.items() if entry.contrasts]


def _fusing() -> list[str]:
    return [name for name, entry in METHODS.items() if entry.fuses and entry.layer]


def _plugin_entry(point: EntryPoint) -> Entry:
    """The line of a plug-in, whose function may say of its method what the lines here say.

    ``layer`` is true unless it says other, ``gradients`` and ``picture_gradients`` are not,
    ``cells`` is what ``layer`` is, and ``family`` is ``"gradient"`` for a method that needs
    gradients, ``"other"`` else.

    Raises:
        LcamError: The plug-in does not load, or says something else.
    """
    make = load_plugin(point)
    lines = (inspect.getdoc(make) or "a plug-in").splitlines()

    def says(what: str, default: bool) -> bool:
        return bool(getattr(make, what, default))

    layer, gradients = says("layer", True), says("gradients", False)
    family = getattr(make, "family", "gradient" if gradients else "other")
    if family not in FAMILIES:
        raise LcamError(
            f"{plugin_name(point, 'method')} has the family {family!r}",
            f"{TELL}: use one of {', '.join(FAMILIES)}",
        )
    return Entry(
        lines[0],
        make,
        family,
        layer=layer,
        gradients=gradients,
        picture_gradients=says("picture_gradients", False),
        cells=says("cells", layer),
        plugin=point,
    )
