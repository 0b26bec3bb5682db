import math

import numpy as np
import pytest
import torch
import xarray as xr

from neurofb.measures import compute_to_accuracy
from neurofb.training.evaluate import Evaluation
from neurofb.training.history import History

RUNS = {
    "good": [0.1, 0.5, 0.72, 0.71, 0.8],
    "poor": [0.1, 0.28, 0.29, 0.3, 0.3],
    "falls": [0.1, 0.9, 0.5, 0.4, 0.4],
    "ends early": [0.2, 0.4, 0.5, np.nan, np.nan],
    "none": [np.nan] * 5,
}


@pytest.fixture
def history():
    """Conditions × one seed, validated before training and after each of four epochs."""
    return xr.Dataset(
        {
            "validation_accuracy": (
                ("condition", "seed", "epoch"),
                np.array(list(RUNS.values()))[:, None],
            ),
            "step_at_epoch": ("epoch", [0, 10, 20, 30, 35]),
        },
        coords={"condition": list(RUNS), "seed": [3], "epoch": [0.0, 1.0, 2.0, 3.0, 3.5]},
    )


def by_condition(answer, name):
    return answer[name].squeeze("seed").values


def test_share_of_the_last_accuracy(history):
    answer = compute_to_accuracy(history, 100)
    # .9 × .8 = .72 is reached by .72; .9 × .3 = .27 by .28: the poor run looks cheap
    np.testing.assert_array_equal(by_condition(answer, "step_reached"), [20, 10, 10, 20, np.nan])
    np.testing.assert_array_equal(by_condition(answer, "epoch_reached"), [2, 1, 1, 2, np.nan])
    np.testing.assert_array_equal(
        by_condition(answer, "flops_reached"), [2000, 1000, 1000, 2000, np.nan]
    )
    np.testing.assert_allclose(by_condition(answer, "last_accuracy"), [0.8, 0.3, 0.4, 0.5, np.nan])
    np.testing.assert_allclose(
        by_condition(answer, "accuracy_reached"), [0.72, 0.28, 0.9, 0.5, np.nan]
    )


def test_one_target_for_all_is_not_reached_by_the_poor_run(history):
    answer = compute_to_accuracy(history, 1.0, target=0.7)
    np.testing.assert_array_equal(
        by_condition(answer, "step_reached"), [20, np.nan, 10, np.nan, np.nan]
    )
    np.testing.assert_array_equal(answer.target_accuracy, 0.7)


def test_target_and_cost_may_differ_between_runs(history):
    history = history.sel(condition=["good", "poor"])
    per_condition = {"dims": "condition", "coords": {"condition": ["poor", "good"]}}
    answer = compute_to_accuracy(
        history,
        xr.DataArray([7.0, 5.0], **per_condition),
        target=xr.DataArray([0.29, 0.8], **per_condition),
    )
    np.testing.assert_array_equal(by_condition(answer, "step_reached"), [35, 20])
    np.testing.assert_array_equal(by_condition(answer, "flops_reached"), [35 * 5, 20 * 7])


def test_the_whole_of_the_last_accuracy(history):
    answer = compute_to_accuracy(history, 1, 1.0)
    np.testing.assert_array_equal(by_condition(answer, "step_reached"), [35, 30, 10, 20, np.nan])


def test_steps_may_differ_between_runs(history):
    step = history["step_at_epoch"] * xr.DataArray(
        [1, 2, 3, 4, 5], dims="condition", coords={"condition": list(RUNS)}
    )
    answer = compute_to_accuracy(history.assign(step_at_epoch=step), 1)
    np.testing.assert_array_equal(by_condition(answer, "step_reached"), [20, 20, 30, 80, np.nan])


def test_history_of_a_run_and_labels():
    history = History(num_steps=4, steps_per_epoch=2, device=torch.device("cpu"))
    for step, accuracy in ((0, 0.1), (2, 0.6), (4, 0.62)):
        history.validated(step, Evaluation(loss=1.0, accuracy=accuracy, num_images=10))
    answer = compute_to_accuracy(history.dataset(), 10)
    assert not answer.dims
    assert not answer.coords
    assert (float(answer.step_reached), float(answer.flops_reached)) == (2, 20)
    for name, variable in answer.variables.items():
        assert {"units", "long_name"} <= set(variable.attrs), name


def test_target_that_is_met_before_training_costs_nothing(history):
    assert by_condition(compute_to_accuracy(history, 1, target=0.1), "flops_reached")[0] == 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"fraction": 0.0}, "fraction=0.0 must be above 0"),
        ({"fraction": 1.1}, "fraction=1.1 must be above 0 and at most 1"),
        ({"fraction": math.nan}, "fraction=nan must be"),
        ({"target": 70.0}, r"target=70.0 must be an accuracy, 0 to 1"),
        ({"flops_per_step": 0}, "flops_per_step=0 must be above 0"),
        ({"flops_per_step": math.nan}, "flops_per_step=nan must be above 0 and finite"),
    ],
)
def test_values_out_of_range(history, settings, message):
    with pytest.raises(ValueError, match=message):
        compute_to_accuracy(history, **{"flops_per_step": 1, **settings})


def test_missing_variables_are_named(history):
    with pytest.raises(ValueError, match="step_at_epoch is missing"):
        compute_to_accuracy(history.drop_vars("step_at_epoch"), 1)
    with pytest.raises(ValueError, match="the dim epoch is missing"):
        compute_to_accuracy(history.isel(epoch=-1), 1)
