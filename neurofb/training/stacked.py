"""Several networks of one architecture trained together, as one stack."""

import copy
import time
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from neurofb.data.images import ImageSplits
from neurofb.feedback import present_targets
from neurofb.feedback.stacked import why_not_stacked as why_no_pathways
from neurofb.training.arithmetic import Arithmetic, resolve_arithmetic
from neurofb.training.config import TrainingConfig
from neurofb.training.device import preserved_random_state, resolve_device
from neurofb.training.distributed import join
from neurofb.training.loop import TrainingResult
from neurofb.training.progress import Progress
from neurofb.training.session import NonFiniteLossError, Session, _to
from neurofb.training.stacked_forward import StackedForward, join_tensors
from neurofb.training.stacked_session import StackedSession

#: optimisers of `torch.optim` that treat every entry of a tensor by itself
ELEMENTWISE = (
    "ASGD",
    "Adadelta",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "NAdam",
    "RAdam",
    "RMSprop",
    "Rprop",
    "SGD",
)


def train_stacked(
    networks: Sequence[nn.Module],
    data: ImageSplits,
    config: TrainingConfig,
    *,
    seeds: Sequence[int],
    device: str = "auto",
    progress: bool = False,
) -> list[TrainingResult | NonFiniteLossError]:
    """Train networks of one architecture in place, as one stack: for many seeds of a small network.

    Each ends as `train` would have left it with its seed, up to rounding: it sees its own order of
    images, augmentation, noise and dropout, and its own learning of the feedback. What is saved is
    the time between the operations, so it pays where these are small.

    Parameters
    ----------
    networks
        Alike but for their numbers; pathways, if any, are attached before.
    data
        Images; those of `validation` are looked at after each epoch.
    config
        Settings; no snapshots.
    seeds
        One a network, as for `train`.
    device
        ``"auto"`` or a name; cpu or cuda.
    progress
        Show how far the first network is, on stderr.

    Returns
    -------
    list
        One entry a network. If its loss or a weight was not finite, the error that `train` would
        have raised; the others are not touched by it. The times are the stack's, in equal shares.
        Maps are never laid out channels-last here.

    Raises
    ------
    ValueError
        If networks and seeds do not fit each other or the data, or the networks cannot be stacked
        (`why_not_stacked`).

    Examples
    --------
    >>> from neurofb.data import ImageSet
    >>> images = ImageSet(images=torch.ones(8, 1, 4, 4), labels=torch.arange(8) % 2)
    >>> data = ImageSplits(
    ...     train=images, validation=images, test=images, classes=("a", "b"), name="toy"
    ... )
    >>> networks = [nn.Sequential(nn.Flatten(), nn.Linear(16, 2)) for _ in range(3)]
    >>> config = TrainingConfig(num_steps=3, batch_size=4)
    >>> results = train_stacked(networks, data, config, seeds=range(3))
    >>> [dict(result.history.sizes) for result in results][1:]
    [{'step': 3, 'epoch': 2}, {'step': 3, 'epoch': 2}]
    """
    _check_alike(networks, seeds)
    place = resolve_device(device)
    reason = why_not_stacked(networks[0], config, data.train.images[:2], device=str(place))
    if reason:
        raise ValueError(f"the networks cannot be stacked, train them one by one: {reason}")
    wall, cpu = time.perf_counter(), time.process_time()
    precision = resolve_arithmetic(config.precision, False, place).precision
    arithmetic = Arithmetic(precision=precision)
    data = _placed(data, place)
    with preserved_random_state(place):
        stack = StackedSession(
            [
                Session(network, data, config, seed, place, arithmetic, None, None, {}, join())
                for network, seed in zip(networks, seeds, strict=True)
            ]
        )
        bar = Progress(config.num_steps, 0, progress)
        try:
            for step in range(config.num_steps):
                stack.update(step)
                milestone = stack.look(step + 1)
                bar.update(step + 1, stack.sessions[0].history, milestone=milestone)
                if len(stack.errors) == len(networks):
                    break
        finally:
            bar.close()
            stack.separate()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return [
        stack.errors.get(number)
        or TrainingResult(
            history=session.history.dataset(),
            snapshots=None,
            arithmetic=arithmetic,
            device=str(place),
            wall_seconds=wall / len(networks),
            cpu_seconds=cpu / len(networks),
            resumed_from=0,
        )
        for number, session in enumerate(stack.sessions)
    ]


