"""Examples are run: those of the docstrings, of README.md and of docs/, and the scripts in examples/.

A fenced `python` block of a docstring runs after the one that docs/api/index.md says all of them begin with; those of a
page run one after the other, after it too. The pair is the embedded one; streams are cut to their first experiences, so
that the whole takes seconds. `<!-- no-run -->` before a block of a page says that it needs weights which have to be
downloaded, or a GPU.
"""

from __future__ import annotations

import ast
import functools
import os
import re
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import pytest
import torch
from avalanche.benchmarks import classic, nc_benchmark
from avalanche.benchmarks.scenarios import CLScenario
from torchvision.transforms import ToTensor

import avalanche_clts
from avalanche_clts import load_pair, plugins, split_digits
from avalanche_clts.experiments.runs.results import read_runs
from avalanche_clts.streams.benchmarks import ImageDataset
from avalanche_clts.streams.embedded_shapes import CLASS_NAMES, stream_shapes

TOP = Path(__file__).parents[1]
PREFACE = TOP / "docs" / "api" / "index.md"
PAGES = [TOP / "README.md", TOP / "CONTRIBUTING.md", *sorted((TOP / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^(?P<mark><!-- no-run -->\n+)?```python\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)
# By script: a strategy of the recorded comparison, and where its accuracy stands in what is printed.
SHOWS = {
    "clts_strategy": ("clts", r"Top1_Acc_Stream/eval_phase/test_stream/Task000 = ([\d.]+)"),
    "caption_replay_plugin": ("caption-replay", r"captions +([\d.]+) %"),
}
NEEDS_DOWNLOADS = {"README.md", "docs/many-devices.md", "docs/pairs.md"}


def blocks(text: str, *, marked: bool = False) -> list[str]:
    """The code of a text's `python` blocks, or of those that are not to be run."""
    return [found["code"] for found in BLOCK.finditer(text) if bool(found["mark"]) == marked]


def docstrings() -> Iterator[tuple[str, str]]:
    """Every docstring of the package, by its place."""
    for path in sorted((TOP / "avalanche_clts").rglob("*.py")):
        yield from _docstrings(ast.parse(path.read_text(encoding="utf-8")), path.relative_to(TOP).as_posix())


def _docstrings(node: Any, place: str) -> Iterator[tuple[str, str]]:
    if text := ast.get_docstring(node):
        yield place, text
    for child in node.body:
        if isinstance(child, (ast.ClassDef, ast.FunctionDef)):
            yield from _docstrings(child, f"{place}::{child.name}")


EXAMPLES = {place: blocks(text) for place, text in docstrings() if blocks(text)}
RUN_PAGES = {page.relative_to(TOP).as_posix(): blocks(page.read_text(encoding="utf-8")) for page in PAGES}


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of images, a subfolder a class."""
    folder = tmp_path_factory.mktemp("photos")
    images, targets = stream_shapes()[1]
    for target in range(4):
        of_class = folder / CLASS_NAMES[target].removeprefix("a ").replace(" ", "_")
        of_class.mkdir()
        for n, index in enumerate([i for i, t in enumerate(targets) if t == target][:5]):
            images[index].save(of_class / f"{n}.png")
    return folder


@functools.cache
def _whole_pair() -> Any:
    return load_pair("embedded")


def _pair(name: str, **options: Any) -> Any:
    return load_pair(name, **options) if options or name != "embedded" else _whole_pair()


def _two_experiences(*args: Any, **options: Any) -> CLScenario:
    whole = split_digits(*args, **options)
    return CLScenario([whole.train_stream[:2], whole.test_stream[:2]])


@pytest.fixture
def namespace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, photos: Path) -> Iterator[dict[str, Any]]:
    """What an example finds, in a folder of its own that holds `photos` and the pair `my-pair`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "offline")
    (tmp_path / "photos").symlink_to(photos)
    (tmp_path / "my-pair").symlink_to(Path(_whole_pair().captioner.name_or_path).parent)
    monkeypatch.setattr(avalanche_clts, "load_pair", _pair)
    monkeypatch.setattr(avalanche_clts, "split_digits", _two_experiences)
    torch.manual_seed(0)
    names: dict[str, Any] = {"__name__": "example"}
    for code in blocks(PREFACE.read_text(encoding="utf-8")):
        exec(compile(code, str(PREFACE), "exec"), names)
    yield names
    if "wandb" in sys.modules:
        sys.modules["wandb"].teardown()  # it reads its environment once


@pytest.mark.parametrize("place", EXAMPLES)
def test_example_of_docstring_runs(place: str, namespace: dict[str, Any]) -> None:
    for code in EXAMPLES[place]:
        exec(compile(code, place, "exec"), namespace)


@pytest.mark.parametrize("page", [page for page, codes in RUN_PAGES.items() if codes])
def test_examples_of_page_run(page: str, namespace: dict[str, Any]) -> None:
    for code in RUN_PAGES[page]:
        exec(compile(code, page, "exec"), namespace)


def test_script_for_a_gpu_runs_on_a_stand_in_of_its_stream(namespace: dict[str, Any], monkeypatch) -> None:
    """README's script with BLIP and Stable Diffusion: all of it, with the embedded pair, on a CPU, in a short stream of
    CIFAR's format."""
    (script,) = blocks((TOP / "README.md").read_text(encoding="utf-8"), marked=True)
    images, targets = stream_shapes()[1]
    few = [index for index, target in enumerate(targets) if target < 4][:24]
    part = ImageDataset([images[i] for i in few], [targets[i] for i in few], CLASS_NAMES)
    stand_in = nc_benchmark(part, part, 2, False, train_transform=ToTensor(), eval_transform=ToTensor(), seed=0)
    monkeypatch.setattr(classic, "SplitCIFAR100", lambda n_experiences, seed: stand_in)
    monkeypatch.setattr(avalanche_clts, "load_pair", lambda name, device: _whole_pair())
    monkeypatch.setattr(plugins, "IMAGES_PER_CLASS", 4)
    assert '"cuda"' in script
    assert "train_epochs=20" in script
    short = script.replace('"cuda"', '"cpu"').replace("train_epochs=20", "train_epochs=1")
    exec(compile(short, "README.md", "exec"), namespace)
    assert (Path("runs") / "clts").is_dir()
    assert namespace["model"].num_heads == 2


def test_ten_lines_print_what_is_written_beside_them(monkeypatch, tmp_path: Path) -> None:
    """On the whole stream, unlike the other blocks; the same ten in README and on the first page of the docs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(avalanche_clts, "load_pair", _pair)
    ten_lines, again = (blocks((TOP / page).read_text(encoding="utf-8"))[0] for page in ("README.md", "docs/index.md"))
    assert ten_lines == again
    said: list[float] = []
    torch.manual_seed(0)
    exec(compile(ten_lines, "README.md", "exec"), {"__name__": "example", "print": said.append})
    (written,) = re.findall(r"# (0\.\d+); ", ten_lines)
    assert said == [pytest.approx(float(written), abs=0.02)]


def test_readme_runs_within_its_first_screen() -> None:
    lines = (TOP / "README.md").read_text(encoding="utf-8").splitlines()
    assert lines.index("```python") < 40


@pytest.mark.parametrize("name", avalanche_clts.__all__)
def test_public_name_has_an_example(name: str) -> None:
    public = getattr(avalanche_clts, name)
    place = f"{public.__module__.replace('.', '/')}.py::{public.__name__}"
    assert EXAMPLES.get(place), f"{place} has no ```python block in its docstring"


@pytest.mark.parametrize("name", avalanche_clts.__all__)
def test_public_name_has_a_place_in_the_docs(name: str) -> None:
    pages = "\n".join(page.read_text(encoding="utf-8") for page in (TOP / "docs" / "api").glob("*.md"))
    assert len(re.findall(rf"^::: avalanche_clts\.{name}$", pages, re.MULTILINE)) == 1


def test_few_examples_are_not_run() -> None:
    marked = {page.relative_to(TOP).as_posix() for page in PAGES if blocks(page.read_text("utf-8"), marked=True)}
    assert marked <= NEEDS_DOWNLOADS
    assert not any("no-run" in text for _, text in docstrings())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(TOP).as_posix())
def test_paths_and_names_that_a_page_gives_exist(page: Path) -> None:
    """Links to files, files in the repository, and dotted names of the package."""
    text = page.read_text(encoding="utf-8")
    missing = [
        link
        for link in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text)
        if "://" not in link and not (page.parent / link).exists()
    ]
    missing += [
        path
        for path in re.findall(r"`(?:python )?((?:avalanche_clts|benchmarks|tests|docs|examples)/[\w./-]+)`", text)
        if not (TOP / path).exists()
    ]
    missing += [name for name in re.findall(r"`(avalanche_clts(?:\.\w+)+)", text) if not _resolves(name)]
    missing += [name for name in re.findall(r"`(test_\w+\.py)`", text) if not (TOP / "tests" / name).exists()]
    assert not missing


def _resolves(name: str) -> bool:
    """Whether a dotted name is a module of the package, or is given in one."""
    parts = name.split(".")
    for depth in range(len(parts), 0, -1):
        path = TOP.joinpath(*parts[:depth])
        for source in (path.with_suffix(".py"), path / "__init__.py"):
            if source.is_file():
                given = rf"^(class |def )?{parts[depth]}\b|import .*\b{parts[depth]}\b" if depth < len(parts) else ""
                return bool(re.search(given, source.read_text(encoding="utf-8"), re.MULTILINE))
    return False


@pytest.mark.parametrize("script", sorted((TOP / "examples").glob("*.py")), ids=lambda script: script.stem)
def test_script_runs_as_it_stands(
    script: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    runpy.run_path(os.fspath(script), run_name="__main__")
    printed = capsys.readouterr().out
    # Each ends with the accuracy that the table has of its strategy: one seed of it, within the seeds' spread.
    strategy, figure = SHOWS[script.stem]
    runs = read_runs(TOP / "benchmarks" / "results" / "digits")["runs"]
    recorded = [100 * run["average_accuracy"] for run in runs if run["strategy"] == strategy]
    shown = float(re.findall(figure, printed)[-1])
    shown = 100 * shown if shown <= 1 else shown
    assert abs(shown - mean(recorded)) <= max(1.0, 2 * stdev(recorded))


def test_citation_and_changelog_name_this_version() -> None:
    assert f"\nversion: {avalanche_clts.__version__}\n" in (TOP / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\n## {avalanche_clts.__version__} " in (TOP / "CHANGELOG.md").read_text(encoding="utf-8")
