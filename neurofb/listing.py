"""What there is: recipes beside the package, and the rules, data, measures and figures inside."""

from pathlib import Path

from neurofb import data, feedback, measures
from neurofb.recipes import recipe_names, summary

#: name on the command line -> function of `neurofb.plot` that draws a study
FIGURES = {
    "figure5": "figure5",
    "montage": "receptive_field_montage",
    "distributions": "measure_distributions",
    "rank": "symmetry_against_rank",
    "learning": "learning_curves",
}


def listing(what: str | None = None) -> str:
    """Return names with a line each, of one kind or of all.

    Parameters
    ----------
    what
        "recipes", "rules", "data", "measures" or "figures"; None lists everything.

    Raises
    ------
    ValueError
        If there is no such kind.

    Examples
    --------
    >>> listing("figures").splitlines()[0]
    'figures (neurofb figure NAME STUDY --out FILE)'
    """
    kinds = {
        "recipes": _recipes,
        "rules": lambda: _public(feedback, "rules (neurofb.feedback)", classes=True),
        "data": lambda: _public(data, "data (neurofb.data)", classes=True),
        "measures": lambda: _public(measures, "measures (neurofb.measures)", classes=False),
        "figures": _figures,
    }
    if what is not None and what not in kinds:
        raise ValueError(f"list {what!r} is not one of {', '.join(kinds)}")
    return "\n\n".join(kinds[kind]() for kind in ([what] if what else kinds))


def _recipes() -> str:
    root = Path(__file__).resolve().parent.parent
    lines = ["recipes (neurofb run FILE::NAME)"]
    for path in sorted([*root.glob("models/*.py"), *root.glob("analyses/*.py")]):
        where = path.relative_to(root).as_posix()
        lines += [f"  {where}::{name}  {summary(path, name)}" for name in recipe_names(path)]
    return "\n".join(lines)


def _public(package, title: str, classes: bool) -> str:
    lines = [title]
    for name in package.__all__:
        value = getattr(package, name)
        if isinstance(value, type) == classes and callable(value):
            lines.append(f"  {name}  {(value.__doc__ or '').partition(chr(10))[0]}")
    return "\n".join(lines)


def _figures() -> str:
    from neurofb import plot

    lines = ["figures (neurofb figure NAME STUDY --out FILE)"]
    for name, function in FIGURES.items():
        lines.append(f"  {name}  {(getattr(plot, function).__doc__ or '').partition(chr(10))[0]}")
    return "\n".join(lines)
