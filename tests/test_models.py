"""Heads that never change, and how their answers are combined."""

from __future__ import annotations

import copy
from functools import partial

import pytest
import torch
from avalanche.models import IncrementalClassifier
from torch import nn

from avalanche_clts import RoutedModel, TaskRouter, split_digits
from avalanche_clts.models import HeadRecord
from tests.conftest import small_net


def model_with(*records: HeadRecord, **options) -> RoutedModel:
    torch.manual_seed(0)
    model = RoutedModel(head=small_net(), router=small_net(16), **options)
    for record in records:
        model.add_head(record)
        for parameter in model.heads[-1].parameters():  # heads that differ
            nn.init.normal_(parameter)
    model.router.grow(range(len(records)), 16)
    return model.eval()


CLASS_INCREMENTAL = (HeadRecord((0, 1), (0,), 0), HeadRecord((2, 3), (0,), 1), HeadRecord((4, 5), (0,), 2))
DOMAIN_INCREMENTAL = tuple(HeadRecord((0, 1, 2), (0,), e) for e in range(3))
TASK_INCREMENTAL = tuple(HeadRecord((2 * e, 2 * e + 1), (e,), e) for e in range(3))
X = torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(1))


def head_probabilities(model: RoutedModel, t: int) -> torch.Tensor:
    """p(class | head t), computed one by one."""
    p = torch.zeros(len(X), 10)
    classes = list(model.records[t].classes)
    p[:, classes] = model.heads[t](X)[:, classes].softmax(1)
    return p


@pytest.mark.parametrize("records", [CLASS_INCREMENTAL, DOMAIN_INCREMENTAL])
def test_soft_routing_is_the_sum_over_the_heads_that_know_the_class(records) -> None:
    model = model_with(*records)
    p_task = model.router(X).softmax(1)
    expected = sum(p_task[:, t, None] * head_probabilities(model, t) for t in range(3))
    assert torch.allclose(model(X).exp(), expected, atol=1e-6)
    assert torch.allclose(model(X).exp().sum(1), torch.ones(6), atol=1e-5)


def test_hard_routing_asks_the_likeliest_head_alone() -> None:
    model = model_with(*CLASS_INCREMENTAL, routing="hard")
    chosen = model.router(X).argmax(1)
    for i, t in enumerate(chosen.tolist()):
        assert torch.allclose(model(X)[i].exp(), head_probabilities(model, t)[i], atol=1e-6)


def test_task_label_picks_the_head_and_the_router_is_not_asked() -> None:
    model = model_with(*TASK_INCREMENTAL)
    assert not model.is_ambiguous

    def asked(*_):
        raise AssertionError("the router was asked")

    model.router.register_forward_pre_hook(asked)
    for t in range(3):
        output = model(X, torch.full((6,), t))
        assert torch.allclose(output.exp(), head_probabilities(model, t), atol=1e-6)
    with pytest.raises(AssertionError, match="asked"):
        model(X)


def test_label_shared_by_some_heads_narrows_the_choice_to_them() -> None:
    model = model_with(HeadRecord((0, 1), (7,), 0), HeadRecord((2, 3), (7,), 1), HeadRecord((4, 5), (9,), 2))
    assert model.is_ambiguous
    p = model.route(X, torch.full((6,), 7))
    assert torch.equal(p[:, 2], torch.zeros(6))
    assert torch.allclose(p[:, :2], model.router(X)[:, :2].softmax(1))


def test_unknown_label_leaves_all_heads_possible() -> None:
    model = model_with(*TASK_INCREMENTAL)
    assert torch.allclose(model.route(X, torch.full((6,), 99)), model.route(X))


def test_head_that_the_router_has_not_seen_has_an_equal_prior() -> None:
    model = model_with(*CLASS_INCREMENTAL)
    seen = model.route(X)
    model.add_head(HeadRecord((6, 7), (0,), 3))
    p = model.eval().route(X)
    assert torch.allclose(p[:, 3], torch.full((6,), 1 / 4))
    assert torch.allclose(p[:, :3], seen * 3 / 4)


def test_head_can_be_asked_alone() -> None:
    model = model_with(*CLASS_INCREMENTAL)
    model.asked_alone = 1
    assert torch.allclose(model(X).exp(), head_probabilities(model, 1), atol=1e-6)


def test_answer_is_of_the_last_forward_pass_alone() -> None:
    model = model_with(*CLASS_INCREMENTAL)
    model(X)
    assert model.answer(X).log_probabilities is model.answer(X).log_probabilities
    model.set_routing("hard")
    model(X)
    assert torch.equal(model.answer(X).log_probabilities, model(X))
    assert not torch.equal(model.answer(torch.zeros_like(X)).log_probabilities, model(X))


def test_state_of_a_trained_model_loads_into_a_fresh_one() -> None:
    benchmark = split_digits(5, fixed_class_order=range(10))

    def fresh() -> RoutedModel:
        head = nn.Sequential(nn.Flatten(), IncrementalClassifier(64))
        return RoutedModel(head=head, router=small_net(16))

    trained = fresh()
    for experience in benchmark.train_stream[:3]:
        trained.train().adaptation(experience)
    trained.router.grow([0, 1, 1, 2], 16)
    assert all(isinstance(value, torch.Tensor) for value in trained.state_dict().values())
    loaded = fresh()
    loaded.load_state_dict(copy.deepcopy(trained.state_dict()))
    assert loaded.records == trained.records
    assert torch.equal(loaded.eval()(X), trained.eval()(X))


def test_new_heads_are_as_precise_as_the_model() -> None:
    model = RoutedModel(head=small_net(), router=small_net(16)).double()
    for experience in split_digits(5, fixed_class_order=range(10), train_transform=None).train_stream[:2]:
        model.add_head(HeadRecord(tuple(experience.classes_in_this_experience), (0,), experience.current_experience))
    assert {p.dtype for p in model.parameters()} == {torch.float64}


