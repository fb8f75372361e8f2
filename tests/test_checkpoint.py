"""State on disk: enough to go on, and nothing of the stream in it."""

from __future__ import annotations

import copy
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from avalanche.benchmarks import benchmark_from_datasets, split_online_stream
from avalanche.core import SupervisedPlugin
from avalanche.evaluation.metrics import bwt_metrics, forgetting_metrics, forward_transfer_metrics
from avalanche.models import IncrementalClassifier, MultiHeadClassifier, MultiTaskModule
from avalanche.training.determinism.rng_manager import RNGManager
from avalanche.training.plugins import (
    EarlyStoppingPlugin,
    EvaluationPlugin,
    EWCPlugin,
    LRSchedulerPlugin,
    LwFPlugin,
    MASPlugin,
    ReplayPlugin,
    SynapticIntelligencePlugin,
)
from avalanche.training.supervised import DER, ER_ACE, Cumulative, Naive
from torch import nn
from torchvision.transforms import Compose, ToTensor

from avalanche_clts import (
    CaptionReplayPlugin,
    CLTSPlugin,
    Pair,
    RoutedModel,
    checkpoint,
    load_checkpoint,
    save_checkpoint,
    split_digits,
)
from avalanche_clts._support.files import read_state, write_state
from avalanche_clts.footprint import caption_buffers, memory_bytes
from avalanche_clts.streams.embedded_digits import stream_digits
from tests.conftest import make_clts, small_net


def digits():
    return split_digits(5, fixed_class_order=range(10))


def replaying(pair: Pair) -> Naive:
    network = small_net()
    return Naive(
        model=network,
        optimizer=torch.optim.Adam(network.parameters()),
        criterion=nn.CrossEntropyLoss(),
        train_mb_size=30,
        plugins=[CaptionReplayPlugin(pair=pair, mem_size=10)],
        evaluator=EvaluationPlugin(),
    )


@pytest.mark.parametrize("build", [make_clts, replaying])
def test_a_resumed_run_ends_like_one_without_interruption(tiny_pair: Pair, tmp_path: Path, build) -> None:
    stream = digits().train_stream
    RNGManager.set_random_seeds(1)
    whole = build(tiny_pair)
    for experience in stream[:2]:
        whole.train(experience)
    save_checkpoint(whole, tmp_path)
    for experience in stream[2:4]:
        whole.train(experience)

    RNGManager.set_random_seeds(99)
    resumed = build(tiny_pair)
    start = load_checkpoint(resumed, tmp_path)
    assert start == 2
    for experience in stream[start:4]:
        resumed.train(experience)
    expected, found = whole.model.state_dict(), resumed.model.state_dict()
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert resumed.clock.train_iterations == whole.clock.train_iterations


@pytest.mark.parametrize("build", [make_clts, replaying])
def test_a_run_that_was_saved_before_it_began_begins(tiny_pair: Pair, tmp_path: Path, build) -> None:
    RNGManager.set_random_seeds(1)
    whole = build(tiny_pair)
    save_checkpoint(whole, tmp_path)
    RNGManager.set_random_seeds(99)
    resumed = build(tiny_pair)
    assert load_checkpoint(resumed, tmp_path) == 0
    for strategy in (whole, resumed):
        RNGManager.set_random_seeds(2)
        for experience in digits().train_stream[:2]:
            strategy.train(experience)
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name


