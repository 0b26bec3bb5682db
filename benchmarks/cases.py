"""The networks, batches and pathways that the step-time and the GPU benchmark time."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from neurofb import feedback as fb
from neurofb.feedback.trace import trace
from neurofb.networks import RetinaVVSConfig

Pathways = Mapping[str, fb.PathwaySpec]


@dataclass(frozen=True, kw_only=True)
class Case:
    """A network with its batch, and the pathways to put on it (None: plain backpropagation)."""

    name: str
    build: Callable[[], nn.Module]
    input_shape: tuple[int, ...]
    pathways: Mapping[str, Pathways | None]
    channels_last: bool = False
    classes: int = 10
    note: str = ""


@dataclass
class Trainee:
    """A network on a device and what one training step needs."""

    network: nn.Module
    optimiser: torch.optim.Optimizer
    images: Tensor
    labels: Tensor
    dtype: torch.dtype

    def step(self) -> None:
        """Run forward, backward (with the pathways' learning) and optimiser."""
        self.optimiser.zero_grad(set_to_none=True)
        loss = self.loss()
        loss.backward()
        self.optimiser.step()

    def loss(self) -> Tensor:
        """Return the loss of the batch; below float32 the network runs under autocast."""
        device = self.images.device.type
        context: AbstractContextManager = nullcontext()
        if self.dtype in (torch.bfloat16, torch.float16):
            context = torch.autocast(device, dtype=self.dtype)
        with context:
            logits = self.network(self.images)
        return F.cross_entropy(logits.float(), self.labels)


def make_trainee(
    case: Case,
    variant: str,
    *,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
    rate: float = 1e-5,
) -> Trainee:
    """Return a network with the pathways of a variant, equal from call to call.

    The optimiser is plain SGD for weights and feedback matrices alike: one pass over memory, so
    that it hides the rule as little as possible.
    """
    network = case.build()
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(case.input_shape, generator=generator)
    labels = torch.randint(case.classes, case.input_shape[:1], generator=generator)
    pathways = case.pathways[variant]
    if pathways is not None:
        fb.attach(network, pathways, example_input=images[:2], seed=2)
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    network.to(device, wide)
    images = images.to(device, wide)
    if case.channels_last:
        network = network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        images = images.contiguous(memory_format=torch.channels_last)
    optimiser = torch.optim.SGD(network.parameters(), lr=rate)
    return Trainee(network, optimiser, images, labels.to(device), dtype)


def mlp(*, width: int = 1024, batch: int = 512, rank: int = 32) -> Case:
    """Return the MLP: four hidden layers, a pathway on every layer but the first."""

    def build() -> nn.Module:
        torch.manual_seed(0)
        layers: dict[str, nn.Module] = {}
        for i in range(4):
            layers[f"hidden_{i + 1}"] = nn.Linear(width, width)
            layers[f"relu_{i + 1}"] = nn.ReLU()
        layers["readout"] = nn.Linear(width, 10)
        network = nn.Sequential()
        for name, layer in layers.items():
            network.add_module(name, layer)
        return network

    names = ["hidden_[234]", "readout"]

    def low_rank(learning: fb.Oja | fb.FactoredKolenPollack | fb.Normative | fb.Fixed) -> Pathways:
        # The readout has 10 outputs, so its rank is clipped to 10.
        return dict.fromkeys(names, fb.LowRank(rank=rank, learning=learning, clip_rank=True))

    return Case(
        name="mlp",
        build=build,
        input_shape=(batch, width),
        pathways={
            "BP": None,
            "exact": dict.fromkeys(names, fb.Exact()),
            "FA": dict.fromkeys(names, fb.Random()),
            "LDFA fixed": low_rank(fb.Fixed()),
            "LDFA Oja": low_rank(fb.Oja()),
            "LDFA Kolen-Pollack": low_rank(fb.FactoredKolenPollack()),
            "LDFA normative": low_rank(fb.Normative()),
            "dLDFA Oja": dict.fromkeys(
                ["hidden_[234]"], fb.Direct(source="readout", rank=min(rank, 10))
            ),
        },
        note=f"4 hidden layers of {width}, batch {batch}, r={rank} on all layers but the first",
    )


def retina(
    *,
    image_size: int = 32,
    kernel_size: int = 9,
    width: int = 32,
    batch: int = 64,
    rank: int = 4,
    pool: int = 2,
    hidden: int = 128,
    channels_last: bool = True,
    name: str = "retina",
) -> Case:
    """Return the retina → VVS network: a pathway on every convolution but the first."""
    config = RetinaVVSConfig(
        image_size=image_size,
        kernel_size=kernel_size,
        retina_width=width,
        bottleneck=width,
        vvs_width=width,
        input_noise=0.0,
        pool=pool,
        hidden=hidden,
    )
    names = ["retina_2", "vvs_*"]

    def on_all(spec: fb.PathwaySpec) -> Pathways:
        return dict.fromkeys(names, spec)

    oja_q, oja_p = fb.LowRank(rank=rank), fb.LowRank(rank=rank, spatial_factor="P")
    kolen_pollack = fb.LowRank(rank=rank, learning=fb.FactoredKolenPollack())
    return Case(
        name=name,
        build=lambda: config.build(seed=0),
        input_shape=(batch, 1, image_size, image_size),
        pathways={
            "BP": None,
            "exact": on_all(fb.Exact()),
            "FA": on_all(fb.Random()),
            "LDFA fixed": on_all(fb.LowRank(rank=rank, learning=fb.Fixed())),
            "LDFA Oja": on_all(oja_q),
            "LDFA Oja, kernel in P": on_all(oja_p),
            "LDFA Kolen-Pollack": on_all(kolen_pollack),
            "LDFA normative": on_all(fb.LowRank(rank=rank, learning=fb.Normative())),
            "LDFA Oja, vvs_1": {"vvs_1": oja_q},
            "LDFA Oja, kernel in P, vvs_1": {"vvs_1": oja_p},
            "dLDFA Oja": {"vvs_1": fb.Direct(source="vvs_2", rank=rank)},
        },
        channels_last=channels_last,
        note=f"{width} channels, {kernel_size}×{kernel_size}, images of {image_size}, "
        f"batch {batch}, r={rank}, pool {pool}, hidden {hidden}",
    )


def layers_with_shapes(
    case: Case,
) -> Iterator[tuple[str, nn.Linear | nn.Conv2d, torch.Size, torch.Size]]:
    """Yield name, layer, input shape and output shape of the case's layers, in forward order."""
    network = case.build()
    calls = trace(network, torch.zeros(case.input_shape))
    for name, layer in network.named_modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            yield name, layer, calls[name].input_shape, calls[name].output_shape
