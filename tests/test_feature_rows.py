"""Rows that are made of a frozen backbone's features: what they compute, and what they keep."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from avalanche.benchmarks import tensors_benchmark
from avalanche.training.plugins import EvaluationPlugin
from avalanche.training.supervised import StreamingLDA
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from avalanche_clts import Pair
from avalanche_clts.experiments.runs.runner import build
from avalanche_clts.experiments.strategies.feature_replay import FeatureReplayPlugin, Gaussian
from avalanche_clts.experiments.strategies.ncm import NearestClassMean
from avalanche_clts.experiments.strategies.one_pass import FeatureStatistics, OnePass
from avalanche_clts.experiments.strategies.ridge import RidgeClassifier
from avalanche_clts.experiments.strategies.slda import StreamingDiscriminants
from avalanche_clts.footprint import memory_bytes
from avalanche_clts.streams.named import parse_stream
from tests.test_compare import QUICK

WIDTH, CLASSES = 6, 5
MODELS = {
    "ncm": lambda: NearestClassMean(nn.Identity(), WIDTH, CLASSES),
    "slda": lambda: StreamingDiscriminants(nn.Identity(), WIDTH, CLASSES, shrinkage=1e-2),
    "ridge": lambda: RidgeClassifier(nn.Identity(), WIDTH, CLASSES, ridge=1e-3),
    "ranpac": lambda: RidgeClassifier(nn.Identity(), WIDTH, CLASSES, ridge=1e-3, projection=40),
}


def samples(count: int, classes: list[int]) -> tuple[Tensor, Tensor]:
    """Features around a centre a class, in random order."""
    centres = 3 * torch.randn(CLASSES, WIDTH, generator=torch.Generator().manual_seed(1))
    targets = torch.tensor(classes)[torch.randint(len(classes), (count,))]
    return centres[targets] + torch.randn(count, WIDTH), targets


def learnt(model: FeatureStatistics, x: Tensor, y: Tensor, batch: int) -> FeatureStatistics:
    with torch.no_grad():
        model.learn(None, zip(x.split(batch), y.split(batch), strict=True))
    return model


@pytest.mark.parametrize("name", MODELS)
def test_classes_are_told_apart_whatever_the_batches(name: str) -> None:
    torch.manual_seed(0)
    x, y = samples(300, [0, 1, 3, 4])
    x[torch.arange(300)], y = x[y.argsort(stable=True)], y.sort().values  # class after class, as a stream has them
    torch.manual_seed(2)
    whole = learnt(MODELS[name](), x, y, 300)
    torch.manual_seed(2)
    parts = learnt(MODELS[name](), x, y, 7)
    test, targets = samples(200, [0, 1, 3, 4])
    with torch.no_grad():
        assert torch.allclose(whole(test), parts(test), rtol=1e-3, atol=1e-3)
        assert (parts(test).argmax(1) == targets).float().mean() > 0.95
        unseen = torch.randn(500, WIDTH)
        assert 2 not in parts(unseen).argmax(1), "a class that was not seen is never named"


def test_slda_is_what_avalanches_would_be(tmp_path) -> None:
    torch.manual_seed(0)
    x, y = samples(80, [0, 1, 2, 3, 4])
    theirs = StreamingLDA(
        slda_model=nn.Identity(),
        criterion=nn.CrossEntropyLoss(),
        input_size=WIDTH,
        num_classes=CLASSES,
        shrinkage_param=1e-2,
        evaluator=EvaluationPlugin(),
    )
    for sample, target in zip(x, y, strict=True):
        theirs.fit(sample[None], target[None])
    ours = learnt(MODELS["slda"](), x, y, 16)
    assert torch.allclose(ours.covariance, theirs.Sigma, atol=1e-4)
    test, _ = samples(30, [0, 1, 2, 3, 4])
    with torch.no_grad():
        assert torch.allclose(ours(test), theirs.predict(test), rtol=1e-2, atol=1e-2)


def test_ridge_regression_is_that_of_all_samples_at_once() -> None:
    torch.manual_seed(0)
    x, y = samples(100, [0, 1, 2, 3, 4])
    model = learnt(MODELS["ridge"](), x, y, 9)
    penalty = 1e-3 * x.square().sum(0).mean() * torch.eye(WIDTH)
    weights = torch.linalg.solve(x.T @ x + penalty, x.T @ nn.functional.one_hot(y, CLASSES).float())
    assert torch.allclose(model(x), x @ weights, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "numbers"),
    [
        ("ncm", CLASSES * WIDTH),
        ("slda", CLASSES * WIDTH + WIDTH**2),
        ("ridge", WIDTH**2 + WIDTH * CLASSES),
        ("ranpac", WIDTH * 40 + 40**2 + 40 * CLASSES),
    ],
)
def test_means_covariances_and_products_are_counted(name: str, numbers: int) -> None:
    dataset = TensorDataset(*samples(40, [0, 1, 2]))
    dataset.targets = dataset.tensors[1].tolist()
    benchmark = tensors_benchmark([dataset.tensors], test_tensors=[dataset.tensors], task_labels=[0])
    strategy = OnePass(model=MODELS[name](), optimizer=None, train_mb_size=8, evaluator=EvaluationPlugin())
    strategy.train(benchmark.train_stream[0])
    assert memory_bytes(strategy)["network"] == 4 * (numbers + CLASSES)  # and how many samples of each class
    assert sum(strategy.model.counts) == 40, "each sample is seen once"


@pytest.mark.parametrize("covariance", ["full", "diagonal"])
def test_a_gaussian_draws_what_it_was_made_of(covariance: str) -> None:
    torch.manual_seed(0)
    mixing = torch.randn(3, 3)
    features = torch.randn(4000, 3) @ mixing + torch.tensor([1.0, -2.0, 5.0])
    gaussian = Gaussian(features, covariance)
    drawn = gaussian.sample(40_000)
    assert torch.allclose(drawn.mean(0), features.mean(0), atol=0.1)
    expected = features.T.cov()
    if covariance == "diagonal":
        expected = expected.diagonal().diag()
    assert torch.allclose(drawn.T.cov(), expected, atol=0.05 * expected.abs().max().item())
    assert gaussian.nbytes == 4 * (3 + (9 if covariance == "full" else 3))
    few = Gaussian(features[:2], covariance)  # a covariance of rank 1
    assert torch.isfinite(few.sample(5)).all()


def test_replayed_features_are_of_earlier_classes_in_equal_parts(tiny_pair: Pair) -> None:
    own = {"feature-replay": {"batch_size_mem": 10, "covariance": "diagonal"}}
    asked = replace(QUICK, backbone="captioner", hyperparameters=own)
    strategy, benchmark = build(asked, "feature-replay", 0, stream=parse_stream("digits"), pair=tiny_pair)
    (replay,) = [plugin for plugin in strategy.plugins if isinstance(plugin, FeatureReplayPlugin)]
    strategy.train(benchmark.train_stream[0])
    strategy.train(benchmark.train_stream[1])
    seen = {c for e in benchmark.train_stream[:2] for c in e.classes_in_this_experience}
    assert replay.gaussians.keys() == seen
    features, targets = replay._drawn()
    assert features.shape == (10, 16)
    assert set(targets.bincount(minlength=10)[list(seen)].tolist()) == {2, 3}
    linear = (16 * 10 + 10) * 4
    assert memory_bytes(strategy)["network"] == linear + 4 * 2 * 16 * 4  # of four classes, means and variances
    full, _ = build(
        asked.with_given(hyperparameters={"feature-replay": {}}),
        "feature-replay",
        0,
        stream=parse_stream("digits"),
        pair=tiny_pair,
    )
    full.train(benchmark.train_stream[0])
    assert memory_bytes(full)["network"] == linear + 2 * 4 * (16 + 16 * 16)
