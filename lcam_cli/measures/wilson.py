"""How sure a share is that was counted on a few images."""

from __future__ import annotations

import math

_Z95 = 1.959963984540054  # the standard normal's 97.5% quantile


def lower_bound(hits: int, trials: int) -> float:
    """Return the lower end of Wilson's 95% interval of a share (Wilson 1927); 0 without trials."""
    if not hits:
        return 0.0
    share, z2 = hits / trials, _Z95**2
    centre = share + z2 / (2 * trials)
    spread = _Z95 * math.sqrt(share * (1 - share) / trials + z2 / (4 * trials**2))
    return max(0.0, (centre - spread) / (1 + z2 / trials))
