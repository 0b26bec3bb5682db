import math

import pytest
import torch
from torch import nn

from neurofb.measures.factor_state import factor_state
from neurofb.networks import SVDConv2d, SVDLinear


def network() -> nn.Module:
    generator = torch.Generator().manual_seed(0)
    conv = nn.Conv2d(2, 4, 3)
    return nn.Sequential(
        SVDConv2d.from_dense(conv, 5), nn.Flatten(), SVDLinear(16, 6, rank=3, generator=generator)
    )


def test_the_start_is_orthonormal_and_holds_the_weights_energy():
    net = network()
    state = factor_state(net)
    assert state.layer.values.tolist() == ["0", "2"]
    assert state["rank"].values.tolist() == [5, 3]
    assert state["full_rank"].values.tolist() == [6, 6]
    assert (state.orthonormality_residual_u < 1e-5).all()
    assert (state.orthonormality_residual_v < 1e-5).all()
    for name, energy in zip(state.layer.values, state.energy.values, strict=True):
        layer = net.get_submodule(name)
        assert energy == pytest.approx(layer.s.square().sum().item(), rel=1e-5)


def test_known_values_where_the_factors_are_not_orthonormal():
    net = network()
    layer = net[2]
    with torch.no_grad():
        layer.U.mul_(2)
        layer.V.copy_(torch.randn(layer.V.shape, generator=torch.Generator().manual_seed(1)))
    state = factor_state(net).sel(layer="2")
    # UᵀU − 1 = 3 on the diagonal
    assert state.orthonormality_residual_u.item() == pytest.approx(3 * math.sqrt(3), rel=1e-5)
    assert state.orthonormality_residual_v.item() > 1
    weight = layer.dense_weight().detach()
    assert state.energy.item() == pytest.approx(weight.square().sum().item(), rel=1e-5)


def test_spread_counts_components():
    layer = SVDLinear(16, 6, rank=4)
    net = nn.Sequential(layer)
    for values, expected in (([1.0, -1.0, 1.0, 1.0], 4), ([0.0, 2.0, 0.0, 0.0], 1)):
        with torch.no_grad():
            layer.s.copy_(torch.tensor(values))
        assert factor_state(net).spread.item() == pytest.approx(expected, rel=1e-5)
    with torch.no_grad():
        layer.U[0, 0] = math.nan
    assert math.isnan(factor_state(net).orthonormality_residual_u.item())


def test_a_network_without_factors_is_refused_and_everything_is_labelled():
    with pytest.raises(ValueError, match="network has no factored layer"):
        factor_state(nn.Sequential(nn.Linear(3, 2)))
    state = factor_state(network())
    assert all({"units", "long_name"} <= set(v.attrs) for v in state.variables.values())
