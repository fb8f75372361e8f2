"""The captioner asked beside what a strategy has learnt."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from avalanche.models import IncrementalClassifier, MTSimpleMLP, SimpleMLP
from avalanche.training.supervised import BiC, CoPE, JointTraining, Naive
from PIL import Image
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
from avalanche_clts.experiments.runs.measures import class_accuracy
from avalanche_clts.experiments.runs.runner import build, run
from avalanche_clts.footprint import frozen_bytes, memory_bytes
from avalanche_clts.images.normalisation import Normalisation
from avalanche_clts.pair.loading import part_nbytes
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


class PlainGenerator:
    """Images of one grey."""

    def generate(self, prompts, seeds):
        return [Image.new("RGB", (8, 8), (128, 128, 128)) for _ in prompts]


def naive(plugin: AskCaptionerPlugin, strategy: type = Naive, network: torch.nn.Module | None = None) -> Naive:
    torch.manual_seed(0)
    network = network or SimpleMLP(num_classes=10, input_size=64, hidden_size=8)
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


# Whatever the network, the stream and the captioner


@pytest.mark.parametrize("routing", ["soft", "hard"])
def test_heads_that_grow_have_no_output_for_classes_to_come(routing: str) -> None:
    torch.manual_seed(0)
    head = torch.nn.Sequential(torch.nn.Flatten(), IncrementalClassifier(64, 1))
    model = RoutedModel(head=head, router=SimpleMLP(input_size=64, hidden_size=8), routing=routing)
    strategy = CLTS(
        model=model,
        optimizer=SGD(model.parameters(), lr=0.1),
        pair=Pair(LabelCaptioner(), PlainGenerator()),
        replay_size=20,
        router_epochs=1,
        plugins=[AskCaptionerPlugin(pair=Pair(Counting(), None))],
        eval_mb_size=1,
        eval_every=1,
    )
    benchmark = split_digits(n_experiences=5, seed=0)
    for experience in benchmark.train_stream[:3]:
        strategy.train(experience, eval_streams=[experience])
    metrics = strategy.eval(benchmark.test_stream[:1])
    assert 0 <= metrics["Top1_Acc_Stream/eval_phase/test_stream/Task000"] <= 1
    assert len(class_accuracy(strategy, benchmark.test_stream[:1], 10)) == 10


def test_of_a_task_its_own_classes_are_asked_for() -> None:
    """An input of task 0 is of none of task 1's classes, however likely the captioner finds them."""
    plugin = AskCaptionerPlugin(pair=Pair(Counting(), None))
    benchmark = split_digits(n_experiences=5, seed=0, return_task_id=True)
    strategy = naive(plugin, network=MTSimpleMLP(input_size=64, hidden_size=8))
    for experience in benchmark.train_stream[:3]:
        strategy.train(experience)
    for task, experience in enumerate(benchmark.train_stream[:3]):
        x = torch.stack([experience.dataset[i][0] for i in range(8)])
        said = plugin.both(x, torch.zeros(8, 10), torch.full((8,), task)).exp()
        own = list(experience.classes_in_this_experience)
        torch.testing.assert_close(said[:, own].sum(1), torch.ones(8))
    every = plugin.both(x, torch.zeros(8, 10), torch.full((8,), 7)).exp()
    torch.testing.assert_close(every, plugin.both(x, torch.zeros(8, 10)).exp(), msg="a label that was never seen")
    resumed = AskCaptionerPlugin(pair=Pair(Counting(), None))
    resumed.load_state_dict(plugin.state_dict())
    elsewhere = resumed.both(x, torch.zeros(8, 10), torch.ones(8)).exp()
    torch.testing.assert_close(elsewhere[:, own], torch.zeros(8, len(own)))


def test_a_network_may_rule_out_classes() -> None:
    """Some of them: the captioner chooses among the others; or all: it chooses alone."""
    plugin, benchmark = AskCaptionerPlugin(pair=Pair(Counting(), None)), split_digits(n_experiences=5, seed=0)
    naive(plugin).train(benchmark.train_stream[0])
    a, b = benchmark.train_stream[0].classes_in_this_experience
    x = torch.stack([benchmark.test_stream[0].dataset[i][0] for i in range(2)])
    output = torch.full((2, 10), -torch.inf)
    output[0, a] = 0.0
    both = plugin.both(x, output)
    assert both.isfinite().all()
    assert both[0].argmax() == a
    assert both[1, [a, b]].exp().sum() == pytest.approx(1)


