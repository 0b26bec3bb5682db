"""The networks, batches and pathways that the step-time and the GPU benchmark time."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from neurofb import feedback as fb
from neurofb.networks import RetinaVVSConfig, VGGConfig, ViTConfig

#: The errors of a softmax over ten classes sum to zero, so they have nine dimensions.
OUTPUT_RANK = 9

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
    change: Callable[[nn.Module], object] | None = None,
) -> Trainee:
    """Return a network with the pathways of a variant, equal from call to call.

    `change` is done to the network before it gets its optimiser, which is plain SGD for weights and
    feedback matrices alike: one pass over memory, so that it hides the rule as little as possible.
    """
    network = case.build()
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(case.input_shape, generator=generator)
    labels = torch.randint(case.classes, case.input_shape[:1], generator=generator)
    pathways = case.pathways[variant]
    if pathways is not None:
        fb.attach(network, pathways, example_input=images[:2], seed=2)
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    if change is not None:
        change(network)
    network.to(device, wide)
    images = images.to(device, wide)
    if case.channels_last:
        network = network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        images = images.contiguous(memory_format=torch.channels_last)
    optimiser = torch.optim.SGD(network.parameters(), lr=rate)
    return Trainee(network, optimiser, images, labels.to(device), dtype)


def variants(
    layers: Mapping[str, int], past: Mapping[str, int], source: str = "readout"
) -> dict[str, Pathways | None]:
    """Return backpropagation and the rules that are compared on every network.

    Parameters
    ----------
    layers
        Name or pattern of layers → rank of their low-rank feedback.
    past
        Name or pattern of the modules that get the error of `source` directly → its rank, at most
        `OUTPUT_RANK`.
    """

    def low_rank(learning: fb.Fixed | fb.Oja | fb.FactoredKolenPollack | fb.Normative) -> Pathways:
        return {name: fb.LowRank(rank=r, learning=learning) for name, r in layers.items()}

    return {
        "BP": None,
        "exact": dict.fromkeys(layers, fb.Exact()),
        "FA": dict.fromkeys(layers, fb.Random()),
        "LDFA fixed": low_rank(fb.Fixed()),
        "LDFA Oja": low_rank(fb.Oja()),
        "LDFA factored KP": low_rank(fb.FactoredKolenPollack()),
        "LDFA normative": low_rank(fb.Normative()),
        "DFA": dict.fromkeys(past, fb.DirectRandom(source=source)),
        "dLDFA Oja": {
            name: fb.Direct(source=source, rank=min(r, OUTPUT_RANK)) for name, r in past.items()
        },
    }


def mlp(*, width: int = 1024, batch: int = 512, rank: int | None = None) -> Case:
    """Return the MLP: four hidden layers, a pathway on every layer but the first."""
    rank = rank or width // 16

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

    hidden = {"hidden_[234]": rank}
    return Case(
        name="mlp",
        build=build,
        input_shape=(batch, width),
        pathways=variants({**hidden, "readout": min(rank, OUTPUT_RANK)}, hidden),
        note=f"4 hidden layers of {width}, batch {batch}, r={rank} on all layers but the first",
    )


def vgg(
    *, widths: tuple[int, ...] = (64, 128, 256, 512), batch: int = 64, image_size: int = 32
) -> Case:
    """Return the VGG-like network: r = output channels / 16 on every layer but the first."""
    config = VGGConfig(widths=widths, image_size=image_size, dropout=0.0)
    convolutions = {"conv_1_2": max(widths[0] // 16, 1)}
    for block, width in enumerate(widths[1:], start=2):
        convolutions[f"conv_{block}_*"] = max(width // 16, 1)
    layers = {**convolutions, "hidden": config.hidden // 16}
    return Case(
        name="vgg",
        build=lambda: config.build(seed=0),
        input_shape=(batch, 3, image_size, image_size),
        pathways=variants({**layers, "readout": OUTPUT_RANK}, layers),
        channels_last=True,
        note=f"two 3×3 convolutions each of {', '.join(map(str, widths))} channels, images of "
        f"{image_size}, batch {batch}, r = channels / 16 on all layers but the first",
    )


def vit(
    *, dim: int = 384, depth: int = 8, heads: int = 8, batch: int = 64, image_size: int = 32
) -> Case:
    """Return the vision transformer: r = dim / 16, three times that for queries, keys and values.

    DFA and dLDFA go to the inputs of whole blocks; past a layer of a block lies the residual
    branch, by which errors come back at no cost.
    """
    config = ViTConfig(
        dim=dim, depth=depth, heads=heads, image_size=image_size, dropout=0.0, drop_path=0.0
    )
    rank = dim // 16
    within = {"attention.projection": rank, "attention.qkv": 3 * rank, "mlp.*": rank}
    layers = {f"blocks.*.{name}": r for name, r in within.items()} | {
        "readout": min(rank, OUTPUT_RANK)
    }
    blocks = {f"blocks.{i}": rank for i in range(1, depth)}
    pathways = variants(layers, blocks)
    inside = {f"blocks.*.{name}": fb.Direct(source="readout", rank=OUTPUT_RANK) for name in within}
    return Case(
        name="vit",
        build=lambda: config.build(seed=0),
        input_shape=(batch, 3, image_size, image_size),
        pathways={**pathways, "dLDFA Oja, every layer": inside},
        note=f"{depth} blocks of {dim} dimensions, {heads} heads, patch {config.patch}, images of "
        f"{image_size}, batch {batch}, r={rank} (qkv {3 * rank}); no dropout",
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
            "LDFA factored KP": on_all(kolen_pollack),
            "LDFA normative": on_all(fb.LowRank(rank=rank, learning=fb.Normative())),
            "LDFA Oja, vvs_1": {"vvs_1": oja_q},
            "LDFA Oja, kernel in P, vvs_1": {"vvs_1": oja_p},
            "DFA": on_all(fb.DirectRandom(source="readout")),
            "dLDFA Oja": {"vvs_1": fb.Direct(source="vvs_2", rank=rank)},
        },
        channels_last=channels_last,
        note=f"{width} channels, {kernel_size}×{kernel_size}, images of {image_size}, "
        f"batch {batch}, r={rank}, pool {pool}, hidden {hidden}",
    )
