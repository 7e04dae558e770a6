"""``lcam`` that flushes maps files often and tells so; run as a module, with the words."""

from __future__ import annotations

import sys

from lcam_cli.__main__ import main
from lcam_cli.maps.hdf5 import writer as hdf5_writer

ROWS = 20


def _flush_and_tell(self: hdf5_writer.Hdf5Writer) -> None:
    _flush(self)
    sys.stderr.write(f"flushed {self.rows}\n")
    sys.stderr.flush()


_flush = hdf5_writer.Hdf5Writer.flush

if __name__ == "__main__":
    hdf5_writer.FLUSH_ROWS = ROWS
    hdf5_writer.Hdf5Writer.flush = _flush_and_tell  # type: ignore[method-assign]
    main()
