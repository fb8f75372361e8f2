"""The page of a comparison: it says what the runs say, takes nothing from outside, and hides nothing unknown."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from avalanche_clts.experiments.page import figures
from avalanche_clts.experiments.page.ablation_figures import WIDTH
from avalanche_clts.experiments.page.axes import graduate, label_values
from avalanche_clts.experiments.page.looks import colour_of, look_of
from avalanche_clts.experiments.page.memory_curve import areas, curve_families
from avalanche_clts.experiments.page.provenance import provenance
from avalanche_clts.experiments.page.report import human_time, render_report, write_report
from avalanche_clts.experiments.page.samples import classes_by_experience
from avalanche_clts.experiments.page.table import format_table, human_bytes, table_rows
from avalanche_clts.experiments.rows import COMPARED

EVIL = '<script>alert("x")</script>'


class Page(HTMLParser):
    """What a page loads and holds."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.tags: list[str] = []
        self.classes: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name in ("src", "href", "xlink:href", "srcset", "data", "action", "poster"):
                self.links.append(value or "")
            if name == "class":
                self.classes.append(value or "")


def assert_nothing_from_outside(page: str) -> None:
    read = Page(page)
    assert all(link.startswith(("#", "data:image/")) for link in read.links)
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)", page))
    assert "@import" not in page
    assert not {"link", "iframe", "object", "embed", "base"} & set(read.tags)
    assert "default-src 'none'" in page, "and a browser is told so"


def made_run(strategy: str, accuracy: float = 0.5, seed: int = 0, **options: Any) -> dict[str, Any]:
    routed = strategy in ("clts", "expert-gate")
    memory = {"captions": 100, "exemplars": 0, "heads": 0, "router": 0, "network": 1000}
    return {
        "stream": "digits",
        "strategy": strategy,
        "seed": seed,
        "accuracy_matrix": [[accuracy] * 2] if strategy == "joint" else [[accuracy, 0.0], [accuracy, accuracy]],
        "average_accuracy": accuracy,
        "forgetting": 0.1,
        "backward_transfer": -0.1,
        "router_accuracy": 0.9 if routed else None,
        "oracle_accuracy": 0.95 if routed else None,
        "router_confusion": [[0.9, 0.1], [0.2, 0.8]] if routed else None,
        "class_accuracy": [0.5] * 4,
        "memory_bytes": memory,
        "seconds": {"total": 100.0, "captioning": 0.0, "generation": 0.0, "router": 0.0},
        **options,
    }


def made_document(runs: list[dict[str, Any]], **options: Any) -> dict[str, Any]:
    shared = {"arguments": {"stream": "digits", "seeds": 1}, "versions": {"torch": "2"}, "command": "clts compare"}
    return {"runs": runs, **shared, "pair": {"name": "embedded", "bytes": 1000}, **options}


def made_sample(name: str, *experiences: int, caption: str = "a caption") -> dict[str, Any]:
    url = "data:image/png;base64,AAAA"
    return {
        "class_name": name,
        "experiences": list(experiences),
        "caption": caption,
        "real": url,
        "regenerated": [url],
    }


@pytest.fixture(scope="module")
def everything() -> str:
    """The page of all strategies, two seeds each."""
    runs = [made_run(name, 0.9 - 0.02 * i, seed) for i, name in enumerate(COMPARED) for seed in (0, 1)]
    samples = [made_sample("zero", 0), made_sample("one", 0), made_sample("two", 1), made_sample("three", 1)]
    return render_report(made_document(runs), {"digits": samples})


def test_page_takes_nothing_from_outside(everything: str) -> None:
    assert_nothing_from_outside(everything)
    with pytest.raises(AssertionError):
        assert_nothing_from_outside(everything.replace("<body>", '<body><img src="https://example.org/x.png">'))


def test_every_strategy_has_a_row_a_curve_and_a_matrix(everything: str) -> None:
    assert everything.count("<svg") == 2 + len(COMPARED) + 2  # two figures, a matrix for each, and two routers
    assert all(f'<tr class="{name}">' in everything for name in COMPARED)
    assert "±" in everything


