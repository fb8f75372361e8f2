"""The comparison as one self-contained HTML page."""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..._support.files import write_text
from ..rows import ROWS, Results
from ..runs.results import by_strategy, read_finished
from . import figures
from .samples import Sample
from .table import ablation_rows, human_bytes, table_rows

_STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.55 system-ui, sans-serif; color: #222; max-width: 1200px; margin: 2rem auto; padding: 0 1.2rem; }
h1 { font-size: 1.7rem; margin-bottom: .2rem; } h2 { margin-top: 2.6rem; font-size: 1.25rem; }
h3 { margin: 1.8rem 0 .4rem; font-size: 1.02rem; }
summary { cursor: pointer; color: #555; margin-bottom: .8rem; }
.lead, .note, figcaption { color: #555; } .note { font-size: .92rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums; white-space: nowrap; }
th, td { padding: .35rem .45rem; text-align: right; border-bottom: 1px solid #e4e4e4; }
th:first-child, td:first-child { text-align: left; } th { color: #555; font-weight: 600; }
tr.clts td { background: #fbeef0; font-weight: 600; }
svg { max-width: 100%; height: auto; }
.figure svg { min-width: 36rem; }
.ablation { display: flex; flex-wrap: wrap; align-items: center; gap: .6rem 2rem; }
.ablation svg { width: 28rem; } .ablation .wide { max-width: 100%; }
.ablation td:first-child { white-space: normal; min-width: 9rem; max-width: 17rem; }
.matrices, .samples { display: flex; flex-wrap: wrap; gap: 1.1rem; }
.matrices figure { margin: 0; } .matrices figcaption { text-align: center; font-size: .9rem; }
.sample { border: 1px solid #e4e4e4; border-radius: 8px; padding: .7rem; width: 17.5rem; max-width: 100%; }
.sample img { width: 48px; height: 48px; image-rendering: pixelated; border-radius: 3px; }
.sample .row { display: flex; gap: 4px; align-items: center; } .sample .arrow { color: #999; padding: 0 .3rem; }
.sample q { font-style: italic; font-size: .92rem; }
code { background: #f4f4f4; padding: .1rem .3rem; border-radius: 3px; overflow-wrap: anywhere; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .25rem 1.2rem; }
dt { font-weight: 600; } dd { margin: 0; color: #555; }
"""
_SAMPLES_NOTE = {
    True: "Left: a real image of the stream. Right: images regenerated from its caption, in the stream's size.",
    False: "Captions of real images, which are left out here, and images regenerated from them, in the stream's size.",
}
_NOTES = {
    "digits": "A digit of this stream is an 8x8 grey image of 64 bytes, hardly more than a caption: this stream shows "
    "that the method works, and says little about memory.",
}


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
        content = json.loads(file.read_text(encoding="utf-8"))
        samples[content["stream"]] = content["samples"]
    out.mkdir(parents=True, exist_ok=True)
    report = out / "report.html"
    write_text(report, render_report(document, samples, ablations))
    return report


def render_report(
    document: dict[str, Any] | None,
    samples: dict[str, list[Sample]],
    ablations: Sequence[dict[str, Any]] = (),
) -> str:
    """The page.

    **Arguments:**

    - document: the content of `results.json`. None: only ablations are shown.
    - samples: real beside regenerated images, by stream.
    - ablations: contents of `ablations.json` files.
    """
    runs = document["runs"] if document else []
    sections = [
        _stream_section(stream, [run for run in runs if run["stream"] == stream], samples.get(stream, []))
        for stream in dict.fromkeys(run["stream"] for run in runs)
    ]
    sections += map(_ablation_section, ablations)
    made = [_how_compared(document)] if document else []
    made += map(_how_ablated, ablations)
    title = "CLTS, head to head" if document else "CLTS, part by part"
    lead = (
        "against Avalanche's baselines: same network, order of classes and seeds"
        if document
        else "and what each part of the method is worth"
    )
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title}</title><style>{_STYLE}</style></head><body>
<h1>{title}</h1>
<p class="lead">Continual learning with text in the place of stored images, {lead}.</p>
{"".join(sections)}
<h2>How this was made</h2>
{"".join(made)}
</body></html>
"""


def _how_compared(document: dict[str, Any]) -> str:
    arguments = ", ".join(f"{name} {value}" for name, value in document["arguments"].items())
    return f"""<p class="note"><code>{html.escape(document.get("command", "clts compare"))}</code></p>
<p class="note">Arguments: {html.escape(arguments)}.<br>{_versions(document)}<br>
The pretrained pair ({html.escape(document["pair"]["name"])}), shared by all runs and the same for any stream, takes
{human_bytes(document["pair"]["bytes"] or 0)} on disk and is not counted above.</p>"""


def _how_ablated(document: dict[str, Any]) -> str:
    return f"""<p class="note"><code>{html.escape(document["command"] or "clts ablate")}</code></p>
<p class="note">{_versions(document)}</p>"""


def _versions(document: dict[str, Any]) -> str:
    return f"Versions: {html.escape(', '.join(f'{name} {value}' for name, value in document['versions'].items()))}."


def _stream_section(stream: str, runs: Sequence[Results], samples: Sequence[Sample]) -> str:
    groups = by_strategy(runs)
    fewest, most = min(map(len, groups.values())), max(map(len, groups.values()))
    seeds = f"{most}" if fewest == most else f"{fewest} to {most}"
    spread = f"Percentages are mean ± standard deviation over {seeds} seeds" if most > 1 else "One seed"
    matrices = "".join(
        f"<figure>{figures.accuracy_matrix(group)}<figcaption>{html.escape(name)}</figcaption></figure>"
        for name, group in groups.items()
    )
    routers = "".join(
        f"<figure>{figures.router_confusion(group)}<figcaption>{html.escape(name)}</figcaption></figure>"
        for name, group in groups.items()
        if all(run.get("router_confusion") for run in group)
    )
    confusion = (
        f"""<h2>Which experience is taken for which</h2>
<p class="note">Row j, column t: share (%) of experience j's test images that the router sends to head t.</p>
<div class="matrices">{routers}</div>"""
        if routers
        else ""
    )
    rows = "".join(f"<dt>{name}</dt><dd>{html.escape(ROWS[name].description)}</dd>" for name in groups)
    return f"""
<h2>{html.escape(stream)}: the table</h2>
<p class="note">{spread}. Accuracy: mean over all experiences after the last one. Forgetting: how far accuracy fell from
its best. BWT: backward transfer. Router: share of test inputs sent to a right head. Oracle: accuracy if that share were
all. Memory: what is kept between experiences. {_NOTES.get(stream, "")}</p>
<div class="wide">{_html_table(runs)}</div>
<h2>Accuracy over experiences</h2><div class="wide figure">{figures.accuracy_curves(runs)}</div>
<h2>Memory against accuracy</h2><div class="wide figure">{figures.memory_accuracy(runs)}</div>
<p class="note">Area: mean over all budgets shown, on the logarithmic axis, of the accuracy that a strategy reaches
within the budget, which is 0 below its smallest memory (after Zhou et al., ICLR 2023). Class-balanced replay at its
several budgets is one line, er.</p>{confusion}
<h2>What the captions say, and what comes back</h2>
<p class="note">{_SAMPLES_NOTE[any(sample["real"] for sample in samples)]}</p>
<div class="samples">{"".join(map(_sample_card, samples))}</div>
<h2>Accuracy matrices</h2>
<p class="note">Row i, column j: accuracy (%) on experience j after learning experience i, mean over seeds.</p>
<details><summary>{len(groups)} matrices</summary><div class="matrices">{matrices}</div></details>
<h2>The strategies</h2><dl>{rows}</dl>"""


def _ablation_section(document: dict[str, Any]) -> str:
    parts = []
    for name, ablation in document["ablations"].items():
        variants = ablation["variants"]
        by_class = (
            f'<div class="wide figure">{figures.class_accuracy(variants, document["class_names"])}</div>'
            if name == "synthetic-data"
            else ""
        )
        parts.append(f"""
<h3>{html.escape(ablation["title"])}</h3>
<div class="ablation">{figures.ablation(variants, ablation["x_label"])}
<div class="wide">{_table(*ablation_rows(variants))}</div></div>{by_class}""")
    return f"""
<h2>{html.escape(document["stream"])}: what each part is worth</h2>
<p class="note">CLTS with one thing changed at a time, mean ± standard deviation over {document["seeds"]} seeds; red is
CLTS with nothing changed. Small dots are single seeds. Kept: captions, compressed, or images in their place.</p>
{"".join(parts)}"""


def _html_table(runs: Sequence[Results]) -> str:
    return _table(*table_rows(runs))


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in header)
    body = "".join(
        f'<tr class="{html.escape(row[0])}">' + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>"
        for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _sample_card(sample: Sample) -> str:
    regenerated = "".join(f'<img src="{url}" alt="regenerated">' for url in sample["regenerated"])
    real = f'<img src="{sample["real"]}" alt="real"><span class="arrow">&rarr;</span>' if sample["real"] else ""
    return (
        f'<div class="sample"><div class="row">{real}{regenerated}</div><q>{html.escape(sample["caption"])}</q></div>'
    )
