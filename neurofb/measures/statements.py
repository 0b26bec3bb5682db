"""Statements about a study, each with its verdict over seeds, in one dataset and one text."""

from collections.abc import Sequence

import xarray as xr

from neurofb import labels


def statements(verdicts: Sequence[xr.Dataset]) -> xr.Dataset:
    """Put verdicts side by side.

    Parameters
    ----------
    verdicts
        What `neurofb.measures.contrast`, `rank_trend` or `verdict` returned, each with its
        statement in the attributes.

    Returns
    -------
    xr.Dataset
        Over ``statement``: ``statement_holds``, ``statement_difference`` (seed),
        ``statement_median_difference``, ``statement_num_agreeing``, ``statement_num_seeds``.

    Raises
    ------
    ValueError
        If there is none.

    Examples
    --------
    >>> import numpy as np
    >>> from neurofb.measures import verdict
    >>> found = statements([verdict(np.arange(2), np.array([0.5, 1.0]), "more")])
    >>> found.statement.values.tolist(), found.statement_holds.values.tolist()
    (['more'], [True])
    """
    if not verdicts:
        raise ValueError("verdicts=[] must hold at least one: the study allows no statement")
    texts = [str(one.attrs["statement"]) for one in verdicts]
    names = list(verdicts[0].data_vars)
    bare = [
        xr.Dataset({k: one[k].variable for k in names}, {"seed": one["seed"]}) for one in verdicts
    ]
    found = xr.concat(bare, labels.variable("statement", texts, "1", "statement"))
    return found.rename({name: f"statement_{name}" for name in names})


def statements_text(found: xr.Dataset, *, scale: int | float = 1) -> str:
    """Return a line a statement: holds or not, and every seed's difference times `scale`.

    One seed gives no verdict.

    Examples
    --------
    >>> import numpy as np
    >>> from neurofb.measures import verdict
    >>> found = statements([verdict(np.arange(2), np.array([0.5, -1.0]), "more")])
    >>> print(statements_text(found))
    more: does not hold (1 of 2 seeds; +0.50, -1.00)
    """
    lines = []
    for index in range(found.sizes["statement"]):
        one = found.isel(statement=index)
        word = "holds" if bool(one["statement_holds"]) else "does not hold"
        if int(one["statement_num_seeds"]) < 2:
            word = "no verdict from one seed"
        seeds = ", ".join(f"{scale * value:+.2f}" for value in one["statement_difference"].values)
        agree = f"{int(one['statement_num_agreeing'])} of {int(one['statement_num_seeds'])} seeds"
        lines.append(f"{one['statement'].values!s}: {word} ({agree}; {seeds})")
    return "\n".join(lines)
