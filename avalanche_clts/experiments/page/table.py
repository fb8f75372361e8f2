"""The comparison as a table of text."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Any

from ..rows import Results
from ..runs.results import MEMORY_KINDS, by_strategy

_COLUMNS = {
    "accuracy": "average_accuracy",
    "forgetting": "forgetting",
    "BWT": "backward_transfer",
    "router": "router_accuracy",
    "oracle": "oracle_accuracy",
}
_FITS = {
    "captions_named": "captions",
    "regenerated_recognised": "regenerated",
    "real_recognised": "real",
}
_SYNTHESIS = ("captioning", "generation", "router")
_STAGES = (*_SYNTHESIS, "evaluation")


@dataclass(frozen=True)
class Cell:
    """What a table says, and the number that it is sorted by; None: it has none."""

    text: str
    value: float | None = None


def table_cells(runs: Sequence[Results]) -> tuple[list[str], list[list[Cell]]]:
    """Header and rows, best average accuracy first: percentages as mean ± standard deviation over seeds."""
    header = ["strategy", *(f"{name} %" for name in _COLUMNS), *MEMORY_KINDS, "seconds"]
    rows = []
    for strategy, group in _groups(runs):
        row = [Cell(strategy)]
        row += [_percentages([run[name] for run in group]) for name in _COLUMNS.values()]
        row += [_bytes([run["memory_bytes"][kind] for run in group]) for kind in MEMORY_KINDS]
        seconds = mean_known([run["seconds"]["total"] for run in group])
        row.append(Cell("-" if seconds is None else f"{seconds:.1f}", seconds))
        rows.append(row)
    return header, rows


def table_rows(runs: Sequence[Results]) -> tuple[list[str], list[list[str]]]:
    """The texts of `table_cells`."""
    header, rows = table_cells(runs)
    return header, _texts(rows)


def fit_cells(runs: Sequence[Results]) -> tuple[list[str], list[list[Cell]]] | None:
    """Header and rows of what the pair knows, of the strategies that measure it, means over experiences; None: none
    does."""
    groups = {name: [run["pair_fit"] for run in group if run.get("pair_fit")] for name, group in _groups(runs)}
    rows = [
        [Cell(strategy), *(_percentages([mean_known(f[name] for f in fits) for fits in of_runs]) for name in _FITS)]
        for strategy, of_runs in groups.items()
        if of_runs
    ]
    return (["strategy", *(f"{title} %" for title in _FITS.values())], rows) if rows else None


def stage_cells(runs: Sequence[Results]) -> tuple[list[str], list[list[Cell]]] | None:
    """Header and rows of seconds by stage, means over seeds; None: nothing is known of them."""
    rows = []
    for strategy, group in _groups(runs):
        of_stage = {stage: mean_known([run["seconds"].get(stage) for run in group]) for stage in ("total", *_STAGES)}
        whole, synthesis = of_stage.pop("total"), [of_stage[stage] or 0.0 for stage in _SYNTHESIS]
        if whole is not None:
            shown = [whole - sum(synthesis), *of_stage.values()]
            rows.append([Cell(strategy), *(Cell("-" if s is None else f"{s:.1f}", s) for s in shown)])
    return (["strategy", "training", *_STAGES], rows) if rows else None


def _groups(runs: Sequence[Results]) -> list[tuple[str, list[Results]]]:
    """By strategy, the best first."""
    return sorted(by_strategy(runs).items(), key=lambda item: -mean(r["average_accuracy"] for r in item[1]))


def ablation_cells(variants: Sequence[dict[str, Any]]) -> tuple[list[str], list[list[Cell]]]:
    """Header and rows of an ablation, in the order of its variants."""
    header = ["variant", "accuracy %", "router %", "oracle %", "kept"]
    rows = []
    for variant in variants:
        runs = variant["runs"]
        row = [Cell(variant["label"])]
        for name in ("average_accuracy", "router_accuracy", "oracle_accuracy"):
            row.append(_percentages([run[name] for run in runs]))
        # Captions, or the images that a variant keeps in their place.
        kept = [total([run["memory_bytes"]["captions"], run["memory_bytes"]["exemplars"]]) for run in runs]
        rows.append([*row, _bytes(kept)])
    return header, rows


def ablation_rows(variants: Sequence[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """The texts of `ablation_cells`."""
    header, rows = ablation_cells(variants)
    return header, _texts(rows)


def format_ablations(document: dict[str, Any]) -> str:
    """All tables of an `ablations.json` for a terminal, and where it says so, where the hyper-parameters come from."""
    tables = [
        f"{ablation['title']}\n{format_columns(*ablation_rows(ablation['variants']))}"
        for ablation in document["ablations"].values()
    ]
    notes = [settings_note(document)] if document.get("hyperparameters_from") else []
    return "\n\n".join(tables + notes)


def format_table(runs: Sequence[Results]) -> str:
    """The table for a terminal."""
    return format_columns(*table_rows(runs))


def settings_note(document: dict[str, Any]) -> str:
    """What stands below the table of a `results.json`: where its hyper-parameters come from, and what it is measured on
    where that is no test images."""
    note = f"Hyper-parameters: {document.get('hyperparameters_from') or 'not told where from'}."
    measured = measured_on(document)
    return note if measured is None else f"{note} Measured on {measured}."


def measured_on(document: dict[str, Any]) -> str | None:
    """What accuracies are of, if not of test images."""
    share = document.get("settings", {}).get("validation")
    return f"{share:.0%} of every training experience's images, held out: not on test images" if share else None


def format_columns(header: Sequence[str], rows: Sequence[Sequence[str]], *, left: int = 1) -> str:
    """A table for a terminal, its first `left` columns to the left and the others to the right."""
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]

    def line(cells: Sequence[str]) -> str:
        columns = zip(cells, widths, strict=True)
        aligned = [c.ljust(width) if i < left else c.rjust(width) for i, (c, width) in enumerate(columns)]
        return "  ".join(aligned).rstrip()

    return "\n".join([line(header), line(["-" * width for width in widths]), *map(line, rows)])


def format_markdown(runs: Sequence[Results]) -> str:
    """The table for a README."""
    header, rows = table_rows(runs)
    return _markdown(header, [[f"`{row[0]}`", *row[1:]] for row in rows])


def format_markdown_ablations(documents: Sequence[dict[str, Any]]) -> str:
    """All tables of several streams' `ablations.json`, side by side; what is the default on a stream is bold."""
    names = dict.fromkeys(name for document in documents for name in document["ablations"])
    return "\n\n".join(
        _markdown_ablation(name, [document for document in documents if name in document["ablations"]])
        for name in names
    )


