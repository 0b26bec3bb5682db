"""The executor of one process."""

from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any


class Serial(Executor):
    """An executor that does everything at once, in this process.

    Examples
    --------
    >>> Serial().submit(abs, -1).result()
    1
    """

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Call the function and return its future, which is finished."""
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:  # a future holds whatever its function raises
            future.set_exception(error)
        return future
