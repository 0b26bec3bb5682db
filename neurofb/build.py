"""From a configuration to a network with its pathways, and back from a run's folder."""

from pathlib import Path

import torch
from torch import Tensor, nn

from neurofb.claim import CONFIG
from neurofb.config import RunConfig, from_json
from neurofb.data import ImageSplits
from neurofb.feedback import (
    Exact,
    PathwaySpec,
    attach,
    exact_backward,
    fired,
)
from neurofb.feedback.match import matching
from neurofb.training.checkpoint import load_checkpoint


def build(config: RunConfig, data: ImageSplits) -> nn.Module:
    """Make the network of a run, with its pathways attached.

    Raises
    ------
    ValueError
        If the network's settings do not fit the data, the pathway not the layers, or if a pathway
        would never act.

    Examples
    --------
    >>> config = RunConfig(name="test")
    >>> build(config, config.data.load()).config.bottleneck  # doctest: +SKIP
    32
    """
    _check_fits(config, data)
    network = _plain(config)
    known = dict(network.named_modules())
    for layer in config.measurement.layers:
        if layer not in known:
            names = ", ".join(name for name in known if name)
            raise ValueError(f"measurement.layers: no layer {layer!r}; the network has {names}")
    _attach(network, config, data.train.images[:2])
    return network


def load_network(folder: Path) -> nn.Module:
    """Open the network that a run has left in its folder, with its pathways attached.

    Parameters
    ----------
    folder
        The run's folder; the last checkpoint in it is taken.

    Returns
    -------
    nn.Module
        In evaluation mode, on the CPU. `neurofb.feedback.detach` takes the pathways off.

    Raises
    ------
    ValueError
        If the folder holds no run or no checkpoint.

    Examples
    --------
    >>> load_network(Path("nowhere"))
    Traceback (most recent call last):
    ValueError: folder='nowhere' holds no run
    """
    folder = Path(folder)
    if not (folder / CONFIG).is_file():
        raise ValueError(f"folder={str(folder)!r} holds no run")
    config = from_json((folder / CONFIG).read_text(encoding="utf-8"))
    saved = load_checkpoint(folder)
    if saved is None:
        raise ValueError(f"folder={str(folder)!r} holds no checkpoint")
    net = config.network
    network = _plain(config)
    _attach(network, config, torch.zeros(2, net.in_channels, net.image_size, net.image_size))
    network.load_state_dict(saved["network"])
    return network.eval()


def pathways_of(config: RunConfig, network: nn.Module) -> dict[str, PathwaySpec]:
    """Return the pathway of every layer that carries one: name → settings, patterns resolved.

    A pattern (``*``, ``?``, ``[…]``; ``*`` goes across dots) means the linear and convolutional
    layers it matches. For a direct pathway it may also mean whole blocks, where it matches no
    layer: ``blocks.[0-9]``. `RunConfig.feedback_overrides` goes before `RunConfig.feedback`, and
    among overrides the first that matches a layer; `Exact` there leaves the layer as it is.

    Parameters
    ----------
    config
        The run.
    network
        The run's network, without pathways.

    Raises
    ------
    ValueError
        If a pattern matches nothing, or a pathway is set but no layer that carries it.

    Examples
    --------
    >>> from neurofb.feedback import LowRank, Random
    >>> config = RunConfig(name="test", feedback=Random(), feedback_layers=("vvs_*",),
    ...                    feedback_overrides={"vvs_2": LowRank(rank=4), "hidden": LowRank(rank=2)})
    >>> {k: v.rule for k, v in pathways_of(config, config.network.build(0)).items()}
    {'vvs_1': 'random', 'vvs_2': 'low_rank', 'hidden': 'low_rank'}
    """
    if not config.feedback_layers and config.feedback.rule != "exact":
        raise ValueError(
            f"feedback_layers=() names no layer for the pathway feedback.rule="
            f"{config.feedback.rule!r}; ('vvs_1',) brings the error to the retina's output"
        )
    chosen: dict[str, PathwaySpec] = {}
    for pattern in config.feedback_layers:
        for name in _matches(network, pattern, config.feedback, "feedback_layers"):
            chosen[name] = config.feedback
    overrides: dict[str, PathwaySpec] = {}
    for pattern, spec in config.feedback_overrides.items():
        for name in _matches(network, pattern, spec, "feedback_overrides"):
            overrides.setdefault(name, spec)
    chosen |= overrides
    back = {name for name, spec in overrides.items() if isinstance(spec, Exact)}
    order = [name for name, _ in network.named_modules() if name in chosen and name not in back]
    return {name: chosen[name] for name in order}


