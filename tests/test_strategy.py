"""CLTS as an Avalanche strategy, in every kind of stream, and text replay in other strategies."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from avalanche.benchmarks import DatasetExperience, nc_benchmark, ni_benchmark
from avalanche.core import SupervisedPlugin
from avalanche.evaluation.metrics import accuracy_metrics
from avalanche.training.determinism.rng_manager import RNGManager
from avalanche.training.plugins import EvaluationPlugin
from avalanche.training.supervised import EWC, LwF, Naive
from torch import nn
from torch.utils.data import TensorDataset
from torchvision.transforms import ToTensor

from avalanche_clts import (
    CaptionReplayPlugin,
    CLTSPlugin,
    LabelCaptioner,
    Pair,
    RoutedModel,
    RouterTraining,
    split_digits,
)
from avalanche_clts.networks import small_cnn
from avalanche_clts.refusals import require_augment_of, require_optimizer_of
from avalanche_clts.routers import router_settings
from avalanche_clts.streams.benchmarks import ImageDataset
from tests.conftest import DIGITS, make_clts, small_net
from tests.test_buffer import Witness


def digits(n_experiences: int = 5, **options):
    return split_digits(n_experiences, fixed_class_order=range(10), **options)


def accuracy() -> EvaluationPlugin:
    return EvaluationPlugin(accuracy_metrics(experience=True, stream=True))


def stream_accuracy(metrics: dict[str, float]) -> float:
    return metrics["Top1_Acc_Stream/eval_phase/test_stream/Task000"]


def test_clts_remembers_all_digits_with_the_embedded_pair(embedded_pair: Pair) -> None:
    accuracies = []
    for seed in range(2):
        RNGManager.set_random_seeds(seed)
        model = RoutedModel(head=small_cnn(10, channels=1, size=(8, 8)), router=small_cnn(10, channels=1, size=(8, 8)))
        clts = make_clts(
            embedded_pair,
            model=model,
            captions_per_class=20,
            replay_size=None,
            router_epochs=10,
            train_epochs=10,
            evaluator=accuracy(),
        )
        benchmark = digits()
        for experience in benchmark.train_stream:
            clts.train(experience)
        accuracies.append(stream_accuracy(clts.eval(benchmark.test_stream)))
    assert sum(accuracies) / 2 > 0.9, accuracies


def test_heads_of_past_experiences_never_change(tiny_pair: Pair) -> None:
    clts = make_clts(tiny_pair)
    states = []
    for experience in digits().train_stream:
        clts.train(experience)
        for head, state in zip(clts.model.heads, states, strict=False):
            assert all(torch.equal(value, state[name]) for name, value in head.state_dict().items())
        states.append(copy.deepcopy(clts.model.heads[-1].state_dict()))
    assert len(states) == len(clts.model.heads) == 5


def test_frozen_heads_leave_the_optimizer(tiny_pair: Pair) -> None:
    clts = make_clts(tiny_pair)
    for experience in digits().train_stream:
        clts.train(experience)
    (group,) = clts.optimizer.param_groups
    assert {id(p) for p in group["params"]} == {id(p) for p in clts.model.heads[-1].parameters()}
    assert len(clts.optimizer.state) == len(group["params"])


def test_parameters_of_every_head_stay_in_their_group(tiny_pair: Pair) -> None:
    model = RoutedModel(head=small_net(), router=small_net(16))
    weights, biases = ([p for p in model.parameters() if (p.ndim > 1) == matrix] for matrix in (True, False))
    clts = make_clts(tiny_pair, model=model)
    clts.optimizer = torch.optim.SGD([{"params": weights, "lr": 0.1}, {"params": biases, "lr": 0.01}], momentum=0.9)
    for experience in digits().train_stream[:3]:
        clts.train(experience)
    head = model.heads[-1]
    for group, matrix in zip(clts.optimizer.param_groups, (True, False), strict=True):
        assert {id(p) for p in group["params"]} == {id(p) for p in head.parameters() if (p.ndim > 1) == matrix}


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.AdamW, torch.optim.RMSprop])
def test_router_learns_with_an_optimizer_like_the_strategys(optimizer) -> None:
    settings = router_settings(optimizer(small_net().parameters(), lr=0.25, weight_decay=0.125), small_net())
    made = optimizer(small_net().parameters(), **settings)
    assert (made.defaults["lr"], made.defaults["weight_decay"]) == (0.25, 0.125)


def test_router_learns_at_the_rate_of_its_own_group(tiny_pair: Pair) -> None:
    rates = []

    class Watched(torch.optim.SGD):
        def __init__(self, parameters, **options) -> None:
            super().__init__(parameters, **options)
            rates.append(self.param_groups[-1]["lr"])

    model = RoutedModel(head=small_net(), router=small_net(16))
    groups = [{"params": model.heads.parameters()}, {"params": model.router.parameters(), "lr": 0.5}]
    clts = make_clts(tiny_pair, model=model)
    clts.optimizer = Watched(groups, lr=0.25)
    for experience in digits().train_stream[:3]:
        clts.train(experience)
    assert rates == [0.5, 0.5, 0.5]


def test_interrupted_experience_can_be_trained_again(tiny_pair: Pair) -> None:
    class Failing:
        def caption(self, images, class_names=None):
            raise KeyboardInterrupt

    stream = digits().train_stream
    clts = make_clts(tiny_pair)
    clts.train(stream[0])
    buffer = clts.plugins[0].storage_policy
    buffer.pair = Pair(Failing(), tiny_pair.generator)
    with pytest.raises(KeyboardInterrupt):
        clts.train(stream[1])
    buffer.pair = tiny_pair
    clts.train(stream[1])
    assert [record.experience for record in clts.model.records] == [0, 1]
    assert buffer.memory.experiences == [0, 1]
    assert len(clts.model.heads) == 2


def test_too_few_images_for_every_experience_are_refused(tiny_pair: Pair) -> None:
    clts = make_clts(tiny_pair, replay_size=1)
    clts.train(digits().train_stream[0])
    with pytest.raises(ValueError, match="replay_size is 1, too few for 2 experiences"):
        clts.train(digits().train_stream[1])


def test_router_sees_synthetic_images_of_every_experience(tiny_pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    witness = Witness(tiny_pair.generator)
    clts = make_clts(Pair(LabelCaptioner("a {class_name}"), witness), replay_size=12)
    seen: list[tuple[int, set[int]]] = []
    fit = RouterTraining.fit

    def watch(training, router, images, targets, **options):
        seen.append((len(images), {target.head for target in targets}))
        return fit(training, router, images, targets, **options)

    monkeypatch.setattr(RouterTraining, "fit", watch)
    for experience in digits(2).train_stream:
        clts.train(experience)
    assert seen == [(12, {0, 1})], "one head needs no router, and two are learnt from both experiences"
    assert len(witness.calls) == 1
    assert {prompt.split(maxsplit=1)[1] for prompt in witness.calls[0]} == set(DIGITS)


def test_mixed_router_data_is_real_for_the_current_experience_alone(
    tiny_pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    clts = make_clts(tiny_pair, router_training=RouterTraining(data="mixed"), replay_size=12)
    stream = digits().train_stream
    seen = []
    monkeypatch.setattr(
        RouterTraining,
        "fit",
        lambda training, router, images, targets, **_: (
            seen.append(([images[i] for i in range(len(images))], targets)) or 0.0
        ),
    )
    for experience in stream[:2]:
        clts.train(experience)
    ((images, targets),) = seen
    assert [target.head for target in targets] == [0] * 6 + [1] * 6
    real = [x for x, *_ in stream[1].dataset]
    for image, target in zip(images, targets, strict=True):
        assert any(torch.equal(image[0], x) for x in real) == (target.head == 1)
        assert image[1] == target.target


@pytest.mark.parametrize("precision", ["auto", "float32"])
def test_router_is_taught_on_augmented_images_and_asked_about_inputs_as_they_are(tiny_pair: Pair, precision) -> None:
    """Augmented after its view, so that an autoencoder sees each image once."""
    training = RouterTraining(augment=lambda x: 0 * x - 1, precision=precision, epochs=2)
    clts = make_clts(tiny_pair, router_training=training, router_view="autoencoded")
    taught, asked = [], []
    clts.model.router.backbone.register_forward_pre_hook(
        lambda network, inputs: (taught if network.training else asked).append(bool((inputs[0] == -1).all()))
    )
    for experience in digits().train_stream[:2]:
        clts.train(experience)
    assert taught
    assert all(taught)
    asked.clear()
    clts.model.eval()(next(iter(digits().test_stream)).dataset[0][0][None])
    assert asked == [False]


@pytest.mark.parametrize(("router_targets", "units"), [("classes", 10), ("experiences", 2)])
def test_router_has_a_unit_for_each_of_its_targets(tiny_pair: Pair, router_targets: str, units: int) -> None:
    clts = make_clts(tiny_pair, router_training=RouterTraining(targets=router_targets))
    for experience in digits(2).train_stream:
        clts.train(experience)
    assert clts.model.router.output.out_features == units
    assert clts.model.route(torch.rand(3, 1, 8, 8)).shape == (3, 2)


def test_captioner_sees_images_before_the_streams_transforms(tiny_pair: Pair) -> None:
    seen = []

    class Watching:
        def caption(self, images, class_names=None):
            seen.extend(images)
            return tiny_pair.captioner.caption(images, class_names)

    stream = digits(train_transform=lambda image: ToTensor()(image.rotate(90)) - 0.5).train_stream
    make_clts(Pair(Watching(), tiny_pair.generator)).train(stream[0])
    assert len(seen) == 6
    assert {(image.mode, image.size) for image in seen} == {("L", (8, 8))}
    raw = stream[0].dataset.remove_current_transform_group()
    originals = {raw[i][0].tobytes() for i in range(len(raw))}
    assert all(image.tobytes() in originals for image in seen)


def test_same_seed_same_result_bit_for_bit(tiny_pair: Pair) -> None:
    def final_state() -> dict[str, torch.Tensor]:
        RNGManager.set_random_seeds(3)
        clts = make_clts(tiny_pair)
        for experience in digits().train_stream[:3]:
            clts.train(experience)
        return clts.model.state_dict()

    first, second = final_state(), final_state()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_periodic_evaluation_sees_the_router_trained(tiny_pair: Pair) -> None:
    """`eval_every=0` evaluates at the end of an experience: by then the router must know the new head."""
    known = []

    class AtEvaluation(SupervisedPlugin):
        def before_eval(self, strategy, **kwargs):
            known.append((strategy.model.num_heads, strategy.model.router.num_heads))

    benchmark = digits()
    clts = make_clts(tiny_pair, eval_every=0, plugins=[AtEvaluation()])
    for experience in benchmark.train_stream[:3]:
        clts.train(experience, eval_streams=[benchmark.test_stream])
    assert known[1::2] == [(1, 0), (2, 2), (3, 3)]


def test_evaluation_within_training_leaves_old_heads_in_evaluation_mode(tiny_pair: Pair) -> None:
    benchmark = digits()
    clts = make_clts(tiny_pair, eval_every=1, train_epochs=3)
    clts.train(benchmark.train_stream[0], eval_streams=[benchmark.test_stream])
    before = copy.deepcopy(clts.model.heads[0].state_dict())
    clts.train(benchmark.train_stream[1], eval_streams=[benchmark.test_stream])
    assert all(torch.equal(before[k], v) for k, v in clts.model.heads[0].state_dict().items())


def test_task_labels_replace_the_router(tiny_pair: Pair) -> None:
    witness = Witness(tiny_pair.generator)
    benchmark = digits(return_task_id=True)
    clts = make_clts(Pair(tiny_pair.captioner, witness), train_epochs=15, evaluator=accuracy())
    for experience in benchmark.train_stream:
        clts.train(experience)
    metrics = clts.eval(benchmark.test_stream)
    scores = [v for k, v in metrics.items() if "Top1_Acc_Exp" in k]
    assert len(scores) == 5
    assert min(scores) > 0.9
    assert witness.calls == []


def test_domain_incremental_streams_sum_over_all_heads(tiny_pair: Pair) -> None:
    (train,), (test,) = (stream for stream in (digits(1).train_stream, digits(1).test_stream))
    parts = [_as_images(part.dataset) for part in (train, test)]
    benchmark = ni_benchmark(
        *parts, n_experiences=3, seed=0, train_transform=ToTensor(), eval_transform=ToTensor(), balance_experiences=True
    )
    clts = make_clts(tiny_pair, train_epochs=12, evaluator=accuracy())
    for experience in benchmark.train_stream:
        clts.train(experience)
    assert [len(record.classes) for record in clts.model.records] == [10, 10, 10]
    assert clts.plugins[0].storage_policy.memory.experiences == [0, 1, 2]
    assert stream_accuracy(clts.eval(benchmark.test_stream)) > 0.7


def test_classes_that_come_back_get_a_head_each_time(tiny_pair: Pair) -> None:
    stream = digits().train_stream
    clts = make_clts(tiny_pair)
    for index in (0, 1, 0):
        clts.train(stream[index])
    assert [record.classes for record in clts.model.records] == [(0, 1), (2, 3), (0, 1)]
    assert clts.model.router.num_heads == 3


def test_plugin_works_in_another_strategy_with_a_routed_model(tiny_pair: Pair) -> None:
    model = RoutedModel(head=small_net(), router=small_net(16))
    plugin = CLTSPlugin(pair=tiny_pair, captions_per_class=2, replay_size=8, router_epochs=1)
    naive = Naive(
        model=model,
        optimizer=torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01),
        criterion=nn.CrossEntropyLoss(),
        train_mb_size=30,
        plugins=[plugin],
        evaluator=EvaluationPlugin(),
    )
    benchmark = digits()
    naive.train(benchmark.train_stream[0])
    before = copy.deepcopy(model.heads[0].state_dict())
    naive.train(benchmark.train_stream[1])
    assert all(torch.equal(before[k], v) for k, v in model.heads[0].state_dict().items())
    assert model.router.num_heads == 2


def test_trying_what_the_router_learns_with_draws_nothing(tiny_pair: Pair) -> None:
    """And takes a factory for some of its layers alone."""
    model = RoutedModel(head=small_net(), router=nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten()))
    training = RouterTraining(
        optimizer=lambda parameters: torch.optim.SGD([p for p in parameters if p.ndim == 4], lr=0.1),
        augment=lambda images: images + 0.1 * torch.rand_like(images),
    )
    clts = make_clts(tiny_pair, model=model, router_training=training)
    before = torch.random.get_rng_state()
    require_optimizer_of(training.optimizer, model.router)
    require_augment_of(training.augment, digits().train_stream[0].dataset, clts.device)
    assert torch.equal(torch.random.get_rng_state(), before)
    clts.train(digits().train_stream[:2])


def test_whole_numbers_of_numpy_are_whole_numbers(tiny_pair: Pair) -> None:
    """Budgets are often computed."""
    clts = make_clts(tiny_pair, captions_per_class=np.int64(2), replay_size=np.int32(8), eval_mb_size=np.int64(64))
    clts.train(digits().train_stream[0])
    clts.eval(digits().test_stream[:1])
    assert len(clts.plugins[0].storage_policy.memory) == 4
    plugin = CaptionReplayPlugin(pair=tiny_pair, mem_size=np.int64(6))
    assert type(plugin.mem_size) is int
    with pytest.raises(TypeError, match="captions_per_class is True; it must be a whole number"):
        make_clts(tiny_pair, captions_per_class=True)


def test_images_are_gone_after_training(tiny_pair: Pair) -> None:
    clts = make_clts(tiny_pair)
    for experience in digits().train_stream[:2]:
        clts.train(experience)
        assert clts.plugins[0].storage_policy.regenerated == []


BASES = {
    "naive": lambda **common: Naive(**common),
    "ewc": lambda **common: EWC(ewc_lambda=0.5, **common),
    "lwf": lambda **common: LwF(alpha=1.0, temperature=2.0, **common),
}


@pytest.mark.parametrize("base", BASES)
def test_text_replay_in_any_strategy(tiny_pair: Pair, base: str) -> None:
    witness = Witness(tiny_pair.generator)
    network = small_net()
    plugin = CaptionReplayPlugin(pair=Pair(tiny_pair.captioner, witness), mem_size=10, replay_size=10)
    strategy = BASES[base](
        model=network,
        optimizer=torch.optim.Adam(network.parameters()),
        criterion=nn.CrossEntropyLoss(),
        train_mb_size=30,
        eval_mb_size=256,
        plugins=[plugin],
        evaluator=accuracy(),
    )
    benchmark = digits()
    for number, experience in enumerate(benchmark.train_stream):
        strategy.train(experience)
        assert len(plugin.storage_policy.memory) == 10
        assert len(witness.calls) == number, "images are regenerated once for each experience after the first"
        assert plugin.storage_policy.regenerated == []
    assert {c.target for c in plugin.storage_policy.memory} == set(range(10))
    strategy.eval(benchmark.test_stream)


def test_replayed_batches_hold_classes_of_the_past(tiny_pair: Pair) -> None:
    classes = set()

    class AtBatches(SupervisedPlugin):
        def before_training_iteration(self, strategy, **kwargs):
            if strategy.experience.current_experience == 1:
                classes.update(strategy.mb_y.tolist())

    network = small_net()
    naive = Naive(
        model=network,
        optimizer=torch.optim.Adam(network.parameters()),
        criterion=nn.CrossEntropyLoss(),
        train_mb_size=30,
        plugins=[CaptionReplayPlugin(pair=tiny_pair, mem_size=10), AtBatches()],
        evaluator=EvaluationPlugin(),
    )
    for experience in digits().train_stream[:2]:
        naive.train(experience)
    assert classes == {0, 1, 2, 3}


def _as_images(dataset) -> ImageDataset:
    raw = dataset.remove_current_transform_group()
    return ImageDataset([raw[i][0] for i in range(len(raw))], list(dataset.targets), [str(k) for k in range(10)])


def tensor_stream(x: torch.Tensor):
    data = TensorDataset(x, torch.arange(len(x)) % 4)
    data.targets = data.tensors[1].tolist()
    return nc_benchmark(data, data, 2, task_labels=False, seed=0).train_stream


@pytest.mark.parametrize(
    ("options", "stream", "error", "message"),
    [
        ({}, lambda: tensor_stream(torch.rand(40, 64)), TypeError, "not images"),
        ({}, lambda: tensor_stream(torch.randn(40, 1, 8, 8)), ValueError, "no untransformed image"),
        ({"class_names": ["zero"]}, lambda: digits().train_stream, ValueError, "class_names has 1 names"),
        ({"captions_per_class": 0}, None, ValueError, "captions_per_class is 0"),
        ({"replay_size": 0}, None, ValueError, "replay_size is 0"),
        ({"router_epochs": 0}, None, ValueError, "router_epochs is 0"),
        ({"routing": "best"}, None, ValueError, "routing is 'best'"),
        ({"model": nn.Linear(3, 3)}, None, TypeError, "model is a Linear"),
    ],
)
def test_bad_input_is_refused_before_anything_is_trained(tiny_pair: Pair, options, stream, error, message) -> None:
    if stream is None:
        with pytest.raises(error, match=message):
            make_clts(tiny_pair, **options)
        return
    clts = make_clts(tiny_pair, **options)
    before = copy.deepcopy(clts.model.state_dict())
    with pytest.raises(error, match=message):
        clts.train(stream()[0])
    after = clts.model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"epochs": 0}, ValueError, "epochs is 0"),
        ({"data": "real"}, ValueError, "data is 'real'"),
        ({"targets": "tasks"}, ValueError, "targets is 'tasks'"),
        ({"label_smoothing": 1.0}, ValueError, "label_smoothing is 1.0"),
        ({"falling_rate": 1}, TypeError, "falling_rate is 1"),
        ({"precision": "half"}, ValueError, "precision is 'half'"),
        ({"optimizer": torch.optim.SGD([torch.zeros(1)])}, TypeError, "optimizer is a SGD"),
    ],
)
def test_training_of_a_router_that_cannot_be_is_refused(options, error, message) -> None:
    with pytest.raises(error, match=message):
        RouterTraining(**options)


def test_refused_experience_can_be_trained_once_mended(tiny_pair: Pair) -> None:
    clts = make_clts(tiny_pair, class_names=["zero"])
    experience = digits().train_stream[0]
    with pytest.raises(ValueError, match="class_names"):
        clts.train(experience)
    clts.plugins[0].storage_policy.class_names = None
    clts.train(experience)
    assert clts.model.num_heads == 1


def test_experiences_made_by_hand_are_learnt(tiny_pair: Pair) -> None:
    clts = make_clts(tiny_pair)
    for experience in digits().train_stream[:2]:
        clts.train(DatasetExperience(dataset=experience.dataset), eval_streams=[])
    assert [record.experience for record in clts.model.records] == [0, 1]
    assert [record.classes for record in clts.model.records] == [(0, 1), (2, 3)]
