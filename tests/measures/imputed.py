"""Linear imputation by a sparse direct solver: what the solver of this package is compared with."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.linalg import spsolve


def imputed(x: NDArray[np.floating], removed: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The exact solution in float64, one equation a removed pixel.

    Args:
        x: An image, (C, H, W).
        removed: Which pixels are to be replaced, (H, W): some, not all.
    """
    height, width = removed.shape
    rows, columns = np.nonzero(removed)
    number = np.full((height, width), -1)
    number[rows, columns] = np.arange(len(rows))
    entries, right = [], np.zeros((len(rows), len(x)))
    total = np.zeros(len(rows))
    for down in (-1, 0, 1):
        for across in (-1, 0, 1):
            if down == across == 0:
                continue
            weight = 1 / 12 if down and across else 1 / 6
            there = (rows + down >= 0) & (rows + down < height)
            there &= (columns + across >= 0) & (columns + across < width)
            here = np.nonzero(there)[0]
            r, c = rows[here] + down, columns[here] + across
            total[here] += weight
            known = ~removed[r, c]
            right[here[known]] += weight * x[:, r[known], c[known]].T
            entries.append((here[~known], number[r[~known], c[~known]], -weight))
    entries.append((np.arange(len(rows)), np.arange(len(rows)), total))
    i, j, values = zip(*((i, j, np.broadcast_to(v, i.shape)) for i, j, v in entries), strict=True)
    A = sparse.csc_matrix((np.concatenate(values), (np.concatenate(i), np.concatenate(j))))
    whole = x.astype(np.float64)
    whole[:, rows, columns] = spsolve(A, right).reshape(len(rows), -1).T
    return whole
