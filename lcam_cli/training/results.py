"""What a finished run leaves: the attention file, why it was chosen, and a figure of its losses."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from lcam_cli.maps.atomic import write_atomically
from lcam_cli.methods.attention_file import FILE_NAME, AttentionSettings, save_attention
from lcam_cli.methods.learned import Learned
from lcam_cli.training.checkpoint import CHECKPOINT, sync_folder
from lcam_cli.training.log import LOG
from lcam_cli.training.loss_figure import draw_losses
from lcam_cli.training.recipes import Recipe

SELECTION = "selection.json"
"""How the candidates of a run score on the images kept aside, and which one was chosen."""


def write_results(
    out: Path,
    learned: Learned,
    settings: AttentionSettings,
    recipe: Recipe,
    selection: dict[str, Any] | None = None,
) -> Path:
    """Write them to a run's folder; the checkpoint goes when the attention is there.

    Args:
        out: The folder.
        learned: What goes into the attention file.
        settings: What the file says of it.
        recipe: For the weights of the loss's terms.
        selection: Why it was chosen, as JSON values; None where there was no choice.

    Returns:
        The attention file.
    """
    draw_losses(out / LOG, out / "losses.png", recipe)
    if selection is not None:
        settings = replace(settings, training={**settings.training, "selection": selection})
        text = json.dumps(selection, indent=2) + "\n"
        write_atomically(out / SELECTION, text.encode("ascii"))
    file = out / FILE_NAME
    save_attention(file, learned, settings)
    sync_folder(out)
    (out / CHECKPOINT).unlink(missing_ok=True)
    return file
