"""The methods that come along: a line each."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import EntryPoint

from lcam_cli.engine.backbone import Backbone
from lcam_cli.engine.contrast import Contrast
from lcam_cli.methods.ablation import AblationCam
from lcam_cli.methods.base import Method
from lcam_cli.methods.cam import Cam
from lcam_cli.methods.contrasted import FINER
from lcam_cli.methods.copies import IntegratedGradCam, SmoothGradCamPlusPlus
from lcam_cli.methods.cost import Pass
from lcam_cli.methods.eigen import EigenCam, EigenGradCam
from lcam_cli.methods.families import FLOOR
from lcam_cli.methods.gradient import GradCam, GradCamPlusPlus, HiResCam, LayerCam, XGradCam
from lcam_cli.methods.groupcam import GroupCam
from lcam_cli.methods.noise import RandomMap
from lcam_cli.methods.occlusion import Occlusion
from lcam_cli.methods.opticam import OptiCam
from lcam_cli.methods.options import MethodOptions
from lcam_cli.methods.pixel import (
    GradientShap,
    InputXGradient,
    IntegratedGradients,
    Saliency,
    SmoothGrad,
)
from lcam_cli.methods.plugins import MakeMethod
from lcam_cli.methods.reciprocam import ReciproCam
from lcam_cli.methods.refinecam import refinecam
from lcam_cli.methods.rise import Rise
from lcam_cli.methods.scorecam import ScoreCam
from lcam_cli.methods.shapley import ShapleyCam
from lcam_cli.methods.sidu import Sidu
from lcam_cli.methods.sise import Sise
from lcam_cli.methods.transformer import Gae, LeGrad, Rollout

_BACK = "1 + backward"


@dataclass(frozen=True)
class Entry:
    """One line of ``--list-methods``: what it is, and how it is made.

    Attributes:
        summary: The line.
        make: Makes it for a backbone.
        family: One of ``FAMILIES``.
        cost: Forward passes that a map takes, in words.
        each: What runs in each of them, besides the one that all methods share.
        at_most: Whether it skips some, as those of channels that are zero.
        layer: Whether it looks at the target layer.
        gradients: Whether it needs gradients of the logits at the target layer.
        picture_gradients: Whether it needs them at the image.
        attention: Whether it needs the matrices of a transformer's attention.
        cells: Whether its maps are made of a layer's cells, and so are placed by where these lie.
        also: What else it needs, in words.
        reads: Whether A and its gradient are all that it asks of the network at the layer, so that
            one pass serves several layers.
        fuses: Whether its maps of several layers can be fused; those of a method that explains one
            layer, and can do so at any.
        contrasts: Whether what its gradients are taken of may be a contrast with near classes.
        contrast: The contrast that it takes unless another is asked for.
        classless: Whether its map of an image is the same whatever class is asked for.
        own_backward: Whether it takes a backward pass that it does not share with Grad-CAM.
        plugin: The entry point, where a package brings it.
    """

    summary: str
    make: MakeMethod
    family: str = "other"
    cost: str = ""
    each: Pass = "forward"
    at_most: bool = False
    layer: bool = True
    gradients: bool = False
    picture_gradients: bool = False
    attention: bool = False
    cells: bool = True
    also: str = ""
    reads: bool = False
    fuses: bool = True
    contrasts: bool = False
    contrast: Contrast | None = None
    classless: bool = False
    own_backward: bool = False
    plugin: EntryPoint | None = None

    @property
    def may_share_passes(self) -> bool:
        """Whether one forward pass, and one backward pass to the layer, may serve it with others.

        Whether they do is known of the method once it is made: by its ``forward_passes``.
        """
        of_layer = self.family not in ("perturbation", "transformer", "pixel")
        return of_layer and not (self.own_backward or self.picture_gradients or self.attention)

    @property
    def needs(self) -> str:
        """What a network must have for it, in words."""
        if self.attention:
            first = "attention, gradients" if self.gradients else "attention"
        elif self.gradients or self.picture_gradients:
            first = "gradients" if self.gradients else "gradients at pixels"
        else:
            first = "a layer" if self.layer else "scores"
        return f"{first}, {self.also}" if self.also else first


def _gradient(
    summary: str,
    make: Callable[[MethodOptions], Method],
    cost: str = _BACK,
    *,
    each: Pass = "backward to the layer",
    reads: bool = True,
    own_backward: bool = False,
) -> Entry:
    """A method of gradients at the layer."""
    return Entry(
        summary,
        lambda _, options: make(options),
        "gradient",
        cost,
        each,
        gradients=True,
        reads=reads,
        contrasts=True,
        own_backward=own_backward,
    )


def _of_attention(
    summary: str, make: MakeMethod, cost: str = "1", *, gradients: bool = False
) -> Entry:
    """A method that reads a transformer's attention."""
    return Entry(
        summary,
        make,
        "transformer",
        cost,
        "attention and backward" if gradients else "attention",
        gradients=gradients,
        attention=True,
        fuses=False,
        contrasts=gradients,
        classless=not gradients,
    )


