import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr

from neurofb import labels
from neurofb.labels import COORDINATES, coordinate, load, provenance, save, variable

FORMATS = pytest.mark.parametrize("suffix", [".zarr", ".nc"])


@pytest.fixture
def result() -> xr.Dataset:
    """Floats with NaN, integers, truth values, strings (Unicode, empty), a scalar."""
    return xr.Dataset(
        {
            "receptive_field": variable(
                ("unit", "y", "x"), np.arange(8.0).reshape(2, 2, 2), "1 / pixel", "field"
            ),
            "symmetry": variable("unit", [0.5, np.nan], "1", "rotational symmetry"),
            "status": variable("unit", ["ok", ""], "1", "status"),
            "moved": variable("unit", [True, False], "1", "moved"),
            "loss": variable((), 0.25, "nat", "loss"),
        },
        coords={
            "unit": coordinate("unit", [3, 7]),
            "y": coordinate("y", [-1, 0]),
            "x": coordinate("x", [-1, 0]),
            "name": variable("unit", ["Zelle α", "b"], "1", "name"),
        },
        attrs=provenance(title="a test", config='{"rank": 4}', seed=2),
    )


def needs_netcdf(suffix: str) -> None:
    if suffix == ".nc":
        pytest.importorskip("h5netcdf")
        pytest.importorskip("h5py")


# --- labels -------------------------------------------------------------------------------------


@pytest.mark.parametrize("dim", COORDINATES)
def test_every_coordinate_has_units_and_long_name(dim: str) -> None:
    made = coordinate(dim, [1, 2])
    assert made.dims == (dim,)
    assert (made.attrs["units"], made.attrs["long_name"]) == COORDINATES[dim]
    assert made.attrs["units"]
    assert made.attrs["long_name"]


@pytest.mark.parametrize(
    ("dim", "units"),
    [("x", "pixel"), ("y", "pixel"), ("orientation", "degree"), ("frequency", "cycle / pixel")],
)
def test_physical_units(dim: str, units: str) -> None:
    assert coordinate(dim, [0]).attrs["units"] == units


def test_unknown_dim_is_named_with_those_allowed() -> None:
    with pytest.raises(ValueError, match=r"dim='neuron' has no label; known dims: unit, channel"):
        coordinate("neuron", [0])


def test_tensors_become_arrays() -> None:
    values = torch.tensor([1.0, 2.5], requires_grad=True)
    made = variable("unit", values, "1", "a")
    assert made.dtype == np.float32
    assert made.values.tolist() == [1.0, 2.5]
    half = variable("unit", torch.tensor([0.5], dtype=torch.bfloat16), "1", "a")
    assert half.values.tolist() == [0.5]


def test_an_array_as_attribute_is_refused() -> None:
    unchecked = getattr(variable, "__wrapped__", variable)  # without the tests' type checks
    with pytest.raises(ValueError, match="attribute 'bins' is a list; allowed: str, int, float"):
        unchecked("unit", [1.0], "1", "a", bins=[1, 2])


def test_provenance_is_strings_and_numbers_only() -> None:
    made = provenance(title="t", seed=None, wall_seconds=1.5, references="doi:1")
    assert all(isinstance(value, str | int | float) for value in made.values())
    assert made["seed"] == -1
    assert made["wall_seconds"] == 1.5
    assert set(json.loads(str(made["versions"]))) == {"python", "torch", "numpy", "xarray"}
    assert str(made["neurofb_version"]) in str(made["history"])


# --- round trips --------------------------------------------------------------------------------


@FORMATS
def test_dataset_comes_back_identical(result: xr.Dataset, tmp_path: Path, suffix: str) -> None:
    needs_netcdf(suffix)
    path = save(result, tmp_path / "deep" / f"run{suffix}")
    back = load(path).to_dataset()
    xr.testing.assert_identical(back, result)
    for name in back.variables:
        assert {"units", "long_name"} <= set(back[name].attrs), name
    assert [p.name for p in path.parent.iterdir()] == [path.name]


@FORMATS
def test_tree_comes_back_identical(result: xr.Dataset, tmp_path: Path, suffix: str) -> None:
    needs_netcdf(suffix)
    history = xr.Dataset(
        {"loss": variable("step", [2.0, 1.0], "nat", "loss")},
        coords={"step": coordinate("step", [0, 10])},
    )
    root = xr.Dataset(attrs=dict(result.attrs))
    tree = xr.DataTree.from_dict({"/": root, "/training": history, "/receptive_field": result})
    back = load(save(tree, tmp_path / f"run{suffix}"))
    xr.testing.assert_identical(back, tree)
    assert back.attrs["neurofb_config"] == '{"rank": 4}'


@FORMATS
def test_loaded_result_is_in_memory(result: xr.Dataset, tmp_path: Path, suffix: str) -> None:
    needs_netcdf(suffix)
    path = save(result, tmp_path / f"run{suffix}")
    back = load(path)
    labels._remove(path)
    assert float(back["receptive_field"].sum()) == 28.0