def test_images_of_any_precision_and_none_at_all() -> None:
    plugin, benchmark = AskCaptionerPlugin(pair=Pair(Counting(), None)), split_digits(n_experiences=5, seed=0)
    naive(plugin).train(benchmark.train_stream[0])
    x = torch.stack([benchmark.test_stream[0].dataset[i][0] for i in range(2)])
    torch.testing.assert_close(plugin.both(x.bfloat16(), torch.zeros(2, 10)), plugin.both(x, torch.zeros(2, 10)))
    assert plugin.both(x[:0], torch.zeros(0, 10)).shape == (0, 10)


class Saying(Counting):
    """A captioner that begins in its own way, whatever the class."""

    prefix = "a photo of"

    def caption(self, images, class_names=None):
        return ["a photo of a cat on a mat"] * len(images)

    def log_likelihoods(self, images, texts):
        self.texts = texts
        return super().log_likelihoods(images, texts)


def test_a_prefix_without_the_class_is_no_question() -> None:
    """Every class would be asked for in the same words; and an article is the one of the name that follows it."""
    captioner = Saying()
    asked = LikeliestClass(captioner)
    asked.names = {0: "cat", 1: "owl"}
    image = {b"": Image.new("RGB", (8, 8))}
    asked.scores_of(image, ["cat", "owl"])
    assert captioner.texts == [["a photo of a cat on a mat", "a photo of an owl on a mat"]]


def test_values_are_undone_to_the_nearest_of_an_image() -> None:
    asked = LikeliestClass(Counting())
    asked._normalisation = Normalisation(torch.tensor([[[0.229]]]), torch.tensor([[[0.485]]]))
    levels = torch.arange(256).reshape(1, 1, 16, 16)
    (image,) = asked._as_images({b"": asked._normalisation.done(levels / 255)[0]}).values()
    assert np.asarray(image).tolist() == levels[0, 0].tolist()


def test_its_weights_are_counted_as_frozen(embedded_pair: Pair) -> None:
    asks = naive(AskCaptionerPlugin(pair=embedded_pair))
    assert frozen_bytes(asks)["pair"] == part_nbytes(embedded_pair.captioner) > 0


# What cannot be asked is refused before anything is trained


def test_who_changes_what_is_said_afterwards_is_refused() -> None:
    plugin, benchmark = AskCaptionerPlugin(pair=Pair(Counting(), None)), split_digits(n_experiences=5, seed=0)
    model = SimpleMLP(num_classes=10, input_size=64, hidden_size=8)
    options = {"model": model, "optimizer": SGD(model.parameters(), lr=0.1), "criterion": CrossEntropyLoss()}
    bic = BiC(**options, mem_size=20, plugins=[plugin])
    with pytest.raises(ValueError, match=r"BiCPlugin acts on what is said after AskCaptionerPlugin.*plugins\.append"):
        bic.train(benchmark.train_stream[0])
    cope = CoPE(**options, mem_size=20, n_classes=10, p_size=10)
    cope.plugins.append(AskCaptionerPlugin(pair=Pair(Counting(), None)))
    with pytest.raises(ValueError, match="CoPEPlugin has no word on classes"):
        cope.train(benchmark.train_stream[0])


def test_each_strategy_asks_for_itself() -> None:
    plugin, stream = AskCaptionerPlugin(pair=Pair(Counting(), None)), split_digits(n_experiences=5, seed=0).train_stream
    naive(plugin).train(stream[0])
    with pytest.raises(ValueError, match="has heard the class names of another strategy; make a new one for each"):
        naive(plugin).train(stream[1])


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
    rate = {"learning_rate": 0.5}
    assert replace(asked, hyperparameters={own: option, name: rate}).options_of(name) == option | rate
    assert not ROWS[name].searched("digits")
    given = replace(QUICK, strategies=(name,), tune=True).with_given(hyperparameters={name: rate})
    assert given.options_of(name)["learning_rate"] == 0.5, "no search overrules it"
    kept = {"memory_bytes": {"captions": 999, "exemplars": 0, "heads": 9999, "router": 9999}}
    agents = [build(asked, row, 0, stream=parse_stream("digits"), pair=tiny_pair, clts=kept)[0] for row in (own, name)]
    extra = [plugin for plugin in agents[1].plugins if isinstance(plugin, AskCaptionerPlugin)]
    assert len(extra) == 1
    assert len(agents[1].plugins) == len(agents[0].plugins) + 1


def test_a_pair_that_cannot_be_asked_has_no_such_row(tiny_pair_folder: Path) -> None:
    pair = load_pair(tiny_pair_folder)
    assert ROWS["clts+captioner"].unfit_pair(pair) is None
    assert "does not say how likely" in str(ROWS["clts+captioner"].unfit_pair(Pair(LabelCaptioner(), pair.generator)))
