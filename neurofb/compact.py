"""A small copy of a result, for publication: one compressed file with the digits that count."""

import numpy as np
import xarray as xr

#: bits of a float32's 23-bit mantissa that are kept: four significant digits
KEPT_BITS = 13


def compact(tree: xr.DataTree) -> xr.DataTree:
    """Return a tree whose floats are float32, rounded to four significant digits.

    What is rounded compresses to about half the size. Integers, text and coordinates stay as they
    are; a note in the attribute ``history`` says what was done.

    Parameters
    ----------
    tree
        A run's or a study's result; it is not changed.

    Examples
    --------
    >>> whole = xr.DataTree.from_dict({"/": xr.Dataset({"a": ((), 1 / 3)})})
    >>> float(compact(whole)["a"]) == 1 / 3, round(float(compact(whole)["a"]), 4)
    (False, 0.3333)
    """
    parts = {}
    for node in tree.subtree:
        dataset = node.to_dataset(inherit=False)
        for name, values in dataset.data_vars.items():
            if values.dtype.kind == "f":
                dataset[name] = values.copy(data=_rounded(values.values))
        parts[node.path] = dataset
    history = str(parts["/"].attrs.get("history", ""))
    parts["/"].attrs["history"] = (
        f"{history}\nfloats rounded to four digits (neurofb.compact)".strip()
    )
    return xr.DataTree.from_dict(parts)


def _rounded(values: np.ndarray) -> np.ndarray:
    """Round float32 mantissas to `KEPT_BITS`, to nearest; NaN and infinity stay."""
    narrow = values.astype(np.float32)
    drop = 23 - KEPT_BITS
    bits = np.atleast_1d(narrow).view(np.uint32)
    rounded = (bits + np.uint32(1 << (drop - 1))) & np.uint32(0xFFFFFFFF << drop & 0xFFFFFFFF)
    return np.where(np.isfinite(narrow), rounded.view(np.float32).reshape(narrow.shape), narrow)