def test_classes_to_come_have_a_column() -> None:
    benchmark = split_digits(5, fixed_class_order=range(10))
    model = RoutedModel(head=nn.Sequential(nn.Flatten(), IncrementalClassifier(64)), router=small_net(16))
    model.train().adaptation(benchmark.train_stream[0])
    model.eval().adaptation(benchmark.test_stream[4])
    output = model(X)
    assert output.shape == (6, 10)
    assert torch.isfinite(nn.functional.cross_entropy(output, torch.full((6,), 9)))


def test_no_class_has_infinite_loss() -> None:
    loss = nn.functional.cross_entropy(model_with(*CLASS_INCREMENTAL)(X), torch.full((6,), 9))
    assert torch.isfinite(loss)


def test_growing_keeps_what_the_router_knows() -> None:
    router = TaskRouter(small_net(16)).eval()
    router.grow([0, 1], 16)
    before = router(X)
    router.grow([0, 1, 2, 2, 3], 16)
    assert router.num_heads == 4
    assert torch.allclose(router(X)[:, :2], before, atol=1e-6)


def test_an_experience_is_as_likely_as_its_units_together() -> None:
    router = TaskRouter(small_net(16)).eval()
    router.grow([0, 0, 1, 1, 1], 16)
    units = router.unit_logits(X).softmax(1)
    expected = torch.stack([units[:, :2].sum(1), units[:, 2:].sum(1)], dim=1)
    assert torch.allclose(router(X).softmax(1), expected, atol=1e-6)


def test_a_router_does_not_give_its_units_to_other_experiences() -> None:
    router = TaskRouter(small_net(16))
    router.grow([0, 0, 1, 1], 16)
    with pytest.raises(ValueError, match="targets of its RouterTraining"):
        router.grow([0, 1, 2], 16)


def test_old_heads_keep_their_weights_and_normalisation_statistics() -> None:
    model = model_with(*CLASS_INCREMENTAL)
    before = copy.deepcopy(model.heads[:2].state_dict())
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(X), torch.full((6,), 4)).backward()
        optimizer.step()
    after = model.heads[:2].state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not model.heads[0].training
    assert model.heads[2].training


def test_compiled_networks_have_no_length_and_are_networks_all_the_same() -> None:
    compiled = partial(torch.compile, backend="eager")
    model = RoutedModel(head=compiled(small_net()), router=small_net(4), backbone=compiled(nn.Identity()))
    for record in CLASS_INCREMENTAL:
        model.add_head(record)
    assert len(model.heads) == len(CLASS_INCREMENTAL)


def test_growing_classifiers_in_old_heads_do_not_grow() -> None:
    benchmark = split_digits(5, fixed_class_order=range(10))
    head = nn.Sequential(nn.Flatten(), IncrementalClassifier(64))
    model = RoutedModel(head=head, router=small_net(16))
    for experience in benchmark.train_stream:
        model.train()
        model.pre_adapt(None, experience)
    widths = [head[1].classifier.out_features for head in model.heads]
    assert widths == [2, 4, 6, 8, 10]
    assert model.eval()(X).shape == (6, 10)


def test_evaluation_within_training_leaves_a_growing_head_trainable() -> None:
    benchmark = split_digits(5, fixed_class_order=range(10))
    model = RoutedModel(head=nn.Sequential(nn.Flatten(), IncrementalClassifier(64)), router=small_net(16))
    model.train().pre_adapt(None, benchmark.train_stream[0])
    before = dict(model.heads[0].named_parameters())
    model.eval().pre_adapt(None, benchmark.test_stream[4])
    assert all(before[name] is p for name, p in model.heads[0].named_parameters())


def test_head_with_too_few_outputs_is_refused_and_nothing_is_added() -> None:
    benchmark = split_digits(5, fixed_class_order=range(10))
    model = RoutedModel(head=small_net(2), router=small_net(16))
    model.adaptation(benchmark.train_stream[0])
    with pytest.raises(ValueError, match=r"head tells 2 classes apart.*class 3.*at least 4 outputs"):
        model.adaptation(benchmark.train_stream[1])
    assert model.num_heads == len(model.heads) == 1


def test_shared_backbone_is_frozen_and_an_experience_costs_a_linear_layer() -> None:
    benchmark = split_digits(5, fixed_class_order=range(10))
    backbone = nn.Sequential(nn.Flatten(), nn.Linear(64, 48), nn.BatchNorm1d(48), nn.ReLU())
    model = RoutedModel(head=nn.Linear(48, 10), router=nn.Identity(), backbone=backbone)
    before = copy.deepcopy(backbone.state_dict())
    for experience in benchmark.train_stream:
        model.train()
        model.adaptation(experience)
        nn.functional.cross_entropy(model(X), torch.full((6,), 1)).backward()
    assert all(torch.equal(before[k], v) for k, v in backbone.state_dict().items())
    assert all(p.grad is None for p in backbone.parameters())
    assert sum(p.numel() for p in model.heads[1:].parameters()) == 4 * (48 * 10 + 10)
    assert model.router.num_features == 48


def test_unknown_routing_is_refused() -> None:
    with pytest.raises(ValueError, match=r"routing is 'fuzzy'.*soft.*hard"):
        RoutedModel(head=small_net(), router=small_net(), routing="fuzzy")


def test_untrained_model_answers_like_an_untrained_network_and_has_no_routes() -> None:
    model = RoutedModel(head=small_net(), router=small_net()).eval()
    assert torch.equal(model(X), model.heads[0](X))
    with pytest.raises(RuntimeError, match="no trained head yet"):
        model.route(X)
