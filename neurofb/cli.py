"""The command line: a thin door to runs, studies, analyses and figures."""

import argparse
import inspect
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from neurofb.arguments import EXAMPLES, parser_of

__all__ = ["EXAMPLES", "main"]

# Threads that wait should sleep: on a busy machine small networks spend their time spinning.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when torch is imported, later


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; a user's mistake ends in one line on stderr and exit status 2.

    Parameters
    ----------
    arguments
        The words after ``neurofb``; those of the process by default.

    Examples
    --------
    >>> main(["list", "rules"])  # doctest: +ELLIPSIS
    rules (neurofb.feedback)
    ...
    0
    """
    options = parser_of(_COMMANDS).parse_args(arguments)
    try:
        return options.command(options) or 0
    except (ValueError, ArithmeticError, OSError, ImportError, MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "memory" not in str(error):
            raise  # torch has no class of its own for a CPU that is out of memory
        text = " ".join(str(error).split()) or type(error).__name__
        print(f"neurofb {options.name}: {text}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        go_on = getattr(options, "go_on", "--resume goes on from here")
        print(f"neurofb {options.name}: stopped; {go_on}", file=sys.stderr)
        return 130


def _demo(options: argparse.Namespace) -> None:
    from neurofb import labels
    from neurofb.compact import compact
    from neurofb.gather import layer_dataset
    from neurofb.overview import overview
    from neurofb.plot import figure5, save_figure
    from neurofb.recipes import call_recipe
    from neurofb.study import Study, run_study

    study = call_recipe(f"{_recipes_folder('models') / 'figure5.py'}::{options.preset}")
    if not isinstance(study, Study):
        raise ValueError(f"--preset {options.preset} is not a study")
    runs, seeds = study.num_runs, len(study.seeds)
    print(f"{study.name}: {runs} runs, {len(study.conditions)} conditions × {seeds} seeds")
    tree = run_study(
        study,
        options.out,
        workers=options.workers,
        resume=options.resume,
        overwrite=options.overwrite,
        cache=_cache(),
    )
    dataset = layer_dataset(tree, "retina_2")
    save_figure(figure5(dataset), options.out / "figure5.png", dataset)
    labels.save(compact(tree), options.out / "study.nc")
    print(overview(tree))
    print(f"figure: {options.out / 'figure5.png'}\ndataset: {options.out / 'study.zarr'}")


def _run(options: argparse.Namespace) -> None:
    from neurofb.config import RunConfig, change
    from neurofb.dry_run import dry_run, dry_run_study
    from neurofb.overview import overview
    from neurofb.recipes import call_recipe, load_recipe, returns_dataset
    from neurofb.run import run
    from neurofb.simulation import simulation_command
    from neurofb.study import Study, run_study
    from neurofb.training.distributed import join

    if returns_dataset(load_recipe(options.recipe)):
        simulation_command(options, dict(_setting(text) for text in options.set))
        return
    recipe = call_recipe(options.recipe)
    if isinstance(recipe, Study):
        if options.set or options.seed is not None or options.device:
            raise ValueError(
                "--set, --seed and --device are for a run, not for a study; give a recipe of one "
                "run, or scan it: neurofb scan RECIPE --over NAME=VALUES --store STORE"
            )
        if options.dry_run:
            print(dry_run_study(recipe, options.workers, _cache()))
            return
        _need_output(options)
        tree = run_study(
            recipe,
            options.out,
            workers=options.workers,
            resume=options.resume,
            overwrite=options.overwrite,
            cache=_cache(),
        )
        print(overview(tree))
        print(f"dataset: {options.out / 'study.zarr'}")
        return
    if not isinstance(recipe, RunConfig):
        raise ValueError(
            f"recipe {options.recipe!r} returns neither a run nor a study (one that computes "
            "a Dataset must be annotated so, `-> xr.Dataset`)"
        )
    if options.workers is not None:
        raise ValueError("--workers is for a study, not for a run")
    settings = dict(_setting(text) for text in options.set)
    _refuse_arguments(options.recipe, settings)
    if options.seed is not None:
        settings["seed"] = str(options.seed)
    if options.device is not None:
        settings["device"] = options.device
    config = change(recipe, settings)
    if options.dry_run:
        print(dry_run(config, _cache()))
        return
    _need_output(options)
    result = run(
        config, options.out, resume=options.resume, overwrite=options.overwrite, cache=_cache()
    )
    if join().is_first:
        print(f"test accuracy {float(result.dataset['test_accuracy']):.3f}")
        print(f"dataset: {options.out / 'result.zarr'}")


def _scan(options: argparse.Namespace) -> int:
    from neurofb.scan.commands import scan_command

    return scan_command(options)


def _report(options: argparse.Namespace) -> None:
    from neurofb.report import write_report

    out = options.out or options.result.with_suffix(".html")
    print(f"report: {write_report(options.result, out)}")


def _analyse(options: argparse.Namespace) -> None:
    from neurofb import labels
    from neurofb.plot import save_figure
    from neurofb.recipes import call_recipe

    address = options.recipe if "::" in options.recipe else f"{options.recipe}::analyse"
    answer = call_recipe(address, labels.load(options.result))
    if not isinstance(answer, tuple) or len(answer) != 2:
        raise ValueError(f"recipe {address!r} must return a dataset and a dict of figures")
    dataset, figures = answer
    options.out.mkdir(parents=True, exist_ok=True)
    path = labels.save(dataset, options.out / "analysis.zarr")
    for name, figure in figures.items():
        print(f"figure: {save_figure(figure, options.out / f'{name}.png', dataset)}")
    print(f"dataset: {path}")


def _figure(options: argparse.Namespace) -> None:
    from neurofb import labels, plot
    from neurofb.gather import layer_dataset
    from neurofb.listing import FIGURES

    if options.figure not in FIGURES:
        raise ValueError(f"figure {options.figure!r} is not one of {', '.join(FIGURES)}")
    dataset = layer_dataset(labels.load(options.result), options.layer)
    figure = getattr(plot, FIGURES[options.figure])(dataset)
    print(f"figure: {plot.save_figure(figure, options.out, dataset)}")


def _list(options: argparse.Namespace) -> None:
    from neurofb.listing import listing

    print(listing(options.what))


def _setting(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not separator or not name:
        raise ValueError(f"--set {text!r} must be NAME=VALUE")
    return name, value


def _refuse_arguments(address: str, settings: Mapping[str, str]) -> None:
    """Refuse settings that are none of a run, but arguments of the recipe."""
    from neurofb.config import RunConfig
    from neurofb.recipes import load_recipe

    names = [name for name in settings if name not in RunConfig.__dataclass_fields__]
    arguments = inspect.signature(load_recipe(address)).parameters if names else ()
    for name in names:
        if name in arguments:
            raise ValueError(
                f"--set {name}={settings[name]}: {name!r} is an argument of the recipe, which "
                f"neurofb scan {address} --over {name}={settings[name]} --store STORE sets; --set "
                "changes settings of a run"
            )


def _need_output(options: argparse.Namespace) -> None:
    if options.out is None:
        raise ValueError("--out DIR is needed (or --dry-run)")


def _recipes_folder(name: str) -> Path:
    folder = Path(__file__).resolve().parent.parent / name
    if not folder.is_dir():
        raise ValueError(f"the folder {name}/ of recipes is not beside the package: use a clone")
    return folder


def _cache() -> Path:
    from neurofb.data.cache import default_cache

    return default_cache()


_COMMANDS = {
    "demo": _demo,
    "run": _run,
    "scan": _scan,
    "analyse": _analyse,
    "figure": _figure,
    "report": _report,
    "list": _list,
}


if __name__ == "__main__":
    sys.exit(main())
