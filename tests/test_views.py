"""What a router may be shown in the place of the input."""

from __future__ import annotations

import pytest
import torch
from torchvision.transforms import ToTensor, v2

from avalanche_clts import Pair
from avalanche_clts.experiments.backbones.pretrained import Backbone, load_pretrained
from avalanche_clts.experiments.backbones.spec import parse_backbone
from avalanche_clts.images.normalisation import Normalisation, measure_normalisation
from avalanche_clts.streams.benchmarks import split_shapes
from avalanche_clts.views import Autoencoded


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