@FORMATS
def test_saving_again_replaces_the_result(result: xr.Dataset, tmp_path: Path, suffix: str) -> None:
    needs_netcdf(suffix)
    path = save(result, tmp_path / f"run{suffix}")
    save(result[["loss"]] + 1.0, path)
    back = load(path).to_dataset()
    assert list(back.data_vars) == ["loss"]
    assert float(back["loss"]) == 1.25
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_a_plain_file_under_a_zarr_name_is_replaced(result: xr.Dataset, tmp_path: Path) -> None:
    (tmp_path / "run.zarr").write_text("not a store")
    back = load(save(result, tmp_path / "run.zarr"))
    assert float(back["loss"]) == 0.25


# --- interruptions ------------------------------------------------------------------------------


class Killed(BaseException):
    """What a signal looks like from inside."""


@FORMATS
def test_exception_while_writing_leaves_the_old_result(
    result: xr.Dataset, tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs_netcdf(suffix)
    path = save(result, tmp_path / f"run{suffix}")
    method = "to_netcdf" if suffix == ".nc" else "to_zarr"
    write = getattr(xr.Dataset, method)

    def write_half(self: xr.Dataset, *args: object, **settings: object) -> None:
        settings.pop("encoding", None)  # it names the variables that are left out here
        write(self[["loss"]], *args, **settings)
        raise Killed

    monkeypatch.setattr(xr.Dataset, method, write_half)
    with pytest.raises(Killed):
        save(result * 2, path)
    xr.testing.assert_identical(load(path).to_dataset(), result)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("during", ["move", "remove"])
def test_kill_between_the_two_renames_loses_nothing(
    result: xr.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, during: str
) -> None:
    path = save(result, tmp_path / "run.zarr")
    with monkeypatch.context() as patch:
        if during == "move":  # old result moved aside, new one not yet in place
            patch.setattr(Path, "replace", _raise_killed)
        else:  # new result in place, old one not yet removed
            patch.setattr(labels, "_remove", _raise_killed)
        with pytest.raises(Killed):
            save(result.assign(loss=result["loss"] + 1), path)
    assert float(load(path)["loss"]) == {"move": 0.25, "remove": 1.25}[during]
    save(result.assign(loss=result["loss"] + 2), path)
    assert float(load(path)["loss"]) == 2.25
    assert [p.name for p in tmp_path.iterdir()] == ["run.zarr"]


def test_failed_move_puts_the_old_result_back(
    result: xr.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save(result, tmp_path / "run.zarr")

    def refuse(self: Path, target: Path) -> None:
        raise OSError("no")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", refuse)
        with pytest.raises(OSError, match="no"):
            save(result * 2, path)
    assert [p.name for p in tmp_path.iterdir()] == ["run.zarr"]
    xr.testing.assert_identical(load(path).to_dataset(), result)


def test_neighbours_are_left_alone(result: xr.Dataset, tmp_path: Path) -> None:
    other = tmp_path / "run.2.zarr"
    save(result, other)
    save(result, tmp_path / "run.zarr")
    save(result, tmp_path / "run.zarr")
    assert other.exists()


# --- errors -------------------------------------------------------------------------------------


def test_other_suffix(result: xr.Dataset, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"run\.pkl' must end in \.zarr or \.nc"):
        save(result, tmp_path / "run.pkl")
    (tmp_path / "run.pkl").touch()
    with pytest.raises(ValueError, match=r"run\.pkl' must end in \.zarr or \.nc"):
        load(tmp_path / "run.pkl")


def test_missing_result(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"nothing\.zarr' does not exist"):
        load(tmp_path / "nothing.zarr")


def test_netcdf_without_its_packages_says_what_to_install(
    result: xr.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(labels, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"needs h5netcdf and h5py: pip install 'neurofb\[netcdf"):
        save(result, tmp_path / "run.nc")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("share", [0.0, 0.1, 0.9])
def test_truncated_netcdf(result: xr.Dataset, tmp_path: Path, share: float) -> None:
    needs_netcdf(".nc")
    path = save(result, tmp_path / "run.nc")
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match=r"run\.nc' is not a readable result"):
        load(path)


@pytest.mark.parametrize("damage", ["no root", "root", "array", "chunk", "text"])
def test_damaged_zarr(result: xr.Dataset, tmp_path: Path, damage: str) -> None:
    path = save(result, tmp_path / "run.zarr")
    if damage == "no root":
        (path / "zarr.json").unlink()
    elif damage == "root":
        (path / "zarr.json").write_text("{")
    elif damage == "array":
        (path / "symmetry" / "zarr.json").write_text('{"zarr_format": 3, "node_type": "array"}')
    elif damage == "chunk":
        chunk = next(p for p in (path / "symmetry" / "c").rglob("*") if p.is_file())
        chunk.write_bytes(chunk.read_bytes()[:5])
    else:
        shutil.rmtree(path)
        path.write_text("not a store")
    with pytest.raises(ValueError, match=r"run\.zarr' is not a readable result"):
        load(path)


def _raise_killed(*_: object) -> None:
    raise Killed
