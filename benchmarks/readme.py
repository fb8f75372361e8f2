"""Put the recorded results into the README and the docs: table, figure, quality of the pair.

    python benchmarks/readme.py

Each stands between two marks, such as `<!-- table -->` and `<!-- /table -->`. A test fails when they disagree.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from statistics import mean
from typing import Any

from avalanche_clts._support.files import write_text
from avalanche_clts.experiments.page.figures import accuracy_figure
from avalanche_clts.experiments.page.table import (
    format_markdown,
    format_markdown_ablations,
    human_bytes,
    mean_known,
    settings_note,
    spread,
    total,
)
from avalanche_clts.experiments.runs.results import ABLATIONS_FILE, by_strategy, read_runs
from avalanche_clts.experiments.variants import ABLATIONS
from avalanche_clts.pretraining.quality import format_quality

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
# The streams of the README, as far as they are recorded.
NAMES = {
    "cells-half": "blood cells",
    "mnist-half": "MNIST",
    "cifar10-half": "CIFAR-10",
    "cifar100-half": "CIFAR-100",
    "pacs-half": "PACS, by domain",
    "shapes": "Split Shapes",
    "digits": "Split Digits",
}
# The same images on a frozen backbone: tables without a figure.
ON_FEATURES = (
    "cells-half-features",
    "cifar10-half-features",
    "cifar100-half-features",
    "pacs-half-features",
    "cifar10-half-imagenet",
)
STREAMS = [stream for stream in NAMES if (RESULTS / stream / "results.json").exists()]

# Of the README's tables: those that are asked for first, whichever are ahead.
SHORT = (
    "joint",
    "clts",
    "clts+captioner",
    "captioner",
    "caption-replay",
    "er-count",
    "er-count+captioner",
    "er-total",
    "er-total+captioner",
    "er-63x",
    "er-bytes",
    "ewc",
    "lwf",
    "naive",
)
PAST, NETWORKS = ("captions", "exemplars"), ("heads", "router", "network")


def main() -> None:
    assets = ROOT / "docs" / "assets"
    assets.mkdir(exist_ok=True)
    for stream in STREAMS:
        write_text(assets / f"accuracy-{stream}.svg", accuracy_figure(read_runs(RESULTS / stream)["runs"]))
    for path, text in rendered().items():
        write_text(path, text)


def rendered() -> dict[Path, str]:
    """The README and the docs as they should be, by path."""
    quality = {
        mark: format_quality(read_json(RESULTS / "embedded-pair" / f"{mark}.json"))
        for mark in ("quality", "quality-mnist-blood")
    }
    contents = {
        ROOT / "README.md": {
            "short-cells-half": noted(short_table, read_runs(RESULTS / "cells-half")),
            "overview": overview_table(),
        },
        ROOT / "docs" / "results.md": {
            f"table-{stream}": noted(format_markdown, read_runs(RESULTS / stream)) for stream in STREAMS
        }
        | {
            f"table-{name}": f"{noted(format_markdown, document)} {areas_note(document)}"
            for name, document in ((name, read_runs(RESULTS / name)) for name in ON_FEATURES)
        },
        ROOT / "docs" / "embedded-pair.md": {mark: indented(text) for mark, text in quality.items()},
    }
    contents[ROOT / "docs" / "ablations.md"] = {
        "ablations": format_markdown_ablations(asked_of_streams(lambda name: name in ABLATIONS)),
        "left": format_markdown_ablations(asked_of_streams(lambda name: name not in ABLATIONS)),
    }
    growth = RESULTS / "growth" / "growth.json"
    if growth.exists():
        contents[ROOT / "docs" / "scaling.md"] = {"growth": growth_table(read_json(growth))}
    return {path: with_contents(path, marked) for path, marked in contents.items()}


def noted(table: Callable[[list[dict[str, Any]]], str], document: dict[str, Any]) -> str:
    """A table of a `results.json`, and below it where its hyper-parameters come from."""
    return f"{table(document['runs'])}\n\n{settings_note(document)}"


def areas_note(document: dict[str, Any]) -> str:
    """The area under accuracy and everything kept, of the families of strategies, the largest first."""
    areas = ", ".join(f"`{family}` {area:.2f}" for family, area in document["accuracy_memory_area"].items())
    return f"Area under accuracy and everything kept (`er`: at all its budgets): {areas}."


def short_table(runs: list[dict[str, Any]]) -> str:
    """The rows that a reader asks for first: accuracy, and what is kept of the past."""
    lines = ["| strategy | accuracy % | captions or images | networks |", "| --- | ---: | ---: | ---: |"]
    groups = {name: group for name, group in by_strategy(runs).items() if name in SHORT}
    for name, group in sorted(groups.items(), key=lambda item: -mean(run["average_accuracy"] for run in item[1])):
        accuracy = spread([run["average_accuracy"] for run in group], lambda share: f"{100 * share:.1f}")
        kept = [[run["memory_bytes"][kind] for kind in kinds] for kinds in (PAST, NETWORKS) for run in group]
        sums = [total(values) for values in kept]
        past, networks = (mean_known(part) for part in (sums[: len(group)], sums[len(group) :]))
        lines.append(f"| `{name}` | {accuracy} | {human_bytes(past)} | {human_bytes(networks)} |")
    return "\n".join(lines)


def overview_table() -> str:
    """Average accuracy of the rows that are asked for first, a line a stream."""
    rows = [name for name in SHORT if name not in ("er-bytes", "naive")]
    header = " | ".join(["stream", "seeds", *(f"`{name}`" for name in rows)])
    lines = [f"| {header} |", "| --- |" + " ---: |" * (1 + len(rows))]
    for stream in STREAMS:
        groups = by_strategy(read_runs(RESULTS / stream)["runs"])
        known = {name: f"{100 * mean(run['average_accuracy'] for run in group):.1f}" for name, group in groups.items()}
        cells = " | ".join(known.get(name, "-") for name in rows)
        lines.append(f"| {NAMES[stream]} | {len(groups['clts'])} | {cells} |")
    return "\n".join(lines)


def asked_of_streams(wanted: Callable[[str], bool]) -> list[dict[str, Any]]:
    """The recorded ablations whose names are wanted, of each stream that has some."""
    documents = []
    for stream in STREAMS:
        answers = {name: answer for name, answer in ablated(stream)["ablations"].items() if wanted(name)}
        if answers:
            documents.append({"stream": stream, "ablations": answers})
    return documents


def ablated(stream: str) -> dict[str, Any]:
    """All ablations recorded on a stream, which may have a folder of their own: of how it samples, those of the pair
    before its distillation."""
    answers: dict[str, Any] = {}
    for folder in (RESULTS / stream, RESULTS / f"{stream}-ablations", RESULTS / f"{stream}-undistilled"):
        if (folder / ABLATIONS_FILE).exists():
            answers |= read_json(folder / ABLATIONS_FILE)["ablations"]
    return {"stream": stream, "ablations": answers}


def growth_table(growth: dict[str, Any]) -> str:
    """What streams of few and of many experiences cost."""
    lines = [
        "| experiences | seconds | predicted from the shortest | peak memory | bytes kept | accuracy % |",
        "| ---: |" + " ---: |" * 5,
    ]
    for length, run in growth["runs"].items():
        lines.append(
            f"| {length} | {growth['total_seconds'][length]:.0f} | {growth['predicted_seconds'][length]:.0f} "
            f"| {run['peak_bytes'] / 1e6:.0f} MB | {growth['bytes_kept'][length]:,} | {100 * run['accuracy']:.1f} |"
        )
    return "\n".join(lines)


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def with_contents(path: Path, marked: dict[str, str]) -> str:
    """The file's text with each content between its two marks."""
    text = path.read_text(encoding="utf-8")
    for mark, content in marked.items():
        text = between(text, mark, content, path)
    return text


def between(text: str, mark: str, content: str, path: Path) -> str:
    text, count = re.subn(
        rf"(<!-- {mark} -->\n).*?(\n<!-- /{mark} -->)",
        lambda found: f"{found[1]}\n{content}\n{found[2]}",
        text,
        flags=re.DOTALL,
    )
    if count != 1:
        raise ValueError(f"{path} must hold <!-- {mark} --> and <!-- /{mark} --> once")
    return text


def indented(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.splitlines())


if __name__ == "__main__":
    main()