def why_not_stacked(
    network: nn.Module, config: TrainingConfig, images: Tensor, *, device: str = "cpu"
) -> str:
    """Return why networks like this one cannot be trained as a stack; "" if they can.

    Parameters
    ----------
    network
        One of the networks; it is not changed.
    config
        The training's settings.
    images
        A few images, for a trial: one step forwards and backwards.
    device
        Where it would run.

    Examples
    --------
    >>> network = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    >>> why_not_stacked(network, TrainingConfig(snapshot_steps=(0,)), torch.ones(2, 1, 2, 2))
    'snapshot_steps=(0,): no snapshots are taken in a stack'
    """
    name = config.optimiser.name
    place = torch.device(device)
    if config.snapshot_steps:
        return f"snapshot_steps={config.snapshot_steps}: no snapshots are taken in a stack"
    if config.svd_space is not None:
        return "svd_space=SVDSpaceTraining(...): factors are not retracted and cut in a stack"
    if name not in ELEMENTWISE:
        return (
            f"optimiser.name={name!r} does not treat each number by itself, as "
            f"{', '.join(ELEMENTWISE)} do"
        )
    if place.type not in ("cpu", "cuda"):
        return f"device={device!r} must be cpu or cuda"
    if join().count > 1:
        return "several processes train together here"
    if reason := why_no_pathways(network):
        return reason
    precision = resolve_arithmetic(config.precision, False, place).precision
    return _trial(network, images, place, Arithmetic(precision=precision))


def _trial(network: nn.Module, images: Tensor, device: torch.device, arithmetic: Arithmetic) -> str:
    """Run a copy of the network as a stack of one, there and back; return what goes wrong."""
    copies = [copy.deepcopy(network).to(device)]
    with preserved_random_state(device), warnings.catch_warnings():
        warnings.filterwarnings("error", message="There is a performance drop")
        try:
            forward = StackedForward(copies, device)
            forward.streams.begin([0])
            with arithmetic.autocast(device):
                logits = forward(*join_tensors(copies), images[None].to(device))
            present_targets(copies[0], torch.zeros(len(images), dtype=torch.int64, device=device))
            logits.float().sum().backward()
        except (RuntimeError, UserWarning) as error:
            first = str(error).strip().splitlines()[0]
            return f"{type(network).__name__} does not run inside torch.func.vmap: {first}"
    return ""


def _check_alike(networks: Sequence[nn.Module], seeds: Sequence[int]) -> None:
    """Refuse networks that differ in more than numbers, and seeds that do not fit them."""
    if not networks or len(networks) != len(seeds):
        raise ValueError(
            f"seeds={tuple(seeds)} must be one for each network, and there are {len(networks)}"
        )
    if min(seeds) < 0:
        raise ValueError(f"seeds={tuple(seeds)} must be integers >= 0")
    if len({id(network) for network in networks}) < len(networks):
        raise ValueError("networks: one of them is given twice; each seed needs its own")
    first = _structure(networks[0])
    for number, network in enumerate(networks):
        other = _structure(network)
        for name in {**first, **other}:
            if first.get(name) != other.get(name):
                raise ValueError(
                    f"networks[{number}] is no copy of networks[0]: {name!r} is "
                    f"{other.get(name, 'absent')}, there {first.get(name, 'absent')}"
                )


def _structure(network: nn.Module) -> dict[str, Any]:
    """Describe all of a network but the numbers in its parameters and buffers."""
    parts: dict[str, Any] = {}
    for name, module in network.named_modules():
        parts[name] = f"{type(module).__name__}({module.extra_repr()})"
        loose = [key for key, value in vars(module).items() if isinstance(value, Tensor)]
        if loose:
            parts[name] += f" with {loose}, tensors that are no buffers, of object {id(module)}"
    for name, tensor in (*network.named_parameters(), *network.named_buffers()):
        parts[f"{name} "] = tuple(tensor.shape), str(tensor.dtype), tensor.requires_grad
    return parts


def _placed(data: ImageSplits, device: torch.device) -> ImageSplits:
    """Return the data with what training looks at on the device, once for all the networks."""
    return ImageSplits(
        train=_to(data.train, device),
        validation=_to(data.validation, device),
        test=data.test,
        classes=data.classes,
        name=data.name,
        checksum=data.checksum,
    )
