"""Training in SVD space: what is added to the gradients of one step, and what is refused."""

import runpy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from neurofb import feedback as fb
from neurofb.networks.factorised import factored_layers
from neurofb.training import RankSchedule
from neurofb.training.local_losses import cosine_term, frobenius_term, hoyer_term

SVD_SPACE_RUN = runpy.run_path(str(Path(__file__).with_name("svd_space_run.py")))
CUTS = SVD_SPACE_RUN["CUTS"]
HIDDEN = SVD_SPACE_RUN["HIDDEN"]
PATHWAYS = SVD_SPACE_RUN["PATHWAYS"]
network = SVD_SPACE_RUN["network"]
control_of = SVD_SPACE_RUN["control_of"]
backward = SVD_SPACE_RUN["backward"]
gradients = SVD_SPACE_RUN["gradients"]


def test_terms_are_added_to_the_gradients():
    net = network("SSA-FA")
    backward(net)
    data = gradients(net)
    settings = {"alignment": "frobenius", "alignment_weight": 0.2, "hoyer_weight": 0.3}
    soft = {"orthogonality": "soft", "orthogonality_weight": 0.7}
    control_of(net, **settings, **soft).before_step()
    total = gradients(net)
    for name, layer in factored_layers(net).items():
        target = layer.pathway if name != "hidden_1" else None
        for key, other in (("U", "B_U"), ("s", "B_S"), ("V", "B_V")):
            x = layer.get_parameter(key).detach()
            expected = data[f"{name}.{key}"]
            if target is not None:
                expected = expected + 0.2 * frobenius_term(x, target.get_buffer(other))[1]
            if key == "s":
                expected = expected + 0.3 * hoyer_term(x)[1]
            else:
                expected = expected + 0.7 * 4 * x @ (x.T @ x - torch.eye(x.shape[1]))
            torch.testing.assert_close(total[f"{name}.{key}"], expected)
        assert torch.equal(total[f"{name}.bias"], data[f"{name}.bias"])


def test_direct_feedback_aligns_each_factor_with_the_pathway_that_it_meets():
    """U with the B_U on the next layer's input, V with that on its own; the readout has its own."""
    net = network("SSA-DFA")
    backward(net)
    data = gradients(net)
    control_of(net, alignment="subspace", alignment_weight=0.2, orthogonality="none").before_step()
    total = gradients(net)
    layers = factored_layers(net)
    targets = {
        "hidden_1.U": layers["hidden_2"].pathway.B_U,
        "hidden_2.V": layers["hidden_2"].pathway.B_U,
        "readout.U": layers["readout"].pathway.B_U,
        "readout.V": layers["readout"].pathway.B_V,
    }
    for name, gradient in total.items():
        if name in targets:
            b, x = targets[name], net.get_parameter(name).detach()
            torch.testing.assert_close(gradient, data[name] - 0.2 * 2 * b @ (b.T @ x))
        else:
            assert torch.equal(gradient, data[name]), name


@pytest.mark.parametrize("method", PATHWAYS)
def test_the_cosine_term_is_that_of_output_and_error(method: str):
    net = network(method)
    control = control_of(net, cosine_weight=0.5)
    seen: dict[str, tuple[Tensor, Tensor]] = {}
    for name, layer in factored_layers(net).items():

        def keep(module: nn.Module, inputs: tuple[Tensor], out: Tensor, name: str = name) -> None:
            a, h = out.detach(), inputs[0].detach()
            out.register_hook(lambda delta: seen.update({name: (h, cosine_term(a, delta)[1])}))

        layer.register_forward_hook(keep)
    with control.watching():
        backward(net)
    data, seen_before = gradients(net), dict(seen)
    control.after_backward()
    total = gradients(net)
    assert len(seen_before) == 3
    for name, (h, up) in seen_before.items():
        layer = net.get_submodule(name)
        u, s, v = (f.detach() for f in (layer.U, layer.s, layer.V))
        own = {
            "U": up.T @ ((h @ v) * s),
            "s": ((up @ u) * (h @ v)).sum(0),
            "V": h.T @ ((up @ u) * s),
            "bias": up.sum(0),
        }
        for key, expected in own.items():
            change = total[f"{name}.{key}"] - data[f"{name}.{key}"]
            torch.testing.assert_close(change, 0.5 * expected, rtol=1e-4, atol=1e-6)
    assert not control.seen


