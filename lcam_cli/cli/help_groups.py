"""What ``--help`` shows beside the options: their groups, examples, and the exit codes."""

from __future__ import annotations

FIRST_GROUP = {
    "train": "What to train on",
    "evaluate": "What to score",
    "sanity": "What to check",
    "diagnose": "What to diagnose",
    "merge": "What to merge",
    "info": "What to show",
    "demo": "Where to work",
}
"""The title of the first group, where it is not :data:`EXPLAINED`."""

EXPLAINED = "What to explain"

# What newcomers need stands first, in the groups and within each of them. A parameter is called as
# in lcam.toml. A test holds every parameter of every command to exactly one group.
GROUPS: dict[str, tuple[str, ...]] = {
    EXPLAINED: (
        *("maps", "images", "data", "folder", "shards", "file", "class", "top-k"),
        *("labels", "max-images", "strict", "null"),
    ),
    "Classifier": (
        *("backbone", "weights", "classes", "layer", "output", "activation"),
        *("channels", "grid"),
    ),
    "Method": (
        *("method", "second-method", "methods", "attention", "list-methods", "contrast", "fuse"),
        *("rise-masks", "rise-cells", "rise-p"),
    ),
    "Training": (
        *("mode", "recipe", "epochs", "lr", "keep-aside", "init", "loss"),
        *("lambda-tv", "lambda-av", "lambda-ce", "lambda4", "train-head"),
    ),
    "Measures": (
        *("nu", "metrics", "list-metrics", "keep", "mask-space", "boxes", "masks"),
        *("same-region", "evidence", "stages", "floor"),
    ),
    "Gates": ("max-ad", "min-ic", "worse-than", "by", "max-similarity"),
    "Output": (
        *("out", "overlays", "format", "report", "figure", "show", "per-image", "by-class"),
        *("intervals", "overwrite"),
        *("regions", "map-dtype", "map-format", "map-size"),
        *("overlay-format", "colormap", "alpha", "caption", "colorbar", "contour", "smooth"),
    ),
    "Preprocessing": (
        *("fit", "image-size", "resize", "mean", "std", "window", "align", "max-pixels"),
    ),
    "Speed": ("device", "precision", "batch-size", "workers", "shard"),
    "Resuming": ("resume", "state", "state-limit"),
    "Other": ("seed", "config", "quiet", "debug", "version", "help"),
}

OWN_GROUPS = {"clean": {"What to delete": ("state", "keep", "yes")}}
"""Groups of a command whose options mean something of their own, before the others."""

EXAMPLES: dict[str, tuple[str, ...]] = {
    "train": (
        "lcam train ./images --backbone resnet50",
        "lcam train ./images --backbone resnet50 --weights mine.pt --classes names.txt",
        "lcam train --resume --out runs/resnet50-img",
    ),
    "explain": (
        "lcam explain ./photos --method gradcam --backbone resnet50 --overlays overlays",
        "lcam explain ./photos --out maps.h5",
        "lcam explain cat.jpg --method layercam --backbone mynet.py:build --class cat",
    ),
    "evaluate": (
        "lcam evaluate maps.h5 --nu 100,50,15",
        "lcam evaluate maps.h5 --metrics insertion,deletion --format json",
        "lcam evaluate maps.h5 --nu 15 --max-ad 60",
    ),
    "compare": (
        "lcam compare ./photos --backbone resnet50 --figure figure.png",
        "lcam compare ./photos --backbone resnet50 --methods cam,rise --max-images 50",
        "lcam compare ./photos --methods lcam,one-pass --report report",
    ),
    "sanity": (
        "lcam sanity ./photos --backbone resnet50",
        "lcam sanity ./photos --backbone resnet50 --methods gradcam --figure sanity.png",
        "lcam sanity ./photos --methods lcam --max-similarity 0.5",
    ),
    "diagnose": (
        "lcam diagnose ./photos --labels folders --report errors",
        "lcam diagnose ./photos --labels true.txt --method cam --backbone resnet50",
        "lcam diagnose ./photos --labels folders --format json --out errors.json",
    ),
    "merge": ("lcam merge maps.h5 maps.*-of-4.h5",),
    "methods": (
        "lcam methods",
        "lcam methods --backbone resnet50",
        "lcam methods --backbone mynet.py:build --weights mine.pt --format json",
    ),
    "info": ("lcam info", "lcam info maps.h5", "lcam info runs/resnet50-img"),
    "clean": ("lcam clean", "lcam clean --yes", "lcam clean --keep 2 --yes"),
    "demo": ("lcam demo", "lcam demo ./try --overwrite"),
}

EXIT_CODES = (
    ("0", "done"),
    ("1", "a gate failed"),
    ("2", "wrong usage, or a failure"),
    ("3", "done, but some inputs could not be used"),
    ("130", "interrupted"),
)

COMMANDS: dict[str, tuple[str, ...]] = {
    "Commands": ("train", "explain", "evaluate", "compare", "methods"),
    "Checks": ("sanity", "diagnose"),
    "More": ("demo", "info", "merge", "clean"),
}
