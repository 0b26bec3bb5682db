"""Runs that diverge, where that is a result: they end there, have no accuracy, and say when."""

import numpy as np
import pytest

from neurofb.config import Measurement, RunConfig, change, from_json, replace, to_json
from neurofb.data import ShapesOnLeaves
from neurofb.networks import MLPConfig
from neurofb.run import run
from neurofb.study import Study, run_study
from neurofb.training import Constant, NonFiniteLossError, Optimiser, TrainingConfig


def settings(rate=1e-3, name="AdamW", outcome="keep", **training):
    optimiser = Optimiser(name=name, learning_rate=rate)
    return RunConfig(
        name="tiny",
        data=ShapesOnLeaves(image_size=8, num_train=64, num_validation=16, num_test=16),
        network=MLPConfig(image_size=8, in_channels=1, hidden=(8,), normalisation="none"),
        training=TrainingConfig(
            num_steps=16,
            batch_size=16,
            optimiser=optimiser,
            schedule=Constant(),
            on_divergence=outcome,
            **training,
        ),
        measurement=Measurement(layers=(), alignment_images=16 if training else 0),
        device="cpu",
    )


def test_a_run_that_diverges_keeps_its_curves(tmp_path):
    config = settings(1e30, "SGD")
    tree = run(config, tmp_path, progress=False)
    at = int(tree["diverged_at"])
    assert 0 < at < 16
    assert np.isnan(tree["test_accuracy"])
    assert np.isnan(tree["test_loss"])
    loss = tree["training/loss"].values
    assert np.isfinite(loss[:at]).all()
    assert not np.isfinite(loss[at:]).any()
    again = run(config, tmp_path, resume=True, progress=False)
    assert int(again["diverged_at"]) == at


def test_a_run_that_does_not_diverge_is_the_same_under_both():
    kept, raised = (run(settings(outcome=outcome), progress=False) for outcome in ("keep", "raise"))
    assert np.isnan(kept["diverged_at"])
    assert "diverged_at" not in raised.data_vars
    np.testing.assert_array_equal(kept["training/loss"], raised["training/loss"])
    assert kept["test_accuracy"] == raised["test_accuracy"]


def test_by_default_it_is_an_error():
    with pytest.raises(NonFiniteLossError) as error:
        run(settings(1e30, "SGD", "raise"), progress=False)
    assert 0 < error.value.step < 16


def test_a_study_with_a_condition_that_diverges_is_gathered(tmp_path):
    steps = {"snapshot_steps": (0, 4, 16)}
    conditions = {"SGD": settings(1e30, "SGD", **steps), "Adam": settings(**steps)}
    study = Study(name="one diverges", conditions=conditions, seeds=(0, 1))
    tree = run_study(study, tmp_path, workers=1, progress=False)
    assert tree["test_accuracy"].isnull().all("seed").values.tolist() == [True, False]
    assert tree["diverged_at"].notnull().all("seed").values.tolist() == [True, False]
    assert tree["validation_accuracy"].sel(condition="Adam", epoch=[1, 2, 3, 4]).notnull().all()
    angle = tree["alignment/gradient_cosine"].isel(layer=0)
    assert angle.sel(condition="SGD").notnull().sum("epoch").values.tolist() == [1, 1]
    assert angle.sel(condition="Adam", epoch=[0, 1, 4]).notnull().all()


def test_receptive_fields_of_what_may_diverge_are_refused():
    config = settings()
    with pytest.raises(ValueError, match=r"on_divergence='keep': measurement.layers=\('hidden_1'"):
        replace(config, measurement=Measurement(layers=("hidden_1",)))
    assert from_json(to_json(config)).training.on_divergence == "keep"
    with pytest.raises(ValueError, match=r"training\.on_divergence"):
        change(config, {"training.on_divergence": "stop"})
