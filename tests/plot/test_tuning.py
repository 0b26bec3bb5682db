from collections.abc import Callable

import numpy as np
import pytest
import xarray as xr

from neurofb.plot import orientation_tuning


def test_curve_is_the_response_twice_and_closed(tuning: Callable[..., xr.Dataset]) -> None:
    dataset = tuning(0.0, 90.0)
    axes = orientation_tuning(dataset).axes[1]
    angle, response = (np.asarray(data) for data in axes.lines[0].get_data())
    once = dataset["response"].values[1]
    assert np.allclose(response, [*once, *once, once[0]])
    assert np.rad2deg(angle[np.argmax(response)]) == pytest.approx(90.0)
    assert angle[12] - angle[0] == pytest.approx(np.pi)
    assert angle[-1] == angle[0]
    assert axes.get_title() == "unit 3"


def test_labels_include_units(tuning: Callable[..., xr.Dataset]) -> None:
    title = orientation_tuning(tuning(0.0)).get_suptitle()
    assert title == "response (1 / s) against orientation (degree)"


def test_unmeasured_and_silent_units_and_limit(tuning: Callable[..., xr.Dataset]) -> None:
    dataset = tuning(0.0, 30.0, 60.0)
    dataset["response"][0] = np.nan
    dataset["response"][1] = 0.0
    nan, silent = orientation_tuning(dataset, num_units=2).axes
    assert [text.get_text() for text in nan.texts][-1] == "not measured"
    assert len(nan.lines) == 0
    assert np.all(np.asarray(silent.lines[0].get_ydata()) == 0)


def test_errors(tuning: Callable[..., xr.Dataset]) -> None:
    with pytest.raises(ValueError, match="no variable 'response'"):
        orientation_tuning(tuning(0.0).drop_vars("response"))
    with pytest.raises(ValueError, match="response=-1 is negative"):
        orientation_tuning(tuning(0.0) - 1.0)
    with pytest.raises(ValueError, match="num_units=0 must be at least 1"):
        orientation_tuning(tuning(0.0), num_units=0)
