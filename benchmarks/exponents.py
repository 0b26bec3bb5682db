"""Fitted exponents of how times grow, for the figures of scaling."""

import math
import statistics
from collections.abc import Sequence
from typing import Any


def with_exponents(series: dict[str, Any], *, above: float) -> dict[str, Any]:
    """Return a series with the power law of each way, t = factor · value^exponent.

    Parameters
    ----------
    series
        With `rows`, each a dict of `value` and ways → seconds; a way may be missing in some.
    above
        Values from this one on are fitted (below it times are overhead).
    """
    rows: Sequence[dict[str, Any]] = series["rows"]
    names = dict.fromkeys(name for row in rows for name in row if name != "value")
    fits = {}
    for name in names:
        points = [(r["value"], r[name]) for r in rows if name in r and r["value"] >= above]
        if len(points) >= 2:
            x, y = ([math.log(point[i]) for point in points] for i in (0, 1))
            exponent, intercept = statistics.linear_regression(x, y)
            fits[name] = {
                "exponent": exponent,
                "factor": math.exp(intercept),
                "values": [points[0][0], points[-1][0]],
            }
    return {**series, "fits": fits}
