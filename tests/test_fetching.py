"""Fetching a pair: those files that are loaded and no others, and then no network."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import transformers
from diffusers import AutoencoderTiny, StableDiffusionPipeline
from diffusers.pipelines.stable_diffusion import StableDiffusionSafetyChecker
from huggingface_hub import constants
from PIL import Image
from safetensors.torch import load_file
from transformers import CLIPConfig, CLIPImageProcessor

from avalanche_clts import DiffusionGenerator, Pair, load_pair
from avalanche_clts.pair.fetching import fetch
from avalanche_clts.pair.loading import pair_identity, pair_nbytes
from avalanche_clts.pair.weights import MissingWeightsError
from tests.conftest import save_tiny_blip, save_tiny_stable_diffusion
from tests.hub import Hub
from tests.test_families import save_lora

BLIP = "Salesforce/blip-image-captioning-base"
WORK = {"steps": 1, "guidance_scale": 1.0}


@pytest.fixture(scope="module")
def repositories(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoints with the files that such repositories have on the hub: many more than are loaded."""
    folder = tmp_path_factory.mktemp("repositories")
    torch.manual_seed(0)
    save_tiny_blip(folder / "blip")
    weights = load_file(folder / "blip" / "model.safetensors")
    torch.save(weights, folder / "blip" / "pytorch_model.bin")
    (folder / "blip" / "model.safetensors").unlink()
    for name in ("tf_model.h5", "flax_model.msgpack", "model.onnx", "README.md"):
        (folder / "blip" / name).write_bytes(b"0" * 1000)

    save_tiny_stable_diffusion(folder / "sd")
    tiny = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    vision = {**tiny, "image_size": 16, "patch_size": 8}
    pipeline = StableDiffusionPipeline.from_pretrained(folder / "sd")
    pipeline.register_modules(
        safety_checker=StableDiffusionSafetyChecker(CLIPConfig(vision_config=vision, text_config=tiny)),
        feature_extractor=CLIPImageProcessor(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16}),
    )
    pipeline.save_pretrained(folder / "sd")
    for file in folder.glob("sd/*/*.safetensors"):
        old = {"model": "pytorch_model"}.get(file.stem, file.stem)
        shutil.copy(file, file.with_name(f"{file.stem}.fp16.safetensors"))
        torch.save(load_file(file), file.with_name(f"{old}.bin"))
        torch.save(load_file(file), file.with_name(f"{old}.fp16.bin"))
        file.with_name("model.onnx").write_bytes(b"0" * 1000)
        file.with_name("flax_model.msgpack").write_bytes(b"0" * 1000)
    shutil.copy(folder / "sd/unet/diffusion_pytorch_model.bin", folder / "sd/unet/diffusion_pytorch_model.non_ema.bin")
    (folder / "sd" / "v1-5-pruned.safetensors").write_bytes(b"0" * 1000)
    (folder / "sd" / "README.md").write_text("about it")

    save_lora(folder / "lora", folder / "sd")
    (folder / "lora" / "README.md").write_text("about it")
    taesd = AutoencoderTiny(
        encoder_block_out_channels=(8, 8),
        decoder_block_out_channels=(8, 8),
        num_encoder_blocks=(1, 1),
        num_decoder_blocks=(1, 1),
    )
    taesd.save_pretrained(folder / "taesd")
    (folder / "taesd" / "taesd_decoder.safetensors").write_bytes(b"0" * 1000)
    return folder


@pytest.fixture
def stocked(hub: Hub, repositories: Path) -> Hub:
    hub.add(BLIP, repositories / "blip", "v1")
    hub.add("some/sd", repositories / "sd")
    hub.add("some/lora", repositories / "lora", "v3")
    hub.add("some/taesd", repositories / "taesd", "v4")
    hub.licences["some/sd"] = {"license": "other", "license_name": "sai-nc-community"}
    return hub


# What transformers saves a tokenizer and an image processor as.
VERSION_4 = transformers.__version__.startswith("4.")
OF_BLIP = {"config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"} | (
    {"preprocessor_config.json", "special_tokens_map.json", "vocab.txt"} if VERSION_4 else {"processor_config.json"}
)
OF_SD = {
    "model_index.json",
    "feature_extractor/preprocessor_config.json",
    "scheduler/scheduler_config.json",
    "tokenizer/tokenizer.json",
    "tokenizer/tokenizer_config.json",
    "tokenizer/vocab.json",
    "tokenizer/merges.txt",
    *(["tokenizer/special_tokens_map.json"] if VERSION_4 else []),
    *(f"{part}/config.json" for part in ("safety_checker", "text_encoder", "unet", "vae")),
}