def test_no_file_holds_a_pixel_of_the_stream_or_a_weight_of_the_pair(tiny_pair: Pair, tmp_path: Path) -> None:
    clts = make_clts(tiny_pair)
    for experience in digits().train_stream[:3]:
        clts.train(experience)
    save_checkpoint(clts, tmp_path)
    place = tmp_path / "checkpoint-0003"
    assert list(tmp_path.iterdir()) == [place]
    files = sorted(place.iterdir())
    assert [file.name for file in files] == ["captions.jsonl.gz", "checksums.json", "state.safetensors"]
    tensors = _tensors(read_state(place / "state.safetensors"))
    content = b"".join(file.read_bytes() for file in files)
    model_shapes = {tuple(t.shape) for t in clts.model.state_dict().values()}
    for image in stream_digits()[0].images:
        pixels = np.asarray(image)
        for form in (pixels, pixels.astype(np.float32) / 255, pixels.astype(np.float32)):
            assert form.tobytes() not in content
            assert form.astype(np.float16).tobytes() not in content
    # Every tensor is a weight of the model, a moment of one, a counter, or a random generator's state.
    for name, tensor in tensors.items():
        assert tuple(tensor.shape) in model_shapes or name.startswith(("random", "clock")) or tensor.numel() == 1
    unet = (Path(tiny_pair.generator.name_or_path) / "unet" / "diffusion_pytorch_model.safetensors").stat().st_size
    assert len(content) < unet + sum(t.numel() * 8 for t in tensors.values())
    assert [name.split(" sha256:")[0] for name in read_state(place / "state.safetensors")["pairs"][0]] == [
        "captioner",
        "generator",
    ]


def test_checkpoint_of_another_pair_is_refused(tiny_pair: Pair, tmp_path: Path) -> None:
    from avalanche_clts import LabelCaptioner

    clts = make_clts(tiny_pair)
    clts.train(digits().train_stream[0])
    save_checkpoint(clts, tmp_path)
    other = make_clts(Pair(LabelCaptioner(), tiny_pair.generator))
    with pytest.raises(ValueError, match=r"written with the pair.*use the same pair"):
        load_checkpoint(other, tmp_path)


def test_damaged_newer_and_missing_checkpoints_are_refused(tiny_pair: Pair, tmp_path: Path, monkeypatch) -> None:
    clts = make_clts(tiny_pair)
    with pytest.raises(FileNotFoundError, match="holds no checkpoint"):
        load_checkpoint(clts, tmp_path)
    clts.train(digits().train_stream[0])
    save_checkpoint(clts, tmp_path)
    monkeypatch.setattr(checkpoint, "_VERSION", 0)
    with pytest.raises(ValueError, match="newer version"):
        load_checkpoint(make_clts(tiny_pair), tmp_path)
    monkeypatch.undo()
    file = tmp_path / "checkpoint-0001" / "state.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.warns(UserWarning, match="looking for an earlier one"), pytest.raises(ValueError, match="damaged"):
        load_checkpoint(make_clts(tiny_pair), tmp_path)


