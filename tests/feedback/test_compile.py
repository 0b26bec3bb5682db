"""`torch.compile` on a network with pathways: graph breaks, the same results.

In a process of its own: the type checks of the test session cannot be compiled.
"""

import subprocess
import sys

import pytest

SCRIPT = """
import copy, sys, torch
from torch import nn
from neurofb import feedback as fb

name, backend = sys.argv[1:]
spec = {
    "random": fb.Random(),
    "oja": fb.LowRank(rank=2),
    "direct": fb.Direct(source="4", rank=2),
}[name]
net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
x = torch.randn(5, 3)
fb.attach(net, {"2": spec}, example_input=x)
twin = copy.deepcopy(net)
compiled = torch.compile(twin, backend=backend)
for _ in range(2):
    net(x).square().sum().backward()
    compiled(x).square().sum().backward()
for p, q in zip(net.parameters(), twin.parameters(), strict=True):
    torch.testing.assert_close(p.grad, q.grad)
assert fb.fired(twin) == fb.fired(net) == dict.fromkeys(fb.fired(net), 2)
"""


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
@pytest.mark.parametrize("name", ["random", "oja", "direct"])
def test_compiled_network_gives_the_same_gradients(name, backend):
    command = [sys.executable, "-c", SCRIPT, name, backend]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
