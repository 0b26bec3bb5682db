"""`torch.compile` on a network with pathways: the same results."""

import copy

import pytest
import torch
from torch import nn

from neurofb import feedback as fb

PATHWAYS = {
    "random": fb.Random(),
    "oja": fb.LowRank(rank=2),
    "direct": fb.Direct(source="4", rank=2),
}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
@pytest.mark.parametrize("name", PATHWAYS)
def test_compiled_network_gives_the_same_gradients(name, backend):
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    x = torch.randn(5, 3)
    fb.attach(net, {"2": PATHWAYS[name]}, example_input=x)
    twin = copy.deepcopy(net)
    compiled = torch.compile(twin, backend=backend)
    for _ in range(2):
        net(x).square().sum().backward()
        compiled(x).square().sum().backward()
    for (label, p), q in zip(net.named_parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, msg=label)
    assert fb.fired(twin) == fb.fired(net) == dict.fromkeys(fb.fired(net), 2)