def test_shares_of_the_cosine_term_average_to_the_whole_batchs():
    def gradient(images: Tensor, share: float) -> Tensor:
        net = network()
        control = control_of(net, cosine_weight=1.0)
        with control.watching():
            out = net(images)
        (out.square().sum() / 10).backward()
        net.zero_grad()
        control.after_backward(share)
        return net.get_parameter("hidden_2.U").grad

    x = torch.randn(10, 1, 8, 8, generator=torch.Generator().manual_seed(2))
    parts = [gradient(part, 2 * len(part) / 10) for part in (x[:6], x[6:])]
    torch.testing.assert_close((parts[0] + parts[1]) / 2, gradient(x, 1.0))


def test_projected_gradients_are_tangent():
    net = network()
    backward(net)
    control_of(net, tangent=True, hoyer_weight=0.1).before_step()
    for layer in factored_layers(net).values():
        for factor in (layer.U, layer.V):
            inner = factor.detach().T @ factor.grad
            assert (inner + inner.T).abs().max() < 1e-6
            assert factor.grad.norm() > 1e-4


def test_no_error_gives_no_gradient_of_the_data():
    for method in PATHWAYS:
        net = network(method)
        (net(torch.randn(4, 1, 8, 8)) * 0).sum().backward()
        assert all(not gradient.any() for gradient in gradients(net).values())
        assert len(gradients(net)) == 12


def test_feedback_is_cut_along_the_index_of_the_factors():
    """A pathway that holds the layer's own factors still holds them after a cut."""
    net = network("SSA-FA")
    layers = [factored_layers(net)[name] for name in HIDDEN[1:]]
    for layer in layers:
        with torch.no_grad():
            layer.s.copy_(layer.s.flip(0))  # the strongest components are the last
        layer.pathway.copy_from_layer(layer)
    control_of(net, rank_schedule=RankSchedule(factor=0.5, minimum=2, energy=0.1)).after_step(5)
    assert [layer.rank for layer in layers] == [4, 2]
    for layer in layers:
        for factor, name in ((layer.U, "B_U"), (layer.s, "B_S"), (layer.V, "B_V")):
            torch.testing.assert_close(factor.detach(), layer.pathway.get_buffer(name))


@pytest.mark.parametrize(
    ("method", "settings", "message"),
    [
        ("SVD-BP", {"alignment": "subspace"}, "alignment='subspace': no factored layer has"),
        ("SVD-BP", {"feedback": "track"}, "feedback='track': no factored layer has"),
        ("SSA-DFA", {"feedback": "kolen_pollack"}, "direct pathway on layer 'hidden_2' has no"),
        (
            "SSA-DFA",
            {"alignment": "frobenius", "rank_schedule": CUTS},
            "with a rank_schedule.*must be 'subspace'",
        ),
    ],
)
def test_what_the_feedback_does_not_allow_is_named(method: str, settings: Any, message: str):
    with pytest.raises(ValueError, match=message):
        control_of(network(method), **settings)


def test_frobenius_alignment_needs_equal_shapes():
    net = network("SSA-DFA", hidden_2=fb.SVDSpaceDirect(rank=4))
    with pytest.raises(ValueError, match=r"of layer '\w+' has shape \(12, 8\) .* they must agree"):
        control_of(net, alignment="frobenius")
    control_of(net, alignment="subspace")


def test_a_dense_network_is_refused():
    with pytest.raises(ValueError, match=r"svd_space: the network has no factored layer"):
        control_of(nn.Sequential(nn.Linear(3, 2)))
