"""What options are called elsewhere: hints for those who come from other tools."""

from __future__ import annotations

from collections.abc import Collection

from lcam_cli.errors import near_names

# What is typed elsewhere, and what does that here; the first that a command has is told.
_HERE = {
    **dict.fromkeys(("json", "csv", "markdown", "latex"), ("--format {word}",)),
    **dict.fromkeys(("model", "arch", "architecture", "network", "net"), ("--backbone",)),
    **dict.fromkeys(("checkpoint", "ckpt", "state-dict", "weight", "pretrained"), ("--weights",)),
    **dict.fromkeys(("gpu", "cuda"), ("--device cuda",)),
    **dict.fromkeys(("cpu", "mps"), ("--device {word}",)),
    **dict.fromkeys(("fp16", "bf16", "fp32"), ("--precision {word}",)),
    **dict.fromkeys(("half", "amp", "dtype"), ("--precision",)),
    **dict.fromkeys(("target", "target-class", "category", "label"), ("--class", "--labels")),
    **dict.fromkeys(("target-layer", "target-layers", "layers"), ("--layer",)),
    **dict.fromkeys(("output-dir", "output-path", "out-dir", "save", "save-dir", "o"), ("--out",)),
    **dict.fromkeys(("batch", "bs"), ("--batch-size",)),
    **dict.fromkeys(("num-workers", "jobs", "threads"), ("--workers",)),
    **dict.fromkeys(("size", "img-size", "input-size"), ("--image-size",)),
    **dict.fromkeys(("cmap", "color-map", "colour-map", "colourmap"), ("--colormap",)),
    **dict.fromkeys(("force", "exist-ok", "replace"), ("--overwrite",)),
    **dict.fromkeys(("limit", "num-images", "n"), ("--max-images",)),
    **dict.fromkeys(("learning-rate",), ("--lr",)),
    **dict.fromkeys(("num-classes", "class-names", "names"), ("--classes",)),
    **dict.fromkeys(("metric", "measure", "measures"), ("--metrics",)),
    **dict.fromkeys(("plot", "grid-image"), ("--figure", "--overlays")),
    **dict.fromkeys(("html",), ("--report",)),
    **dict.fromkeys(("overlay", "heatmap", "heatmaps", "visualize"), ("--overlays",)),
}
_ALSO_ARGUMENT = ("image", "images", "input", "inputs", "data", "path", "folder", "source")


def meant(typed: str, options: Collection[str], argument: str) -> str:
    """Return what may have been meant by an option that a command does not have, or nothing.

    Args:
        typed: The option, with its dashes.
        options: Those that the command has.
        argument: What its argument is called, e.g. ``IMAGES``; empty where it has none.
    """
    word = typed.lstrip("-").lower().replace("_", "-")
    for here in _HERE.get(word, ()):
        if here.partition(" ")[0] in options:
            return here.format(word=word)
    if word in _ALSO_ARGUMENT and argument and f"--{word}" not in options:
        return f"{argument}, without an option before it"
    bare = {name.lstrip("-"): name for name in options if name.startswith("--")}
    near = near_names(word, bare, count=1, cutoff=0.7)
    return bare[near[0]] if near else ""