def _of_pixels(summary: str, make: MakeMethod, cost: str) -> Entry:
    """A method that needs gradients at the image, and looks at no layer."""
    return Entry(
        summary,
        make,
        "pixel",
        cost,
        "forward and backward",
        layer=False,
        picture_gradients=True,
        cells=False,
        fuses=False,
        contrasts=True,
    )


def _rise(backbone: Backbone, options: MethodOptions) -> Method:
    is_vgg = backbone.identity.name.rpartition("/")[2].startswith("vgg")
    masks = (4000 if is_vgg else 8000) if options.rise_masks is None else options.rise_masks
    return Rise(masks, options.rise_cells, options.rise_p, options.seed)


METHODS: dict[str, Entry] = {
    "gradcam": _gradient(
        "gradients averaged to channel weights (Selvaraju 2017)", lambda _: GradCam()
    ),
    "gradcam++": _gradient(
        "positive gradients, weighted by position (Chattopadhay 2018)",
        lambda _: GradCamPlusPlus(),
    ),
    "xgradcam": _gradient(
        "gradients averaged with weights from the features (Fu 2020)", lambda _: XGradCam()
    ),
    "layercam": _gradient(
        "positive gradients, one weight per position (Jiang 2021)", lambda _: LayerCam()
    ),
    "hirescam": _gradient(
        "gradients times features at each position (Draelos 2020)", lambda _: HiResCam()
    ),
    "eigengradcam": _gradient(
        "where gradients times features vary most (Muhammad 2020)", lambda _: EigenGradCam()
    ),
    "shapleycam": _gradient(
        "Grad-CAM with second-order weights (Cai 2025)",
        lambda _: ShapleyCam(),
        "1 + 2 backward",
        each="two backward to the layer",
        reads=False,
        own_backward=True,
    ),
    "finercam": dataclasses.replace(
        _gradient("Grad-CAM of y against its 3 nearest classes (Zhang 2025)", lambda _: GradCam()),
        contrast=FINER,
        own_backward=True,
    ),
    "refinecam": Entry(
        "a product of Grad-CAM++ over several layers",
        lambda backbone, options: refinecam(backbone, options.layers, options.fuse),
        "gradient",
        _BACK,
        "forward and backward",
        at_most=True,
        gradients=True,
        contrasts=True,
        own_backward=True,
    ),
    "smoothgradcam++": _gradient(
        "Grad-CAM++ on 25 noisy copies (Omeiza 2019)",
        lambda options: SmoothGradCamPlusPlus(seed=options.seed),
        "25 + backward",
        each="forward and backward to the layer",
        reads=False,
    ),
    "integrated-gradcam": _gradient(
        "Grad-CAM's weights averaged from black to the image (Sattarzadeh 2021)",
        lambda _: IntegratedGradCam(),
        "20 + backward",
        each="forward and backward to the layer",
        reads=False,
    ),
    "cam": Entry(
        "weights of the linear head (Zhou 2016)",
        lambda backbone, _: Cam(backbone),
        "features",
        "1",
        "none",
        also="pooling + linear head",
        fuses=False,
    ),
    "eigencam": Entry(
        "where the features vary most; explains no class (Muhammad 2020)",
        lambda *_: EigenCam(),
        "features",
        "1",
        "none",
        reads=True,
        classless=True,
    ),
    "ablationcam": Entry(
        "drop of the score without each channel (Desai 2020)",
        lambda backbone, _: AblationCam(backbone.feature_shape[0]),
        "perturbation",
        "K, only the head",
        "head",
        at_most=True,
    ),
    "reciprocam": Entry(
        "the score with only one cell of the features (Byun 2024)",
        lambda backbone, _: ReciproCam(math.prod(backbone.feature_shape[1:])),
        "perturbation",
        "P·Q, only the head",
        "head",
    ),
    "scorecam": Entry(
        "feature maps as masks (Wang 2020)",
        lambda backbone, _: ScoreCam(backbone.feature_shape[0]),
        "perturbation",
        "K",
        at_most=True,
        reads=True,
    ),
    "groupcam": Entry(
        "32 groups of feature maps against a blurred image (Zhang 2021)",
        lambda *_: GroupCam(),
        "perturbation",
        "33",
    ),
    "opticam": Entry(
        "mixture of feature maps that keeps the logit, 100 steps (Zhang 2024)",
        lambda *_: OptiCam(),
        "perturbation",
        "100 + backward",
        "forward and backward",
        picture_gradients=True,
        reads=True,
    ),
    "sidu": Entry(
        "feature maps as masks, by similarity and uniqueness; no class (Muddamsetty 2020)",
        lambda backbone, _: Sidu(backbone.feature_shape[0]),
        "perturbation",
        "K",
        at_most=True,
        reads=True,
        classless=True,
    ),
    "sise": Entry(
        "feature maps of several blocks as masks, fused (Sattarzadeh 2021)",
        lambda backbone, _: Sise(backbone),
        "perturbation",
        "up to Σ K",
        at_most=True,
        gradients=True,
        also="stages",
        fuses=False,
    ),
    "adasise": Entry(
        "sise with fewer masks, their number chosen automatically (Sudhakar 2021)",
        lambda backbone, _: Sise(backbone, adaptive=True),
        "perturbation",
        "up to Σ K",
        at_most=True,
        gradients=True,
        also="stages",
        fuses=False,
    ),
    "rise": Entry(
        "random masks (Petsiuk 2018)",
        _rise,
        "perturbation",
        "4000 or 8000",
        layer=False,
        cells=False,
    ),
    "occlusion": Entry(
        "drop of the score when a patch hides the image (Zeiler 2014)",
        lambda backbone, _: Occlusion(backbone),
        "pixel",
        "169",
        layer=False,
        cells=False,
    ),
    "rollout": _of_attention(
        "attention of all blocks multiplied; explains no class (Abnar 2020)",
        lambda backbone, _: Rollout(backbone),
    ),
    "gae": _of_attention(
        "attention times its gradients, from block to block (Chefer 2021)",
        lambda backbone, _: Gae(backbone),
        _BACK,
        gradients=True,
    ),
    "legrad": _of_attention(
        "gradients of attention for the class scores of every block (Bousselham 2025)",
        lambda backbone, _: LeGrad(backbone),
        _BACK,
        gradients=True,
    ),
    "saliency": _of_pixels(
        "gradients at the pixels, largest over channels (Simonyan 2014)",
        lambda *_: Saliency(),
        _BACK,
    ),
    "inputxgradient": _of_pixels(
        "pixels times their gradients (Shrikumar 2016)", lambda *_: InputXGradient(), _BACK
    ),
    "ig": _of_pixels(
        "integrated gradients, from black to the image (Sundararajan 2017)",
        lambda *_: IntegratedGradients(),
        "50 + backward",
    ),
    "smoothgrad": _of_pixels(
        "gradients at the pixels of noisy copies (Smilkov 2017)",
        lambda _, options: SmoothGrad(seed=options.seed),
        "50 + backward",
    ),
    "gradientshap": _of_pixels(
        "gradients between black or noise and the image (Lundberg 2017)",
        lambda _, options: GradientShap(seed=options.seed),
        "20 + backward",
    ),
    "random": Entry(
        "noise: the floor any method must beat",
        lambda _, options: RandomMap(options.seed),
        FLOOR,
        "0",
        "none",
        layer=False,
        fuses=False,
    ),
}
"""The methods that come along. What is trained needs an attention file: see ``trained``."""
