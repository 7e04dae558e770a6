"""What a finished run leaves: the attention file, and a figure of its losses."""

from __future__ import annotations

from pathlib import Path

from lcam_cli.methods.attention_file import FILE_NAME, AttentionSettings, save_attention
from lcam_cli.methods.learned import Learned
from lcam_cli.training.checkpoint import CHECKPOINT, sync_folder
from lcam_cli.training.log import LOG, draw_losses


def write_results(out: Path, learned: Learned, settings: AttentionSettings) -> Path:
    """Write them to a run's folder; the checkpoint goes when the attention is there.

    Returns:
        The attention file.
    """
    draw_losses(out / LOG, out / "losses.png")
    file = out / FILE_NAME
    save_attention(file, learned, settings)
    sync_folder(out)
    (out / CHECKPOINT).unlink(missing_ok=True)
    return file
