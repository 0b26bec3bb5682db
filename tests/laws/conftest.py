"""The one list of pathways and the one list of layers that every feedback law is tested on.

A new rule is tested by one name in `PATHWAYS`, a new kind of layer by one in `LAYERS`.
"""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from neurofb import feedback as fb

PATHWAYS: dict[str, fb.PathwaySpec] = {
    "exact": fb.Exact(),
    "random": fb.Random(),
    "random_kp": fb.Random(learning=fb.KolenPollack()),
    "weight_mirror": fb.Random(learning=fb.WeightMirror()),
    "usf": fb.SignSymmetric(),
    "brsf": fb.SignSymmetric(magnitude="batch_random"),
    "frsf": fb.SignSymmetric(magnitude="fixed_random"),
    "fixed": fb.LowRank(rank=2, learning=fb.Fixed()),
    "normative": fb.LowRank(rank=2, learning=fb.Normative()),
    "oja": fb.LowRank(rank=2),
    "oja_raw": fb.LowRank(rank=2, learning=fb.Oja(normalise=False)),
    "subspace": fb.LowRank(rank=2, learning=fb.Subspace()),
    "kernel_in_p_subspace": fb.LowRank(rank=2, learning=fb.Subspace(), spatial_factor="P"),
    "norm_of_w": fb.LowRank(rank=2, match_energy=True),
    "kernel_in_p_norm_of_w": fb.LowRank(rank=2, match_energy=True, spatial_factor="P"),
    "kp": fb.LowRank(rank=2, learning=fb.KolenPollack()),
    "kernel_in_p_kp": fb.LowRank(rank=2, learning=fb.KolenPollack(), spatial_factor="P"),
    "direct_kp": fb.Direct(source="readout", rank=2, learning=fb.KolenPollack()),
    "factored_kp": fb.LowRank(rank=2, learning=fb.FactoredKolenPollack()),
    "svd_refresh": fb.LowRank(rank=2, learning=fb.SvdRefresh(every=2)),
    "svd_start": fb.LowRank(rank=2, start="svd", learning=fb.Fixed()),
    "kernel_in_p_fixed": fb.LowRank(rank=2, learning=fb.Fixed(), spatial_factor="P"),
    "kernel_in_p_oja": fb.LowRank(rank=2, spatial_factor="P"),
    "kernel_in_p_normative": fb.LowRank(rank=2, spatial_factor="P", learning=fb.Normative()),
    "kernel_in_p_factored_kp": fb.LowRank(
        rank=2, spatial_factor="P", learning=fb.FactoredKolenPollack()
    ),
    "direct_oja": fb.Direct(source="readout", rank=2),
    "direct_fixed": fb.Direct(source="readout", rank=2, learning=fb.Fixed()),
    "dfa": fb.DirectRandom(),
    "drtp": fb.DirectRandom(signal="target"),
    "sparse_sign_dfa": fb.DirectRandom(signal="sign", density=0.5),
    "direct_dense_kp": fb.DirectRandom(learning=fb.KolenPollack()),
    "direct_factored_kp": fb.Direct(source="readout", rank=2, learning=fb.FactoredKolenPollack()),
}


class Net(nn.Module):
    """A convolution in the middle, so that all pathways fit; programs train it in processes."""

    def __init__(self) -> None:
        super().__init__()
        self.below = nn.Conv2d(2, 4, 3, padding=1)
        self.layer = nn.Conv2d(4, 6, 3, padding=1)
        self.readout = nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a = torch.tanh(self.layer(torch.relu(self.below(x))))
        return self.readout(a.mean((2, 3)))


@dataclass(frozen=True)
class LayerCase:
    """A layer and the shape of its input."""

    make: Callable[[], nn.Module]
    shape: tuple[int, ...]
    batched: bool = True

    @property
    def is_convolution(self) -> bool:
        return len(self.shape) > 2 and isinstance(self.make(), nn.Conv2d)


def _conv(shape: tuple[int, ...] = (2, 4, 6, 5), **settings: object) -> LayerCase:
    return LayerCase(
        lambda: nn.Conv2d(shape[-3], 6, **{"kernel_size": 3, **settings}), shape, len(shape) == 4
    )


LAYERS: dict[str, LayerCase] = {
    "linear_1d": LayerCase(lambda: nn.Linear(5, 4), (5,), batched=False),
    "linear_2d": LayerCase(lambda: nn.Linear(5, 4), (3, 5)),
    "linear_3d": LayerCase(lambda: nn.Linear(5, 4), (2, 3, 5)),
    "linear_without_bias": LayerCase(lambda: nn.Linear(4, 6, bias=False), (3, 4)),
    "conv": _conv(),
    "conv_1x1": _conv(kernel_size=1, bias=False),
    "conv_stride": _conv(stride=2, padding=1),
    "conv_stride_remainder": _conv(stride=(2, 3), padding=(1, 0)),
    "conv_dilation": _conv(dilation=2, padding=2),
    "conv_groups": _conv(groups=2, padding=1),
    "conv_depthwise": LayerCase(lambda: nn.Conv2d(4, 8, 3, padding=1, groups=4), (2, 4, 4, 5)),
    "conv_all": _conv(stride=2, padding=(2, 1), dilation=(1, 2), groups=2),
    "conv_same": _conv(padding="same", dilation=2),
    "conv_valid": _conv(padding="valid"),
    "conv_even_same": _conv(kernel_size=(4, 2), padding="same"),
    "conv_even": _conv(kernel_size=4, stride=2, padding=1),
    "conv_reflect": _conv(padding=1, padding_mode="reflect"),
    "conv_circular_stride": _conv(padding=(2, 1), stride=2, padding_mode="circular"),
    "conv_replicate_same": _conv(padding="same", padding_mode="replicate"),
    "conv_few_in_many_out": LayerCase(
        lambda: nn.Conv2d(3, 18, (3, 2), padding=1, dilation=(1, 2)), (2, 3, 4, 5)
    ),
    "conv_unbatched": _conv((4, 6, 5), padding=1),
    "conv_unbatched_reflect": _conv((4, 6, 5), padding=1, padding_mode="reflect"),
}


