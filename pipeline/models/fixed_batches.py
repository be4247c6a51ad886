"""Batches of fixed shapes for asking a model: what a user is answered does not depend on who else is asked for."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

LENGTH_STEPS = (1, 8, 16, 32, 64, 128)
TOKENS_AT_ONCE = 4096
USERS_AT_ONCE = 512


def fixed_batches(lengths: np.ndarray, longest: int) -> Iterator[tuple[np.ndarray, int, int]]:
    """Users of like length together: yields positions, and the batch's rows and length.

    Both follow from the users' own length alone, whoever else is there.
    """
    steps = np.array(sorted({*(step for step in LENGTH_STEPS if step < longest), longest}))
    padded = steps[np.searchsorted(steps, np.minimum(lengths, longest))]
    for length in np.unique(padded):
        members = np.flatnonzero(padded == length)
        rows = min(max(TOKENS_AT_ONCE // int(length), 1), USERS_AT_ONCE)
        for first in range(0, len(members), rows):
            yield members[first : first + rows], rows, int(length)
