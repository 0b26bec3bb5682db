"""Axes, cells, filters and seeds of a grid."""

import string

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neurofb.scan.axis_text import parse_axis
from neurofb.scan.grid import cell_name, cells_of, make_axes
from neurofb.scan.seeds import independent_seed


def test_the_last_axis_is_the_fastest():
    cells = cells_of(make_axes({"feedback.rank": [1, 2], "seed": range(2)}))
    assert [dict(cell.labels) for cell in cells] == [
        {"rank": 1, "seed": 0},
        {"rank": 1, "seed": 1},
        {"rank": 2, "seed": 0},
        {"rank": 2, "seed": 1},
    ]
    assert cells[2].settings == {"feedback.rank": 2, "seed": 0}


def test_zipped_settings_change_together():
    axes = make_axes({("network.bottleneck", "feedback.rank"): [(4, 1), (8, 2)], "seed": [0]})
    assert [cell.settings for cell in cells_of(axes)] == [
        {"network.bottleneck": 4, "feedback.rank": 1, "seed": 0},
        {"network.bottleneck": 8, "feedback.rank": 2, "seed": 0},
    ]
    assert [dict(cell.labels) for cell in cells_of(axes)] == [
        {"bottleneck": 4, "seed": 0},
        {"bottleneck": 8, "seed": 0},
    ]


def test_a_filter_sees_labels_and_settings_behind_them():
    axes = make_axes({("network.bottleneck", "feedback.rank"): [(4, 1), (8, 2)], "seed": range(3)})
    assert len(cells_of(axes, "rank == 2 and seed > 0")) == 2
    assert len(cells_of(make_axes({"route": ["a", "b"]}), "route != 'a'")) == 1


@pytest.mark.parametrize("where", ["nothing > 1", "rank >", "rank", "rank > 5"])
def test_a_filter_that_cannot_be(where):
    with pytest.raises(ValueError, match=r"where='.*' (cannot|is true for none)"):
        cells_of(make_axes({"feedback.rank": [1, 2]}), where)


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        ({}, "at least one axis"),
        ({"rank": []}, "axis 'rank' has no value"),
        ({"rank": [1, 1]}, "has the value 1 twice"),
        ({"rank": [1, 1.0]}, "has the value 1 twice"),
        ({"rank": [1, "a"]}, "mixes texts and numbers"),
        ({"rank": [[1]]}, r"\[1\] cannot label a point"),
        ({"rank": [None]}, "None cannot label a point"),
        ({"rank": [float("nan")]}, "must be finite"),
        ({"rank": "12"}, "must be a list"),
        ({"a.rank": [1], "b.rank": [1]}, "called 'rank'"),
        ({("a.width", "b.rank"): [(1, 2)], "c.rank": [1]}, "called 'rank'"),
        ({("a", "b"): [(1, 2, 3)]}, "one value for each name"),
        ({"feedback.": [1]}, "must be the name of a setting"),
    ],
)
def test_axes_that_cannot_be(axes, message):
    with pytest.raises(ValueError, match=message):
        make_axes(axes)


def test_numbers_of_numpy_and_truth_values_are_labels():
    assert make_axes({"a": np.arange(2)})[0].labels == (0, 1)
    assert make_axes({"a": [True, False]})[0].labels == ("true", "false")
    assert make_axes({"a": [0.5, 1.0]})[0].labels == (0.5, 1)


@pytest.mark.parametrize(
    ("text", "name", "values"),
    [
        ("seed=0:3", "seed", [0, 1, 2]),
        ("seed=0:7:3", "seed", [0, 3, 6]),
        ("a.b=1,2.5,1e-3", "a.b", [1, 2.5, 1e-3]),
        ("rule=BP,FA", "rule", ["BP", "FA"]),
        ("flag=true,false", "flag", [True, False]),
        ("a|b=1|x,2|y", ("a", "b"), [(1, "x"), (2, "y")]),
        ('rule="LDFA r=4, local",BP', "rule", ["LDFA r=4, local", "BP"]),
        ('rule=["LDFA r=4, local", "BP"]', "rule", ["LDFA r=4, local", "BP"]),
        ('rule="LDFA r=4, local"', "rule", ["LDFA r=4, local"]),
        (r'rule="say \"a, b\"",BP', "rule", ['say "a, b"', "BP"]),
        ('rule=12" disk,BP', "rule", ['12" disk', "BP"]),
        ("rule=a,,b", "rule", ["a", "", "b"]),
        ("rule=,b", "rule", ["", "b"]),
        ("rule=a|b,c", "rule", ["a|b", "c"]),
        ("steps=[0, 3],[0, 5]", "steps", [[0, 3], [0, 5]]),
        ("steps=[[0, 3]]", "steps", [[0, 3]]),
        ('rule={"rule": "oja", "rate": 1},{}', "rule", [{"rule": "oja", "rate": 1}, {}]),
        ('a|b="x, y|z"|1,w|2', ("a", "b"), [("x, y|z", 1), ("w", 2)]),
        ('a|b=[["x, y", 1], ["w", 2]]', ("a", "b"), [("x, y", 1), ("w", 2)]),
    ],
)
def test_axes_of_the_command_line(text, name, values):
    assert parse_axis(text) == (name, values)


@pytest.mark.parametrize("text", ["", "seed", "=1", "seed="])
def test_words_that_are_no_axis(text):
    with pytest.raises(ValueError, match="must be NAME=VALUE"):
        parse_axis(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rule=[LDFA r=4, local,BP]", r"is no JSON list .*in a shell, put it in single quotes"),
        ("rule=[]", "has no value"),
        ("a|b=[1, 2]", r"must be A\|B=1\|2,3\|4 or A\|B=\[\[1, 2\], \[3, 4\]\]"),
    ],
)
def test_lists_that_are_no_axis(text, message):
    with pytest.raises(ValueError, match=message):
        parse_axis(text)


LABEL = st.one_of(st.integers(-99, 99), st.text(string.printable, max_size=8))


@given(st.lists(LABEL, min_size=1, max_size=20, unique_by=lambda label: (type(label), label)))
def test_names_are_folders_and_differ(labels):
    names = [cell_name({"rule": label}) for label in labels]
    texts = {str(label) for label in labels}
    assert len(set(names)) == len(texts)
    assert all(
        "/" not in name and "\\" not in name and name not in ("", ".", "..") for name in names
    )


def test_independent_seeds_are_functions_of_the_labels_alone():
    seeds = {
        (rank, seed): independent_seed({"rank": rank, "seed": seed}, seed)
        for rank in range(10)
        for seed in range(10)
    }
    assert len(set(seeds.values())) == 100
    assert seeds[3, 4] == independent_seed({"seed": 4, "rank": 3}, 4)
    assert all(0 <= seed < 2**32 for seed in seeds.values())
    assert seeds[0, 0] == 4293967185  # pinned: a store that exists must be able to grow
