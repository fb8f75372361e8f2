"""What fails, or is interrupted, leaves nothing behind: the experience is trained again as if for the first time."""

from __future__ import annotations

import copy

import pytest
import torch
from avalanche.benchmarks import split_online_stream
from avalanche.core import SupervisedPlugin
from avalanche.models import IncrementalClassifier, MTSimpleMLP, SimpleMLP
from avalanche.training.plugins import FromScratchTrainingPlugin
from avalanche.training.supervised import Naive
from PIL import Image
from torch import nn
from torch.optim import SGD

from avalanche_clts import CLTS, CaptionReplayPlugin, LabelCaptioner, Pair, RoutedModel, split_digits
from avalanche_clts.pair_fit import PairFit
from avalanche_clts.routers import router_settings
from tests.test_strategy import tensor_stream

HOOKS = ("before_backward", "after_training_epoch", "after_training_exp")


class FailOnce(SupervisedPlugin):
    """Interrupts a hook of the second experience, once."""

    def __init__(self, hook: str) -> None:
        super().__init__()
        self.armed = True
        setattr(self, hook, self._fail)

    def _fail(self, strategy, **kwargs) -> None:
        if self.armed and strategy.clock.train_exp_counter == 1 and getattr(strategy.model, "num_heads", 2) == 2:
            self.armed = False
            raise KeyboardInterrupt


class Flaky(LabelCaptioner):
    """Captioner and generator, one of which is interrupted when it is asked for the n-th time."""

    def __init__(self, *, caption: int = 0, generate: int = 0) -> None:
        super().__init__()
        self.left = {"caption": caption, "generate": generate}

    def _count(self, name: str) -> None:
        self.left[name] -= 1
        if self.left[name] == 0:
            raise KeyboardInterrupt

    def caption(self, images, class_names=None):
        self._count("caption")
        return super().caption(images, class_names)

    def generate(self, prompts, seeds):
        self._count("generate")
        return [Image.new("RGB", (8, 8), (128, 128, 128)) for _ in prompts]


def flaky(**times: int) -> Pair:
    return Pair(*[Flaky(**times)] * 2)


def mlp() -> nn.Module:
    return SimpleMLP(num_classes=10, input_size=64, hidden_size=8)


def clts(pair: Pair, *, head: nn.Module | None = None, **options: object) -> CLTS:
    torch.manual_seed(0)
    model = RoutedModel(head=head or mlp(), router=SimpleMLP(input_size=64, hidden_size=8))
    given = {"captions_per_class": 2, "replay_size": 20, "router_epochs": 1, "train_mb_size": 64, "eval_mb_size": 256}
    return CLTS(model=model, optimizer=SGD(model.parameters(), lr=0.1), pair=pair, **given | options)


def replaying(pair: Pair, *, class_names: list[str] | None = None, **options: object) -> Naive:
    network = mlp()
    replay = CaptionReplayPlugin(pair=pair, mem_size=20, replay_size=20, class_names=class_names)
    plugins = [replay, *options.pop("plugins", [])]
    return Naive(
        model=network,
        optimizer=SGD(network.parameters(), lr=0.1),
        criterion=nn.CrossEntropyLoss(),
        train_mb_size=64,
        plugins=plugins,
        **options,
    )


def stubbornly(strategy: Naive, experience: object) -> int:
    """How often training was interrupted until it was not."""
    for times in range(3):
        try:
            strategy.train(experience)
            return times
        except KeyboardInterrupt:
            continue
    raise AssertionError("it is interrupted for good")


def captioned(strategy: Naive) -> tuple[int, list[int]]:
    buffer = next(p.storage_policy for p in strategy.plugins if hasattr(p, "storage_policy"))
    counts = [sum(c.experience == k for c in buffer.memory) for k in buffer.memory.experiences]
    return buffer.num_experiences, counts


@pytest.mark.parametrize("build", [clts, replaying])
@pytest.mark.parametrize("hook", HOOKS)
def test_an_experience_is_captioned_once_however_often_it_is_begun(build, hook: str) -> None:
    whole, interrupted = build(flaky()), build(flaky(), plugins=[FailOnce(hook)])
    benchmark = split_digits(n_experiences=5, seed=0)
    for index in range(3):
        whole.train(benchmark.train_stream[index])
        assert stubbornly(interrupted, benchmark.train_stream[index]) == (index == 1)
    assert captioned(interrupted) == captioned(whole)
    if build is clts:
        assert interrupted.model.routing_targets == whole.model.routing_targets
        assert len(interrupted.model.heads) == interrupted.model.router.num_heads == 3


