"""The house stands: imports run downward and in no circle, and Avalanche's insides are read in one place.

The order is the design's, but for files that the code keeps higher than its list has them: `metrics.py` stands above
`plugins.py`, since it tells how long the plugin's router took; `checkpoint.py` and `plugin_state.py` stand above both,
since they write down what all of these keep. What the list does not name: `refusals.py` says what plugins refuse,
`heads.py` belongs to `models.py`, and `views.py` is what routers are shown. `pair/` and `streams/` know nothing of each
other.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "avalanche_clts"
ROOT = "__init__"

# From the door down. A file may import what stands below it, and, in a wing, its neighbours.
ORDER = [
    "cli",
    "experiments",
    "pretraining",
    ROOT,  # what users import
    "strategy",
    "checkpoint",
    "plugin_state",
    "metrics",
    "loggers",
    "plugins",
    "asking_plugin",
    "footprint",
    "refusals",
    "pair_fit",
    "asking",
    "models",
    "heads",
    "routers",
    "views",
    "networks",
    "memory",
    "pair",
    "streams",
    "images",
    "choices",
    "_support",
]

# Others' names that begin with an underscore, and yet are there to be used, by the file that uses them.
OF_MODULES = {"_adaptation_device", "_auto_adapt"}  # Avalanche's: where a module is, and whether it grows
FOREIGN = {
    "cli.wording": {"_actions"},  # of an argparse parser: the options that it has
    "heads": {"_auto_adapt"},
    "models": {"_adaptation_device", "_BatchNorm"},  # and torch's base of all its kinds
    "metrics": {"_metric"},  # Avalanche's GenericPluginMetric hands its subclasses their metric under this name
    "memory.buffer": {"_replace"},  # a NamedTuple's
    "_support.processes": {"_exit"},  # of os
    # What transformers and diffusers keep on what they load: where it came from, which parts a LoRA may change, on
    # which device a pipeline runs whose parts are offloaded, and whether its bar was turned off.
    "pair.captioners": {"_name_or_path"},
    "pair.fitting": {"_lora_loadable_modules", "_optional_components"},
    "pair.generators": {"_execution_device", "_progress_bar_config"},
    "pair.pipelines": {"_lora_loadable_modules"},
    "pair.prompt_encoding": {"_execution_device"},
}
# The insides of data sets, experiences and streams, whether or not their names begin with an underscore.
INSIDES = {
    "_data_attributes",
    "_datasets",
    "_experiences",
    "_flat_data",
    "_frozen_transform_groups",
    "_full_length",
    "_get_idx",
    "_indices",
    "_origin_stream",
    "_transform_groups",
    "remove_current_transform_group",
}
READER = "images/avalanche.py"


def modules() -> dict[str, Path]:
    """Every file of the package, by its dotted name below it."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name or ROOT] = path
    return found


MODULES = modules()


def imports(name: str, tree: ast.AST | None = None) -> Iterator[str]:
    """The package's modules that a module imports, anywhere in it: also within functions, and for types alone."""
    path = MODULES[name]
    own = [] if name == ROOT else name.split(".")
    folder = own if path.name == "__init__.py" else own[:-1]
    for node in ast.walk(tree or ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == PACKAGE.name:
                    yield _known(alias.name.split(".")[1:], None)
        elif isinstance(node, ast.ImportFrom):
            parts = (node.module or "").split(".") if node.module else []
            if node.level:
                parts = [*folder[: len(folder) - node.level + 1], *parts]
            elif parts[0] == PACKAGE.name:
                parts = parts[1:]
            else:
                continue
            for alias in node.names:
                yield _known(parts, alias.name)


def _known(parts: Sequence[str], name: str | None) -> str:
    """`from parts import name` may name a module or something in it."""
    whole = ".".join([*parts, *([name] if name else [])])
    return whole if whole in MODULES else ".".join(parts) or ROOT


def layer(name: str) -> int:
    return ORDER.index(name.split(".")[0])


def test_every_file_has_its_place() -> None:
    assert {name.split(".")[0] for name in MODULES} == set(ORDER)


@pytest.mark.parametrize("name", MODULES)
def test_imports_run_downward(name: str) -> None:
    wing = name.split(".")[0]
    upward = [other for other in imports(name) if layer(other) <= layer(name) and other.split(".")[0] != wing]
    assert not upward, f"{name} imports what stands above it: {', '.join(upward)}"


def test_no_import_runs_in_a_circle() -> None:
    graph = {name: {other for other in imports(name) if other != name} for name in MODULES}
    done: set[str] = set()

    def visit(name: str, path: list[str]) -> None:
        assert name not in path, " imports ".join([*path[path.index(name) :], name])
        if name not in done:
            for other in sorted(graph.get(name, ())):
                visit(other, [*path, name])
            done.add(name)

    for name in graph:
        visit(name, [])


def test_upward_and_circular_imports_would_be_found() -> None:
    """The parser itself: relative, absolute, of modules, of names, in functions."""
    code = (
        "from ..strategy import CLTS\nfrom . import captions\nimport avalanche_clts.cli\n"
        "def f():\n    from avalanche_clts import CLTS\n    from ..images.formats import to_pil\n"
        "import torch\nfrom avalanche.core import BasePlugin\n"
    )
    found = sorted(imports("memory.buffer", ast.parse(code)))
    assert found == sorted(["strategy", "memory.captions", "cli", ROOT, "images.formats"])


def private_names(tree: ast.AST) -> tuple[set[str], set[str]]:
    """Private names that a file asks objects for, and private names that it gives itself."""
    asked, given = set(), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            (given if isinstance(node.ctx, ast.Store) else asked).add(node.attr)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id.endswith("attr"):
            asked |= {a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)}
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            given.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            given.add(node.id)
    return asked, given


@pytest.mark.parametrize("name", [name for name, path in MODULES.items() if not path.as_posix().endswith(READER)])
def test_only_one_file_reads_the_insides_of_avalanche(name: str) -> None:
    asked, _ = private_names(ast.parse(MODULES[name].read_text(encoding="utf-8")))
    assert not asked & INSIDES, f"{name} reads {asked & INSIDES}; {READER} has, or should have, a function for it"


def test_the_list_of_insides_is_what_that_file_reads() -> None:
    asked, given = private_names(ast.parse((PACKAGE / READER).read_text(encoding="utf-8")))
    private = {name for name in asked if name.startswith("_") and not name.startswith("__")}
    assert private - given <= INSIDES, "name them in INSIDES as well"


def test_no_file_asks_avalanche_for_other_private_names() -> None:
    """Nothing private is asked for that no file of the package has made, but for what a file is known to need."""
    asked: dict[str, set[str]] = {}
    given: set[str] = set()
    for name, path in MODULES.items():
        asks, gives = private_names(ast.parse(path.read_text(encoding="utf-8")))
        asked[name] = {n for n in asks if n.startswith("_") and not n.startswith("__")}
        given |= gives - OF_MODULES
    foreign = {name: asks - given for name, asks in asked.items() if asks - given}
    foreign.pop("images.avalanche")
    assert foreign == FOREIGN
