"""From a scan to every cell's configuration, checked before anything runs."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neurofb.config import change, to_json
from neurofb.recipes import call_recipe
from neurofb.scan.plan import Scan, add, make_plan, subtract
from neurofb.scan.seeds import independent_seed

RECIPES = Path(__file__).with_name("recipes.py")
ODD = Path(__file__).with_name("odd_recipes.py")
LDFA = f"{Path(__file__).parents[2] / 'models' / 'retina_vvs.py'}::ldfa"


def scan(recipe, axes, **others):
    return Scan(name="test", recipe=recipe, axes=axes, **others)


def test_a_cell_is_the_run_that_set_would_make():
    plan = make_plan(scan(LDFA, {"feedback.rank": [2, 4], "seed": range(2)}))
    _, settings = plan.cells["rank=4,seed=1"]
    expected = change(call_recipe(LDFA), {"feedback.rank": "4", "seed": "1"})
    assert add(plan.base, settings) == json.loads(to_json(expected))
    assert settings == {"feedback.rank": 4, "seed": 1}
    assert plan.is_run


def test_arguments_of_the_recipe_and_fields_may_be_mixed():
    plan = make_plan(scan(LDFA, {"rank": [2], "training.num_steps": [5, 6]}, settings={"seed": 3}))
    assert plan.base["name"] == "LDFA r=2"
    assert plan.base["seed"] == 3
    assert plan.cells["rank=2,num_steps=6"][1] == {"training.num_steps": 6}


def test_whole_parts_may_be_settings_behind_a_label():
    rules = [("BP", {"rule": "exact"}, []), ("FA", {"rule": "random"}, ["vvs_1"])]
    axes = {("name", "feedback", "feedback_layers"): rules}
    plan = make_plan(scan(LDFA, axes))
    assert plan.cells["name=FA"][1]["feedback"]["rule"] == "random"
    assert add(plan.base, plan.cells["name=FA"][1])["feedback_layers"] == ["vvs_1"]


def test_seeds_are_paired_unless_told_otherwise():
    axes = {"feedback.rank": [1, 2], "seed": [0, 1]}
    paired = make_plan(scan(LDFA, axes))
    seeds = [add(paired.base, settings)["seed"] for _, settings in paired.cells.values()]
    assert seeds == [0, 1, 0, 1]
    own = make_plan(scan(LDFA, axes, independent_seeds=True))
    seeds = [add(own.base, settings)["seed"] for _, settings in own.cells.values()]
    assert len(set(seeds)) == 4
    assert seeds[3] == independent_seed({"rank": 2, "seed": 1}, 1)
    longer = make_plan(scan(LDFA, {"feedback.rank": [2, 8], "seed": [1]}, independent_seeds=True))
    assert add(longer.base, longer.cells["rank=2,seed=1"][1])["seed"] == seeds[3]


@pytest.mark.parametrize(
    ("recipe", "axes", "others", "message"),
    [
        (LDFA, {"feedback.rnk": [1]}, {}, "cell rnk=1: setting 'feedback.rnk' does not exist"),
        (LDFA, {"feedback.rank": [0]}, {}, "cell rank=0: .*rank"),
        (LDFA, {"feedback.rank": ["a"]}, {}, "cell rank=a: feedback"),
        (LDFA, {"seed": [0]}, {"analyse": "no/such.py"}, "there is no file 'no/such.py'"),
        ("no/such.py::f", {"seed": [0]}, {}, "there is no file 'no/such.py'"),
        (f"{RECIPES}::wave", {"gane": [1]}, {}, "'gane' is no argument of .*it has: gain"),
        (f"{RECIPES}::wave", {"gain": [1]}, {"analyse": "a.py"}, "returns a Dataset, not a run"),
        (f"{ODD}::number", {"seed": [0]}, {}, "returns a int, not a RunConfig"),
    ],
)
def test_what_could_not_run_is_refused_at_once(recipe, axes, others, message):
    with pytest.raises(ValueError, match=message):
        make_plan(scan(recipe, axes, **others))


TREE = st.recursive(
    st.integers() | st.text(max_size=3) | st.none() | st.booleans() | st.lists(st.integers()),
    lambda inner: st.dictionaries(st.sampled_from(["a", "b", "c", "d.e"]), inner, max_size=3),
    max_leaves=8,
)


@given(st.fixed_dictionaries({"x": TREE, "y": TREE}), st.fixed_dictionaries({"x": TREE, "y": TREE}))
def test_what_is_taken_apart_goes_together(tree, base):
    before = json.dumps(base)
    assert json.dumps(add(base, subtract(tree, base)), sort_keys=True) == json.dumps(
        tree, sort_keys=True
    )
    assert json.dumps(base) == before
    assert subtract(base, base) == {}
