"""What a backward pass is doing at a moment: the pathways say it, whoever counts cost listens.

The names are those of the dim ``phase`` of `neurofb.measures.compute_cost`; what is in no phase is
error propagation. While nobody listens entering a phase costs about a tenth of a microsecond.
"""

from collections.abc import Iterator
from contextlib import contextmanager


class Phase:
    """A part of a backward pass; a context manager that can be entered any number of times.

    Parameters
    ----------
    name
        As in the dim ``phase``.
    every
        The part is done in one of `every` passes only.

    Examples
    --------
    >>> with listening() as phases, PATHWAY_LEARNING:
    ...     phases[-1].name
    'pathway_learning'
    """

    __slots__ = ("every", "name")

    def __init__(self, name: str, every: int = 1) -> None:
        self.name, self.every = name, every

    def __enter__(self) -> None:
        if _listeners:
            _listeners[-1].append(self)

    def __exit__(self, *exception: object) -> None:
        if _listeners:
            _listeners[-1].pop()


#: gradients of a layer's weight and bias are being computed
WEIGHT_GRADIENT = Phase("weight_gradient")
#: the change of the feedback matrices is being computed
PATHWAY_LEARNING = Phase("pathway_learning")

_listeners: list[list[Phase]] = []


@contextmanager
def listening() -> Iterator[list[Phase]]:
    """Inside, the list that is handed out holds the phases that are entered, the innermost last.

    It hears every thread of the process: let no other network train meanwhile.

    Examples
    --------
    >>> with listening() as phases:
    ...     len(phases)
    0
    """
    entered: list[Phase] = []
    _listeners.append(entered)
    try:
        yield entered
    finally:
        _listeners.pop()
