"""What a generated image has to keep is what a network reads captions off: that network, and what it teaches."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from avalanche_clts.pretraining import Recipe
from avalanche_clts.pretraining.autoencoder import train_autoencoder
from avalanche_clts.pretraining.features import FeatureNetwork, feature_distance, train_features
from avalanche_clts.pretraining.pool import pixels

RECIPE = Recipe(
    side=8, autoencoder_widths=(16, 16), autoencoder_steps=100, batch_size=32, feature_steps=200, feature_weight=20.0
)
CAPTIONS = ["fine stripes", "a plain field"]


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    """Half of them with stripes a pixel wide, which the squared error hardly sees; uint8 `(64, 3, 8, 8)`."""
    generator = torch.Generator().manual_seed(0)
    plain = torch.randint(60, 190, (64, 3, 1, 1), generator=generator).expand(-1, -1, 8, 8).clone()
    plain[::2, :, :, ::2] += 25
    return plain.to(torch.uint8)


@pytest.fixture(scope="module")
def features(images: torch.Tensor, tmp_path_factory: pytest.TempPathFactory) -> FeatureNetwork:
    torch.manual_seed(0)
    return train_features(images, 32 * CAPTIONS, tmp_path_factory.mktemp("work"), RECIPE)


def test_words_that_tell_captions_apart_are_read_off_the_image(features: FeatureNetwork, images: torch.Tensor) -> None:
    with torch.no_grad():
        told = features(pixels(images)) > 0
    # Of five words, a striped image's caption has two and a plain one's the others.
    assert told.shape == (64, 5)
    assert (told.sum(1) == torch.tensor([2, 3]).repeat(32)).float().mean() > 0.95
    assert (told[::2] != told[1::2]).float().mean() > 0.95


def test_a_word_of_every_caption_tells_nothing(images: torch.Tensor, tmp_path: Path) -> None:
    recipe = replace(RECIPE, feature_steps=1)
    for number, captions, words in ((0, ["a red frog", "a green frog"], 2), (1, ["a frog", "a frog"], 2)):
        network = train_features(images[:2], captions, tmp_path / str(number), recipe)
        assert network.words.out_features == words  # where nothing else is told, they are all there is


def test_a_negative_number_of_steps_is_refused() -> None:
    with pytest.raises(ValueError, match="feature_steps is -1"):
        replace(RECIPE, feature_steps=-1)
    assert replace(RECIPE, feature_steps=0).feature_steps == 0  # no such network


def test_features_are_far_apart_where_captions_differ(features: FeatureNetwork, images: torch.Tensor) -> None:
    striped, plain = images[::2], images[1::2]
    others = striped.roll(1, dims=0)

    def distance(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return feature_distance(features.features(pixels(a)), features.features(pixels(b)))

    assert torch.equal(distance(striped, striped), torch.zeros(32))
    assert distance(striped, plain).mean() > 1.5 * distance(striped, others).mean()


def test_an_autoencoder_keeps_what_the_features_see(
    features: FeatureNetwork, images: torch.Tensor, tmp_path: Path
) -> None:
    distances = []
    for name, given in (("without", None), ("with", features)):
        torch.manual_seed(0)
        autoencoder = train_autoencoder(images, given, tmp_path / name, RECIPE)
        with torch.no_grad():
            decoded = autoencoder(pixels(images), sample_posterior=False).sample
            seen = feature_distance(features.features(decoded), features.features(pixels(images)))
        distances.append(seen.mean().item())
    without, with_features = distances
    assert with_features < 0.9 * without