class Sandwich(nn.Module):
    """h = tanh(below·x), layer, tanh, readout over everything: every layer case fits in."""

    def __init__(self, case: LayerCase) -> None:
        super().__init__()
        self.below = nn.Parameter(torch.randn(case.shape[-1]))
        self.layer = case.make()
        self.batched = case.batched
        with torch.no_grad():
            out = self.layer(torch.zeros(case.shape))
        self.readout = nn.Linear(out[0].numel() if case.batched else out.numel(), 3)

    def forward(self, x: Tensor) -> Tensor:
        a = self.layer(torch.tanh(self.below * x))
        return self.readout(torch.tanh(a).flatten(1 if self.batched else 0))


@pytest.fixture(params=PATHWAYS.values(), ids=PATHWAYS.keys())
def spec(request: pytest.FixtureRequest) -> fb.PathwaySpec:
    return request.param


@pytest.fixture(params=LAYERS.values(), ids=LAYERS.keys())
def case(request: pytest.FixtureRequest) -> LayerCase:
    return request.param


@pytest.fixture(params=["Q", "P"])
def placement(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def sandwich() -> Callable[..., tuple[Sandwich, Tensor]]:
    """Return a maker of the network around a layer, and of an input for it."""

    def make(case: LayerCase, dtype: torch.dtype = torch.float64) -> tuple[Sandwich, Tensor]:
        return Sandwich(case).to(dtype), torch.randn(case.shape, dtype=dtype)

    return make


@pytest.fixture
def attached() -> Callable[..., nn.Module]:
    """Return a function that attaches a pathway, its rank clipped to what the layer allows."""

    def put(network: nn.Module, spec: fb.PathwaySpec, x: Tensor, seed: int = 0) -> nn.Module:
        if isinstance(spec, fb.LowRank | fb.Direct):
            spec = type(spec)(**{**vars(spec), "clip_rank": True})
        fb.attach(network, {"layer": spec}, example_input=x, seed=seed)
        if network.layer.pathway.needs_targets:  # shown again in every forward pass
            network.layer.register_forward_pre_hook(
                lambda layer, inputs: fb.present_targets(layer, torch.arange(len(inputs[0])) % 3)
            )
        return network

    return put


@pytest.fixture
def usable(spec: fb.PathwaySpec, case: LayerCase) -> bool:
    """Whether the pathway supports the layer; what is refused is tested in tests/feedback."""
    return case.batched or not isinstance(spec, fb.Direct | fb.DirectRandom)


@pytest.fixture
def dense() -> Callable[[nn.Module, tuple[int, ...]], Tensor]:
    """Return the matrix of a layer's linear part, built column by column."""

    def build(layer: nn.Module, shape: tuple[int, ...]) -> Tensor:
        dtype = layer.weight.dtype
        size = torch.Size(shape).numel()
        with torch.no_grad():
            offset = layer(torch.zeros(shape, dtype=dtype))
            columns = []
            for i in range(size):
                unit = torch.zeros(size, dtype=dtype)
                unit[i] = 1
                columns.append((layer(unit.reshape(shape)) - offset).flatten())
        return torch.stack(columns, 1)

    return build


@pytest.fixture
def effective_weight() -> Callable[[nn.Module], Tensor]:
    """Return the kernel whose transpose a layer-to-layer pathway took the last error through."""

    def build(layer: nn.Module) -> Tensor:
        pathway = layer.pathway
        if pathway.rule.startswith("exact"):
            return layer.weight.detach()
        if pathway.rule.startswith("random"):
            return pathway.B.detach()
        if pathway.rule.startswith("sign"):
            pathway.fired -= 1
            magnitudes = pathway.magnitudes(layer.weight.shape)
            pathway.fired += 1
            return magnitudes * layer.weight.detach().sign()
        q, p = pathway.Q.detach(), pathway.P.detach()
        if isinstance(layer, nn.Linear):
            out = (q @ p).T
            return (
                out * layer.weight.detach().norm() / out.norm() if pathway.matches_energy else out
            )
        out = torch.zeros_like(layer.weight)
        c_out, c_group, ky, kx = out.shape
        per_group, rank = c_out // layer.groups, p.shape[1]
        for o in range(c_out):
            for i in range(c_group):
                for y in range(ky):
                    for x in range(kx):
                        for r in range(rank):
                            row = q[(o // per_group) * rank + r, i]
                            column = p[o, r]
                            q_value = row[y, x] if row.numel() > 1 else row[0, 0]
                            p_value = column[y, x] if column.numel() > 1 else column[0, 0]
                            out[o, i, y, x] += q_value * p_value
        return out * layer.weight.detach().norm() / out.norm() if pathway.matches_energy else out

    return build