def _markdown_ablation(name: str, documents: Sequence[dict[str, Any]]) -> str:
    # A stream may have variants that another has not: numbers of experiences, above all.
    variants = {v["label"]: v for document in documents for v in document["ablations"][name]["variants"]}
    ordered = sorted(variants.values(), key=lambda variant: variant["x"] or 0)
    rows = {v["label"]: [v["label"]] for v in ordered}
    header = ["variant"]
    for document in documents:
        header += [f"{document['stream']}: accuracy %", "router %", "kept"]
        for variant in document["ablations"][name]["variants"]:
            _, ((label, accuracy, router, _, kept),) = ablation_rows([variant])
            row = rows[label]
            accuracy = f"**{accuracy}**" if variant["default"] else accuracy
            row += ["-"] * (len(header) - 3 - len(row)) + [accuracy, router, kept]
    full = [row + ["-"] * (len(header) - len(row)) for row in rows.values()]
    title = documents[0]["ablations"][name]["title"]
    return f"### {title} (`{name}`)\n\n{_markdown(header, full)}"


def _markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def spread(values: Sequence[float | None], text: Callable[[float], str]) -> str:
    """Mean ± standard deviation (of the sample); a dash where the figure does not apply."""
    known = [value for value in values if value is not None]
    if not known:
        return "-"
    if len(known) == 1:
        return text(known[0])
    return f"{text(mean(known))} ± {text(stdev(known))}"


def mean_known(values: Iterable[float | None]) -> float | None:
    """The mean of those that there are; None: there are none."""
    known = [value for value in values if value is not None]
    return mean(known) if known else None


def total(values: Sequence[float | None]) -> float | None:
    """The sum; None, for unknown, if a part of it is."""
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None


def human_bytes(count: float | None) -> str:
    """Bytes with a unit; a dash for none, "unknown" for None."""
    if count is None:
        return "unknown"
    if count == 0:
        return "-"
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    raise AssertionError("unreachable")


def _percentages(shares: Sequence[float | None]) -> Cell:
    return Cell(spread(shares, lambda share: f"{100 * share:.1f}"), mean_known(shares))


def _bytes(counts: Sequence[float | None]) -> Cell:
    whole = total(counts)
    count = None if whole is None else whole / len(counts)
    return Cell(human_bytes(count), count)


def _texts(rows: Sequence[Sequence[Cell]]) -> list[list[str]]:
    return [[cell.text for cell in row] for row in rows]
