"""Commands, files and calls that the docs show and do not run: the program would take each of them."""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from avalanche_clts.cli import _parsers
from avalanche_clts.experiments import read_experiment
from avalanche_clts.pair.loading import pair_arguments
from tests.test_docs import PAGES, PREFACE, TOP, blocks

FENCED = re.compile(r"^```bash\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INDENTED = re.compile(r"^    (?=(?:clts|make) )(.*)$", re.MULTILINE)


def lines(text: str) -> Iterator[str]:
    """The command lines of a page, in fenced and in indented blocks; continued ones as one."""
    joined = "\n".join([*FENCED.findall(text), *INDENTED.findall(re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S))])
    yield from joined.replace("\\\n", " ").splitlines()


def commands(text: str, program: str) -> list[list[str]]:
    """The arguments of every call of a program on a page, whatever starts it: srun, accelerate launch."""
    found = []
    for line in lines(text.replace("-m avalanche_clts.cli", "clts")):
        words = shlex.split(line.replace('"', " ") if line.count('"') % 2 else line, comments=True)
        words = words[words.index(program) + 1 :] if program in words else []
        if words:
            found.append(words)
    return found


TEXTS = {page.relative_to(TOP).as_posix(): page.read_text(encoding="utf-8") for page in PAGES}
TYPED = [(page, shlex.join(words)) for page, text in TEXTS.items() for words in commands(text, "clts")]
TARGETS = [(page, words[0]) for page, text in TEXTS.items() for words in commands(text, "make")]


def parsed(line: str) -> Any:
    parser, _ = _parsers()
    return parser.parse_args(shlex.split(line))


@pytest.mark.parametrize(("page", "line"), TYPED)
def test_command_that_a_page_shows_is_one(page: str, line: str) -> None:
    assert parsed(line).command in line


def test_commands_are_found_and_wrong_ones_refused(capsys: pytest.CaptureFixture[str]) -> None:
    page = "```bash\nsrun clts compare \\\n    --seeds 2   # few\n```\n\n    clts pairs\n    make demo  # quick\n"
    assert commands(page, "clts") == [["compare", "--seeds", "2"], ["pairs"]]
    assert commands(page, "make") == [["demo"]]
    assert {page for page, _ in TYPED} >= {"README.md", "docs/comparison.md", "docs/many-devices.md", "docs/pairs.md"}
    with pytest.raises(SystemExit):
        parsed("compare --seed 2 --strem digits")
    assert "unrecognized arguments: --strem" in capsys.readouterr().err


def test_targets_that_pages_name_are_in_the_makefile() -> None:
    known = re.findall(r"^([a-z-]+):", (TOP / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert TARGETS
    assert [(page, target) for page, target in TARGETS if target not in known] == []


def fenced(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", TEXTS[page], re.MULTILINE | re.DOTALL)


def test_experiment_that_a_page_shows_is_read(tmp_path: Path) -> None:
    (text,) = fenced("docs/comparison.md", "toml")
    (tmp_path / "shown.toml").write_text(text, encoding="utf-8")
    assert read_experiment(tmp_path / "shown.toml").generator == {"guidance_scale": 1.5}
    (tmp_path / "wrong.toml").write_text(text.replace("seeds", "seed"), encoding="utf-8")
    with pytest.raises(ValueError, match="an experiment has no seed"):
        read_experiment(tmp_path / "wrong.toml")


def test_arguments_of_a_pair_that_a_page_shows_are_taken(tmp_path: Path) -> None:
    (text,) = fenced("docs/pairs.md", "json")
    (tmp_path / "pair.json").write_text(text, encoding="utf-8")
    captioner, generator = pair_arguments(str(tmp_path))
    shown = json.loads(text)
    assert shown == {"captioner": captioner, "generator": generator} | {
        part: {name: value for name, value in arguments.items() if name in shown[part]}
        for part, arguments in (("captioner", captioner), ("generator", generator))
    }
    (tmp_path / "pair.json").write_text(text.replace("steps", "step"), encoding="utf-8")
    with pytest.raises(ValueError, match="has 'step'; arguments of DiffusionGenerator are"):
        pair_arguments(str(tmp_path))


def wrong_calls(code: str, names: dict[str, Any]) -> list[str]:
    """What a script imports of the package that is not there, and keyword arguments of its calls that are none.

    **Arguments:**

    - names: what it finds imported.
    """
    tree, known, wrong = ast.parse(code), dict(names), []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("avalanche_clts"):
            for alias in node.names:
                found = getattr(importlib.import_module(node.module or ""), alias.name, None)
                known[alias.asname or alias.name] = found
                wrong += [] if found is not None else [f"{node.module}.{alias.name}"]
    for node in ast.walk(tree):
        called = known.get(node.func.id) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else None
        if not (callable(called) and called.__module__.startswith("avalanche_clts")):
            continue
        parameters = inspect.signature(called).parameters
        if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
            continue
        wrong += [f"{node.func.id}({word.arg}=)" for word in node.keywords if word.arg and word.arg not in parameters]
        # Dictionaries of arguments, of the parts of a pair.
        given = {word.arg: word.value for word in node.keywords if isinstance(word.value, ast.Dict)}
        parts = {name: ast.literal_eval(value) for name, value in given.items() if name in ("captioner", "generator")}
        if parts and called.__name__ == "load_pair":
            pair_arguments(ast.literal_eval(node.args[0]), **parts)
    return wrong


def preface() -> dict[str, Any]:
    names: dict[str, Any] = {}
    for code in blocks(PREFACE.read_text(encoding="utf-8")):
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.ImportFrom):
                exec(ast.unparse(node), names)
    return names


NOT_RUN = [(page, code) for page, text in TEXTS.items() for code in blocks(text, marked=True)]


@pytest.mark.parametrize(("page", "code"), NOT_RUN, ids=[page for page, _ in NOT_RUN])
def test_code_that_is_not_run_calls_what_there_is(page: str, code: str) -> None:
    earlier = [other for other in blocks(TEXTS[page]) + blocks(TEXTS[page], marked=True) if other != code]
    imported = "\n".join(
        ast.unparse(node)
        for other in earlier
        for node in ast.walk(ast.parse(other))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("avalanche_clts")
    )
    assert wrong_calls(f"{imported}\n{code}", preface()) == []


def test_calls_of_what_is_not_there_are_found() -> None:
    code = (
        "from avalanche_clts import Pear, load_pair\nload_pair('blip+sd15', devise='cuda')\nAutoCaptioner(prefiks='a')"
    )
    imported = preface() | {"AutoCaptioner": importlib.import_module("avalanche_clts").AutoCaptioner}
    assert wrong_calls(code, imported) == ["avalanche_clts.Pear", "load_pair(devise=)", "AutoCaptioner(prefiks=)"]
    with pytest.raises(ValueError, match="generator= has 'step'"):
        wrong_calls("from avalanche_clts import load_pair\nload_pair('blip+sd15', generator={'step': 1})", {})
