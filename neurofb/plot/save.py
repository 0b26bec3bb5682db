"""Write a figure with the identity of the dataset that it shows."""

import os
import uuid
from pathlib import Path

import xarray as xr
from matplotlib.figure import Figure

from neurofb.plot.style import context

_IDENTITY = ("title", "created", "neurofb_version")


def save_figure(
    figure: Figure, path: str | os.PathLike[str], dataset: xr.Dataset, *, dpi: int = 200
) -> Path:
    """Write a figure as PNG or PDF, with the source dataset's identity in the file's metadata.

    The dataset's `title`, `created` and `neurofb_version` (see `neurofb.labels.provenance`) are
    written; PNG keeps them as text entries of these names, PDF in its title and subject. The file
    appears whole or not at all, and the same figure gives the same bytes.

    Parameters
    ----------
    figure
        What to write.
    path
        Where, ending in ``.png`` or ``.pdf``; missing folders are made.
    dataset
        The dataset that was drawn.
    dpi
        Pixels per inch (PNG).

    Raises
    ------
    ValueError
        If the suffix is another one, or the dataset lacks one of the three attributes.

    Examples
    --------
    >>> import tempfile
    >>> from neurofb.plot import example_study, learning_curves
    >>> study = example_study(num_seeds=1, num_units=2)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_figure(learning_curves(study), Path(folder) / "learning.png", study).name
    'learning.png'
    """
    path = Path(path)
    if path.suffix not in (".png", ".pdf"):
        raise ValueError(f"path={str(path)!r} must end in .png or .pdf")
    for name in _IDENTITY:
        if name not in dataset.attrs:
            raise ValueError(f"dataset has no attribute {name!r}; see neurofb.labels.provenance")
    identity = {name: str(dataset.attrs[name]) for name in _IDENTITY}
    source = f"created {identity['created']}, neurofb {identity['neurofb_version']}"
    metadata: dict[str, str | None] = (
        {"Title": identity["title"], "Source": source, "Software": None, **identity}
        if path.suffix == ".png"
        else {"Title": identity["title"], "Subject": source, "CreationDate": None}
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.stem}.{uuid.uuid4().hex[:8]}.partial{path.suffix}")
    try:
        with context():
            figure.savefig(partial, dpi=dpi, metadata=metadata)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return path
