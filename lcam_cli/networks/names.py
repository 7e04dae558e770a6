"""The names of the networks that come with the package or torchvision, without importing torch."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

DEMO_NAMES = ("lcam-demo", "lcam-demo-vit")


def torchvision_names() -> list[str]:
    """Return torchvision's classifiers as its source names them, without importing it."""
    spec = find_spec("torchvision")
    if spec is None or spec.origin is None:
        return []
    names: list[str] = []
    for file in sorted((Path(spec.origin).parent / "models").glob("*.py")):
        text = file.read_text("utf-8")
        names += re.findall(r"@register_model\(\)\n(?:@.*\n)*def (\w+)\(", text)
    return sorted(names)
