"""The whole page: title, summary, and its parts in the order in which a lab reader asks."""

import os
import uuid
from datetime import datetime
from importlib.resources import files
from pathlib import Path
from string import Template

import xarray as xr

from neurofb.report import scan_page, study_page
from neurofb.report.markup import Html, join, tag, text
from neurofb.report.provenance import provenance, structure
from neurofb.report.source import is_scan, open_result


def write_report(path: str | os.PathLike[str], out: str | os.PathLike[str]) -> Path:
    """Write a report of a stored result: one file that needs nothing else, whole or not at all.

    Parameters
    ----------
    path
        The store of a scan (which may still be filling), the result of a study or a run
        (``.zarr`` or ``.nc``), or the folder of `neurofb run`.
    out
        Where the page goes, ending in ``.html``; missing folders are made.

    Raises
    ------
    ValueError
        If there is no result at `path`, or `out` has another ending or is a folder.

    Examples
    --------
    >>> import tempfile
    >>> from neurofb import labels
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = labels.save(xr.Dataset({"loss": 1.0}), Path(folder) / "result.zarr")
    ...     write_report(path, Path(folder) / "report.html").name
    'report.html'
    """
    path, out = Path(path), Path(out)
    if out.suffix.lower() not in (".html", ".htm") or out.is_dir():
        raise ValueError(f"out={str(out)!r} must be a file that ends in .html")
    result = open_result(path)
    page = report(result, title=str(result.attrs.get("title") or path.name))
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(f"{out.stem}.{uuid.uuid4().hex[:8]}.partial{out.suffix}")
    try:
        partial.write_text(page, encoding="utf-8")
        partial.replace(out)
    finally:
        partial.unlink(missing_ok=True)
    return out


def report(result: xr.DataTree | xr.Dataset, *, title: str | None = None) -> str:
    """Return the report of a result as the text of an HTML page.

    Parameters
    ----------
    result
        A scan (as its store opens), a study, a run, or any labelled result.
    title
        Heading; the result's `title` by default.

    Examples
    --------
    >>> page = report(xr.Dataset({"loss": 1.0}, attrs={"title": "a number"}))
    >>> "<h1>a number</h1>" in page
    True
    """
    tree = result if isinstance(result, xr.DataTree) else xr.DataTree(result)
    whole = tree.to_dataset()
    if is_scan(whole):
        scan = scan_page.read_scan(whole)
        parts = {
            "Figures": scan_page.scan_figures(scan),
            "Cells": scan_page.scan_table(scan),
            "Failures": scan_page.scan_failures(scan),
            "Configuration": scan_page.scan_configuration(scan),
        }
        summary = scan_page.scan_summary(scan)
    else:
        parts = {
            "Figures": study_page.study_figures(tree),
            "Numbers": study_page.study_table(tree),
            "Configuration": study_page.study_configuration(tree),
        }
        summary = study_page.study_summary(tree)
    attributes = {str(name): value for name, value in tree.attrs.items()}
    parts |= {"Provenance": provenance(attributes), "What the file holds": structure(tree)}
    heading = title or str(tree.attrs.get("title") or "A result without a title")
    links = [tag("a", name, href=f"#{_anchor(name)}") for name in parts]
    sections = [
        tag("section", tag("h2", name), part, id=_anchor(name)) for name, part in parts.items()
    ]
    source = files("neurofb.report")
    template = Template(source.joinpath("page.html").read_text(encoding="utf-8"))
    return template.substitute(
        title=text(heading),
        style=source.joinpath("style.css").read_text(encoding="utf-8"),
        when=_when(attributes),
        summary=summary,
        links=join(links, "\n"),
        sections=join(sections, "\n"),
    )


def _anchor(name: str) -> str:
    return name.lower().replace(" ", "-")


def _when(attributes: dict[str, object]) -> Html:
    """Say when and with what the result was made."""
    words = []
    created = str(attributes.get("created", ""))
    if created:
        try:
            moment = datetime.fromisoformat(created)
            words.append(f"{moment.day} {moment:%B %Y, %H:%M %Z}".strip())
        except ValueError:
            words.append(created)
    commit = str(attributes.get("git_commit", ""))[:10]
    words += [str(attributes["source"])] if "source" in attributes else []
    words += [f"commit {commit}"] if commit else []
    return text(" · ".join(words))