@pytest.mark.parametrize("file", ["state.safetensors", "captions.jsonl.gz", "checksums.json"])
@pytest.mark.parametrize(
    "damage", [lambda b: b[: len(b) // 2], lambda b: b[:-1] + bytes([b[-1] ^ 1]), lambda b: b"", None]
)
def test_of_a_damaged_checkpoint_the_one_before_it_is_taken(tiny_pair: Pair, tmp_path: Path, file, damage) -> None:
    clts = make_clts(tiny_pair)
    for experience in digits().train_stream[:3]:
        clts.train(experience)
        save_checkpoint(clts, tmp_path)
    assert [p.name for p in sorted(tmp_path.iterdir())] == ["checkpoint-0002", "checkpoint-0003"]
    hurt = tmp_path / "checkpoint-0003" / file
    if damage is None:
        hurt.unlink()
    else:
        hurt.write_bytes(damage(hurt.read_bytes()))
    resumed = make_clts(tiny_pair)
    with pytest.warns(UserWarning, match="checkpoint-0003 is damaged"):
        assert load_checkpoint(resumed, tmp_path) == 2
    resumed.train(digits().train_stream[2])
    assert all(torch.equal(a, b) for a, b in zip(resumed.model.parameters(), clts.model.parameters(), strict=True))


def test_a_longer_run_in_the_folder_is_not_written_over(tiny_pair: Pair, tmp_path: Path) -> None:
    longer = make_clts(tiny_pair)
    for experience in digits().train_stream[:2]:
        longer.train(experience)
        save_checkpoint(longer, tmp_path)
    other = make_clts(tiny_pair)
    other.train(digits().train_stream[0])
    with pytest.raises(ValueError, match="holds checkpoint-0002, and strategy has learnt 1 experiences"):
        save_checkpoint(other, tmp_path)
    assert load_checkpoint(make_clts(tiny_pair), tmp_path) == 2


def test_faults_counted_before_an_interruption_are_counted_after_it(tiny_pair: Pair, tmp_path: Path) -> None:
    clts = make_clts(tiny_pair)
    clts.train(digits().train_stream[0])
    clts.plugins[0].storage_policy.faults = {"empty_captions": 5, "black_images": 7, "cut_prompts": 9}
    save_checkpoint(clts, tmp_path)
    resumed = make_clts(tiny_pair)
    load_checkpoint(resumed, tmp_path)
    assert resumed.plugins[0].storage_policy.faults == {"empty_captions": 5, "black_images": 7, "cut_prompts": 9}


def test_a_save_that_is_interrupted_leaves_the_one_before(tiny_pair: Pair, tmp_path: Path, monkeypatch) -> None:
    clts = make_clts(tiny_pair)
    clts.train(digits().train_stream[0])
    save_checkpoint(clts, tmp_path)
    clts.train(digits().train_stream[1])
    monkeypatch.setattr(checkpoint, "write_state", lambda *rest: (_ for _ in ()).throw(OSError(28, "disk is full")))
    with pytest.raises(OSError, match="disk is full"):
        save_checkpoint(clts, tmp_path)
    assert load_checkpoint(make_clts(tiny_pair), tmp_path) == 1


def test_metrics_that_compare_with_the_past_are_right_after_a_resume(embedded_pair: Pair, tmp_path: Path) -> None:
    def build():
        metrics = (
            forgetting_metrics(experience=True, stream=True),
            bwt_metrics(experience=True, stream=True),
            forward_transfer_metrics(experience=True, stream=True),
        )
        return make_clts(embedded_pair, train_epochs=3, eval_every=0, evaluator=EvaluationPlugin(*metrics))

    benchmark = digits()
    RNGManager.set_random_seeds(0)
    whole = build()
    for experience in benchmark.train_stream[:4]:
        if experience.current_experience == 2:
            save_checkpoint(whole, tmp_path)
        whole.train(experience, eval_streams=[benchmark.test_stream])
        expected = whole.eval(benchmark.test_stream)
    resumed = build()
    for experience in benchmark.train_stream[load_checkpoint(resumed, tmp_path) : 4]:
        resumed.train(experience, eval_streams=[benchmark.test_stream])
        found = resumed.eval(benchmark.test_stream)
    assert any(value != 0 for value in expected.values())
    assert {name: value for name, value in found.items() if value != expected[name]} == {}


def test_strategy_without_captions_has_no_checkpoint(tmp_path: Path) -> None:
    network = small_net()
    naive = Naive(model=network, optimizer=torch.optim.Adam(network.parameters()), criterion=nn.CrossEntropyLoss())
    with pytest.raises(ValueError, match="keeps no captions"):
        save_checkpoint(naive, tmp_path)


def beside_captions(pair: Pair, plugin=None, network=None, optimizer=None) -> Naive:
    """Naive with text replay and another plugin, made of the optimizer."""
    network = network or small_net()
    optimizer = (optimizer or (lambda m: torch.optim.SGD(m.parameters(), lr=0.05, momentum=0.9)))(network)
    return Naive(
        model=network,
        optimizer=optimizer,
        criterion=nn.CrossEntropyLoss(),
        train_mb_size=30,
        train_epochs=2,
        plugins=[CaptionReplayPlugin(pair=pair, mem_size=10), *([plugin(optimizer)] if plugin else [])],
        evaluator=EvaluationPlugin(),
    )


def groups(model: nn.Module) -> torch.optim.Optimizer:
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim == 1]
    return torch.optim.SGD([{"params": matrices, "lr": 0.1}, {"params": vectors, "lr": 0.01}], momentum=0.9)


def growing(outputs: int = 2) -> nn.Module:
    return nn.Sequential(nn.Flatten(), IncrementalClassifier(64, outputs))


class Heads(MultiTaskModule):
    def __init__(self) -> None:
        super().__init__()
        self.classifier = MultiHeadClassifier(64, 2, masking=False)

    def forward(self, x: torch.Tensor, task_labels: torch.Tensor) -> torch.Tensor:
        return self.classifier(x.flatten(1), task_labels)


@pytest.mark.parametrize("before_training", [True, False])
@pytest.mark.parametrize("network", [growing, Heads])
def test_a_run_that_was_evaluated_on_classes_to_come_goes_on(
    network, before_training: bool, tiny_pair: Pair, tmp_path: Path
) -> None:
    """Which has grown its classifiers past what training did."""
    benchmark = split_digits(5, seed=0, return_task_id=network is Heads)
    whole = beside_captions(tiny_pair, network=network())
    if before_training:  # as forward transfer is measured
        whole.eval(benchmark.test_stream)
    for experience in benchmark.train_stream[:2]:
        whole.train(experience)
        whole.eval(benchmark.test_stream)
    save_checkpoint(whole, tmp_path)
    whole.train(benchmark.train_stream[2])
    resumed = beside_captions(tiny_pair, network=network())
    assert load_checkpoint(resumed, tmp_path) == 2
    resumed.train(benchmark.train_stream[2])
    expected, found = whole.model.state_dict(), resumed.model.state_dict()
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)


