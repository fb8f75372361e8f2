"""What a router may be shown in the place of the input."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from avalanche.models import SimpleMLP
from torch import nn
from torch.optim import SGD
from torchvision.transforms import ToTensor, v2

from avalanche_clts import (
    CLTS,
    CachedGenerator,
    DiffusionGenerator,
    Pair,
    RoutedModel,
    load_checkpoint,
    load_pair,
    save_checkpoint,
    split_digits,
)
from avalanche_clts.experiments import compare, read_experiment
from avalanche_clts.experiments.backbones.pretrained import Backbone, load_pretrained
from avalanche_clts.experiments.backbones.spec import parse_backbone
from avalanche_clts.images.normalisation import Normalisation, measure_normalisation
from avalanche_clts.pair.loading import pair_identity
from avalanche_clts.pretraining import PHOTOS, Recipe, arguments_of_pair
from avalanche_clts.pretraining.pool import Pool
from avalanche_clts.streams.benchmarks import split_shapes
from avalanche_clts.views import Autoencoded, suggested_view
from tests.test_compare import QUICK


def test_a_view_keeps_shape_and_range(tiny_pair: Pair) -> None:
    x = torch.rand(5, 1, 8, 8)
    restored = Autoencoded(tiny_pair)(x)
    assert restored.shape == x.shape
    assert 0 <= restored.min() <= restored.max() <= 1
    weights = list(Autoencoded(tiny_pair).parameters())
    assert not weights, "the pair's weights are neither trained nor saved"


def test_an_image_is_autoencoded_once(tiny_pair: Pair, monkeypatch) -> None:
    batches = []
    autoencode = tiny_pair.generator.autoencode
    monkeypatch.setattr(tiny_pair.generator, "autoencode", lambda x: batches.append(len(x)) or autoencode(x))
    monkeypatch.setattr(Autoencoded, "remembered", 6 * 3 * 8 * 8 * 4)
    view = Autoencoded(tiny_pair)
    x = torch.rand(8, 3, 8, 8)
    expected = autoencode(x)
    assert torch.allclose(view(x[:4]), expected[:4], atol=1e-4)
    assert torch.allclose(view(x[[2, 5, 0, 5]]), expected[[2, 5, 0, 5]], atol=1e-4)
    assert batches == [4, 1]
    view(x[6:])
    assert torch.allclose(view(x[:1]), expected[:1], atol=1e-4)
    assert batches == [4, 1, 2, 1], "the oldest is forgotten"


def test_normalised_images_are_seen_as_they_were(tiny_pair: Pair) -> None:
    mean, deviation = (0.5, 0.4, 0.3), (0.25, 0.2, 0.3)
    plain = split_shapes(seed=0).train_stream[0].dataset
    normalised = (
        split_shapes(seed=0, eval_transform=v2.Compose([ToTensor(), v2.Normalize(mean, deviation)]))
        .train_stream[0]
        .dataset
    )
    found = measure_normalisation(normalised)
    x, y = (torch.stack([d.eval()[i][0] for i in range(8)]) for d in (plain, normalised))
    assert torch.allclose(found.undone(y), x, atol=1e-4)
    assert torch.allclose(found.done(x), y, atol=1e-3)
    assert measure_normalisation(plain) == Normalisation()
    pretrained = load_pretrained("backbone", parse_backbone("backbone", "captioner"), tiny_pair)
    features = [Backbone(pretrained, n)(z) for n, z in ((Normalisation(), x), (found, y))]
    assert torch.allclose(*features, atol=1e-2)
    views = [Autoencoded(tiny_pair) for _ in range(2)]
    for view, dataset in zip(views, (plain, normalised), strict=True):
        view.look_at(dataset)
    restored = [view(z) for view, z in zip(views, (x, y), strict=True)]
    assert torch.allclose(found.done(restored[0]), restored[1], atol=1e-2)
    squared = split_shapes(seed=0, eval_transform=lambda image: ToTensor()(image).square())
    with pytest.raises(ValueError, match="does more than normalise"):
        measure_normalisation(squared.train_stream[0].dataset)


# What a pair suggests


def suggesting(folder: Path) -> Pair:
    return load_pair(folder, generator={"router_view": "autoencoded"})


def clts(pair: Pair, *, backbone: nn.Module | None = None, **options: object) -> CLTS:
    torch.manual_seed(0)
    features = 64 if backbone is None else 8
    model = RoutedModel(
        head=SimpleMLP(num_classes=10, input_size=features, hidden_size=8),
        router=SimpleMLP(input_size=features, hidden_size=8),
        backbone=backbone,
    )
    return CLTS(
        model=model,
        optimizer=SGD(model.parameters(), lr=0.1),
        pair=pair,
        captions_per_class=2,
        replay_size=8,
        router_epochs=1,
        train_mb_size=64,
        eval_mb_size=256,
        **options,
    )


def view_after_training(strategy: CLTS, stream: Sequence[object]) -> object:
    for experience in stream:
        strategy.train(experience)
    return strategy.model.router.view


def test_what_a_pair_suggests_is_what_the_router_is_shown(
    tiny_pair_folder: Path, tiny_pair: Pair, tmp_path: Path
) -> None:
    stream = split_digits(n_experiences=5, seed=0).train_stream[:2]
    pair = suggesting(tiny_pair_folder)
    assert isinstance(view_after_training(clts(pair), stream), Autoencoded)
    assert view_after_training(clts(pair, router_view="input"), stream) is None
    assert view_after_training(clts(tiny_pair), stream) is None
    assert isinstance(view_after_training(clts(tiny_pair, router_view="autoencoded"), stream), Autoencoded)
    cached = Pair(pair.captioner, CachedGenerator(pair.generator, tmp_path))
    assert suggested_view(cached) == "autoencoded"
    assert suggested_view(Pair(pair.captioner, object())) == "input"
    assert pair_identity(pair) == pair_identity(tiny_pair), "no image depends on it"


def test_what_is_but_suggested_gives_way(tiny_pair_folder: Path, tmp_path: Path) -> None:
    """Behind a backbone the router sees no images, and of some streams it sees none that the view could take."""
    pair = suggesting(tiny_pair_folder)
    backbone = nn.Sequential(nn.Flatten(), nn.Linear(64, 8))
    stream = split_digits(n_experiences=5, seed=0).train_stream[:2]
    assert view_after_training(clts(pair, backbone=backbone), stream) is None
    squared = split_digits(n_experiences=5, seed=0, eval_transform=lambda image: ToTensor()(image).square())
    strategy = clts(pair)
    assert view_after_training(strategy, squared.train_stream[:2]) is None
    save_checkpoint(strategy, tmp_path)
    resumed = clts(pair)
    load_checkpoint(resumed, tmp_path)
    resumed.eval(squared.test_stream[:1])
    assert resumed.model.router.view is None
    with pytest.raises(ValueError, match="does more than normalise"):
        clts(pair, router_view="autoencoded").train(squared.train_stream[0])


def test_a_router_is_shown_the_same_after_a_checkpoint(tiny_pair: Pair, tmp_path: Path) -> None:
    """Also where nothing is trained any more."""
    benchmark = split_digits(n_experiences=5, seed=0)
    whole, resumed = (clts(tiny_pair, router_view="autoencoded") for _ in range(2))
    view_after_training(whole, benchmark.train_stream[:2])
    save_checkpoint(whole, tmp_path)
    load_checkpoint(resumed, tmp_path)
    resumed.eval(benchmark.test_stream[:1])
    x = torch.stack([benchmark.test_stream[0].dataset[i][0] for i in range(8)])
    torch.testing.assert_close(resumed.model.route(x), whole.model.eval().route(x))


def test_a_comparison_says_what_its_router_was_shown(tiny_pair_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_pair_folder, tmp_path / "pair")
    arguments = json.loads((folder / "pair.json").read_text())
    arguments["generator"]["router_view"] = "autoencoded"
    (folder / "pair.json").write_text(json.dumps(arguments))
    asked = replace(QUICK, stream="digits:experiences=2", strategies=("clts",), seeds=1, pair=str(folder))
    for given, shown in ((None, "autoencoded"), ("input", "input")):
        compare(replace(asked, router_view=given), out=tmp_path / shown)
        settings = json.loads((tmp_path / shown / "results.json").read_text())["settings"]
        assert settings["router_view"] == shown
        assert read_experiment(tmp_path / shown / "experiment.toml").router_view == shown
    assert asked.shown(load_pair(folder)).router_view == "autoencoded"
    assert replace(asked, backbone="captioner").shown(load_pair(folder)).router_view == "input"


def test_pairs_of_photographs_suggest_the_autoencoded_view() -> None:
    pool = Pool([], ["a photo of a cat"], [0])
    said = {
        recipe.router_view: arguments_of_pair([], pool, recipe)["generator"].get("router_view")
        for recipe in (Recipe(), PHOTOS)
    }
    assert said == {"input": None, "autoencoded": "autoencoded"}
    with pytest.raises(ValueError, match="router_view is 'mirror'"):
        DiffusionGenerator("nowhere", router_view="mirror")
