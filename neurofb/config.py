"""A typed run: everything that determines a result, checked, printable and changeable by name."""

import dataclasses
import difflib
import json
import math
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Discriminator,
    TypeAdapter,
    ValidationError,
    with_config,
)

from neurofb.data import DataSource, ShapesOnLeaves
from neurofb.feedback import Exact, PathwaySpec
from neurofb.networks import (
    ConvNetConfig,
    Factorised,
    MLPConfig,
    ResNetConfig,
    RetinaVVSConfig,
    VGGConfig,
    ViTConfig,
)
from neurofb.training import TrainingConfig


def _with_tag(settings: Any) -> Any:
    """Call settings without the tag, of when there was one network, those of `RetinaVVSConfig`."""
    if isinstance(settings, dict) and "network" not in settings:
        return {"network": "retina_vvs", **settings}
    return settings


#: The settings of a network, told apart by their field `network`.
Network = Annotated[
    RetinaVVSConfig | MLPConfig | VGGConfig | ConvNetConfig | ResNetConfig | ViTConfig,
    Discriminator("network"),
    BeforeValidator(_with_tag),
]

#: The settings of a pathway, told apart by their field `rule`.
Feedback = Annotated[PathwaySpec, Discriminator("rule")]


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """What is measured of the trained network, and with the same call of its nulls.

    Parameters
    ----------
    layers
        Layers whose receptive fields are mapped; the first is the one that figures show. None are
        mapped with ``()``: for a network without receptive fields, or where only accuracy counts.
    num_probes, probe_std
        Low-contrast noise images over which the gradient is averaged, and their standard deviation
        (in the units of the images).
    fits
        Whether DoG and Gabor functions are fitted (the slowest measure).
    num_images
        Validation images on which a unit's activity decides whether it is alive.
    alignment_images
        Number of training images (the first ones, always the same) on which each layer's gradient
        is compared with backpropagation's (`neurofb.measures.alignment`) after the numbers of
        updates in ``training.snapshot_steps``, or at start and end where these are empty; 0
        measures none.
    rank_images
        Number of training images (the first ones) on which the effective rank of each layer's
        error, activity, gradient and update is measured (`neurofb.measures.error_rank`), at the
        same numbers of updates; 0 measures none. No rank is above the number of images in the
        sample view: compare runs of the same number.
    curl_images
        Number of training images (the first ones) on which the curl of the learning rule is
        measured (`neurofb.measures.rule_curl`), at the same numbers of updates; 0 measures none.
        The field is the update of these images before the optimiser, with ``training.flips``.
    curl_probes
        Random probes for it, each four forward and backward passes (eight where feedback matrices
        learn).

    Raises
    ------
    ValueError
        If a number is out of its range.

    Examples
    --------
    >>> Measurement().layers
    ('retina_2', 'retina_1')
    """

    layers: tuple[str, ...] = ("retina_2", "retina_1")
    num_probes: int = 48
    probe_std: float = 0.3
    fits: bool = True
    num_images: int = 500
    alignment_images: int = 0
    rank_images: int = 0
    curl_images: int = 0
    curl_probes: int = 50

    def __post_init__(self) -> None:
        for name in ("alignment_images", "rank_images", "curl_images"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 0")
        for name in ("num_probes", "num_images"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1")
        if self.curl_probes < 2:
            raise ValueError(f"curl_probes={self.curl_probes} must be at least 2")
        if not 0 < self.probe_std < math.inf:
            raise ValueError(f"probe_std={self.probe_std} must be positive and finite")


@with_config(ConfigDict(extra="forbid", ser_json_inf_nan="constants"))
@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """One training run with its measures.

    Parameters
    ----------
    name
        What the run reproduces, for titles.
    data, network, training, measurement
        Settings of the parts.
    factorised
        If given, the network's layers start as truncated SVDs of their weights and train the
        factors (`neurofb.networks.Factorised`).
    feedback, feedback_layers
        The pathway, and the layers (names or patterns) that carry it; all others keep
        backpropagation. The pathway on ``vvs_1`` brings the error to the retina's output.
    feedback_overrides
        Name or pattern → pathway of the layers it matches, among `feedback_layers` or beyond; the
        first pattern that matches a layer counts. `Exact` gives the layer back to backpropagation.
    seed
        Determines the start of weights and feedback, the order of images, augmentation and noise;
        below 2³². The data have a seed of their own.
    device
        "auto" (cuda, mps, cpu, the first there is) or a torch device.

    Examples
    --------
    >>> RunConfig(name="test").feedback.rule
    'exact'
    """

    name: str
    data: DataSource = ShapesOnLeaves()
    network: Network = RetinaVVSConfig()
    factorised: Factorised | None = None
    feedback: Feedback = Exact()
    feedback_layers: tuple[str, ...] = ()
    feedback_overrides: Mapping[str, Feedback] = field(default_factory=dict)
    training: TrainingConfig = TrainingConfig()
    measurement: Measurement = Measurement()
    seed: int = 0
    device: str = "auto"

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"seed={self.seed} must be at least 0 and below 2**32")
        if isinstance(self.feedback_layers, str):
            raise ValueError(
                f"feedback_layers={self.feedback_layers!r} must be a tuple of names, "
                f"({self.feedback_layers!r},)"
            )
        if self.training.on_divergence == "keep" and self.measurement.layers:
            raise ValueError(
                f"training.on_divergence='keep': measurement.layers={self.measurement.layers} must "
                "be (), there are no receptive fields of weights that are not finite"
            )
        steps, measure = self.training.snapshot_steps, self.measurement
        images = measure.alignment_images or measure.rank_images or measure.curl_images
        followed = measure.layers or images
        if steps and not followed:
            raise ValueError(
                f"training.snapshot_steps={steps} would hold nothing: measurement.layers=(), "
                "measurement.alignment_images=0, rank_images=0 and curl_images=0"
            )


def to_json(config: RunConfig) -> str:
    """Return the configuration as one line of JSON, in the order of the fields.

    Examples
    --------
    >>> from_json(to_json(RunConfig(name="test"))) == RunConfig(name="test")
    True
    """
    return _ADAPTER.dump_json(config).decode()


def from_json(text: str) -> RunConfig:
    """Return the configuration written by `to_json`.

    Raises
    ------
    ValueError
        If the text is not a valid configuration; one line that names the setting.

    Examples
    --------
    >>> from_json('{"name": "test", "seed": 3}').seed
    3
    """
    try:
        return _ADAPTER.validate_json(text)
    except ValidationError as error:
        raise ValueError(_explain(error)) from None


def change(config: RunConfig, settings: Mapping[str, str]) -> RunConfig:
    """Return the configuration with settings changed by dotted name.

    Parameters
    ----------
    config
        The configuration to start from.
    settings
        Dotted name → value as text: JSON where it parses as JSON, else a string.

    Raises
    ------
    ValueError
        If a name does not exist (with the nearest ones) or a value is not allowed.

    Examples
    --------
    >>> change(RunConfig(name="test"), {"training.num_steps": "10"}).training.num_steps
    10
    """
    tree: dict[str, Any] = json.loads(to_json(config))
    for name, text in settings.items():
        *path, last = name.split(".")
        node: Any = tree
        for depth, part in enumerate([*path, last]):
            if not isinstance(node, dict) or part not in node:
                where = ".".join(path[:depth])
                known = list(node) if isinstance(node, dict) else []
                near = difflib.get_close_matches(part, known, n=3) or known
                raise ValueError(
                    f"setting {name!r} does not exist; {where or 'a run'} has: {', '.join(near)}"
                )
            if depth < len(path):
                node = node[part]
        node[last] = _value(text)
    return from_json(json.dumps(tree))


def difference(old: str, new: str) -> list[str]:
    """Return one line for each setting in which two configurations (as JSON) differ.

    Raises
    ------
    ValueError
        If one of the texts is no JSON object.

    Examples
    --------
    >>> difference('{"a": {"b": 1}}', '{"a": {"b": 2}}')
    ['a.b: 1 → 2']
    """
    first, second = _flat(_object(old)), _flat(_object(new))
    missing = object()
    return [
        f"{name}: {first.get(name, 'absent')} → {second.get(name, 'absent')}"
        for name in dict.fromkeys([*first, *second])
        if first.get(name, missing) != second.get(name, missing)
    ]


def replace(config: RunConfig, **parts: Any) -> RunConfig:
    """Return the configuration with whole parts replaced (`dataclasses.replace`).

    Examples
    --------
    >>> replace(RunConfig(name="test"), seed=3).seed
    3
    """
    return dataclasses.replace(config, **parts)


_ADAPTER = TypeAdapter(RunConfig)


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _object(text: str) -> dict[str, Any]:
    try:
        tree = json.loads(text)
    except (ValueError, RecursionError):
        tree = None
    if not isinstance(tree, dict):
        raise ValueError(f"{text[:40]!r} is no configuration: it must be a JSON object")
    return tree


def _flat(tree: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(tree, dict):
        return {prefix.rstrip("."): tree}
    return {k: v for name, node in tree.items() for k, v in _flat(node, f"{prefix}{name}.").items()}


def _explain(error: ValidationError) -> str:
    """Put the first problem of a validation into one line."""
    problem = error.errors(include_url=False)[0]
    place = ".".join(str(part) for part in problem["loc"])
    message = problem["msg"].removeprefix("Value error, ")
    value = problem.get("input")
    shown = f" (given: {reprlib.repr(value)})" if not isinstance(value, dict) else ""
    return f"{place}: {message}{shown}" if place else message
