"""Memory is counted by who keeps it; what is not known is unknown, never 0."""

from __future__ import annotations

import warnings

import pytest
import torch
from avalanche.core import SupervisedPlugin
from avalanche.training.plugins import (
    AGEMPlugin,
    EarlyStoppingPlugin,
    EvaluationPlugin,
    EWCPlugin,
    FeatureDistillationPlugin,
    LFLPlugin,
    LwFPlugin,
    MASPlugin,
    ReplayPlugin,
    SynapticIntelligencePlugin,
)
from avalanche.training.supervised import DER, ER_ACE, Cumulative, ICaRL, Naive
from torch import nn

from avalanche_clts import CaptionReplayPlugin, Pair, split_digits
from avalanche_clts.footprint import memory_bytes, module_nbytes, num_exemplars
from tests.conftest import make_clts, small_net

IMAGE = 64  # bytes of an 8x8 grey digit
STREAM = split_digits(5, fixed_class_order=range(10)).train_stream


def common(network: nn.Module, **options) -> dict:
    return {
        "model": network,
        "optimizer": torch.optim.SGD(network.parameters(), lr=0.01),
        "criterion": nn.CrossEntropyLoss(),
        "train_mb_size": 30,
        "evaluator": EvaluationPlugin(),
        **options,
    }


def after_two(strategy) -> dict[str, int | None]:
    for experience in STREAM[:2]:
        strategy.train(experience)
    return memory_bytes(strategy, image_nbytes=IMAGE)


NETWORK = module_nbytes(small_net())
WEIGHTS = sum(p.numel() * 4 for p in small_net().parameters())
COPIES = {
    "ewc": (EWCPlugin(1.0), 4 * WEIGHTS),  # two experiences, each with parameters and their importances
    "online ewc": (EWCPlugin(1.0, mode="online", decay_factor=0.9), 2 * WEIGHTS),
    "lwf": (LwFPlugin(), NETWORK),
    "mas": (MASPlugin(), 2 * WEIGHTS),
}


@pytest.mark.parametrize("kind", COPIES)
def test_what_regularisation_keeps_beside_the_network_counts(kind: str) -> None:
    plugin, expected = COPIES[kind]
    assert after_two(Naive(**common(small_net(), plugins=[plugin])))["network"] == NETWORK + expected


def test_importances_of_si_count() -> None:
    plugin = SynapticIntelligencePlugin(1.0)
    kept = after_two(Naive(**common(small_net(), plugins=[plugin])))["network"]
    of_normalisation = sum(p.numel() * 4 for m in small_net() if isinstance(m, nn.BatchNorm1d) for p in m.parameters())
    # Parameters, importances and the trajectory that goes on, of all layers but normalisation.
    assert kept == NETWORK + 3 * (WEIGHTS - of_normalisation)


@pytest.mark.parametrize(
    ("build", "count"),
    [
        (lambda: Naive(**common(small_net(), plugins=[ReplayPlugin(50)])), 50),
        (lambda: Naive(**common(small_net(), plugins=[AGEMPlugin(20, 10)])), 40),
        (lambda: ER_ACE(**common(small_net()), mem_size=50), 50),
        (lambda: Cumulative(**common(small_net())), sum(len(e.dataset) for e in STREAM[:2])),
    ],
)
def test_stored_images_count_as_native_pixels(build, count: int) -> None:
    strategy = build()
    assert after_two(strategy)["exemplars"] == count * IMAGE
    assert num_exemplars(strategy) == count


def test_logits_beside_stored_images_count() -> None:
    strategy = DER(**common(small_net()), mem_size=50)
    assert after_two(strategy)["exemplars"] == 50 * (IMAGE + 10 * 4)


def test_icarl_keeps_exemplars_and_the_network_before() -> None:
    features, classifier = nn.Sequential(nn.Flatten(), nn.Linear(64, 16)), nn.Linear(16, 10)
    optimizer = torch.optim.SGD([*features.parameters(), *classifier.parameters()], lr=0.01)
    strategy = ICaRL(
        feature_extractor=features,
        classifier=classifier,
        optimizer=optimizer,
        memory_size=40,
        buffer_transform=None,
        fixed_memory=True,
        train_mb_size=30,
        evaluator=EvaluationPlugin(),
    )
    kept = after_two(strategy)
    assert kept["exemplars"] == 40 * IMAGE
    assert kept["network"] == 2 * module_nbytes(strategy.model)


class Keeping(SupervisedPlugin):
    """Keeps a tensor of the stream and says nothing of it."""

    def __init__(self, kept: object) -> None:
        super().__init__()
        self.kept = kept


@pytest.mark.parametrize(
    "kept", [torch.zeros(3), [torch.zeros(3)], {"a": (torch.ones(1),)}, nn.Linear(2, 2), STREAM[0].dataset]
)
def test_plugin_that_keeps_something_and_says_nothing_is_unknown(kept: object) -> None:
    found = after_two(Naive(**common(small_net(), plugins=[Keeping(kept)])))
    assert found["exemplars"] is None
    assert found["network"] is None
    assert found["captions"] == 0


@pytest.mark.parametrize("kept", [None, 3, "text", [1, 2], torch.empty(0)])
def test_plugin_that_keeps_numbers_and_texts_alone_is_known(kept: object) -> None:
    assert after_two(Naive(**common(small_net(), plugins=[Keeping(kept)])))["network"] == NETWORK


def test_plugin_that_says_what_it_keeps_is_believed() -> None:
    class Saying(Keeping):
        def kept_bytes(self) -> dict[str, int]:
            return {"network": 7, "exemplars": 5}

    found = after_two(Naive(**common(small_net(), plugins=[Saying(torch.zeros(3))])))
    assert (found["network"], found["exemplars"]) == (NETWORK + 7, 5)


def test_references_to_the_model_are_no_memory_of_their_own() -> None:
    network = small_net()
    assert after_two(Naive(**common(network, plugins=[Keeping(network)])))["network"] == NETWORK


def test_strategy_with_attributes_of_its_own_is_unknown() -> None:
    class Remembering(Naive):
        def __init__(self, **options) -> None:
            super().__init__(**options)
            self.means = torch.zeros(10, 16)

    assert after_two(Remembering(**common(small_net())))["network"] is None


def test_counting_does_not_warn_of_a_logger_that_it_does_not_need(tiny_pair: Pair) -> None:
    clts = make_clts(tiny_pair)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        memory_bytes(clts)


def test_clts_and_what_serves_training_alone_are_known(tiny_pair: Pair) -> None:
    clts = make_clts(tiny_pair, plugins=[EarlyStoppingPlugin(2, "test_stream"), CaptionReplayPlugin(pair=tiny_pair)])
    found = after_two(clts)
    assert None not in found.values()
    assert found["network"] == found["exemplars"] == 0
    assert found["heads"] == 2 * NETWORK


@pytest.mark.parametrize("plugin", [FeatureDistillationPlugin, LFLPlugin])
def test_teachers_count(plugin: type) -> None:
    """Both train models with features of their own alone; what they then keep stands in `prev_model`."""
    keeper = object.__new__(plugin)
    keeper.prev_model = small_net()
    assert memory_bytes(Naive(**common(small_net(), plugins=[keeper])))["network"] == 2 * NETWORK
