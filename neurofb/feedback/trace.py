"""What a network does with an example input: which modules run, in which order, on which shapes."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Call:
    """One module in one forward pass: position of its first call, number of calls, shapes."""

    position: int
    count: int
    input_shape: torch.Size
    output_shape: torch.Size


def trace(network: nn.Module, example_input: Tensor) -> dict[str, Call]:
    """Run the network once, without gradient and in eval mode, and record its modules' calls.

    Modes, buffers and the random state stay as they were.

    Parameters
    ----------
    network
        Any module that maps a tensor to a tensor.
    example_input
        A batch as the network expects it.

    Raises
    ------
    ValueError
        If the forward pass fails on the example.

    Examples
    --------
    >>> trace(nn.Sequential(nn.Linear(3, 2)), torch.zeros(5, 3))["0"].output_shape
    torch.Size([5, 2])
    """
    calls: dict[str, Call] = {}
    names = {module: name for name, module in network.named_modules()}

    def record(
        module: nn.Module, inputs: tuple[object, ...], named: dict[str, object], output: object
    ) -> None:
        inputs = (*inputs, *named.values())
        if not (inputs and isinstance(inputs[0], Tensor) and isinstance(output, Tensor)):
            return
        name = names[module]
        seen = calls.get(name)
        position, count = (seen.position, seen.count) if seen else (len(calls), 0)
        calls[name] = Call(position, count + 1, inputs[0].shape, output.shape)

    modes = {module: module.training for module in network.modules()}
    handles = [
        module.register_forward_hook(record, with_kwargs=True) for module in network.modules()
    ]
    devices = [example_input.device] if example_input.is_cuda else []
    try:
        network.eval()
        with torch.no_grad(), torch.random.fork_rng(devices):
            network(example_input)
    except (RuntimeError, TypeError) as error:
        shape = tuple(example_input.shape)
        raise ValueError(f"example_input of shape {shape} does not run: {error}") from error
    finally:
        for handle in handles:
            handle.remove()
        for module, training in modes.items():
            module.training = training
    return calls
