"""Bad input gets an error that names the argument, its value and the remedy; and nothing is left half-changed."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from avalanche.models import IncrementalClassifier
from torch import nn
from torch.optim import SGD
from torchvision.transforms import v2

from avalanche_clts import (
    CLTS,
    AutoCaptioner,
    BlipCaptioner,
    CaptionBuffer,
    CaptionMemory,
    CaptionReplayPlugin,
    CLTSPlugin,
    DiffusionGenerator,
    LabelCaptioner,
    Pair,
    RoutedModel,
    RouterTraining,
    TaskRouter,
    load_checkpoint,
    load_pair,
    save_checkpoint,
    split_digits,
    split_folder,
    split_shapes,
)
from avalanche_clts.experiments import Experiment, ablate, compare, experiment_of
from avalanche_clts.streams.kinds import fraction
from avalanche_clts.streams.named import parse_stream
from tests.conftest import make_clts, small_net

WHOLE = "whole number of at least"
NET = small_net()


class Tools:
    """What the cases need: a pair, and an empty folder."""

    def __init__(self, pair: Pair, folder: Path) -> None:
        self.pair = pair
        self.folder = folder

    def clts(self, **options: Any) -> CLTS:
        return make_clts(self.pair, **options)

    def buffer(self, **options: Any) -> CaptionBuffer:
        return CaptionBuffer(**{"pair": self.pair, "max_size": 10} | options)

    def replay(self, **options: Any) -> CaptionReplayPlugin:
        return CaptionReplayPlugin(**{"pair": self.pair} | options)

    def generator(self, **options: Any) -> DiffusionGenerator:
        return DiffusionGenerator(self.pair.generator.name_or_path, **options)

    def captioner(self, **options: Any) -> BlipCaptioner:
        return BlipCaptioner(self.pair.captioner.name_or_path, **options)


def first() -> Any:
    return split_digits(5).train_stream[0]


def memory(*args: Any, **options: Any) -> CaptionMemory:
    return CaptionMemory(*args, **options)


# What is called, and what its message must say: the argument with its value, and the remedy.
CASES: list[tuple[Callable[[Tools], Any], str, str]] = [
    (lambda t: t.clts(captions_per_class=0), "captions_per_class is 0", f"{WHOLE} 1"),
    (lambda t: t.clts(captions_per_class=-3), "captions_per_class is -3", WHOLE),
    (lambda t: t.clts(captions_per_class=2.5), "captions_per_class is 2.5", WHOLE),
    (lambda t: t.clts(captions_per_class="20"), "captions_per_class is '20'", WHOLE),
    (lambda t: t.clts(captions_per_class=True), "captions_per_class is True", WHOLE),
    (lambda t: t.clts(captions_per_class=None), "captions_per_class is None", WHOLE),
    (lambda t: t.clts(replay_size=0), "replay_size is 0", WHOLE),
    (lambda t: t.clts(replay_size="500"), "replay_size is '500'", WHOLE),
    (lambda t: t.clts(replay_size=1e3), "replay_size is 1000.0", WHOLE),
    (lambda t: t.clts(router_epochs=0), "router_epochs is 0", WHOLE),
    (lambda t: t.clts(router_epochs=[1]), "router_epochs is [1]", WHOLE),
    (lambda t: RouterTraining(data="real"), "data is 'real'", "'synthetic', 'mixed'"),
    (lambda t: RouterTraining(label_smoothing=1.5), "label_smoothing is 1.5", "from 0 to below 1"),
    (lambda t: RouterTraining(targets="tasks"), "targets is 'tasks'", "'classes', 'experiences'"),
    (lambda t: RouterTraining(augment="flip"), "augment is a str", "v2.RandomHorizontalFlip()"),
    (
        lambda t: t.clts(
            model=RoutedModel(head=nn.Linear(64, 10), router=nn.Identity(), backbone=nn.Flatten()),
            router_training=RouterTraining(augment=v2.RandomHorizontalFlip()),
        ).train(split_digits(seed=0).train_stream[0]),
        "router_training has an augment",
        "leave augment out",
    ),
    (lambda t: t.clts(router_view="mirror"), "router_view is 'mirror'", "'input', 'autoencoded'"),
    (lambda t: t.clts(class_names={"cat": 0}), "class_names is {'cat': 0}", "go from class ids to texts"),
    (lambda t: t.clts(recombine="yes"), "recombine is 'yes'", "True or False"),
    (lambda t: t.clts(routing="both"), "routing is 'both'", "'soft', 'hard'"),
    (lambda t: t.clts(class_names="zero"), "class_names is 'zero'", "a sequence of texts"),
    (lambda t: t.clts(class_names=[0, 1]), "class_names is [0, 1]", "a sequence of texts"),
    (
        lambda t: RouterTraining(optimizer=torch.optim.SGD(NET.parameters(), lr=1)),
        "optimizer is a SGD",
        "a function",
    ),
    (lambda t: t.clts(model=NET), "model is a Sequential", "RoutedModel(head=..., router=...)"),
    (lambda t: make_clts(None), "pair is None", "load_pair(...)"),
    (lambda t: make_clts("embedded"), "pair is 'embedded'", "load_pair(...)"),
    (lambda t: make_clts(Pair(None, t.pair.generator)), "pair's captioner is None", "BlipCaptioner()"),
    (lambda t: make_clts(Pair(t.pair.generator, t.pair.captioner)), "pair's captioner is <", "BlipCaptioner()"),
    (lambda t: make_clts((t.pair.captioner, 3)), "pair's generator is 3", "DiffusionGenerator()"),
    (lambda t: CLTSPlugin(pair=t.pair, replay_size=-1), "replay_size is -1", WHOLE),
    (lambda t: t.replay(mem_size=0), "mem_size is 0", WHOLE),
    (
        lambda t: RoutedModel(head=nn.Linear(64, 10), router=nn.Sequential(nn.Flatten(), IncrementalClassifier(64))),
        "router holds IncrementalClassifier",
        "give a network without it",
    ),
    (lambda t: t.replay(mem_size="all"), "mem_size is 'all'", WHOLE),
    (
        lambda t: t.replay(replay_size=-1),
        "replay_size is -1",
        "or None for 100 images for each class of each experience",
    ),
    (lambda t: t.buffer(replay_size=-1), "replay_size is -1", "or None for one image a caption"),
    (lambda t: t.buffer(images_per_class=0), "images_per_class is 0", "or None for one image a caption"),
    (lambda t: t.replay(batch_size_mem=0), "batch_size_mem is 0", "or None for batch_size"),
    (lambda t: t.replay(batch_size=1.5), "batch_size is 1.5", "or None for that of the strategy"),
    (lambda t: t.buffer(max_size=None), "max_size and captions_per_class are both None", "give at least one"),
    (lambda t: t.buffer(seed=-1), "seed is -1", f"{WHOLE} 0"),
    (lambda t: t.buffer(seed="now"), "seed is 'now'", WHOLE),
    (lambda t: memory(max_size=0), "max_size is 0", "or None for no limit"),
    (lambda t: memory(captions_per_class="5"), "captions_per_class is '5'", "or None for no limit"),
    (lambda t: memory(max_size=3).resize(0), "max_size is 0", WHOLE),
    (lambda t: memory(max_size=3).prompts(0), "count is 0", "or None for one image a caption"),
    (lambda t: RoutedModel(head=10, router=NET), "head is a int", "torch.nn.Module"),
    (lambda t: RoutedModel(head=NET, router="linear"), "router is a str", "torch.nn.Module"),
    (lambda t: RoutedModel(head=NET, router=NET, backbone="clip"), "backbone is a str", "torch.nn.Module"),
    (lambda t: RoutedModel(head=NET, router=small_net()).set_routing(None), "routing is None", "'soft', 'hard'"),
    (lambda t: TaskRouter(None), "backbone is a NoneType", "torch.nn.Module"),
    (lambda t: LabelCaptioner("a photo"), "template is 'a photo'", "{class_name}"),
    (lambda t: LabelCaptioner(None), "template is None", "{class_name}"),
    (lambda t: LabelCaptioner("{class_name} in {colour}"), "template is '{class_name} in {colour}'", "the only thing"),
    (lambda t: t.captioner(prefix="a {classname}"), "prefix is 'a {classname}'", "{class_name} is the only thing"),
    (lambda t: t.captioner(max_new_tokens=0), "max_new_tokens is 0", WHOLE),
    (lambda t: t.captioner(batch_size=0), "batch_size is 0", WHOLE),
    (lambda t: t.captioner().caption([], "zero"), "class_names is 'zero'", "a sequence of texts"),
    (lambda t: t.captioner().caption([], ["zero"]), "class_names has 1 names for 0 images", "of each image"),
    (lambda t: AutoCaptioner(t.folder / "none"), "none", "neither a folder nor the name of a repository (owner/name)"),
    (lambda t: t.generator(steps=0), "steps is 0", "or None for the pipeline's own"),
    (lambda t: t.generator(height="big"), "height is 'big'", WHOLE),
    (lambda t: t.generator(width=-8), "width is -8", WHOLE),
    (lambda t: t.generator(batch_size=0), "batch_size is 0", WHOLE),
    (lambda t: t.generator(guidance_scale=-1), "guidance_scale is -1", "at least 0"),
    (lambda t: t.generator(guidance_scale="low"), "guidance_scale is 'low'", "at least 0"),
    (lambda t: t.generator(decoder="none"), "decoder is 'none'", "'autoencoder', 'linear'"),
    (lambda t: t.generator(scheduler="Euler").generate(["a"], [0]), "scheduler is 'Euler'", "diffusers' schedulers"),
    (lambda t: t.generator().generate("a photo", [0]), "prompts is 'a photo'", "a sequence of texts"),
    (lambda t: t.generator().generate(["a"], [0, 1]), "1 prompts, 2 seeds", "as many"),
    (lambda t: load_pair("blip"), "name_or_path is 'blip'", "CAPTIONER+GENERATOR such as blip+sd15"),
    (lambda t: load_pair("blip+dalle"), "name_or_path is 'blip+dalle'", "generators: "),
    (lambda t: load_pair(t.folder), "captioner", "neither a folder nor the name of a repository (owner/name)"),
    (lambda t: split_digits(3), "n_experiences is 3", "1, 2, 5 or 10|divide"),
    (lambda t: split_digits(0), "n_experiences is 0", "1|divide"),
    (lambda t: split_shapes(7), "n_experiences is 7", "divide|1, 2"),
    (lambda t: split_folder(t.folder / "none", 5), "none", "folder"),
    (lambda t: split_folder(t.folder, 5), "", "subfolder"),
    (lambda t: parse_stream("digit"), "stream is 'digit'", "known streams: digits"),
    (lambda t: parse_stream("shapes:experience=5"), "no option 'experience'", "experiences=..."),
    (lambda t: parse_stream("shapes:experiences=five"), "'five' is no value", "experiences"),
    (lambda t: parse_stream("folder"), "stream is 'folder'", "folder:PATH"),
    (lambda t: fraction("half"), "part is 'half'", "1/2"),
    (lambda t: Experiment(strategies=("er",)), "strategies has er", "known strategies: joint"),
    (lambda t: Experiment(seeds=0), "seeds is 0", WHOLE),
    (lambda t: Experiment(learning_rate=0), "learning_rate is 0", "a number above 0"),
    (lambda t: Experiment(learning_rate="low"), "learning_rate is 'low'", "a number above 0"),
    (lambda t: Experiment(learning_rate=math.inf), "learning_rate is inf", "a number above 0"),
    (lambda t: Experiment(learning_rate=math.nan), "learning_rate is nan", "a number above 0"),
    (
        lambda t: Experiment(hyperparameters={"naive": {"learning_rate": math.inf}}),
        "naive.learning_rate of inf",
        "a number above 0",
    ),
    (
        lambda t: Experiment(hyperparameters={"clts": {"router_label_smoothing": 1.5}}),
        "clts.router_label_smoothing of 1.5",
        "a number of at least 0 and below 1",
    ),
    (
        lambda t: Experiment(hyperparameters={"slda": {"shrinkage": 5}}),
        "slda.shrinkage of 5",
        "a number above 0 and below 1",
    ),
    (lambda t: Experiment(backbone=5), "backbone is 5", "a text"),
    (lambda t: Experiment(router=5), "router is 5", "a text"),
    (lambda t: Experiment(memory="pixels"), "memory is 'pixels'", "'captions', 'labels', 'images'"),
    (lambda t: Experiment(router_view="augmented"), "router_view is 'augmented'", "'input', 'autoencoded'"),
    (
        lambda t: Experiment(router_view="autoencoded", backbone="captioner"),
        "router_view is",
        "the router sees no images",
    ),
    (lambda t: Experiment(generator="fast"), "generator is 'fast'", "a table of names and values"),
    (lambda t: Experiment(network="vgg"), "network is 'vgg'", "cnn"),
    (lambda t: Experiment(network="captioner"), "network is 'captioner'", "known networks: small-cnn"),
    (lambda t: Experiment(backbone="vgg"), "backbone is 'vgg'", "captioner, efficientnet-lite0, timm:NAME"),
    (lambda t: Experiment(backbone="timm:"), "backbone is 'timm:'", "timm:NAME"),
    (lambda t: Experiment(backbone="captioner,size=64"), "backbone is 'captioner,size=64'", "the size that it was"),
    (lambda t: Experiment(backbone="timm:a,size=big"), "backbone is 'timm:a,size=big'", "size=128"),
    (lambda t: Experiment(backbone="timm:a,colour=1"), "backbone is 'timm:a,colour=1'", "checkpoint=..., size=..."),
    (lambda t: Experiment(backbone="captioner", network="cnn"), "network is 'cnn'", "'captioner': linear, mlp"),
    (lambda t: Experiment(router="captioner,network=cnn"), "router is 'captioner,network=cnn'", "linear, mlp"),
    (
        lambda t: Experiment(backbone="captioner", hyperparameters={"naive": {"augmentation": "shifted"}}),
        "naive.augmentation of 'shifted'",
        "features are computed once",
    ),
    (lambda t: Experiment(fine_tune=True), "fine_tune is True", "there is no backbone; give one"),
    (lambda t: Experiment(fine_tune=True, backbone="captioner"), "fine_tune is True", "it stays as it is"),
    (lambda t: experiment_of("digits", epochs=3), "an experiment has no epochs", "it has: stream, strategies"),
    (lambda t: experiment_of("digits", hyperparameters=3), "hyperparameters is 3", "a table of names and values"),
    (lambda t: compare(Experiment(), jobs=0, out=t.folder), "jobs is 0", WHOLE),
    (lambda t: compare(Experiment(device="tpu"), out=t.folder), "device is 'tpu'", "use cpu"),
    (lambda t: ablate(Experiment(ablations=("luck",)), out=t.folder), "ablations has luck", "known ablations: router"),
    (
        lambda t: load_pair("embedded", generator={"colour": 1}),
        "generator= has 'colour'",
        "arguments of DiffusionGenerator are: ",
    ),
    (lambda t: load_pair("embedded", captioner={"colour": 1}), "captioner= has 'colour'", "max_new_tokens"),
    (lambda t: t.clts(router_training={"epochs": 2}), "router_training is a dict", "RouterTraining(epochs=...)"),
    (lambda t: t.clts(eval_mb_size=0).train(first()), "eval_mb_size is 0", WHOLE),
    (lambda t: t.clts(train_mb_size=None).train(first()), "train_mb_size is None", WHOLE),
    (
        lambda t: t.clts(router_training=RouterTraining(optimizer=lambda p: None)).train(first()),
        "router_training's optimizer returns a NoneType",
        "a function that makes an optimizer",
    ),
    (
        lambda t: t.clts(router_training=RouterTraining(optimizer=partial(SGD, rate=1))).train(first()),
        "router_training's optimizer fails (TypeError",
        "a function that makes an optimizer",
    ),
    (
        lambda t: t.clts(router_training=RouterTraining(augment=torch.mean)).train(first()),
        "router_training's augment makes a Tensor of () of (2, 1, 8, 8)",
        "as many images",
    ),
    (lambda t: load_checkpoint(t.clts(), t.folder), "holds no checkpoint", ""),
    (lambda t: save_checkpoint(NET, t.folder), "strategy keeps no captions", "CLTS"),
]


@pytest.mark.parametrize("case", range(len(CASES)))
def test_bad_input_is_named_with_its_remedy(tiny_pair: Pair, tmp_path: Path, case: int) -> None:
    call, named, remedy = CASES[case]
    with pytest.raises((ValueError, TypeError, OSError)) as caught:
        call(Tools(tiny_pair, tmp_path))
    said = str(caught.value)
    assert named in said
    assert any(part in said for part in remedy.split("|")), said
    assert "\n" not in said


def test_there_are_enough_cases() -> None:
    assert len(CASES) >= 60


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda clts: setattr(clts.plugins[0].storage_policy, "class_names", ["zero"]), ValueError),
        (lambda clts: setattr(clts.plugins[0].storage_policy, "replay_size", 1), ValueError),
        (lambda clts: setattr(clts.plugins[0].storage_policy, "pair", None), AttributeError),
        (
            lambda clts: setattr(clts.plugins[0], "router_training", RouterTraining(optimizer=lambda parameters: None)),
            TypeError,
        ),
        (lambda clts: setattr(clts, "_criterion", None), TypeError),
    ],
)
def test_a_failed_training_can_be_called_again(tiny_pair: Pair, change: Callable[[CLTS], None], error: type) -> None:
    stream = split_digits(5, fixed_class_order=range(10)).train_stream
    clts, undisturbed = (make_clts(tiny_pair) for _ in range(2))
    for strategy in (clts, undisturbed):
        strategy.train(stream[0])
    plugin = clts.plugins[0]
    kept = (plugin.router_training, plugin.storage_policy.class_names, plugin.storage_policy.replay_size)
    criterion = clts._criterion
    change(clts)
    with pytest.raises(error):
        clts.train(stream[1])
    plugin.router_training, plugin.storage_policy.class_names, plugin.storage_policy.replay_size = kept
    plugin.storage_policy.pair, clts._criterion = tiny_pair, criterion
    for strategy in (clts, undisturbed):
        strategy.train(stream[1])
    assert [r.experience for r in clts.model.records] == [r.experience for r in undisturbed.model.records] == [0, 1]
    assert clts.model.router.experience_of_unit == undisturbed.model.router.experience_of_unit
    assert len(plugin.storage_policy.memory) == len(undisturbed.plugins[0].storage_policy.memory)
    assert {c.experience for c in plugin.storage_policy.memory} == {0, 1}
