import pytest
from pydantic import TypeAdapter, ValidationError

from neurofb.data.augment import Augmentation
from neurofb.training import Constant, Exponential, InverseTime, Optimiser, TrainingConfig

ADAPTER = TypeAdapter(TrainingConfig)


@pytest.mark.parametrize(
    "config",
    [
        TrainingConfig(),
        TrainingConfig(
            num_steps=15_640,
            batch_size=64,
            optimiser=Optimiser(
                name="RMSprop", learning_rate=1e-4, options={"alpha": 0.9, "centered": False}
            ),
            schedule=InverseTime(decay=1e-6),
            augmentation=Augmentation(rotate=False, shift=3),
            snapshot_steps=(0, 100),
        ),
        TrainingConfig(optimiser=Optimiser(options={"betas": (0.9, 0.99)}), schedule=Constant()),
        TrainingConfig(channels_last=False, validate_every=10, schedule=Exponential()),
    ],
)
def test_a_config_survives_json(config: TrainingConfig):
    again = ADAPTER.validate_json(ADAPTER.dump_json(config))
    assert again == config
    assert repr(again) == repr(config)  # also the types: 1 is not True, a tuple no list


def test_what_json_cannot_be_is_named():
    with pytest.raises(ValidationError, match=r"num_steps=0 must be an integer >= 1"):
        ADAPTER.validate_json('{"num_steps": 0}')
    with pytest.raises(ValidationError, match=r"'constant', 'cosine', 'exponential'"):
        ADAPTER.validate_json('{"schedule": {"schedule": "linear"}}')