def num_parameters(network: nn.Module) -> int:
    """Return the number of weights and biases of a network, those of pathways left out.

    Examples
    --------
    >>> num_parameters(nn.Linear(3, 2))
    8
    """
    parameters = network.named_parameters()
    return sum(p.numel() for name, p in parameters if ".pathway." not in f".{name}")


def check_fired(network: nn.Module, images: Tensor) -> None:
    """Refuse a trained network one of whose pathways never acted.

    Pathways to the images, where nothing asks for an error, are let be.

    Parameters
    ----------
    network
        The network after training.
    images
        A batch of images for one forward pass.

    Raises
    ------
    ValueError
        With the names of the layers.

    Examples
    --------
    >>> check_fired(nn.Linear(3, 2), torch.zeros(1, 3))
    """
    silent = {name for name, count in fired(network).items() if not count}
    silent = silent - _fed_by_images(network, images) if silent else silent
    if silent:
        raise ValueError(
            f"feedback_layers: the pathway on {', '.join(sorted(silent))} never fired in training"
        )


def _plain(config: RunConfig) -> nn.Module:
    """Make a run's network without pathways, its layers factored where the run asks for it."""
    network = config.network.build(config.seed)
    return network if config.factorised is None else config.factorised.apply(network)


def _check_fits(config: RunConfig, data: ImageSplits) -> None:
    """Refuse data that do not fit the network's settings."""
    if not len(data.test.labels):
        raise ValueError(
            f"the data {data.name!r} hold no test image; a run ends with testing on some"
        )
    net = config.network
    channels, height, width = data.image_shape
    if (channels, height, width) != (net.in_channels, net.image_size, net.image_size):
        raise ValueError(
            f"network.image_size={net.image_size} and network.in_channels={net.in_channels} do not "
            f"fit the data {data.name!r}, whose images are {channels}×{height}×{width}"
        )
    if len(data.classes) != net.num_classes:
        raise ValueError(
            f"network.num_classes={net.num_classes} must be {len(data.classes)}, the number of "
            f"classes of the data {data.name!r}"
        )
    for name in ("alignment_images", "rank_images", "curl_images"):
        num_images = getattr(config.measurement, name)
        if num_images > data.train.num_images:
            raise ValueError(
                f"measurement.{name}={num_images} are more than the {data.train.num_images} "
                "training images"
            )


def _attach(network: nn.Module, config: RunConfig, images: Tensor) -> None:
    """Attach a run's pathways; refuse them if nothing would ever ask them for an error."""
    pathways = pathways_of(config, network)
    attach(network, pathways, example_input=images, seed=config.seed)
    if pathways and pathways.keys() <= _fed_by_images(network, images):
        named = ", ".join(repr(name) for name in pathways)
        raise ValueError(
            f"feedback_layers={config.feedback_layers}: a pathway on {named} takes the error to "
            "the images, where nothing learns, so it would never fire; the pathway that teaches "
            f"{named} lies on the layer behind it"
        )


def _matches(network: nn.Module, pattern: str, spec: PathwaySpec, setting: str) -> list[str]:
    """Return the modules that a pattern means, or say in which setting it means none."""
    try:
        return matching(network, pattern, spec)
    except ValueError as error:
        raise ValueError(f"{setting}: {error}") from None


def _fed_by_images(network: nn.Module, images: Tensor) -> set[str]:
    """Return the modules whose input depends on no parameter, so that no error is asked for."""
    fed: set[str] = set()
    names = {module: name for name, module in network.named_modules()}

    def look(module: nn.Module, inputs: tuple[object, ...], named: dict[str, object]) -> None:
        first = next(iter((*inputs, *named.values())), None)
        if isinstance(first, Tensor) and not first.requires_grad:
            fed.add(names[module])

    modes = {module: module.training for module in network.modules()}
    hooks = [m.register_forward_pre_hook(look, with_kwargs=True) for m in network.modules()]
    device = next(network.parameters()).device
    try:
        network.eval()
        with exact_backward(network), torch.enable_grad(), torch.random.fork_rng([]):
            network(images.to(device))
    finally:
        for hook in hooks:
            hook.remove()
        for module, mode in modes.items():
            module.training = mode
    return fed
