"""Names, patterns and nesting."""

import torch
from torch import nn

from neurofb import feedback as fb

LOW = fb.LowRank(rank=1)


def nested() -> nn.Sequential:
    block = lambda: nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))  # noqa: E731
    return nn.Sequential(nn.ModuleDict({"a": block(), "b": block()})["a"], block(), nn.Linear(4, 2))


def attached_to(pathways) -> list[str]:
    net = fb.attach(nested(), pathways)
    return [name for name, _ in fb.feedback_layers(net)]


def test_patterns():
    assert attached_to({"*": LOW}) == ["0.0", "0.2", "1.0", "1.2", "2"]
    assert attached_to({"1.*": LOW}) == ["1.0", "1.2"]
    assert attached_to({"?": LOW}) == ["2"]
    assert attached_to({"[01].2": LOW, "2": fb.Random()}) == ["0.2", "1.2", "2"]


def test_different_pathways_and_attaching_in_two_calls():
    net = fb.attach(nested(), {"0.*": LOW, "2": fb.Random()}, seed=1)
    fb.attach(net, {"*": fb.Exact()})
    rules = {name: layer.pathway.rule for name, layer in fb.feedback_layers(net)}
    assert rules == {
        "0.0": "low_rank r=1 [oja]",
        "0.2": "low_rank r=1 [oja]",
        "1.0": "exact (BP)",
        "1.2": "exact (BP)",
        "2": "random (FA)",
    }
    net(torch.ones(3, 4)).sum().backward()
    assert fb.fired(net) == {"0.0": 0, "0.2": 1, "1.0": 1, "1.2": 1, "2": 1}


def test_the_network_itself_can_be_the_layer():
    net = fb.attach(nn.Linear(3, 2), {"": LOW})
    assert list(fb.fired(net)) == [""]


def test_a_module_under_two_names_is_attached_once_by_either():
    shared = nn.Linear(3, 3)

    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = shared, shared

        def forward(self, x):
            return self.b(self.a(x))

    for name in ("a", "b", "*"):
        net = fb.attach(Twice(), {name: fb.Random()}, example_input=torch.zeros(1, 3))
        assert list(fb.fired(net)) == ["a"]
        fb.detach(net)


def test_pathway_parameters_make_a_group_of_their_own():
    net = fb.attach(nested(), {"0.*": LOW, "2": fb.Random()})
    matrices = fb.pathway_parameters(net)
    assert len(matrices) == 4
    others = [p for p in net.parameters() if all(p is not q for q in matrices)]
    assert len(others) == 10
