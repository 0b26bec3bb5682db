import pytest
import torch

from neurofb.training import Arithmetic, resolve_arithmetic, resolve_device
from neurofb.training.device import preserved_random_state, seed_everything

CPU = torch.device("cpu")


def test_devices_by_name():
    assert resolve_device("cpu") == CPU
    assert resolve_device("auto").type in ("cpu", "cuda", "mps")


@pytest.mark.parametrize("name", ["gpu", "cuda:99", "", "meta"])
def test_an_unknown_device_is_named(name: str):
    with pytest.raises(ValueError, match=rf"device='{name}' is not available; here: auto, .*cpu"):
        resolve_device(name)


def test_auto_takes_the_fastest_there_is(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert resolve_device("auto") == torch.device("mps")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert resolve_device("auto") == torch.device("cuda")


@pytest.mark.parametrize("amx", [True, False])
def test_auto_follows_from_the_hardware(monkeypatch: pytest.MonkeyPatch, amx: bool):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": amx})
    expected = Arithmetic(precision="bfloat16" if amx else "float32", channels_last=amx)
    assert resolve_arithmetic("auto", "auto", CPU) == expected
    assert resolve_arithmetic("float32", "auto", CPU) == Arithmetic()
    assert resolve_arithmetic("bfloat16", False, CPU) == Arithmetic(precision="bfloat16")
    assert not resolve_arithmetic("auto", False, CPU).channels_last
    assert resolve_arithmetic("auto", "auto", torch.device("mps")) == Arithmetic()


def test_autocast_and_layout():
    layer, images = torch.nn.Conv2d(2, 4, 3), torch.randn(2, 2, 6, 6)
    plain = layer(images)
    arithmetic = Arithmetic(precision="bfloat16", channels_last=True)
    weight = layer.weight
    arithmetic.layout_network(layer)
    assert layer.weight is weight
    assert weight.is_contiguous(memory_format=torch.channels_last)
    with arithmetic.autocast(CPU):
        output = layer(arithmetic.layout_images(images))
    assert output.dtype == torch.bfloat16
    torch.testing.assert_close(output.float(), plain, atol=0.02, rtol=0.02)
    with Arithmetic().autocast(CPU):
        assert layer(images).dtype == torch.float32


def draw_and_fail() -> None:
    with preserved_random_state(CPU):
        seed_everything(CPU, 2**63 + 5)
        first = torch.rand(3)
        seed_everything(CPU, 2**63 + 5)
        assert torch.equal(first, torch.rand(3))
        raise KeyError


def test_random_state_is_given_back_after_an_error():
    state = torch.get_rng_state()
    with pytest.raises(KeyError):
        draw_and_fail()
    assert torch.equal(state, torch.get_rng_state())
