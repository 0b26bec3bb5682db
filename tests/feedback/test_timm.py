"""Networks of timm, if it is installed: patterns over their own names, fused qkv, whole blocks."""

import copy

import pytest
import torch

from neurofb import feedback as fb

timm = pytest.importorskip("timm", exc_type=ImportError)

VIT = ("vit_tiny_patch16_224", {"img_size": 32, "patch_size": 8})
RESNET = ("resnet18", {})
CASES = {
    "vit_layers": (VIT, {"blocks.*.attn.*": fb.LowRank(rank=4), "blocks.*.fc?": fb.Random()}, 48),
    "vit_blocks": (VIT, {"blocks.*": fb.DirectRandom(source="head")}, 48),
    "resnet_layers": (RESNET, {"layer*.conv?": fb.LowRank(rank=4), "fc": fb.SignSymmetric()}, 17),
    "resnet_blocks": (RESNET, {"layer?.?": fb.DirectRandom(source="fc")}, 8),
}


@pytest.mark.parametrize(("model", "pathways", "num_layers"), CASES.values(), ids=CASES.keys())
def test_every_pathway_fires_and_the_forward_pass_stays(model, pathways, num_layers):
    name, settings = model
    network = timm.create_model(name, num_classes=10, **settings).eval()
    plain, x = copy.deepcopy(network), torch.randn(2, 3, 32, 32)
    fb.attach(network, pathways, example_input=x)
    out = network(x)
    torch.testing.assert_close(out, plain(x))
    out.square().mean().backward()
    assert list(fb.fired(network).values()) == [1] * num_layers
    for parameter in network.parameters():
        assert parameter.grad.isfinite().all()
