"""A seed for each cell of a scan."""

import hashlib
import json
from collections.abc import Mapping

import numpy as np

from neurofb.scan.grid import Label, tidy


def independent_seed(labels: Mapping[str, Label], seed: int) -> int:
    """Return a seed for one cell: a function of its labels and nothing else.

    It comes from `numpy.random.SeedSequence` with `seed` as the entropy and the labels (in the
    order of the dimensions' names) as the spawn key, so neither the order nor the number of cells
    matters, nor when they were added.

    Examples
    --------
    >>> a = independent_seed({"rank": 1, "seed": 0}, 0)
    >>> a == independent_seed({"seed": 0, "rank": 1}, 0), a == independent_seed({"rank": 2}, 0)
    (True, False)
    """
    digest = hashlib.sha256(
        json.dumps({dim: tidy(label) for dim, label in sorted(labels.items())}).encode()
    ).digest()
    key = tuple(int(word) for word in np.frombuffer(digest, np.uint32))
    return int(np.random.SeedSequence(seed, spawn_key=key).generate_state(1)[0])