def step(optimizer: torch.optim.Optimizer) -> LRSchedulerPlugin:
    return LRSchedulerPlugin(
        torch.optim.lr_scheduler.MultiStepLR(optimizer, [3, 5]), reset_lr=False, reset_scheduler=False
    )


SAVED = {
    "ewc": lambda pair: beside_captions(pair, lambda o: EWCPlugin(10.0)),
    "online ewc": lambda pair: beside_captions(pair, lambda o: EWCPlugin(10.0, mode="online", decay_factor=0.5)),
    "si": lambda pair: beside_captions(pair, lambda o: SynapticIntelligencePlugin(1.0)),
    "mas": lambda pair: beside_captions(pair, lambda o: MASPlugin()),
    "lwf": lambda pair: beside_captions(pair, lambda o: LwFPlugin(1.0, 2.0)),
    "schedule": lambda pair: beside_captions(pair, step),
    "early stopping": lambda pair: beside_captions(pair, lambda o: EarlyStoppingPlugin(2, "train_stream")),
    "groups": lambda pair: beside_captions(pair, optimizer=groups),
    "growing classifier": lambda pair: beside_captions(pair, network=growing()),
    "two memories": lambda pair: beside_captions(pair, lambda o: CaptionReplayPlugin(pair=pair, mem_size=4)),
    "clts, groups": lambda pair: with_groups(pair),
    "clts, growing heads": lambda pair: make_clts(pair, model=RoutedModel(head=growing(), router=small_net(16))),
    "clts, two memories": lambda pair: make_clts(pair, plugins=[CaptionReplayPlugin(pair=pair, mem_size=8)]),
}


def with_groups(pair: Pair):
    clts = make_clts(pair)
    router = {"params": clts.model.router.parameters(), "lr": 0.5}
    heads = groups(clts.model.heads).param_groups
    clts.optimizer = torch.optim.SGD([*({"params": g["params"], "lr": g["lr"]} for g in heads), router], momentum=0.9)
    return clts


@pytest.mark.parametrize("kind", SAVED)
def test_what_is_saved_goes_on_as_if_nothing_had_been(tiny_pair: Pair, tmp_path: Path, kind: str) -> None:
    stream = digits().train_stream
    RNGManager.set_random_seeds(1)
    whole = SAVED[kind](tiny_pair)
    for experience in stream[:4]:
        if experience.current_experience == 2:
            save_checkpoint(whole, tmp_path)
        whole.train(experience, eval_streams=[])
    RNGManager.set_random_seeds(99)
    resumed = SAVED[kind](tiny_pair)
    for experience in stream[load_checkpoint(resumed, tmp_path) : 4]:
        resumed.train(experience, eval_streams=[])
    expected, found = whole.model.state_dict(), resumed.model.state_dict()
    assert expected.keys() == found.keys()
    assert [name for name in expected if not torch.equal(expected[name], found[name])] == []
    assert [g["lr"] for g in whole.optimizer.param_groups] == [g["lr"] for g in resumed.optimizer.param_groups]
    for one, other in zip(caption_buffers(whole), caption_buffers(resumed), strict=True):
        assert list(one.memory) == list(other.memory)
    assert memory_bytes(whole) == memory_bytes(resumed)