def test_the_curves_that_matter_are_in_front_and_the_rest_behind_a_click(everything: str) -> None:
    drawn = figures.accuracy_curves([made_run(name, seed=seed) for name in COMPARED for seed in (0, 1)])
    front, rest = ([entry.name for entry in entries] for entries in (drawn.front, drawn.rest))
    assert {"clts", "clts+captioner", "captioner", "caption-replay", "joint", "er-total", "ewc"} <= set(front)
    assert len(front) <= 8
    assert sorted(front + rest) == sorted(COMPARED)
    assert drawn.svg.count('class="rest"') == 2 * len(rest)  # a curve and a band
    assert f"<details><summary>{len(rest)} more</summary>" in everything
    few = figures.accuracy_curves([made_run(name) for name in ("clts", "lwf", "si")])
    assert not few.rest
    assert 'class="rest"' not in few.svg


def test_no_two_curves_look_alike() -> None:
    looks = [look_of(name) for name in COMPARED]
    assert len(set(looks)) == len(COMPARED)
    assert "clts" not in [name for name in COMPARED[3:] if colour_of(name) == colour_of("clts")]
    assert all(look_of(name).width > look_of("naive").width for name in ("clts", "caption-replay"))


@pytest.mark.parametrize("background", ["#ffffff", "#14171b"])
def test_colours_stand_out_from_light_and_dark_pages(background: str) -> None:
    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    for name in COMPARED:
        darker, lighter = sorted(luminance(colour) for colour in (background, colour_of(name)))
        assert (lighter + 0.05) / (darker + 0.05) >= 3, name


def test_figures_take_the_colours_of_their_page() -> None:
    runs = [made_run("clts"), made_run("naive")]
    svg = figures.accuracy_curves(runs).svg
    assert "currentColor" in svg
    assert "var(--line)" in svg
    assert "#000000" not in svg
    assert "#ffffff" not in svg
    alone = figures.accuracy_figure(runs)
    assert "prefers-color-scheme: dark" in alone, "a file has no page around it"


def test_ids_are_of_one_figure_alone(everything: str) -> None:
    ids = re.findall(r'\bid="([^"]*)"', everything)
    targets = re.findall(r'href="#([^"]*)"|url\(#([^)]*)\)', everything)
    assert {one or other for one, other in targets} <= set(ids)
    figure_ids = [re.findall(r'\bid="([^"]*)"', svg) for svg in re.findall(r"<svg .*?</svg>", everything, re.DOTALL)]
    first, second = figure_ids[:2]
    assert not set(first) & set(second)


def test_names_cannot_write_the_page() -> None:
    runs = [made_run("clts", stream=EVIL), made_run("naive", stream=EVIL)]
    document = made_document(runs, command=EVIL, arguments={EVIL: EVIL}, versions={EVIL: EVIL}, machine=EVIL, date=EVIL)
    page = render_report(document | {"pair": {"name": EVIL, "bytes": 1}}, {EVIL: [made_sample(EVIL, 0, caption=EVIL)]})
    assert EVIL not in page
    assert page.count("&lt;script&gt;") >= 8
    assert Page(page).tags.count("script") == 1, "the page's own"
    variants = [{"label": EVIL, "x": None, "default": True, "runs": [made_run("clts")]}]
    ablation = {"title": EVIL, "x_label": "", "variants": variants}
    answers = {"stream": EVIL, "seeds": 1, "ablations": {EVIL: ablation}, "command": EVIL, "versions": {}}
    page = render_report(None, {}, [answers])
    assert EVIL not in page
    assert Page(page).tags.count("script") == 1


def test_memory_that_is_not_known_is_called_unknown_and_not_drawn() -> None:
    unknown = {"captions": None, "exemplars": 0, "heads": 0, "router": 0, "network": 1000}
    runs = [made_run("clts", 0.8), made_run("naive", 0.1), made_run("icarl", 0.7, memory_bytes=unknown)]
    assert human_bytes(None) == "unknown"
    assert table_rows(runs)[1][1][6] == "unknown"
    assert "unknown" in format_table(runs)
    assert set(curve_families(runs)) == {"clts", "naive"}
    assert "icarl" not in areas(runs)
    page = render_report(made_document(runs), {})
    assert "<td>unknown</td>" in page
    assert "since what they keep is unknown: icarl." in page
    assert "is unknown" not in render_report(made_document(runs[:2]), {})
    variants = [
        {"label": str(i), "x": i, "default": i == 1, "runs": [made_run("clts", memory_bytes=memory)]}
        for i, memory in enumerate((unknown, made_run("clts")["memory_bytes"]))
    ]
    assert figures.ablation(variants, "bytes of all captions").startswith("<svg")


