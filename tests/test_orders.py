"""Which classes come in which order: what networks, iCaRL and the search are to know of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from avalanche_clts import split_digits, split_folder
from avalanche_clts.experiments import Experiment, compare
from avalanche_clts.experiments.rows import ROWS
from avalanche_clts.experiments.tuning import TUNING_SEED, require_searchable, unreported_seed
from avalanche_clts.streams.named import parse_stream
from avalanche_clts.streams.orders import has_disjoint_experiences, num_classes, order_of


def write_images(folder: Path, count: int, shade: int) -> None:
    folder.mkdir(parents=True)
    for i in range(count):
        Image.new("RGB", (8, 8), (shade, i, 0)).save(folder / f"{i}.png")


@pytest.fixture
def domains(tmp_path: Path) -> Path:
    for d, domain in enumerate(("photo", "sketch")):
        for c, name in enumerate(("cat", "dog")):
            write_images(tmp_path / "doms" / domain / name, 6 + d, 100 * c + d)
    return tmp_path / "doms"


def test_domains_have_each_class_once(domains: Path) -> None:
    benchmark = split_folder(domains, domains="all", seed=0)
    assert benchmark.n_classes == num_classes(benchmark) == 2, "Avalanche counts them anew in each domain"
    assert not has_disjoint_experiences(benchmark)
    assert ROWS["icarl"].unfit(benchmark) is not None
    apart = split_digits(5, seed=0)
    assert num_classes(apart) == 10
    assert ROWS["icarl"].unfit(apart) is None


def test_heads_have_an_output_for_each_class_of_domains(domains: Path, tmp_path: Path) -> None:
    asked = Experiment(stream=f"folder:{domains},domains=all", strategies=("naive",), seeds=1, train_epochs=1)
    (run,) = compare(asked, out=tmp_path / "out")
    assert len(run["class_accuracy"]) == 2


@pytest.mark.parametrize("stream", ["digits", "digits:experiences=2", "shapes"])
def test_the_search_keeps_its_seed_where_no_reported_one_has_its_order(stream: str) -> None:
    assert unreported_seed(parse_stream(stream), seeds=5) == TUNING_SEED


@pytest.mark.parametrize("classes", [2, 3])
def test_the_searchs_order_is_none_of_the_reported(tmp_path: Path, classes: int) -> None:
    for c in range(classes):
        write_images(tmp_path / "few" / f"class {c}", 8, c)
    stream = parse_stream(f"folder:{tmp_path / 'few'},experiences={classes}")
    orders = {seed: order_of(stream.build(seed)) for seed in range(20)}
    for seeds in (1, 2, 3):
        chosen = order_of(stream.build(unreported_seed(stream, seeds)))
        reported = [orders[seed] for seed in range(seeds)]
        others = [order for order in orders.values() if order not in reported]
        assert chosen not in reported or not others


def test_a_search_is_refused_where_no_image_can_be_held_out(tmp_path: Path) -> None:
    for c in range(2):
        write_images(tmp_path / "tiny" / f"class {c}", 3, c)
    with pytest.raises(ValueError, match=r"tune is True, but a search holds out 20% .* 5 images or more"):
        require_searchable(split_folder(tmp_path / "tiny", 2, seed=0))
    asked = Experiment(stream=f"folder:{tmp_path / 'tiny'},experiences=2", strategies=("naive",), seeds=1, tune=True)
    with pytest.raises(ValueError, match="leave tune out"):
        compare(asked, out=tmp_path / "out")


def test_a_search_and_held_out_results_are_not_asked_for_together() -> None:
    with pytest.raises(ValueError, match=r"tune is True and validation is 0.5"):
        Experiment(tune=True, validation=0.5)