def test_each_experience_keeps_its_own_transforms_over_a_checkpoint(tiny_pair: Pair, tmp_path: Path) -> None:
    def benchmark():
        parts = digits().train_stream
        datasets = [
            part.dataset.replace_current_transform_group(Compose([ToTensor(), partial(torch.add, other=shift)]))
            for part, shift in zip(parts[:3], (0.0, 0.25, 0.5), strict=True)
        ]
        return benchmark_from_datasets(train=datasets)

    def shifts(clts) -> list[set[float]]:
        """By which regenerated images differ from what the generator made, experience by experience."""
        buffer = clts.plugins[0].storage_policy
        found: list[set[float]] = [set(), set(), set()]
        for sample, made in zip(buffer.buffer, buffer.regenerated, strict=True):
            plain = ToTensor()(buffer.origins[made.prompt.caption.experience].format.restore(made.image))
            found[made.prompt.caption.experience] |= {round(v, 4) for v in (sample[0] - plain).unique().tolist()}
        return found

    stream = benchmark().streams["train"]
    whole, resumed = make_clts(tiny_pair), make_clts(tiny_pair)
    for experience in stream[:2]:
        whole.train(experience)
    save_checkpoint(whole, tmp_path)
    load_checkpoint(resumed, tmp_path)
    for clts in (whole, resumed):
        clts.train(benchmark().streams["train"][2])
    assert shifts(whole) == shifts(resumed) == [{0.0}, {0.25}, {0.5}]


def test_online_stream_goes_on_in_the_middle_of_an_experience(tiny_pair: Pair, tmp_path: Path) -> None:
    parts = list(split_online_stream(digits().train_stream[:2], 50, seed=0, access_task_boundaries=True))
    RNGManager.set_random_seeds(1)
    whole = make_clts(tiny_pair)
    for number, part in enumerate(parts):
        if number == 5:  # the second part of the second experience
            save_checkpoint(whole, tmp_path)
        whole.train(part)
    resumed = make_clts(tiny_pair)
    for part in parts[load_checkpoint(resumed, tmp_path) :]:
        resumed.train(part)
    assert resumed.model.num_heads == 2
    assert list(resumed.plugins[0].storage_policy.memory) == list(whole.plugins[0].storage_policy.memory)
    expected = whole.model.state_dict()
    assert all(torch.equal(expected[name], value) for name, value in resumed.model.state_dict().items())


@pytest.mark.parametrize("first_use", [save_checkpoint, load_checkpoint])
def test_state_that_would_be_lost_is_refused_at_the_first_use(tiny_pair: Pair, tmp_path: Path, first_use) -> None:
    strategy = beside_captions(tiny_pair, lambda o: ReplayPlugin(10))
    with pytest.raises(ValueError, match=r"strategy has ReplayPlugin, whose state.*leave it out"):
        first_use(strategy, tmp_path)


def test_plugin_that_says_what_it_remembers_is_saved(tiny_pair: Pair, tmp_path: Path) -> None:
    class Counting(SupervisedPlugin):
        def __init__(self) -> None:
            super().__init__()
            self.count = 0

        def after_training_exp(self, strategy, **kwargs):
            self.count += 1

        def state_dict(self):
            return {"count": self.count}

        def load_state_dict(self, state):
            self.count = state["count"]

    whole = beside_captions(tiny_pair, lambda o: Counting())
    whole.train(digits().train_stream[0], eval_streams=[])
    save_checkpoint(whole, tmp_path)
    resumed = beside_captions(tiny_pair, lambda o: Counting())
    load_checkpoint(resumed, tmp_path)
    assert resumed.plugins[1].count == 1
    with pytest.raises(ValueError, match=r"written with the plugins .*Counting.*the strategy has CaptionReplayPlugin"):
        load_checkpoint(beside_captions(tiny_pair), tmp_path)


