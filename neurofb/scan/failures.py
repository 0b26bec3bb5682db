"""The text of a failure."""

import re


def last_line(text: str) -> str:
    r"""Return the line of a failure's text that says what happened.

    Examples
    --------
    >>> last_line("Traceback (most recent call last):\n  ...\nValueError: no")
    'ValueError: no'
    """
    if text.startswith(("TimeoutError", "WorkerDied")):
        return text.partition("\n")[0]
    lines = [line for line in text.splitlines() if line.strip()]
    starts = [line for line in lines if re.match(r"[\w.]+(Error|Exception|Exit|Interrupt)\b", line)]
    return (starts or lines or [""])[-1]
