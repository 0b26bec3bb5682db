"""Simulations: recipes that compute a Dataset themselves, with arguments given as text."""

import argparse
import difflib
import inspect
import json
import shutil
import time
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import xarray as xr
from pydantic import TypeAdapter, ValidationError
from pydantic_core import to_jsonable_python

from neurofb import labels
from neurofb.claim import CONFIG, RESULT
from neurofb.config import difference
from neurofb.recipes import load_recipe, returns_dataset
from neurofb.training.device import resolve_device

#: how Python's words are written in JSON
_WORDS = {"None": "null", "True": "true", "False": "false"}


def arguments_of(address: str, settings: Mapping[str, str]) -> dict[str, Any]:
    r"""Return all arguments of a simulation's call: those given as text, the defaults else.

    Parameters
    ----------
    address
        Of a recipe that is annotated to return an `xr.Dataset`.
    settings
        Argument → value as text: JSON, a plain text, or for a tuple values with commas between; it
        must be what the argument's annotation allows. ``device`` is a torch device that is there,
        or ``auto``.

    Raises
    ------
    ValueError
        If the recipe computes no Dataset, has no such argument, or one has a value that is not
        allowed, or none.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     recipe = Path(folder) / "wave.py"
    ...     text = "import xarray as xr\ndef wave(gain: float = 1.0) -> xr.Dataset: ..."
    ...     _ = recipe.write_text(text)
    ...     arguments_of(f"{recipe}::wave", {"gain": "2"})
    {'gain': 2.0}
    """
    recipe = load_recipe(address)
    if not returns_dataset(recipe):
        raise ValueError(f"recipe {address!r} is not annotated to return an xr.Dataset")
    parameters = inspect.signature(recipe).parameters
    annotations = typing.get_type_hints(recipe)
    given: dict[str, Any] = {}
    for name, text in settings.items():
        if name not in parameters:
            near = difflib.get_close_matches(name, parameters, n=3) or list(parameters)
            raise ValueError(
                f"{name}={text}: recipe {address!r} has no argument {name!r}; it has: "
                f"{', '.join(near) or 'none'}"
            )
        given[name] = _value(name, text, annotations.get(name, Any))
    found = {}
    for name, parameter in parameters.items():
        found[name] = given.get(name, parameter.default)
        if found[name] is inspect.Parameter.empty:
            raise ValueError(f"recipe {address!r} needs the argument {name!r}: --set {name}=VALUE")
    if isinstance(found.get("device"), str):
        found["device"] = str(resolve_device(found["device"]))
    return found


def simulate(
    address: str,
    arguments: Mapping[str, Any],
    folder: Path | None = None,
    *,
    resume: bool = False,
    overwrite: bool = False,
) -> xr.Dataset:
    """Compute a simulation's Dataset, and save it whole or not at all.

    Parameters
    ----------
    address
        Of the recipe.
    arguments
        All its arguments, as `arguments_of` returns them.
    folder
        Where ``result.zarr`` and ``config.json`` go; None keeps nothing on disk.
    resume, overwrite
        What to do with a result that is in the folder already: return it, or start again. Without
        either it is refused. A simulation without a result is in nobody's way.

    Returns
    -------
    xr.Dataset
        What the recipe returns; in its attributes also what it lacks of the provenance
        (`neurofb.labels.provenance`), times, and recipe and arguments as ``neurofb_config``.

    Raises
    ------
    ValueError
        If the folder holds something else or the same with other arguments, or the recipe returns
        no Dataset.

    Examples
    --------
    >>> simulate("models/linear_modes.py::oja", {"num_steps": 100})  # doctest: +SKIP
    """
    said = {"recipe": address, "arguments": to_jsonable_python(dict(arguments), fallback=repr)}
    config = json.dumps(said)
    if folder is not None and _claim(Path(folder), config, resume, overwrite):
        return labels.load(Path(folder) / RESULT).to_dataset()
    recipe = load_recipe(address)
    wall, cpu = time.perf_counter(), time.process_time()
    answer = recipe(**arguments)
    if not isinstance(answer, xr.Dataset):
        raise ValueError(f"recipe {address!r} returns a {type(answer).__name__}, not a Dataset")
    seed = arguments.get("seed")
    standard = labels.provenance(
        title=(inspect.getdoc(recipe) or address).partition("\n")[0],
        seed=seed if isinstance(seed, int) else None,
    )
    answer.attrs = {**standard, **answer.attrs, "neurofb_config": config}
    answer.attrs["wall_seconds"] = time.perf_counter() - wall
    answer.attrs["cpu_seconds"] = time.process_time() - cpu
    if folder is not None:
        labels.save(answer, Path(folder) / RESULT)
    return answer


