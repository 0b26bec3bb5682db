"""Below their own precision fixed matrices are cast once, and again when they have changed."""

import copy

import pytest
import torch
from torch import nn

from neurofb import feedback as fb

SPECS = {
    "random": fb.Random(),
    "fixed": fb.LowRank(rank=2, learning=fb.Fixed()),
    "svd_refresh": fb.LowRank(rank=2, learning=fb.SvdRefresh(every=1)),
    "learned": fb.Random(learning=fb.KolenPollack()),
}


def error(layer):
    h = torch.ones(3, 5, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        out = layer(h)
    out.float().square().sum().backward()
    return h.grad


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
@pytest.mark.parametrize("how", ["in place", "loaded", "copied"])
def test_a_changed_matrix_is_cast_again(spec, how):
    layer = fb.attach(nn.Linear(5, 4), {"": spec})
    before = error(layer)
    assert torch.equal(error(layer), before)
    if how == "copied":
        layer = copy.deepcopy(layer)
    if how == "loaded":
        state = {k: -v if k[-1] in "BQ" else v for k, v in layer.state_dict().items()}
        layer.load_state_dict(state)
    else:
        with torch.no_grad():
            for name, matrix in layer.pathway.state_dict(keep_vars=True).items():
                if name in ("B", "Q"):
                    matrix.neg_()
    if isinstance(getattr(spec, "learning", None), fb.SvdRefresh):
        assert torch.equal(error(layer), before)  # refreshed from the weight in between
    else:
        assert torch.equal(error(layer), -before)


def test_the_cast_of_a_fixed_matrix_is_kept_and_of_a_learned_one_is_not():
    for spec, kept in ((fb.Random(), 1), (SPECS["learned"], 0)):
        layer = fb.attach(nn.Linear(5, 4), {"": spec})
        error(layer)
        assert len(layer.pathway.casts) == kept