def test_nested_state_survives_the_disk(tmp_path: Path) -> None:
    shared = torch.arange(6.0)
    state = {"a": [1, 2.5, None, True, "x"], 3: {"t": shared, "view": shared[2:4]}, "empty": {}}
    write_state(tmp_path / "s.safetensors", copy.deepcopy(state))
    again = read_state(tmp_path / "s.safetensors")
    assert again["a"] == state["a"]
    assert torch.equal(again[3]["view"], shared[2:4])
    with pytest.raises(TypeError, match="cannot be written without pickle"):
        write_state(tmp_path / "s.safetensors", {"f": print})


def _tensors(node, prefix: str = "") -> dict[str, torch.Tensor]:
    if isinstance(node, torch.Tensor):
        return {prefix: node}
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    return {k: t for key, value in items for k, t in _tensors(value, f"{prefix}.{key}".strip(".")).items()}


@pytest.mark.parametrize("kind", [Cumulative, ER_ACE, DER])
def test_strategies_that_keep_images_themselves_are_refused(kind: type, tiny_pair: Pair, tmp_path: Path) -> None:
    """What a checkpoint leaves out would be missing after a resume, and nothing would say so."""
    network = small_net()
    own = {} if kind is Cumulative else {"mem_size": 10}
    strategy = kind(
        model=network,
        optimizer=torch.optim.Adam(network.parameters()),
        criterion=nn.CrossEntropyLoss(),
        plugins=[CaptionReplayPlugin(pair=tiny_pair, mem_size=10)],
        evaluator=EvaluationPlugin(),
        **own,
    )
    with pytest.raises(ValueError, match=f"strategy has {kind.__name__}, whose state this checkpoint cannot hold"):
        save_checkpoint(strategy, tmp_path)


def test_another_strategy_with_heads_is_refused(tiny_pair: Pair, tmp_path: Path) -> None:
    model = RoutedModel(head=small_net(), router=small_net(16))
    strategy = Naive(
        model=model,
        optimizer=torch.optim.Adam(model.parameters()),
        criterion=nn.CrossEntropyLoss(),
        plugins=[CLTSPlugin(pair=tiny_pair)],
        evaluator=EvaluationPlugin(),
    )
    with pytest.raises(ValueError, match=r"strategy is a Naive with a RoutedModel, .*; make it with CLTS"):
        save_checkpoint(strategy, tmp_path)


def test_a_plugin_of_a_known_kind_that_says_what_it_remembers_is_asked(tiny_pair: Pair, tmp_path: Path) -> None:
    class CountingEWC(EWCPlugin):
        count = 0

        def before_training_exp(self, strategy, **kwargs):
            self.count += 1
            super().before_training_exp(strategy, **kwargs)

        def state_dict(self):
            return {"count": self.count}

        def load_state_dict(self, state):
            self.count = state["count"]

    clts = make_clts(tiny_pair, plugins=[CountingEWC(ewc_lambda=1.0)])
    clts.train(digits().train_stream[0])
    save_checkpoint(clts, tmp_path)
    resumed = make_clts(tiny_pair, plugins=[CountingEWC(ewc_lambda=1.0)])
    load_checkpoint(resumed, tmp_path)
    assert [p.count for p in resumed.plugins if isinstance(p, CountingEWC)] == [1]


def test_the_newest_checkpoint_is_that_of_the_largest_number(tiny_pair: Pair, tmp_path: Path) -> None:
    """As online streams of small parts have more than ten thousand."""
    clts = make_clts(tiny_pair)
    clts.train(digits().train_stream[0])
    for number in (9999, 10_000):
        clts.clock.train_exp_counter = number
        save_checkpoint(clts, tmp_path)
    assert load_checkpoint(make_clts(tiny_pair), tmp_path) == 10_000


def test_a_view_that_was_never_needed_yet_is_still_there_after_a_resume(tiny_pair: Pair, tmp_path: Path) -> None:
    suggesting = Pair(tiny_pair.captioner, copy.copy(tiny_pair.generator))
    suggesting.generator.router_view = "autoencoded"
    build = partial(make_clts, suggesting)
    save_checkpoint(build(), tmp_path)
    resumed = build()
    load_checkpoint(resumed, tmp_path)
    views = [next(p for p in s.plugins if isinstance(p, CLTSPlugin)).router_view for s in (build(), resumed)]
    assert views[0] is not None
    assert type(views[0]) is type(views[1])
