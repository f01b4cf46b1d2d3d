"""AVERAGE_POOL_2D: the mean of what lies inside the image, to nearest, halves away from zero."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from midgehost.models.kernels import Kernel
from midgehost.models.ops.pool import PoolOp


class AveragePool2D(PoolOp):
    kind = "AVERAGE_POOL_2D"
    kernel = Kernel.AVERAGE_POOL_2D

    def reduce(self, patches: NDArray[np.float64]) -> NDArray[np.float64]:
        totals = np.nansum(patches, axis=(3, 4)).astype(np.int64)
        counts = (~np.isnan(patches)).sum(axis=(3, 4))
        rounded = (np.abs(totals) + counts // 2) // counts
        return (np.sign(totals) * rounded).astype(np.float64)
