"""What a router may be shown in the place of the input."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from avalanche.benchmarks.utils import AvalancheDataset, DataAttribute, TransformGroups
from avalanche.models import SimpleMLP
from PIL import Image
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
from avalanche_clts.asking import LikeliestClass
from avalanche_clts.experiments import compare, read_experiment
from avalanche_clts.experiments.backbones.pretrained import Backbone, load_pretrained
from avalanche_clts.experiments.backbones.spec import parse_backbone
from avalanche_clts.experiments.runs.runner import build
from avalanche_clts.images.normalisation import Normalisation, measure_normalisation
from avalanche_clts.pair.loading import pair_identity
from avalanche_clts.pretraining import PHOTOS, Recipe, arguments_of_pair
from avalanche_clts.pretraining.pool import Pool
from avalanche_clts.routers import TaskRouter
from avalanche_clts.streams.benchmarks import split_shapes
from avalanche_clts.streams.named import parse_stream
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


def images_of(*values: tuple[int, int, int], sizes: Sequence[tuple[int, int]] = ((8, 8),), transform=None):
    """An experience of plain images."""
    data = [(Image.new("RGB", size, value), 0) for value in values for size in sizes]
    dataset = AvalancheDataset(
        [data],
        data_attributes=[DataAttribute([0] * len(data), "targets")],
        transform_groups=TransformGroups({"train": (transform, None), "eval": (transform, None)}),
    )
    return dataset


def test_a_channel_that_never_varies_is_normalised_as_any_other() -> None:
    """Images of one colour say nothing of what a transform does to others."""
    transform = v2.Compose([ToTensor(), v2.Normalize([0.5, 0.5, 0.5], [0.25, 0.5, 0.2])])
    for images in (
        images_of((200, 200, 200), transform=transform),
        images_of((10, 90, 0), (200, 0, 0), transform=transform),
    ):
        found = measure_normalisation(images)
        torch.testing.assert_close(found.deviation.flatten(), torch.tensor([0.25, 0.5, 0.2]), atol=1e-3, rtol=0)
        torch.testing.assert_close(found.mean.flatten(), torch.full((3,), 0.5), atol=1e-3, rtol=0)


@pytest.mark.parametrize(
    "transform",
    [
        v2.Compose([v2.Resize((16, 16)), ToTensor()]),
        v2.Compose([ToTensor(), lambda x: (255 * x).byte()]),
        np.asarray,
    ],
    ids=["resized", "whole numbers", "no tensor"],
)
def test_what_is_no_normalisation_is_refused(transform) -> None:
    with pytest.raises(ValueError, match="does more than normalise"):
        measure_normalisation(images_of((200, 0, 9), (0, 90, 250), sizes=((8, 8), (9, 12)), transform=transform))


def test_tensors_of_other_precision_are_normalised(tiny_pair: Pair) -> None:
    twice = images_of((200, 0, 9), (0, 90, 250), transform=v2.Compose([ToTensor(), torch.Tensor.double]))
    assert measure_normalisation(twice) == Normalisation()


def test_every_experience_is_normalised_alike(tiny_pair: Pair, tiny_pair_folder: Path) -> None:
    """Of domains with numbers of their own there is no one view; that which is but suggested gives way."""
    first, second = (
        split_digits(n_experiences=5, seed=0, eval_transform=v2.Compose([ToTensor(), v2.Normalize([m], [d])]))
        for m, d in ((0.5, 0.5), (0.1, 0.3))
    )
    asked = LikeliestClass(load_pair(tiny_pair_folder).captioner)
    asked.hear(first.train_stream[0])
    with pytest.raises(ValueError, match="normalises otherwise than that of an earlier experience; give all the same"):
        asked.hear(second.train_stream[1])
    stream = (first.train_stream[0], second.train_stream[1])
    assert view_after_training(clts(suggesting(tiny_pair_folder)), stream) is None
    with pytest.raises(ValueError, match="normalises otherwise"):
        view_after_training(clts(tiny_pair, router_view="autoencoded"), stream)


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


def test_a_suggestion_leaves_a_view_of_ones_own(tiny_pair_folder: Path) -> None:
    """And a view that is asked for is refused where the router sees no images."""
    own, stream = nn.Flatten(2), split_digits(n_experiences=5, seed=0).train_stream[:1]
    strategy = clts(suggesting(tiny_pair_folder))
    strategy.model.router.view = own
    assert view_after_training(strategy, stream) is own
    backbone = nn.Sequential(nn.Flatten(), nn.Linear(64, 8))
    with pytest.raises(ValueError, match="router_view is 'autoencoded', but model has a backbone"):
        clts(suggesting(tiny_pair_folder), backbone=backbone, router_view="autoencoded").train(stream[0])


def test_a_model_of_its_own_weights_knows_what_its_router_was_taught_on(tiny_pair: Pair, tiny_pair_folder) -> None:
    benchmark = split_digits(
        n_experiences=5, seed=0, eval_transform=v2.Compose([ToTensor(), v2.Normalize([0.5], [0.25])])
    )
    x = torch.stack([benchmark.test_stream[0].dataset[i][0] for i in range(8)])
    seen, bare = clts(tiny_pair, router_view="autoencoded"), clts(tiny_pair)
    view_after_training(seen, benchmark.train_stream[:2])
    view_after_training(bare, benchmark.train_stream[:2])
    fresh = clts(suggesting(tiny_pair_folder))
    fresh.model.load_state_dict(seen.model.state_dict())
    with pytest.raises(RuntimeError, match="taught on images after the generator's autoencoder, which is not saved"):
        fresh.model.eval().route(x)
    fresh.eval(benchmark.test_stream[:1])
    torch.testing.assert_close(fresh.model.eval().route(x), seen.model.eval().route(x))
    router = TaskRouter(SimpleMLP(input_size=64, hidden_size=8), view=Autoencoded(tiny_pair))
    alone = RoutedModel(head=SimpleMLP(num_classes=10, input_size=64, hidden_size=8), router=router)
    alone.load_state_dict(seen.model.state_dict())
    torch.testing.assert_close(alone.eval().route(x), seen.model.eval().route(x))
    other = clts(suggesting(tiny_pair_folder))
    other.model.load_state_dict(bare.model.state_dict())
    other.eval(benchmark.test_stream[:1])
    assert other.model.router.view is None, "it was taught on the input"


def test_no_image_stays_behind_a_view(tiny_pair: Pair) -> None:
    """Neither after training, where nothing but text is kept, nor in a copy of the model; the pair is in common."""
    strategy, stream = clts(tiny_pair, router_view="autoencoded"), split_digits(n_experiences=5, seed=0).train_stream
    view = view_after_training(strategy, stream[:2])
    assert not view._views
    view(torch.rand(2, 1, 8, 8))
    copied = copy.deepcopy(strategy.model).router.view
    assert view._views
    assert not copied._views
    assert copied._autoencode.__self__ is tiny_pair.generator
    assert copied._normalisation == view._normalisation


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
    benchmark = split_digits(n_experiences=2, seed=0)
    assert asked.shown(load_pair(folder), benchmark).router_view == "autoencoded"
    assert replace(asked, backbone="captioner").shown(load_pair(folder), benchmark).router_view == "input"
    squared = split_digits(n_experiences=2, seed=0, eval_transform=lambda image: ToTensor()(image).square())
    assert asked.shown(load_pair(folder), squared).router_view == "input", "what is but suggested gives way here, too"


def test_stored_images_are_shown_as_the_pair_would_make_them(tiny_pair: Pair) -> None:
    """As many real images as captions, the view that the pair suggests: the variant differs in one thing alone."""
    shown = replace(QUICK, stream="digits:experiences=2", memory="images", router_view="autoencoded")
    agent, _ = build(shown, "clts", 0, stream=parse_stream(shown.stream), pair=tiny_pair)
    x = torch.rand(2, 3, 8, 8)
    torch.testing.assert_close(agent.plugins[0].router_view(x), Autoencoded(tiny_pair)(x))


def test_pairs_of_photographs_suggest_the_autoencoded_view() -> None:
    pool = Pool([], ["a photo of a cat"], [0])
    said = {
        recipe.router_view: arguments_of_pair([], pool, recipe)["generator"].get("router_view")
        for recipe in (Recipe(), PHOTOS)
    }
    assert said == {"input": None, "autoencoded": "autoencoded"}
    with pytest.raises(ValueError, match="router_view is 'mirror'"):
        DiffusionGenerator("nowhere", router_view="mirror")
