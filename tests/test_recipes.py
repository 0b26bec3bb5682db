"""Recipes by path: found, listed without being executed, and refused by name."""

from pathlib import Path

import pytest

from neurofb.listing import listing
from neurofb.recipes import call_recipe, load_recipe, recipe_names, summary

TINY = Path(__file__).with_name("tiny_recipes.py")


def test_names_and_summary_do_not_execute(tmp_path):
    path = tmp_path / "bomb.py"
    path.write_text(
        'raise SystemExit\n\n\ndef a():\n    """One.\n\n    Two."""\n\n\ndef _b(): ...\n'
    )
    assert recipe_names(path) == ["a"]
    assert summary(path, "a") == "One."
    assert summary(path, "missing") == ""


def test_load_and_call():
    assert load_recipe(f"{TINY}::bp")().name == "tiny BP"
    assert call_recipe(f"{TINY}::needs_arguments", 3).feedback.rank == 3


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("", "must be 'path/to/file.py::function'"),
        ("a.py", "must be 'path/to/file.py::function'"),
        ("a.py::", "must be 'path/to/file.py::function'"),
        ("a.py::b", "there is no file 'a.py'"),
        (f"{TINY.parent}::b", "there is no file"),
        (f"{TINY}::RunConfig", "no function 'RunConfig'; the file has: bp"),
        (f"{TINY}::bp.name", "no function 'bp.name'"),
    ],
)
def test_addresses_that_lead_nowhere(address, message):
    with pytest.raises(ValueError, match=message):
        load_recipe(address)


@pytest.mark.parametrize("content", [b"", b"def", b"\xff\xfe\x00", b"\x00", b"raise KeyError(1)"])
@pytest.mark.parametrize("suffix", [".py", ".txt"])
def test_files_that_are_no_recipes(tmp_path, content, suffix):
    path = tmp_path / f"file{suffix}"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"^recipe "):
        load_recipe(f"{path}::x")


def test_a_recipe_called_with_too_few_arguments():
    with pytest.raises(ValueError, match="missing a required argument: 'rank'"):
        call_recipe(f"{TINY}::needs_arguments")


@pytest.mark.parametrize("kind", ["recipes", "rules", "data", "measures", "figures"])
def test_listing_has_a_line_for_each(kind):
    lines = listing(kind).splitlines()
    assert len(lines) > 3
    for line in lines[1:]:
        name, _, text = line.strip().partition("  ")
        assert name, line
        assert text.strip(), f"{name} has no summary"


def test_listing_of_something_else():
    with pytest.raises(ValueError, match="list 'x' is not one of recipes, rules"):
        listing("x")
