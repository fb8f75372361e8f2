"""The captioner asked beside what a strategy has learnt."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from avalanche.models import SimpleMLP
from avalanche.training.supervised import JointTraining, Naive
from torch.nn import CrossEntropyLoss
from torch.optim import SGD

from avalanche_clts import (
    CLTS,
    AskCaptionerPlugin,
    LabelCaptioner,
    Pair,
    RoutedModel,
    load_checkpoint,
    load_pair,
    save_checkpoint,
    split_digits,
)
from avalanche_clts.asking import LikeliestClass
from avalanche_clts.experiments.rows import ROWS
from avalanche_clts.experiments.runs.runner import build, run
from avalanche_clts.footprint import memory_bytes
from avalanche_clts.streams.named import parse_stream
from tests.test_compare import QUICK
from tests.test_strategy import tensor_stream


class Counting:
    """A captioner that is told the class in a prompt, and finds a longer one likelier."""

    prefix = "a {class_name}"

    def __init__(self) -> None:
        self.asked = 0

    def caption(self, images, class_names=None):
        raise AssertionError("nothing but likelihoods is asked for")

    def log_likelihoods(self, images, texts):
        self.asked += sum(map(len, texts))
        return [np.array([len(text) for text in of_image], dtype=np.float32) for of_image in texts]


def naive(plugin: AskCaptionerPlugin, strategy: type = Naive) -> Naive:
    torch.manual_seed(0)
    network = SimpleMLP(num_classes=10, input_size=64, hidden_size=8)
    return strategy(
        model=network,
        optimizer=SGD(network.parameters(), lr=0.1),
        criterion=CrossEntropyLoss(),
        plugins=[plugin],
        train_mb_size=64,
        eval_mb_size=256,
    )


def test_the_answer_is_the_product_of_both(embedded_pair: Pair) -> None:
    """Of the classes seen, by the formula; whatever is not seen has no chance."""
    plugin = AskCaptionerPlugin(pair=embedded_pair)
    strategy, benchmark = naive(plugin), split_digits(n_experiences=5, seed=0)
    for experience in benchmark.train_stream[:2]:
        strategy.train(experience)
    seen = [target for e in benchmark.train_stream[:2] for target in e.classes_in_this_experience]
    x = torch.stack([benchmark.test_stream[0].dataset[i][0] for i in range(8)])
    output = strategy.model.eval()(x)
    asked = LikeliestClass(embedded_pair.captioner)
    for experience in benchmark.train_stream[:2]:
        asked.hear(experience)
    said = asked.scores(x)[:, [list(asked.names).index(target) for target in seen]]
    expected = (output[:, seen].softmax(1) * said.softmax(1)).log()
    expected -= expected.logsumexp(1, keepdim=True)
    both = plugin.both(x, output)
    torch.testing.assert_close(both[:, seen], expected)
    unseen = [target for target in range(10) if target not in seen]
    assert both[:, unseen].max() <= expected.min()
    assert both[:, unseen].isfinite().all()


def test_what_a_strategy_forgets_the_captioner_still_says(embedded_pair: Pair) -> None:
    """Naive forgets all but the last two digits; the captioner has learnt others of them."""
    accuracy = {}
    for asks in (False, True):
        strategy, benchmark = naive(AskCaptionerPlugin(pair=embedded_pair)), split_digits(n_experiences=5, seed=0)
        strategy.plugins = strategy.plugins if asks else strategy.plugins[1:]
        for experience in benchmark.train_stream:
            strategy.train(experience)
        metrics = strategy.eval(benchmark.test_stream)
        accuracy[asks] = metrics["Top1_Acc_Stream/eval_phase/test_stream/Task000"]
    assert accuracy[True] > accuracy[False] + 0.3


def test_joint_training_hears_the_classes_of_the_whole_stream() -> None:
    plugin = AskCaptionerPlugin(pair=Pair(Counting(), None))
    strategy, benchmark = naive(plugin, JointTraining), split_digits(n_experiences=5, seed=0)
    strategy.train(benchmark.train_stream)
    strategy.eval(benchmark.test_stream)
    assert sorted(plugin.state_dict()["names"]) == list("0123456789")


def test_an_image_is_asked_once_for_a_class() -> None:
    captioner = Counting()
    strategy, benchmark = naive(AskCaptionerPlugin(pair=Pair(captioner, None))), split_digits(n_experiences=5, seed=0)
    count = sum(len(e.dataset) for e in benchmark.test_stream)
    for learnt, experience in enumerate(benchmark.train_stream, 1):
        strategy.train(experience)
        for _ in range(2):
            strategy.eval(benchmark.test_stream)
        assert captioner.asked == count * 2 * learnt


def test_it_goes_on_from_a_checkpoint(embedded_pair: Pair, tmp_path: Path) -> None:
    def clts() -> CLTS:
        torch.manual_seed(0)
        model = RoutedModel(head=SimpleMLP(num_classes=10, input_size=64), router=SimpleMLP(input_size=64))
        return CLTS(
            model=model,
            optimizer=SGD(model.parameters(), lr=0.1),
            pair=embedded_pair,
            replay_size=40,
            router_epochs=1,
            plugins=[AskCaptionerPlugin(pair=embedded_pair)],
            train_mb_size=64,
            eval_mb_size=256,
        )

    whole, benchmark = clts(), split_digits(n_experiences=5, seed=0)
    for experience in benchmark.train_stream[:2]:
        whole.train(experience)
    save_checkpoint(whole, tmp_path)
    resumed = clts()
    assert load_checkpoint(resumed, tmp_path) == 2
    key = "Loss_Stream/eval_phase/test_stream/Task000"
    found, expected = (s.eval(benchmark.test_stream[:2]) for s in (resumed, whole))
    assert found[key] == pytest.approx(expected[key])
    resumed.train(benchmark.train_stream[2])
    assert len(resumed.plugins[1].state_dict()["names"]) == 6
    said = sum(len(name) + 1 for name in whole.plugins[1].state_dict()["names"].values()) - 1
    plain = whole.plugins[0].storage_policy.memory.nbytes
    assert memory_bytes(whole)["captions"] == plain + said, "class names count"


# What cannot be asked is refused before anything is trained


def test_a_captioner_without_likelihoods_is_refused(embedded_pair: Pair) -> None:
    with pytest.raises(TypeError, match="captioner is a LabelCaptioner, which does not say how likely"):
        AskCaptionerPlugin(pair=Pair(LabelCaptioner(), embedded_pair.generator))


def test_a_class_that_changes_its_name_is_refused() -> None:
    asked, stream = LikeliestClass(Counting(), {i: f"kind {i}" for i in range(10)}), split_digits(seed=0).train_stream
    asked.hear(stream[0])
    asked._class_names = {i: f"sort {i}" for i in range(10)}
    with pytest.raises(ValueError, match=r"class \d is 'kind \d' in one experience and 'sort \d' in another"):
        asked.hear(stream[0])
    assert all(name.startswith("kind") for name in asked.names.values())


def test_a_stream_without_names_needs_class_names() -> None:
    stream = tensor_stream(torch.rand(40, 1, 8, 8))
    strategy = naive(AskCaptionerPlugin(pair=Pair(Counting(), None)))
    with pytest.raises(ValueError, match="by their names, which this stream does not know; give class_names"):
        strategy.train(stream[0])
    assert strategy.clock.train_iterations == 0
    named = naive(AskCaptionerPlugin(pair=Pair(Counting(), None), class_names=["a", "b", "c", "d"]))
    named.train(stream[0])
    named.eval(stream)


# The rows


def test_a_row_with_the_captioner_differs_from_its_own_in_that_alone(embedded_pair: Pair) -> None:
    asked = replace(QUICK, stream="digits:experiences=2")
    stream = parse_stream(asked.stream)
    alone, both, said = (
        run(asked, name, 0, stream=stream, pair=embedded_pair) for name in ("clts", "clts+captioner", "captioner")
    )
    assert both["router_confusion"] == alone["router_confusion"]
    assert both["memory_bytes"]["captions"] == alone["memory_bytes"]["captions"] + said["memory_bytes"]["captions"]
    assert both["average_accuracy"] > alone["average_accuracy"]
    by_class = [accuracy for accuracy in both["class_accuracy"] if accuracy is not None]
    assert np.mean(by_class) == pytest.approx(both["average_accuracy"], abs=0.02), "of both as well"


@pytest.mark.parametrize("name", [name for name in ROWS if name.endswith("+captioner")])
def test_it_has_the_hyper_parameters_of_its_row(name: str, tiny_pair: Pair) -> None:
    own = name.removesuffix("+captioner")
    option = {"clts": {"replay_size": 17}}.get(own, {"batch_size_mem": 17})
    asked = replace(QUICK, hyperparameters={own: option})
    assert asked.options_of(name) == option
    assert not ROWS[name].searched("digits")
    kept = {"memory_bytes": {"captions": 999, "heads": 9999, "router": 9999}}
    agents = [build(asked, row, 0, stream=parse_stream("digits"), pair=tiny_pair, clts=kept)[0] for row in (own, name)]
    extra = [plugin for plugin in agents[1].plugins if isinstance(plugin, AskCaptionerPlugin)]
    assert len(extra) == 1
    assert len(agents[1].plugins) == len(agents[0].plugins) + 1


def test_a_pair_that_cannot_be_asked_has_no_such_row(tiny_pair_folder: Path) -> None:
    pair = load_pair(tiny_pair_folder)
    assert ROWS["clts+captioner"].unfit_pair(pair) is None
    assert "does not say how likely" in str(ROWS["clts+captioner"].unfit_pair(Pair(LabelCaptioner(), pair.generator)))
