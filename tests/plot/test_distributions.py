import numpy as np
import pytest
import xarray as xr
from matplotlib.axes import Axes

from neurofb.plot import measure_distributions


def heights(axes: Axes, name: str) -> np.ndarray:
    """Return the sorted heights of all drawn dots of a kind."""
    drawn = [np.asarray(c.get_offsets())[:, 1] for c in axes.collections if c.get_gid() == name]
    values = np.concatenate(drawn)
    return np.sort(values[np.isfinite(values)])


def test_dots_are_the_units_and_crosses_those_not_ok(study: xr.Dataset) -> None:
    axes = measure_distributions(study).axes[0]
    values, ok = study["rotational_symmetry"].values, study["status"].values == "ok"
    assert np.allclose(heights(axes, "units"), np.sort(values[ok]))
    other = values[~ok]
    assert np.allclose(heights(axes, "not counted"), np.sort(other[np.isfinite(other)]))


def test_seed_medians(study: xr.Dataset) -> None:
    axes = measure_distributions(study).axes[1]
    values, ok = study["orientation_selectivity"].values, study["status"].values == "ok"
    expected = sorted(np.median(values[c, 1][ok[c, 1]]) for c in range(6))
    assert np.allclose(heights(axes, "median seed 1"), expected)


def test_null_bands(study: xr.Dataset) -> None:
    axes = measure_distributions(study).axes[0]
    for suffix in ("_untrained", "_noise"):
        null = study[f"rotational_symmetry{suffix}"].sel(condition="BP narrow").values
        band = next(p for p in axes.patches if p.get_gid() == f"BP narrow{suffix}")
        low, high = np.nanquantile(null, [0.05, 0.95])
        assert band.get_y() == pytest.approx(low)
        assert band.get_height() == pytest.approx(high - low)


def test_labels_hold_units_and_counts(study: xr.Dataset) -> None:
    study["orientation_selectivity"].attrs["units"] = "degree"
    figure = measure_distributions(study)
    assert figure.axes[0].get_ylabel() == "rotational symmetry"
    assert figure.axes[1].get_ylabel() == "orientation selectivity (gOSI)\n(degree)"
    labels = [text.get_text() for text in figure.axes[0].get_xticklabels()]
    assert labels[0] == "BP wide\n10 of 16 units"
    assert labels[5] == "dLDFA\nnarrow\n8 of 8 units"


def test_nothing_measured_in_a_condition(failed: xr.Dataset) -> None:
    only = failed.sel(condition=["LDFA r=2"], seed=[1])
    only["rotational_symmetry_noise"][:] = np.nan
    axes = measure_distributions(only, ("rotational_symmetry",)).axes[0]
    assert heights(axes, "units").size == 0
    assert [p.get_gid() for p in axes.patches] == ["LDFA r=2_untrained"]
    assert axes.get_xticklabels()[0].get_text().endswith("0 of 8 units")


@pytest.mark.parametrize("name", ["status", "rotational_symmetry_untrained", "dog_r2"])
def test_missing_variable_is_named(study: xr.Dataset, name: str) -> None:
    with pytest.raises(ValueError, match=f"no variable '{name}'"):
        measure_distributions(
            study.drop_vars(name, errors="ignore"), ("rotational_symmetry", "dog_r2")
        )


def test_no_measure(study: xr.Dataset) -> None:
    with pytest.raises(ValueError, match="measures=\\(\\) is empty"):
        measure_distributions(study, ())
