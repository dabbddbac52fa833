"""Memory that one matrix after another is put together in."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]


class Room:
    """Memory for one matrix and its base's at a time.

    It is used again for the next, because a system hands out fresh pages ten times as slowly as they are filled.
    """

    def __init__(self) -> None:
        self._own_N = self._base_N = np.empty(0, np.float32)

    def own(self, rows: int, columns: int) -> Array:
        """Return room for a matrix, with whatever was there before; that of the one before it is lost."""
        self._own_N = _enough(self._own_N, rows * columns)
        return self._own_N[: rows * columns].reshape(rows, columns)

    def base(self, rows: int, columns: int) -> Array:
        """Return room for its base's, likewise."""
        self._base_N = _enough(self._base_N, rows * columns)
        return self._base_N[: rows * columns].reshape(rows, columns)


def _enough(room_N: Array, numbers: int) -> Array:
    return room_N if len(room_N) >= numbers else np.empty(numbers, np.float32)
