"""The backbones of an experiment, loaded once a process, and the features of its stream, computed once."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from avalanche.benchmarks import NCScenario
from torch import nn
from torch.utils.data import DataLoader

from ..._support.console import bar
from ...images.avalanche import image_format
from ...images.normalisation import measure_normalisation
from ...networks import ON_FEATURES, network_for
from ...pair.loading import Pair, pair_identity
from ..backbones.features import FeatureStore, FrozenFeatures
from ..backbones.pretrained import Backbone, Pretrained, load_pretrained
from ..backbones.spec import BackboneSpec
from ..experiment import Experiment
from ..rows.row import Networks

_FEW = 4  # samples that tell whether a stream changes its images at random


def networks_of(
    experiment: Experiment, benchmark: NCScenario, pair: Pair, store: FeatureStore | None = None
) -> Networks:
    """What the strategies of an experiment are built from.

    **Arguments:**

    - store: where the features of frozen backbones are kept, unless the stream changes its images at random. None: one
        in memory.

    Raises what `load_pretrained` raises, and `ValueError` where the stream does more to its images than normalise.
    """
    dataset = benchmark.train_stream[0].dataset
    format = image_format(dataset)
    store = store if store is not None and _is_fixed(dataset) else FeatureStore()
    own = None if experiment.network in ON_FEATURES else experiment.network
    backbone = _pretrained(experiment, "backbone", pair)
    router_spec, on_router = experiment.router_backbone, _pretrained(experiment, "router", pair)

    def router(num_outputs: int) -> nn.Module:
        if router_spec is None or on_router is None:
            return network_for(format, experiment.router)(num_outputs)
        below = _frozen(on_router, experiment, dataset, pair, store)
        return nn.Sequential(below, _router_on(router_spec.network, below.width, num_outputs))

    if backbone is None:
        return Networks(network_for(format, own), router, None)
    kind = experiment.network or "linear"
    if experiment.fine_tune:
        whole = Backbone(backbone, measure_normalisation(dataset))
        width = whole(dataset.eval()[0][0][None].to(experiment.device)).shape[1]
        make = ON_FEATURES[kind](width)
        return Networks(lambda num_outputs: nn.Sequential(whole.copied(), make(num_outputs)), router, None)
    shared = _frozen(backbone, experiment, dataset, pair, store)
    return Networks(
        ON_FEATURES[kind](shared.width),
        lambda num_outputs: _router_on(experiment.router or "linear", shared.width, num_outputs),
        shared,
    )


def _router_on(network: str, width: int, num_outputs: int) -> nn.Module:
    """What is between features and the router's output, which is linear itself."""
    return nn.Identity() if network == "linear" else ON_FEATURES[network](width)(num_outputs)


def backbone_identities(experiment: Experiment, pair: Pair) -> dict[str, str]:
    """What tells the weights of the experiment's backbones from others, by the text that names each."""
    return {
        spec.text: pretrained.identity
        for argument, spec in experiment.backbones.items()
        if (pretrained := _pretrained(experiment, argument, pair)) is not None
    }


def backbone_nbytes(experiment: Experiment, pair: Pair) -> int:
    """Bytes of the weights of the backbone below every strategy; 0 for those that are the pair's, and without any."""
    backbone = _pretrained(experiment, "backbone", pair)
    return 0 if backbone is None else backbone.nbytes


def compute_features(experiment: Experiment, benchmark: NCScenario, pair: Pair, file: Path) -> None:
    """Put the features of all images of a stream into the database, so that no run has to compute them; those that are
    there are not computed again. Without a frozen backbone, and where the stream changes images at random, none are."""
    if not experiment.on_features or not _is_fixed(benchmark.train_stream[0].dataset):
        return
    backbone = networks_of(experiment, benchmark, pair, _of_stream(file.resolve())).backbone
    assert backbone is not None
    datasets = [e.dataset.eval() for stream in (benchmark.train_stream, benchmark.test_stream) for e in stream]
    with bar(total=sum(map(len, datasets)), desc="features", unit="image", leave=False) as shown:
        for dataset in datasets:
            for x, *_ in DataLoader(dataset, batch_size=experiment.eval_mb_size):
                backbone(x.to(experiment.device))
                shown.update(len(x))


def _is_fixed(dataset: Any) -> bool:
    """Whether an image is the same whenever it is trained on: else its features are computed each time."""
    training, evaluation = dataset.train(), dataset.eval()
    first = range(min(_FEW, len(dataset)))
    return all(torch.equal(training[i][0], evaluation[i][0]) for i in first)


def _frozen(
    pretrained: Pretrained, experiment: Experiment, dataset: Any, pair: Pair, store: FeatureStore
) -> FrozenFeatures:
    normalisation = measure_normalisation(dataset)
    depends = [pretrained.identity, experiment.device, repr(normalisation)]
    if pretrained.module is None:
        depends.append(pair_identity(pair)[0])
    backbone = Backbone(pretrained, normalisation)
    return FrozenFeatures(backbone, "\n".join(depends), store, experiment.device, frozen_nbytes=pretrained.nbytes)


def _pretrained(experiment: Experiment, argument: str, pair: Pair) -> Pretrained | None:
    spec = experiment.backbones.get(argument)
    if spec is None:
        return None
    if spec.kind == "captioner":
        return load_pretrained(argument, spec, pair)
    return _loaded(argument, spec, experiment.device)


@lru_cache(maxsize=2)  # one below the heads, one below the router
def _loaded(argument: str, spec: BackboneSpec, device: str) -> Pretrained:
    return load_pretrained(argument, spec).to(device)


def store_of_run(features: Path | None, images: Path | None) -> FeatureStore:
    """Where a run looks for features: those of the stream's images are there for every run, those of regenerated images
    for the runs that share these. A run that is timed makes both itself.

    **Arguments:**

    - features: database of the features of the stream's images. None: there is none.
    - images: folder of generated images that runs share. None: this one generates its own.
    """
    # By its whole path: a worker may stand in another folder at its next run.
    below = None if features is None else _of_stream(features.resolve())
    if images is None:
        return FeatureStore(below=below)
    images.mkdir(parents=True, exist_ok=True)
    return FeatureStore(images / "features.sqlite", below=below)


@lru_cache(maxsize=1)
def _of_stream(file: Path) -> FeatureStore:
    return FeatureStore(file)
