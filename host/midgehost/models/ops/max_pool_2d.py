"""MAX_POOL_2D: the largest of what lies inside the image."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from midgehost.models.kernels import Kernel
from midgehost.models.ops.pool import PoolOp


class MaxPool2D(PoolOp):
    kind = "MAX_POOL_2D"
    kernel = Kernel.MAX_POOL_2D

    def reduce(self, patches: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.nanmax(patches, axis=(3, 4))
