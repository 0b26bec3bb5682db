"""What a study comes to, in one table of text."""

import xarray as xr

from neurofb.gather import layer_dataset
from neurofb.measures import population_medians
from neurofb.tracking import FOLLOWED


def overview(tree: xr.DataTree) -> str:
    """Return the medians of a study's first layer with receptive fields, else its accuracies.

    Parameters
    ----------
    tree
        A study's result (`neurofb.gather.side_by_side`).

    Examples
    --------
    >>> import numpy as np
    >>> accuracy = (("condition", "seed"), np.array([[0.5, 0.75]]))
    >>> data = xr.Dataset({"test_accuracy": accuracy}, {"condition": ["BP"], "seed": [0, 1]})
    >>> print(overview(xr.DataTree.from_dict({"/": data})))
               test_accuracy      sd  n
    condition
    BP                 0.625  0.1768  2
    """
    layers = [name for name in tree.children if name not in FOLLOWED]
    if layers:
        medians = population_medians(layer_dataset(tree, layers[0]))
        return medians.to_dataframe().round(2).to_string()
    accuracy = tree.dataset["test_accuracy"].reset_coords(drop=True)
    table = xr.Dataset(
        {
            "test_accuracy": accuracy.mean("seed").round(4),
            "sd": accuracy.std("seed", ddof=1).round(4),
            "n": accuracy.count("seed"),
        }
    )
    lines = table.to_dataframe().to_string().splitlines()
    return "\n".join(line.rstrip() for line in lines)