def simulation_command(options: argparse.Namespace, settings: Mapping[str, str]) -> None:
    """Do what ``neurofb run`` says of a simulation: compute it, or list its arguments.

    Parameters
    ----------
    options
        Those of ``neurofb run``.
    settings
        Argument → value as text; ``--seed`` and ``--device`` count as arguments too.

    Raises
    ------
    ValueError
        If an option is not for a simulation, or as `arguments_of` and `simulate`.

    Examples
    --------
    >>> from neurofb.arguments import EXAMPLES, parser_of
    >>> parser = parser_of(dict.fromkeys(EXAMPLES, print))
    >>> simulation_command(parser.parse_args(["run", "a.py::f", "--workers", "2"]), {})
    Traceback (most recent call last):
    ValueError: --workers is for a study, not for a simulation
    """
    if options.workers is not None:
        raise ValueError("--workers is for a study, not for a simulation")
    both = {"seed": options.seed, "device": options.device}
    given = {name: str(value) for name, value in both.items() if value is not None}
    arguments = arguments_of(options.recipe, {**settings, **given})
    if options.dry_run:
        print(describe(options.recipe, arguments))
        return
    if options.out is None:
        raise ValueError("--out DIR is needed (or --dry-run)")
    how = {"resume": options.resume, "overwrite": options.overwrite}
    simulate(options.recipe, arguments, options.out, **how)
    print(f"dataset: {options.out / RESULT}")


def describe(address: str, arguments: Mapping[str, Any]) -> str:
    """Return what a simulation would compute, as text: its title and its arguments.

    Examples
    --------
    >>> print(describe(f"{__file__}::describe", {"gain": 2.0}))
    Return what a simulation would compute, as text: its title and its arguments.
      gain = 2.0
    """
    title = (inspect.getdoc(load_recipe(address)) or address).partition("\n")[0]
    return "\n".join([title, *(f"  {name} = {value!r}" for name, value in arguments.items())])


def _value(name: str, text: str, annotation: Any) -> Any:
    """Read an argument's value; the readings of a text are tried from the strictest on."""
    adapter: TypeAdapter[Any] = TypeAdapter(annotation)
    parts = [_WORDS.get(part.strip(), part.strip()) for part in text.split(",")]
    readings = [
        _WORDS.get(text, text),
        f"[{','.join(parts)}]",
        json.dumps(text),
        json.dumps([part.strip() for part in text.split(",")]),
    ]
    reasons = []
    for reading in readings:
        try:
            return adapter.validate_json(reading, strict=True)
        except ValidationError as error:
            problem = error.errors(include_url=False)[0]
            if problem["type"] != "json_invalid":
                reasons.append(problem["msg"].removeprefix("Value error, "))
    allowed = inspect.formatannotation(annotation)
    raise ValueError(f"{name}={text}: allowed is {allowed} ({reasons[0]})")


def _claim(folder: Path, config: str, resume: bool, overwrite: bool) -> bool:
    """Take the folder for this simulation, or refuse; tell whether it is finished."""
    if resume and overwrite:
        raise ValueError("resume=True and overwrite=True exclude each other")
    path, result = folder / CONFIG, folder / RESULT
    if path.exists() and not result.exists():
        _read(path)  # of a simulation that was refused or cut short: the folder is free
    elif result.exists():
        old = _read(path)
        if not resume and not overwrite:
            raise ValueError(
                f"folder={str(folder)!r} holds a simulation already; resume it, overwrite it, or "
                "take another folder"
            )
        changed = difference(json.dumps(old), json.dumps(_comparable(config)))
        if resume and changed:
            text = "; ".join(changed)
            raise ValueError(
                f"folder={str(folder)!r} holds a simulation with other settings: {text}"
            )
        if resume:
            return True
        shutil.rmtree(result)
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f"{CONFIG}.partial"
    partial.write_text(config, encoding="utf-8")
    partial.replace(path)
    return False


def _read(path: Path) -> dict[str, Any]:
    """Return the settings of a simulation's folder; whatever else it holds is refused."""
    try:
        return _comparable(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        raise ValueError(
            f"folder={str(path.parent)!r} holds a run, or a result of something else; take another "
            "folder, or delete it yourself"
        ) from None


def _comparable(config: str) -> dict[str, Any]:
    """Return stored settings; from which folder a recipe was called makes no difference."""
    tree = json.loads(config)
    return {"recipe": Path(tree["recipe"]).name, **tree["arguments"]}
