"""What happened in a scan, a line an event: which cell ran, when, and why again."""

import datetime
from pathlib import Path


class Journal:
    r"""A text file that only grows.

    Parameters
    ----------
    path
        The file; made when the first line is written.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     journal = Journal(Path(folder) / "journal.txt")
    ...     journal.add("start", "rank=1", "new")
    ...     journal.path.read_text().split(maxsplit=1)[1]
    'start rank=1: new\n'
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)

    def add(self, event: str, cell: str = "", about: str = "") -> None:
        """Write one line."""
        now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        words = " ".join(about.split())
        text = f"{now} {event}{f' {cell}' if cell else ''}{f': {words}' if words else ''}\n"
        with self.path.open("a", encoding="utf-8") as file:
            file.write(text)
