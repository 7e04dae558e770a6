"""What explaining stores, and where: refused before any work where it cannot be. No torch."""

from __future__ import annotations

from pathlib import Path

from lcam_cli.errors import LcamError
from lcam_cli.runs.explain_options import ExplainOptions
from lcam_cli.runs.targets import check_apart, check_target, is_hdf5
from lcam_cli.scale.rank_info import RankInfo

_REGIONS = (".json", ".csv")


def check_stored(options: ExplainOptions, out: Path) -> None:
    """Check that maps can be stored as asked for, and regions written.

    Args:
        options: What is asked for.
        out: The file or folder that the maps go to.

    Raises:
        LcamError: They cannot; or the file for maps or regions exists.
    """
    if is_hdf5(out):
        if options.map_size != "input":
            raise LcamError(
                f"--map-size original needs a folder: the HDF5 file {out} holds maps of one size",
                "use a folder, e.g. --out maps, or remove --map-size",
            )
        if options.map_format != "png":
            raise LcamError(
                f"--map-format {options.map_format} is for folders, and {out} is an HDF5 file",
                "use a folder, e.g. --out maps; or use --map-dtype, which is for HDF5",
            )
        may_exist = options.resume or options.overwrite or options.shard is not None
        if not may_exist and RankInfo.of_environment().size == 1 and out.is_file():
            raise LcamError(f"{out} exists", "pass --resume, --overwrite or another --out")
    if options.regions is None:
        return
    if options.shard or RankInfo.of_environment().size > 1:
        raise LcamError(
            "--regions does not work with --shard or torchrun",
            "remove --regions, or explain with one process",
        )
    check_target(options.regions, "--regions", options.overwrite or options.resume, _REGIONS)
    check_apart(options.regions, "--regions", {"--out": out, "--attention": options.attention})
