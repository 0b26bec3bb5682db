"""The words of the command line: commands, options, their help."""

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NoReturn

#: command -> example, as `--help` shows it
EXAMPLES = {
    "demo": "neurofb demo --out out/demo",
    "run": "neurofb run models/retina_vvs.py::ldfa --set feedback.rank=4 --seed 1 --out out/ldfa",
    "scan": "neurofb scan models/retina_vvs.py::ldfa --over feedback.rank=1,2,4 --over seed=0:5 "
    "--store scans/rank.zarr",
    "analyse": "neurofb analyse analyses/receptive_fields.py out/demo/study.zarr --out out/demo",
    "figure": "neurofb figure figure5 out/demo/study.zarr --out figure5.png",
    "report": "neurofb report scans/rank.zarr --out report.html",
    "list": "neurofb list",
}


class Parser(argparse.ArgumentParser):
    """A parser whose complaints take one line."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong and where help is, and end with status 2."""
        self.exit(2, f"{self.prog}: {message} (`{self.prog} --help` shows an example)\n")


def parser_of(functions: Mapping[str, Callable[[argparse.Namespace], int | None]]) -> Parser:
    """Return the parser of the command line.

    Parameters
    ----------
    functions
        Command → what it calls with the options.

    Examples
    --------
    >>> parser_of(dict.fromkeys(EXAMPLES, print)).parse_args(["list", "rules"]).what
    'rules'
    """
    parser = Parser(
        prog="neurofb",
        description="How the error's dimensionality and route shape what a network learns.",
        epilog="Example: " + EXAMPLES["run"],
    )
    commands = parser.add_subparsers(dest="name", required=True, metavar="COMMAND")

    demo = _command(commands, "demo", functions, "run the six conditions of the figure and draw it")
    demo.add_argument(
        "--preset", default="demo", help="a study of models/figure5.py (default: demo)"
    )
    _add_output(demo)
    demo.add_argument("--workers", type=int, help="processes at a time (default: number of cores)")

    run = _command(
        commands, "run", functions, "run a recipe: a training run, a study, a simulation"
    )
    run.add_argument("recipe", help="path/to/file.py::function")
    run.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="change a setting by its dotted name (an argument of a simulation); repeatable",
    )
    run.add_argument("--seed", type=int, help="seed of the run or simulation")
    run.add_argument("--device", help="auto, cpu, cuda, mps, cuda:1, …")
    run.add_argument(
        "--dry-run",
        action="store_true",
        help="try one batch (of each condition; of a simulation: list the arguments), then stop",
    )
    run.add_argument("--workers", type=int, help="processes at a time, for a study")
    _add_output(run, required=False)

    _add_scan(_command(commands, "scan", functions, "run a recipe over a grid of settings"))

    analyse = _command(commands, "analyse", functions, "run an analysis recipe on a result")
    analyse.add_argument(
        "recipe", help="path/to/file.py (its function analyse) or file.py::function"
    )
    analyse.add_argument("result", type=Path, help="result.zarr or study.zarr (or .nc)")
    analyse.add_argument("--out", type=Path, required=True, help="folder for the analysis' files")

    figure = _command(commands, "figure", functions, "draw a figure of a study")
    figure.add_argument("figure", help="name of the figure: see `neurofb list figures`")
    figure.add_argument("result", type=Path, help="study.zarr (or .nc)")
    figure.add_argument("--layer", default="retina_2", help="layer to show (default: retina_2)")
    figure.add_argument("--out", type=Path, required=True, help="file to write, .png or .pdf")

    report = _command(commands, "report", functions, "write a result as one page of HTML")
    report.add_argument(
        "result", type=Path, help="a scan's store, study.zarr, result.zarr (or .nc)"
    )
    report.add_argument("--out", type=Path, help="file to write (default: beside the result)")

    listing = _command(commands, "list", functions, "list recipes, rules, data, measures, figures")
    listing.add_argument("what", nargs="?", help="recipes, rules, data, measures or figures")
    return parser


def _add_scan(scan: argparse.ArgumentParser) -> None:
    """Add the words of ``neurofb scan``."""
    scan.add_argument("what", help="path/to/file.py::function; or `status`, or `resume`")
    scan.add_argument(
        "store_too", nargs="?", type=Path, metavar="STORE", help="for `status` and `resume`"
    )
    grid = scan.add_argument_group("what is scanned")
    grid.add_argument(
        "--over",
        action="append",
        default=[],
        metavar="NAME=VALUES",
        help="an axis: 1,2,4 or 0:5 (0 to 4), as often as needed; a|b=1|2,3|4: together; "
        """'["a, b", "c"]': values with commas""",
    )
    grid.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a setting that is the same for all cells",
    )
    grid.add_argument("--where", metavar="EXPRESSION", help='only some cells: "rank <= bottleneck"')
    grid.add_argument("--analyse", metavar="FILE", help="what is kept of a run: its `per_run`")
    grid.add_argument("--store", type=Path, help="the zarr, made or made to grow")
    grid.add_argument("--title", help="title of the scan")
    grid.add_argument(
        "--independent-seeds", action="store_true", help="each cell draws a seed from its labels"
    )
    grid.add_argument("--dry-run", action="store_true", help="check and list the cells, then stop")
    how = scan.add_argument_group("how it runs")
    how.add_argument(
        "--workers", type=int, help="processes (default: number of cores; 0: none, one by one)"
    )
    how.add_argument("--dask", metavar="ADDRESS", help="a dask scheduler (or its file), or `local`")
    how.add_argument("--threads", type=int, default=1, help="threads of each cell (default: 1)")
    how.add_argument(
        "--stack", type=int, default=1, metavar="N", help="train up to N seeds as one network"
    )
    how.add_argument("--time-limit", type=float, metavar="S", help="seconds for each cell")
    how.add_argument("--memory-limit", type=float, metavar="GIB", help="memory of a cell's process")
    how.add_argument("--fail-fast", action="store_true", help="stop at the first failure")
    how.add_argument("--retry-failed", action="store_true", help="compute failed cells again")
    how.add_argument("--verify", action="store_true", help="look for damaged data first")
    how.add_argument("--keep", action="store_true", help="keep each cell's whole result")


def _command(commands, name, functions, text) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        name, help=text, description=text, epilog=f"Example: {EXAMPLES[name]}"
    )
    parser.set_defaults(command=functions[name])
    return parser


def _add_output(parser: argparse.ArgumentParser, required: bool = True) -> None:
    parser.add_argument("--out", type=Path, required=required, help="folder for the results")
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--resume", action="store_true", help="go on with what the folder holds")
    group.add_argument(
        "--overwrite", action="store_true", help="start again, the old result is lost"
    )