def test_one_seed_has_no_deviation() -> None:
    runs = [made_run("clts", 0.8), made_run("naive", 0.1)]
    page = render_report(made_document(runs), {})
    assert "One seed." in page
    assert "±" not in page
    assert "deviation" not in page
    variants = [{"label": "as it is", "x": None, "default": True, "runs": runs[:1]}]
    answers = {"routing": {"title": "Routing", "x_label": "", "variants": variants}}
    page = render_report(
        None, {}, [{"stream": "digits", "seeds": 1, "ablations": answers, "command": "", "versions": {"torch": "2"}}]
    )
    assert "one seed;" in page
    assert "±" not in page


def test_when_and_where_is_told_where_it_is_known() -> None:
    runs = [made_run("clts"), made_run("naive")]
    told = made_document(runs, date="2026-01-31", machine="A Processor", threads=2)
    assert "2026-01-31 · A Processor · 2 threads · 2 runs of 3 min in all" in render_report(told, {})
    assert ">2 runs of 3 min in all<" in render_report(made_document(runs), {})
    answers = {"stream": "digits", "seeds": 1, "ablations": {}, "command": "", "versions": {"torch": "2"}}
    assert "2026-01-31 · A Processor<br>" in render_report(
        None, {}, [answers | {k: told[k] for k in ("date", "machine")}]
    )
    untimed = [made_run("clts", seconds=dict.fromkeys(run["seconds"])) for run in runs[:1]]
    assert "in all" not in render_report(made_document(untimed), {})
    found = provenance()
    assert found.keys() == {"date", "machine", "threads"}
    assert found["machine"]
    assert found["threads"] >= 1
    json.dumps(found)


def test_time_is_readable() -> None:
    assert [human_time(s) for s in (0.4, 59, 60, 3599, 3600, 90_000)] == [
        "0 s",
        "59 s",
        "1 min",
        "1 h 0 min",
        "1 h 0 min",
        "25 h 0 min",
    ]


def test_confusion_has_class_names_where_all_are_known(everything: str) -> None:
    assert "<!-- zero -->" in everything
    assert "clts, seed 0" in everything
    known = [made_sample("zero", 0), made_sample("one", 0), made_sample("two", 1), made_sample("three", 1)]
    assert classes_by_experience(known, 4, 2) == [["zero", "one"], ["two", "three"]]
    assert classes_by_experience(known, 5, 2) is None, "a class is missing"
    assert classes_by_experience([{k: v for k, v in s.items() if k != "experiences"} for s in known], 4, 2) is None
    runs = [made_run("clts", seed=seed) for seed in (0, 1)]
    unnamed = render_report(made_document(runs), {"digits": known[:3]})
    assert "<!-- zero -->" not in unnamed
    assert "seed 0" not in unnamed


def test_samples_show_class_caption_and_images() -> None:
    page = render_report(made_document([made_run("clts")]), {"digits": [made_sample("seven", 0, caption="thin")]})
    assert "<h4>seven</h4><q>thin</q>" in page
    assert (page.count('alt="real"'), page.count('alt="regenerated"')) == (1, 1)
    hidden = made_sample("seven", 0) | {"real": None}
    page = render_report(made_document([made_run("clts")]), {"digits": [hidden]})
    assert 'alt="real"' not in page
    assert "which is left out here" in page


def test_a_column_is_sorted_by_its_numbers(everything: str) -> None:
    assert '<td data-value="100.0">100 B</td>' in everything
    assert Page(everything).classes.count("sortable") == 1


def test_a_strategy_that_is_no_longer_known_is_shown() -> None:
    assert "mystery" in render_report(made_document([made_run("mystery"), made_run("clts")]), {})


