from types import ModuleType

import pytest
import torch
from torch.nn import functional

from neurofb.data.images import ImageSet
from neurofb.training import Arithmetic, evaluate


def test_evaluation_is_the_mean_over_all_images(tiny: ModuleType):
    network, images = tiny.tiny_network(), tiny.toy().train
    network.train()
    network.vvs_1.eval()
    state = torch.get_rng_state()
    result = evaluate(network, images, batch_size=16)
    assert torch.equal(state, torch.get_rng_state())
    assert network.training
    assert not network.vvs_1.training
    logits = network.eval()(images.images)
    assert result.loss == pytest.approx(functional.cross_entropy(logits, images.labels).item())
    assert result.accuracy == (logits.argmax(1) == images.labels).double().mean().item()
    assert result.num_images == 70
    whole = evaluate(network, images, batch_size=1000)
    assert (result.accuracy, result.loss) == (whole.accuracy, pytest.approx(whole.loss))


def test_evaluation_in_bfloat16_is_close(tiny: ModuleType):
    network, images = tiny.tiny_network(), tiny.toy().train
    arithmetic = Arithmetic(precision="bfloat16", channels_last=True)
    half = evaluate(network, images, arithmetic=arithmetic)
    assert half.loss == pytest.approx(evaluate(network, images).loss, rel=0.01)
    assert half.loss != evaluate(network, images).loss


def test_no_images_are_refused(tiny: ModuleType):
    images = tiny.toy().test
    none = ImageSet(images=images.images[:0], labels=images.labels[:0])
    with pytest.raises(ValueError, match=r"images holds no image"):
        evaluate(tiny.tiny_network(), none)
