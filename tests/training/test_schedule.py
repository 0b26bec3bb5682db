import itertools
import math

import pytest

from neurofb.training import Constant, Cosine, Exponential, InverseTime


def factors(schedule, num_steps: int = 100, steps_per_epoch: int = 10) -> list[float]:
    return [
        schedule.factor(step, num_steps=num_steps, steps_per_epoch=steps_per_epoch)
        for step in range(num_steps)
    ]


def test_cosine_falls_from_one_to_its_final_value():
    values = factors(Cosine(warmup_steps=0, final=0.02))
    assert values[0] == 1.0
    assert values[-1] == pytest.approx(0.02, rel=1e-12)
    assert all(a > b for a, b in itertools.pairwise(values))
    middle = Cosine(warmup_steps=0, final=0.02).factor(50, num_steps=101, steps_per_epoch=10)
    assert middle == pytest.approx(0.51)


def test_warm_up_rises_linearly_and_ends():
    values = factors(Constant(warmup_steps=50))
    assert values[:50] == pytest.approx([(step + 1) / 50 for step in range(50)])
    assert set(values[49:]) == {1.0}
    plain, warm = factors(Cosine(warmup_steps=0)), factors(Cosine(warmup_steps=20))
    assert warm[19:] == plain[19:]
    assert warm[4] == pytest.approx(plain[4] / 4)


def test_exponential_falls_after_each_epoch():
    values = factors(Exponential(per_epoch=0.975))
    assert values[:10] == [1.0] * 10
    assert values[95] == pytest.approx(0.975**9)


def test_inverse_time_is_keras_decay():
    values = factors(InverseTime(decay=1e-6), num_steps=15_640)
    assert values[0] == 1.0
    assert 1 - values[-1] == pytest.approx(0.0154, abs=1e-4)  # "negligible", science page


def test_one_step_runs_are_defined():
    for schedule in (Constant(), Cosine(), Exponential(), InverseTime()):
        assert math.isfinite(schedule.factor(0, num_steps=1, steps_per_epoch=1))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Constant(warmup_steps=-1), r"warmup_steps=-1 must be >= 0"),
        (lambda: Cosine(final=1.5), r"final=1.5 must be in \[0, 1\]"),
        (lambda: Exponential(per_epoch=0.0), r"per_epoch=0.0 must be in \(0, 1\]"),
        (lambda: InverseTime(decay=-1.0), r"decay=-1.0 must be a finite number >= 0"),
    ],
)
def test_settings_out_of_range_are_named(make, message: str):
    with pytest.raises(ValueError, match=message):
        make()