def weights_of_sd(variant: str, *left_out: str) -> set[str]:
    stems = {"safety_checker": "model", "text_encoder": "model"}
    parts = {"safety_checker", "text_encoder", "unet", "vae"} - set(left_out)
    return {f"{part}/{stems.get(part, 'diffusion_pytorch_model')}{variant}.safetensors" for part in parts}


def in_cache(name: str) -> set[str]:
    """The files of a repository that the cache holds."""
    found = Path(constants.HF_HUB_CACHE) / f"models--{name.replace('/', '--')}" / "snapshots"
    return {file.relative_to(found).as_posix().split("/", 1)[1] for file in found.rglob("*") if file.is_file()}


def use(pair: Pair) -> tuple[list[str], bytes]:
    captions = pair.captioner.caption([Image.new("RGB", (16, 16), "red")], ["two"])
    return captions, pair.generator.generate(["a two"], [3])[0].tobytes()


@pytest.mark.parametrize("variant", [None, "fp16"])
def test_exactly_the_files_that_are_loaded_are_fetched(stocked: Hub, variant: str | None) -> None:
    said: list[str] = []
    fetch("blip+some/sd", generator={"variant": variant}, say=said.append)
    assert in_cache(BLIP) == OF_BLIP | {"pytorch_model.bin"}
    infix = "" if variant is None else ".fp16"
    assert in_cache("some/sd") == OF_SD | weights_of_sd(infix)
    assert len(stocked.sent) == len(set(stocked.sent)) == len(in_cache(BLIP)) + len(in_cache("some/sd"))
    assert "licence: sai-nc-community" in said[1]


def test_a_fetched_pair_works_without_a_network(stocked: Hub, repositories: Path, offline: Callable[[], None]) -> None:
    options = {
        **WORK,
        "lora": "some/lora",
        "lora_revision": "v3",
        "autoencoder": "some/taesd",
        "autoencoder_revision": "v4",
        "scheduler": "LCMScheduler",
    }
    fetch("blip@v1+some/sd", generator=options, say=lambda line: None)
    assert in_cache("some/lora") == {"pytorch_lora_weights.safetensors"}
    assert in_cache("some/taesd") == {"config.json", "diffusion_pytorch_model.safetensors"}
    assert in_cache("some/sd") == OF_SD | weights_of_sd("", "vae"), "the other autoencoder stands in for its own"
    offline()
    before = len(stocked.requests)
    pair = load_pair("blip@v1+some/sd", generator=options)
    here = {"lora": repositories / "lora", "autoencoder": repositories / "taesd", "scheduler": "LCMScheduler"}
    expected = load_pair(f"{repositories / 'blip'}+{repositories / 'sd'}", generator={**WORK, **here})
    assert use(pair) == use(expected)
    assert len(stocked.requests) == before
    with pytest.raises(MissingWeightsError, match="some/lora are not in the local cache"):
        load_pair("blip@v1+some/sd", generator={**options, "lora_revision": None})
    with pytest.raises(MissingWeightsError, match="HF_HUB_OFFLINE is set; with a network, run: clts fetch blip"):
        load_pair("blip+some/sd", generator=options)


IN_A_PROCESS = """
import sys
from pathlib import Path
if sys.argv[1] == "fetch":
    from avalanche_clts.pair.fetching import fetch
    fetch("blip+some/sd", generator={"variant": "fp16"})
else:
    from PIL import Image
    from avalanche_clts import load_pair
    pair = load_pair("blip+some/sd", generator={"variant": "fp16", "steps": 1})
    pair.captioner.caption([Image.new("RGB", (8, 8))])
    pair.generator.generate(["a two"], [0])
    print("worked")
"""


