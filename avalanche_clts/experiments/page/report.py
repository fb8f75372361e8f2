"""The comparison as one self-contained HTML page, `report.html.j2` filled in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from ..._support.files import read_object, write_text
from ..rows import Results
from ..runs.results import by_strategy, read_finished
from . import figures
from .looks import description_of
from .memory_curve import of_unknown_memory
from .samples import Sample, classes_by_experience
from .table import ablation_cells, fit_cells, human_bytes, measured_on, stage_cells, table_cells, total

_PAGE = Environment(
    loader=FileSystemLoader(Path(__file__).parent),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_NAMED_SEED = 0  # whose order of experiences samples are told of


def write_report(out: Path, folders: Sequence[Path] = ()) -> Path:
    """Draw `report.html` in `out`, and return its path.

    **Arguments:**

    - folders: of finished comparisons and ablations, which it shows together. Empty: `out` alone.

    Raises `FileNotFoundError` for a folder with neither.
    """
    folders = folders or [out]
    document, ablations = read_finished(folders)
    samples: dict[str, Any] = {}
    for file in (file for folder in folders for file in sorted(folder.glob("samples-*.json"))):
        content = read_object(file, "stream", "samples")
        samples[content["stream"]] = content["samples"]
    out.mkdir(parents=True, exist_ok=True)
    report = out / "report.html"
    write_text(report, render_report(document, samples, ablations))
    return report


def render_report(
    document: dict[str, Any] | None,
    samples: Mapping[str, Sequence[Sample]],
    ablations: Sequence[dict[str, Any]] = (),
) -> str:
    """The page.

    **Arguments:**

    - document: the content of `results.json`. None: only ablations are shown. What `provenance` tells is shown where
        the document has it.
    - samples: real beside regenerated images, by stream.
    - ablations: contents of `ablations.json` files.
    """
    runs = document["runs"] if document else []
    streams = [
        _stream(stream, [run for run in runs if run["stream"] == stream], samples.get(stream, []))
        for stream in dict.fromkeys(run["stream"] for run in runs)
    ]
    return _PAGE.get_template("report.html.j2").render(
        compared=_compared(document) if document else None,
        streams=streams,
        ablations=[_ablated(ablation) for ablation in ablations],
    )


def _compared(document: dict[str, Any]) -> dict[str, Any]:
    """How and where the comparison was made."""
    seconds = total([run.get("seconds", {}).get("total") for run in document["runs"]])
    duration = [] if seconds is None else [f"{len(document['runs'])} runs of {human_time(seconds)} in all"]
    pair = document.get("pair", {})
    return {
        "facts": _facts(document) + duration + _settings(document),
        "command": document.get("command") or "clts compare",
        "arguments": document["arguments"],
        "versions": document["versions"],
        "pair": pair.get("name", "unknown"),
        "several_pairs": pair.get("several", False),
        "pair_bytes": human_bytes(pair.get("bytes")),
    }


def _settings(document: dict[str, Any]) -> list[str]:
    """Where the hyper-parameters come from, and what is measured on other than test images."""
    origin, measured = document.get("hyperparameters_from"), measured_on(document)
    told = [] if origin is None else [f"hyper-parameters {origin}"]
    return told if measured is None else [*told, f"measured on {measured}"]


def _facts(document: dict[str, Any]) -> list[str]:
    """What the document tells of when and where it was computed."""
    threads = document.get("threads")
    counted = None if threads is None else f"{threads} thread{'' if str(threads) == '1' else 's'}"
    return [str(fact) for fact in (document.get("date"), document.get("machine"), counted) if fact]


def _stream(stream: str, runs: Sequence[Results], samples: Sequence[Sample]) -> dict[str, Any]:
    """The figures and tables of one stream."""
    groups = by_strategy(runs)
    fewest, most = min(map(len, groups.values())), max(map(len, groups.values()))
    header, rows = table_cells(runs)
    return {
        "name": stream,
        "kind": stream.partition(":")[0],
        "seeds": f"{most}" if fewest == most else f"{fewest} to {most}",
        "one_seed": most == 1,
        "header": header,
        "rows": rows,
        "stages": stage_cells(runs),
        "pair_fit": fit_cells(runs),
        "accuracy": figures.accuracy_curves(runs),
        "memory": figures.memory_accuracy(runs),
        "unknown_memory": of_unknown_memory(runs),
        "routers": [_router(name, group, samples) for name, group in groups.items() if _has_router(group)],
        "matrices": [(name, Markup(figures.accuracy_matrix(group))) for name, group in groups.items()],
        "samples": samples,
        "real_images": any(sample["real"] for sample in samples),
        "strategies": [(name, description_of(name)) for name in groups],
    }


def _has_router(group: Sequence[Results]) -> bool:
    return all(run.get("router_confusion") for run in group)


def _router(name: str, group: Sequence[Results], samples: Sequence[Sample]) -> tuple[str, Markup]:
    """What a router confuses: in the seed whose classes are known by name, or else the mean over seeds."""
    num_classes = sum(score is not None for score in group[0].get("class_accuracy") or [])
    classes = classes_by_experience(samples, num_classes, len(group[0]["router_confusion"]))
    named = [run for run in group if run["seed"] == _NAMED_SEED]
    if classes is None or not named:
        return name, Markup(figures.router_confusion(group))
    title = name if len(group) == 1 else f"{name}, seed {_NAMED_SEED}"
    return title, Markup(figures.router_confusion(named, classes))


def _ablated(document: dict[str, Any]) -> dict[str, Any]:
    """The figures and tables of one stream's ablations."""
    questions = []
    for name, ablation in document["ablations"].items():
        variants = ablation["variants"]
        header, rows = ablation_cells(variants)
        by_class = figures.class_accuracy(variants, document["class_names"]) if name == "synthetic-data" else ""
        questions.append(
            {
                "title": ablation["title"],
                "figure": Markup(figures.ablation(variants, ablation["x_label"])),
                "header": header,
                "rows": rows,
                "by_class": Markup(by_class),
            }
        )
    return {
        "stream": document["stream"],
        "seeds": document["seeds"],
        "questions": questions,
        "facts": _facts(document),
        "command": document["command"] or "clts ablate",
        "versions": document["versions"],
    }


def human_time(seconds: float) -> str:
    """In the two largest units that it has."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
