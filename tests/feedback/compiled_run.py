"""Compile a network with each pathway of the one list; gradients must be those without compiling.

A process of its own: the type checks of the test session cannot be compiled. Arguments: backend,
and a file for what went wrong, by rule.
"""

import copy
import json
import runpy
import sys
import traceback
from pathlib import Path

import torch

from neurofb import feedback as fb

CONFTEST = Path(__file__).parent.parent / "laws" / "conftest.py"
LAWS = runpy.run_path(str(CONFTEST))
PATHWAYS, Net = LAWS["PATHWAYS"], LAWS["Net"]


def check(spec: fb.PathwaySpec, backend: str) -> None:
    torch.manual_seed(0)
    net, x = Net(), torch.randn(5, 2, 6, 6)
    fb.attach(net, {"layer": spec}, example_input=x)
    twin = copy.deepcopy(net)
    compiled = torch.compile(twin, backend=backend)
    for _ in range(2):
        for forward in (net, compiled):
            fb.present_targets(twin if forward is compiled else net, torch.arange(5) % 3)
            forward(x).square().sum().backward()
    for (name, p), q in zip(net.named_parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, msg=lambda text, name=name: f"{name}: {text}")
    assert fb.fired(twin) == fb.fired(net) == {"layer": 2}


def main(backend: str, file: str) -> None:
    torch.set_num_threads(1)
    found = {}
    for name, spec in PATHWAYS.items():
        torch.compiler.reset()
        try:
            check(spec, backend)
            found[name] = ""
        except (AssertionError, RuntimeError):  # a wrong gradient, or no graph; all else ends it
            found[name] = traceback.format_exc()[-1500:]
    Path(file).write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
