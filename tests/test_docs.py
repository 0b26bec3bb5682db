"""What the pages say is true: links lead somewhere, names exist, commands and snippets run."""

import importlib
import re
import shlex
from pathlib import Path

import pytest

from neurofb import cli, feedback
from neurofb.arguments import parser_of

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
PARSER = parser_of(cli._COMMANDS)
NAMES = [path.relative_to(ROOT).as_posix() for path in PAGES]
#: what the README's Python asks for -> what is enough to test it; each must occur
SMALLER = {
    "ShapesOnLeaves()": "ShapesOnLeaves(num_train=64, num_validation=32, num_test=32)",
    "num_steps=1500": "num_steps=2, precision='float32'",
    "bottleneck=32": "bottleneck=4",
}


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(
        rf"```{language}\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL
    )


def commands(page: Path) -> list[list[str]]:
    """Words of each shell command in the page: blocks, and the text's `make …`, `neurofb …`."""
    text = page.read_text(encoding="utf-8")
    lines = "\n".join(blocks(page, "sh")).replace("\\\n", " ").splitlines()
    lines += re.findall(r"`((?:make|(?:\.venv/bin/)?neurofb) [^`]+)`", text)
    return [words for words in (shlex.split(line, comments=True) for line in lines) if words]


def test_the_pages_are_there():
    assert {"README.md", "CHANGELOG.md", "CONTRIBUTING.md"} <= set(NAMES)
    assert {"docs/glossary.md", "docs/known_differences.md"} <= set(NAMES)
    assert "Numbers that change" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_relative_links_lead_to_files(page):
    text = page.read_text(encoding="utf-8")
    links = [link.partition("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text)]
    relative = [link for link in links if link and "://" not in link]
    assert [link for link in relative if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_files_that_are_named_exist(page):
    text = page.read_text(encoding="utf-8")
    named = re.findall(
        r"`((?:neurofb|models|analyses|tests|docs|notebooks|benchmarks)/[\w/.-]*)[`:]", text
    )
    assert [name for name in named if not (ROOT / name).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_names_of_the_package_exist(page):
    for name in re.findall(r"`(neurofb(?:\.\w+)+)", page.read_text(encoding="utf-8")):
        assert _exists(name), f"{page.name} names {name}"


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_commands_exist(page):
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    for words in commands(page):
        if words[0] == "make":
            assert words[1] in targets, words
        elif words[0].endswith("neurofb") and "--help" not in words:
            options = PARSER.parse_args(words[1:])  # SystemExit if it is no command
            if options.name == "run":
                _check_run(options)


def test_the_readme_has_the_two_commands():
    assert {("make", "demo"), ("make", "test")} <= {
        tuple(w[:2]) for w in commands(ROOT / "README.md")
    }


def test_the_readme_runs(tmp_path, monkeypatch, capsys):
    snippet, one_line = blocks(ROOT / "README.md", "python")
    for text, smaller in SMALLER.items():
        assert text in snippet, f"the README's Python no longer has {text}"
        snippet = snippet.replace(text, smaller)
    monkeypatch.chdir(tmp_path)
    exec(compile(snippet, "README.md", "exec"), {"__name__": "__main__"})
    assert [path.suffix for path in tmp_path.iterdir()] == [".png"]
    assert "low_rank r=2" in capsys.readouterr().out
    exec(compile(one_line, "README.md", "exec"), {})


def test_the_page_of_rules_runs(capsys):
    names: dict[str, object] = {}
    for block in blocks(ROOT / "docs/feedback_rules.md", "python"):
        exec(compile(block, "feedback_rules.md", "exec"), names)
    printed = capsys.readouterr().out
    assert "low_rank r=8 [oja]" in printed
    assert "gradient_cosine" in printed
    assert "(phase: 6, kind: 2)" in printed


def test_the_page_of_linear_modes_runs(capsys):
    (snippet,) = blocks(ROOT / "docs/linear_modes.md", "python")
    assert "num_steps=2000" in snippet
    names: dict[str, object] = {}
    exec(compile(snippet.replace("2000", "200"), "linear_modes.md", "exec"), names)
    printed = capsys.readouterr().out
    assert "LDFA normative r=8" in printed
    assert "largest distance to theory: 0.0" in printed


def test_the_page_of_curl_runs(capsys):
    for block in blocks(ROOT / "docs/curl_of_rules.md", "python"):
        exec(compile(block, "curl_of_rules.md", "exec"), {})
    printed = capsys.readouterr().out
    assert printed.startswith("1.0\n")
    assert "curl index of the weights' update" in printed


def test_the_page_of_balanced_coding_runs(capsys):
    simulation, theory = blocks(ROOT / "docs/balanced_coding.md", "python")
    assert "duration=40.0" in simulation
    exec(compile(simulation.replace("40.0", "4.0"), "balanced_coding.md", "exec"), {})
    exec(compile(theory, "balanced_coding.md", "exec"), {})
    printed = capsys.readouterr().out
    assert "std_theory   [0.0161 0.0117 0.0072]" in printed
    assert "bias 0.02213, mean slope 0.7888" in printed
    assert "oscillates from B = 16.35 on, at 16.32 rad per time constant" in printed
    assert "[7.13] [0.1288]" in printed


def test_the_page_of_tensor_phases_runs(capsys):
    (snippet,) = blocks(ROOT / "docs/tensor_phases.md", "python")
    exec(compile(snippet, "tensor_phases.md", "exec"), {})
    printed = capsys.readouterr().out
    assert "0.216 theory 0.193" in printed
    assert "algorithmic=0.153" in printed
    assert "0.1 [0.37, 0.44, 0.4]" in printed
    assert "unit_variance" in printed


def test_what_the_page_of_rules_says_to_write_can_be_written():
    """Every specification in the table is made, with the names that `neurofb.feedback` exports."""
    text = (ROOT / "docs/feedback_rules.md").read_text(encoding="utf-8")
    table = text[text.index("| to have |") : text.index("Equations and who")]
    specs = re.findall(
        r"`((?:Exact|Random|SignSymmetric|LowRank|Direct|DirectRandom)\(.*?\))`", table
    )
    assert len(specs) >= 12
    for spec in specs:
        assert eval(spec, vars(feedback)).rule


def _exists(name: str) -> bool:
    """Tell whether a dotted name is a module, or an attribute of one."""
    parts = name.split(".")
    for depth in range(len(parts), 0, -1):
        try:
            value = importlib.import_module(".".join(parts[:depth]))
        except ModuleNotFoundError:
            continue
        for attribute in parts[depth:]:
            if not hasattr(value, attribute):
                return False
            value = getattr(value, attribute)
        return True
    return False


def _check_run(options) -> None:
    """Check that the recipe is there, and that its settings have the names given."""
    from neurofb.config import RunConfig, change
    from neurofb.recipes import load_recipe, returns_dataset
    from neurofb.simulation import arguments_of

    path, _, name = options.recipe.partition("::")
    found = load_recipe(f"{ROOT / path}::{name}")
    if returns_dataset(found):
        arguments_of(f"{ROOT / path}::{name}", dict(cli._setting(text) for text in options.set))
        return
    recipe = found()
    if isinstance(recipe, RunConfig):
        change(recipe, dict(cli._setting(text) for text in options.set))