def test_in_processes_of_their_own(stocked: Hub, tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    environment["HF_HOME"] = str(tmp_path / "home")

    def run(action: str, **settings: str) -> str:
        command = [sys.executable, "-c", IN_A_PROCESS, action]
        done = subprocess.run(command, env=environment | settings, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "complete" in run("fetch", HF_ENDPOINT=stocked.address)
    asked = len(stocked.requests)
    assert "worked" in run("use", HF_HUB_OFFLINE="1", HF_ENDPOINT=stocked.address)
    assert "worked" in run("use", HF_ENDPOINT=stocked.address), "and a mirror is not asked for what is there"
    assert len(stocked.requests) == asked


def test_how_large_it_is_is_said_before_anything_large_is_fetched(stocked: Hub, repositories: Path) -> None:
    said: list[str] = []
    plans = fetch("blip+some/sd", generator={"variant": "fp16"}, dry_run=True, say=said.append)
    assert not any(file.endswith((".safetensors", ".bin")) for file in stocked.sent)
    loaded = [repositories / "sd" / file for file in OF_SD | weights_of_sd(".fp16")]
    assert plans[1].nbytes == sum(file.stat().st_size for file in loaded)
    assert f"{len(loaded)} files, {plans[1].nbytes / 1000:.1f} kB" in said[1]
    beside = sum(file.stat().st_size for file in (repositories / "sd").rglob("*") if file.is_file()) - plans[1].nbytes
    assert f"{beside / 1e6:.1f} MB beside them are left there" in said[1]
    assert said[-1].startswith("to download: ")


def test_what_is_there_is_not_fetched_again(stocked: Hub, tmp_path: Path) -> None:
    fetch("blip+some/sd", say=lambda line: None)
    sent = len(stocked.sent)
    (lost,) = (tmp_path / "cache").glob("models--some--sd/snapshots/*/unet/*.safetensors")
    lost.resolve().unlink()
    lost.unlink()
    said: list[str] = []
    fetch("blip+some/sd", say=said.append)
    assert stocked.sent[sent:] == ["some/sd/unet/diffusion_pytorch_model.safetensors"]
    assert "(0 bytes not here yet)" in said[0]


def test_what_is_cached_stays_until_it_is_fetched_anew(stocked: Hub) -> None:
    fetch("blip+some/sd", say=lambda line: None)
    before = pair_identity(load_pair("blip+some/sd"))
    stocked.pushes += 1
    asked = len(stocked.requests)
    assert pair_identity(load_pair("blip+some/sd")) == before
    assert len(stocked.requests) == asked
    fetch("blip+some/sd", say=lambda line: None)
    assert pair_identity(load_pair("blip+some/sd")) != before
    assert f"some/sd@{stocked.commit('some/sd')}" in pair_identity(load_pair("blip+some/sd"))[1]


def test_nothing_is_downloaded_in_mid_run(stocked: Hub) -> None:
    pair = load_pair("blip+some/sd", generator={**WORK, "lora": "some/lora"})
    asked = len(stocked.requests)
    assert any(file.endswith("pytorch_model.bin") for file in stocked.sent)
    use(pair)
    assert len(stocked.requests) == asked


def test_nothing_large_is_downloaded_for_a_pair_that_cannot_work(stocked: Hub) -> None:
    for name, options in (
        ("blip+some/none", {}),
        ("blip+some/sd", {"lora": "some/none"}),
        ("blip+some/sd", {"variant": "bf16"}),
        ("blip+some/sd", {"scheduler": "NoScheduler"}),
        ("blip+some/sd", {"autoencoder": "some/lora"}),
    ):
        for action in (load_pair, fetch):
            with pytest.raises((MissingWeightsError, ValueError)):
                action(name, generator=options)
    assert not any(file.endswith((".safetensors", ".bin")) for file in stocked.sent)


def gated(hub: Hub) -> None:
    hub.gated.add("some/sd")


def withdrawn(hub: Hub) -> None:
    hub.withdrawn.add("some/sd")


def gone(hub: Hub) -> None:
    del hub.folders["some/sd"]


def huge(hub: Hub) -> None:
    hub.claimed["unet/diffusion_pytorch_model.safetensors"] = 10**18


@pytest.mark.parametrize(
    ("how", "message"),
    [
        (gated, "some/sd is gated: accept its terms"),
        (withdrawn, "some/sd has been withdrawn"),
        (gone, "some/sd is not on the hub: misspelt, withdrawn, or private"),
        (huge, r"has room for [\d.]+ GB, and 1000000000\.0 GB are to be downloaded"),
    ],
)
@pytest.mark.parametrize("action", [fetch, load_pair])
def test_what_cannot_be_had_is_told_before_the_download(
    how: Callable[[Hub], None], message: str, action: Callable[..., object], stocked: Hub
) -> None:
    how(stocked)
    with pytest.raises(MissingWeightsError, match=message) as raised:
        action("blip+some/sd")
    assert "\n" not in str(raised.value)
    assert not any(file.endswith((".safetensors", ".bin")) for file in stocked.sent)


def test_a_revision_that_is_not_on_the_hub_is_named(stocked: Hub) -> None:
    with pytest.raises(MissingWeightsError, match=f"revision is 'v9', which {BLIP} does not have on the hub"):
        fetch("blip@v9+some/sd")
    with pytest.raises(MissingWeightsError, match="revision is 'v9', which some/lora does not have"):
        load_pair("blip+some/sd", generator={"lora": "some/lora", "lora_revision": "v9"})


def test_an_extra_is_asked_for_before_the_download(stocked: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("avalanche_clts.pair.fitting.find_spec", lambda name: None)
    with pytest.raises(ImportError, match="needs peft"):
        fetch("blip+some/sd", generator={"lora": "some/lora"})
    assert not any(file.endswith((".safetensors", ".bin")) for file in stocked.sent)


@pytest.mark.parametrize(
    ("name", "kind", "files"),
    [
        (BLIP, "captioner", OF_BLIP | {"pytorch_model.bin"}),
        ("blip@v1", "captioner", OF_BLIP | {"pytorch_model.bin"}),
        ("some/sd", "generator", OF_SD | weights_of_sd("")),
        ("some/lora@v3", "lora", {"pytorch_lora_weights.safetensors"}),
        ("some/taesd", "autoencoder", {"config.json", "diffusion_pytorch_model.safetensors"}),
    ],
)
def test_a_part_can_be_fetched_alone(name: str, kind: str, files: set[str], stocked: Hub) -> None:
    (plan,) = fetch(name, say=lambda line: None)
    assert plan.part.kind == kind
    assert in_cache(plan.part.name) == files


def test_options_of_a_part_alone_are_its_own(stocked: Hub, repositories: Path, tmp_path: Path) -> None:
    shutil.copytree(repositories / "lora", tmp_path / "several")
    (file,) = (tmp_path / "several").glob("*.safetensors")
    shutil.copy(file, tmp_path / "several" / "other.safetensors")
    file.rename(tmp_path / "several" / "first.safetensors")
    stocked.add("some/several", tmp_path / "several", "v5")
    with pytest.raises(ValueError, match="give lora_weight_name"):
        fetch("some/several", say=lambda line: None)
    fetch("some/several", generator={"lora_weight_name": "other.safetensors"}, say=lambda line: None)
    assert in_cache("some/several") == {"other.safetensors"}
    for name in ("some/sd", "sd15"):
        with pytest.raises(ValueError, match="generator= has 'variannt'; arguments of DiffusionGenerator are"):
            fetch(name, generator={"variannt": "fp16"}, say=lambda line: None)


def test_what_is_counted_is_what_is_loaded(stocked: Hub, repositories: Path) -> None:
    def nbytes(**options: object) -> int | None:
        return pair_nbytes(load_pair("blip+some/sd", generator=options))

    blip = (repositories / "blip" / "pytorch_model.bin").stat().st_size
    own = {part: (repositories / "sd" / part).stat().st_size for part in weights_of_sd("")}
    checker = own["safety_checker/model.safetensors"]
    assert nbytes() == nbytes(variant="fp16") == blip + sum(own.values())
    assert nbytes(safety_checker=False) == blip + sum(own.values()) - checker
    lora = (repositories / "lora" / "pytorch_lora_weights.safetensors").stat().st_size
    taesd = (repositories / "taesd" / "diffusion_pytorch_model.safetensors").stat().st_size
    vae = own["vae/diffusion_pytorch_model.safetensors"]
    assert nbytes(lora="some/lora", autoencoder="some/taesd") == blip + sum(own.values()) + lora + taesd - vae


def test_the_safety_checker_can_be_left_out(stocked: Hub) -> None:
    fetch("blip+some/sd", generator={"safety_checker": False}, say=lambda line: None)
    left = {file for file in OF_SD | weights_of_sd("") if not file.startswith("safety_checker")}
    assert in_cache("some/sd") == left
    generator = load_pair("blip+some/sd", generator={**WORK, "safety_checker": False}).generator
    assert generator.generate(["a two"], [0])[0].size == (8, 8)
    assert generator._pipeline.safety_checker is None
    with_it = DiffusionGenerator("some/sd", **WORK)
    with_it.generate(["a two"], [0])
    assert with_it._pipeline.safety_checker is not None
    around = DiffusionGenerator("some/sd", **WORK, decoder="linear")
    with pytest.warns(UserWarning, match="go around the pipeline's safety checker"):
        around.generate(["a two"], [0])
