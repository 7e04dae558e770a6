"""Writes a maps file as fast as it can, to be killed: ``python -m … FILE FIRST_ROW``."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.maps.hdf5.test_kill import BATCH, MANY
from tests.maps.making import make_batch, writer


def main() -> None:
    with writer(Path(sys.argv[1]), capacity=MANY, resume=True) as out:
        assert out.rows % BATCH == 0
        print(out.rows, flush=True)
        for first in range(out.rows, MANY.rows, BATCH):
            out.append(make_batch(first, BATCH, skipped=1))
            out.flush()
            print(out.rows, flush=True)


if __name__ == "__main__":
    main()