@pytest.mark.parametrize("build", [clts, replaying])
@pytest.mark.parametrize("times", [{"caption": 2}, {"caption": 4}, {"generate": 1}], ids=str)
def test_a_part_of_an_experience_counts_once(build, times: dict[str, int]) -> None:
    """Also where the parts divide their experience, of which Avalanche marks no last one."""
    stream = tensor_stream(torch.rand(40, 1, 8, 8))
    parts = list(split_online_stream(stream, experience_size=5, seed=0))
    assert len(parts) == 8
    strategy = build(flaky(**times), class_names=["a", "b", "c", "d"])
    assert sum(stubbornly(strategy, part) for part in parts) == 1
    number, counts = captioned(strategy)
    assert number == len(counts) == 2
    if build is clts:
        assert len(strategy.model.heads) == strategy.model.router.num_heads == 2


def test_a_captioner_that_says_nothing_leaves_no_experience_behind() -> None:
    class Mute(Flaky):
        mute = True

        def caption(self, images, class_names=None):
            return [""] * len(images) if self.mute else ["something"] * len(images)

    captioner = Mute()
    strategy, stream = clts(Pair(captioner, captioner)), tensor_stream(torch.rand(40, 1, 8, 8))
    with pytest.raises(RuntimeError, match="said nothing of any image of experience 0"):
        strategy.train(stream[0])
    captioner.mute = False
    strategy.train(stream[0])
    assert captioned(strategy)[0] == strategy.model.num_heads == 1


@pytest.mark.parametrize("hook", ["after_training_iteration", "after_eval_iteration"])
def test_after_an_interruption_all_heads_are_asked(hook: str) -> None:
    """Whether a batch was being loaded, or what the head in training has learnt was being evaluated."""
    benchmark = split_digits(n_experiences=5, seed=0)
    strategy = clts(flaky(), plugins=[stop := FailOnce(hook)], eval_every=1)
    strategy.train(benchmark.train_stream[0], eval_streams=[])
    with pytest.raises(KeyboardInterrupt):
        strategy.train(benchmark.train_stream[1], eval_streams=[benchmark.train_stream[1]])
    assert not stop.armed
    x = torch.stack([benchmark.test_stream[1].dataset[i][0] for i in range(4)])
    expected = strategy.model.eval().route(x)
    assert (expected < 1).all(), "the newest head has a prior, and is not asked alone"
    seen: list[torch.Tensor] = []
    strategy.plugins.append(Watching(seen))
    strategy.eval(benchmark.test_stream[1:2])
    assert (torch.cat(seen) < 1).all()


class Watching(SupervisedPlugin):
    def __init__(self, seen: list[torch.Tensor]) -> None:
        super().__init__()
        self.seen = seen

    def after_eval_forward(self, strategy, **kwargs) -> None:
        self.seen.append(strategy.model.answer(strategy.mb_x).head_probabilities)


def test_task_labels_of_a_batch_that_failed_are_forgotten() -> None:
    model = RoutedModel(head=mlp(), router=mlp())
    model.given_labels = torch.zeros(7, dtype=torch.long)
    assert model.eval().given_labels is None


def test_a_growing_head_that_was_interrupted_grows_no_further() -> None:
    head = nn.Sequential(nn.Flatten(), IncrementalClassifier(64, initial_out_features=2))
    benchmark = split_digits(n_experiences=5, seed=0)
    strategy = clts(flaky(), head=copy.deepcopy(head), plugins=[FailOnce("after_training_epoch")])
    for index in range(3):
        stubbornly(strategy, benchmark.train_stream[index])
    for record, grown in zip(strategy.model.records, strategy.model.heads, strict=True):
        assert grown[1].classifier.out_features == max(record.classes) + 1
    assert not any(p.requires_grad for grown in strategy.model.heads[:2] for p in grown.parameters())
    fresh = clts(flaky(), head=copy.deepcopy(head)).model
    fresh.load_state_dict(strategy.model.state_dict())
    x = torch.rand(4, 1, 8, 8)
    torch.testing.assert_close(fresh.eval()(x), strategy.model.eval()(x))