def test_page_is_drawn_where_no_strategy_has_a_budget() -> None:
    assert figures.memory_accuracy([made_run("joint")]).svg.startswith("<svg")
    free = [made_run(name, memory_bytes=dict.fromkeys(made_run(name)["memory_bytes"], 0)) for name in COMPARED]
    assert figures.memory_accuracy(free).svg.startswith("<svg")


def test_page_is_the_same_each_time(tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text(json.dumps(made_document([made_run("clts"), made_run("naive")])))
    first = write_report(tmp_path).read_text()
    assert write_report(tmp_path).read_text() == first


@pytest.mark.parametrize("ratio", [1, 2, 3.9, 4.1, 19, 21, 190, 210, 1e5, 1e8])
def test_ticks_of_an_axis_of_bytes_are_several_and_do_not_overlap(ratio: float) -> None:
    figure = Figure(figsize=(WIDTH, 3.0), layout="constrained")
    axes = figure.add_subplot()
    kept = [178_000.0, 178_000.0 * ratio]
    axes.plot(kept, [10, 20], "o")
    graduate(axes, kept)
    assert (axes.get_xscale() == "log") == (ratio > 20), "a logarithm is for values that span decades"
    axes.xaxis.set_major_formatter(EngFormatter(unit="B"))
    assert_labels_are_apart(figure)


@pytest.mark.parametrize("x", [[1, 2, 5, 10], [100, 200, 500, 1000, 1900], [100, 200, 500, 1000, 2000], [2, 5, 10]])
def test_labels_of_values_do_not_overlap(x: list[int]) -> None:
    figure = Figure(figsize=(WIDTH, 3.0), layout="constrained")
    axes = figure.add_subplot()
    axes.plot(x, x, "o")
    graduate(axes, x)
    label_values(axes, x, [str(value) for value in x])
    assert_labels_are_apart(figure)


def assert_labels_are_apart(figure: Figure) -> None:
    (axes,) = figure.axes
    figure.draw_without_rendering()
    low, high = axes.get_xlim()
    shown = [tick.label1 for tick in axes.xaxis.get_major_ticks() if low <= tick.get_loc() <= high]
    shown = [label for label in shown if label.get_text()]
    assert len(shown) >= 2
    boxes = [label.get_window_extent() for label in shown]
    assert all(left.x1 < right.x0 for left, right in pairwise(boxes))


def test_page_says_whether_the_pair_knows_the_images() -> None:
    def fits(*named: float) -> list[dict[str, float | None]]:
        return [{"captions_named": n, "regenerated_recognised": 0.25, "real_recognised": None} for n in named]

    runs = [made_run("clts", pair_fit=fits(0.5, 0.7)), made_run("clts", seed=1, pair_fit=fits(0.8, 1.0))]
    document = made_document([*runs, made_run("naive", pair_fit=None)])
    page = render_report(document, {})
    section = page[page.index("Does the pair know these images?") : page.index("Accuracy matrices")]
    assert re.findall(r"<td[^>]*>([^<]*)", section) == ["clts", "75.0 ± 21.2", "25.0 ± 0.0", "-"]
    assert "Does the pair know" not in render_report(made_document([made_run("clts")]), {}), "it was not measured"


def test_seconds_are_split_by_stage() -> None:
    seconds = {"total": 100.0, "captioning": 10.0, "generation": 20.0, "router": 40.0, "evaluation": 7.0}
    naive = {"total": 12.0, "captioning": None, "generation": None, "router": None, "evaluation": 3.0}
    runs = [made_run("clts", 0.9, seconds=seconds), made_run("naive", 0.1, seconds=naive)]
    page = render_report(made_document(runs), {})
    table = page[page.index("Seconds by stage") : page.index("Accuracy over experiences")]
    cells = re.findall(r"<td[^>]*>([^<]*)", table)
    assert cells == ["clts", "30.0", "10.0", "20.0", "40.0", "7.0", "naive", "12.0", "-", "-", "-", "3.0"]
    untimed = made_run("clts", seconds=dict.fromkeys(seconds))
    assert "Seconds by stage" not in render_report(made_document([untimed]), {})