# What comes of the same review: parts that were given together


def test_weights_that_head_and_router_share_are_refused() -> None:
    features = nn.Sequential(nn.Flatten(), nn.Linear(64, 8))
    with pytest.raises(ValueError, match=r"head and router share weights.*backbone="):
        RoutedModel(head=nn.Sequential(features, nn.Linear(8, 10)), router=features)


def test_a_plugin_that_sets_the_model_back_is_refused() -> None:
    strategy = clts(flaky(), plugins=[FromScratchTrainingPlugin()])
    with pytest.raises(ValueError, match="FromScratchTrainingPlugin sets the model back, frozen heads too"):
        strategy.train(split_digits(seed=0).train_stream[0])


def test_a_copy_of_a_model_that_was_asked_holds_no_images() -> None:
    strategy, benchmark = clts(flaky()), split_digits(n_experiences=5, seed=0)
    strategy.train(benchmark.train_stream[0])
    x = torch.rand(4, 1, 8, 8)
    said = strategy.model.eval()(x)
    copied = copy.deepcopy(strategy.model)
    assert copied._answer is None
    torch.testing.assert_close(copied(x), said)


def test_the_fit_of_a_pair_is_measured_in_batches_of_evaluation(monkeypatch) -> None:
    sizes = []
    strategy = clts(flaky(), eval_mb_size=5)
    features = strategy.model.features
    monkeypatch.setattr(strategy.model, "features", lambda x: sizes.append(len(x)) or features(x))
    strategy.train(split_digits(n_experiences=5, seed=0).train_stream[0])
    sizes.clear()
    buffer, experience = strategy.plugins[0].storage_policy, split_digits(n_experiences=5, seed=0).train_stream[0]
    small, whole = (PairFit.of(strategy.model, buffer, experience, strategy.device, batch_size=n) for n in (5, 999))
    assert sorted(set(sizes))[-2] == 5
    assert small == whole


def test_a_multi_task_head_with_batch_normalisation_is_looked_at_with_its_label() -> None:
    class Normalised(MTSimpleMLP):
        def __init__(self) -> None:
            super().__init__(input_size=64, hidden_size=8)
            self.features = nn.Sequential(*self.features, nn.BatchNorm1d(8))

    stream = split_digits(n_experiences=5, seed=0, return_task_id=True).train_stream
    strategy = clts(flaky(), head=Normalised(), train_mb_size=len(stream[0].dataset) - 1)
    with pytest.raises(ValueError, match="leaves a last batch of one image, and the head's batch normalisation"):
        strategy.train(stream[0])


def test_a_router_without_weights_is_of_the_backbones_kind() -> None:
    torch.manual_seed(0)
    backbone = nn.Sequential(nn.Flatten(), nn.Linear(64, 8)).bfloat16()

    class Half(nn.Module):
        def forward(self, x):
            return backbone(x.bfloat16())

    model = RoutedModel(head=nn.Linear(8, 10).bfloat16(), router=nn.Identity(), backbone=Half())
    strategy = CLTS(
        model=model,
        optimizer=SGD(model.parameters(), lr=0.1),
        pair=flaky(),
        replay_size=20,
        router_epochs=1,
        train_mb_size=64,
        eval_mb_size=256,
    )
    benchmark = split_digits(n_experiences=5, seed=0)
    for index in range(2):
        strategy.train(benchmark.train_stream[index])
    assert model.router.output.weight.dtype == torch.bfloat16
    strategy.eval(benchmark.test_stream[:1])


def test_a_router_learns_at_the_rate_that_a_warm_up_leads_to() -> None:
    optimizer = SGD(mlp().parameters(), lr=0.1)
    torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=0.01)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.001)
    assert router_settings(optimizer, mlp())["lr"] == 0.1


def test_an_optimizer_that_cannot_be_made_again_is_refused_at_once() -> None:
    class Wrapping(SGD):
        def __init__(self, base, params, **options) -> None:
            super().__init__(params, **options)

    strategy = clts(flaky())
    strategy.optimizer = Wrapping(None, strategy.model.parameters(), lr=0.1)
    with pytest.raises(TypeError, match=r"optimizer is a Wrapping, of which the router.*RouterTraining\(optimizer="):
        strategy.train(split_digits(seed=0).train_stream[0])
    assert strategy.clock.train_iterations == 0
