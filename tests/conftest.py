"""Pairs for the tests: one with tiny random weights, saved as real checkpoints are, and the one that ships."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import pytest
import torch
from avalanche.training.determinism.rng_manager import RNGManager
from diffusers import AutoencoderKL, DPMSolverMultistepScheduler, StableDiffusionPipeline, UNet2DConditionModel
from huggingface_hub import constants, file_download
from hypothesis import HealthCheck, settings
from torch import nn
from transformers import (
    BlipConfig,
    BlipForConditionalGeneration,
    BlipImageProcessor,
    BlipProcessor,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTokenizerFast,
)

from avalanche_clts import CLTS, Pair, RoutedModel, load_pair
from avalanche_clts._support.console import Verbosity, set_verbosity
from avalanche_clts.pretraining.layout import lay_out_for_all
from avalanche_clts.pretraining.tokenizers import pair_tokenizer, word_tokenizer
from tests.hub import Hub, served

torch.set_num_threads(1)  # tests run in parallel processes
# On a busy machine an example may take long without anything being wrong.
settings.register_profile("calm", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
settings.load_profile("calm")

DIGITS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
WORDS = ["a", "photo", "of", "handwritten", "thin", "thick", *DIGITS]


@pytest.fixture(autouse=True)
def as_much_is_told_as_before() -> Iterator[None]:
    """A command line in a test says for the whole process how much is told."""
    yield
    set_verbosity(Verbosity.NORMAL)


@pytest.fixture(autouse=True)
def the_same_is_drawn_every_time() -> None:
    """Whichever tests came before."""
    RNGManager.set_random_seeds(0)


@pytest.fixture(scope="session")
def tiny_pair_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pair folder with random weights: real architectures, real files, meaningless output."""
    folder = tmp_path_factory.mktemp("tiny-pair")
    torch.manual_seed(0)
    save_tiny_blip(folder / "captioner")
    save_tiny_stable_diffusion(folder / "generator")
    (folder / "pair.json").write_text(
        '{"captioner": {"max_new_tokens": 4}, "generator": {"steps": 1, "guidance_scale": 1.0}}'
    )
    return folder


@pytest.fixture
def tiny_pair(tiny_pair_folder: Path) -> Pair:
    return load_pair(tiny_pair_folder)


@pytest.fixture(scope="session")
def embedded_pair() -> Pair:
    return load_pair("embedded")


@pytest.fixture(scope="session")
def embedded_pair_folder(embedded_pair: Pair) -> Path:
    return Path(embedded_pair.captioner.name_or_path).parent


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub that the client in this process asks, with an empty cache of its own, as if there were a network."""
    with served() as hub:
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "ENDPOINT", hub.address)
        template = hub.address + "/{repo_id}/resolve/{revision}/{filename}"
        for module in (constants, file_download):  # older clients have a copy of their own
            monkeypatch.setattr(module, "HUGGINGFACE_CO_URL_TEMPLATE", template, raising=False)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        yield hub


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Call it, and the client asks no hub any more."""
    return lambda: monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


def save_tiny_blip(folder: Path, words: Sequence[str] = WORDS) -> None:
    tokenizer = word_tokenizer(words, bos_token="[DEC]")
    width = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2, "num_hidden_layers": 1}
    config = BlipConfig(
        vision_config={**width, "image_size": 16, "patch_size": 8},
        text_config={
            **width,
            "encoder_hidden_size": 16,
            "vocab_size": len(tokenizer),
            "max_position_embeddings": 24,
            "bos_token_id": 5,
            "sep_token_id": 3,
            "eos_token_id": 3,
            "pad_token_id": 0,
        },
        projection_dim=16,
        image_text_hidden_size=16,
    )
    BlipForConditionalGeneration(config).save_pretrained(folder)
    BlipProcessor(BlipImageProcessor(size={"height": 16, "width": 16}), tokenizer).save_pretrained(folder)


def tiny_vae() -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(4, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=4,
        sample_size=8,
    )


def save_tiny_stable_diffusion(folder: Path) -> None:
    tokenizer = pair_tokenizer(CLIPTokenizerFast, [" ".join(WORDS)], vocab_size=600, model_max_length=12)
    text_encoder = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            max_position_embeddings=12,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    unet = UNet2DConditionModel(
        sample_size=4,
        block_out_channels=(8, 16),
        norm_num_groups=4,
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        attention_head_dim=2,
        cross_attention_dim=16,
    )
    StableDiffusionPipeline(
        vae=tiny_vae(),
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=DPMSolverMultistepScheduler(steps_offset=1, timestep_spacing="trailing"),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder)
    lay_out_for_all(folder)


def small_net(outputs: int = 10) -> nn.Sequential:
    """A network for 8x8 grey images, with batch normalisation: its statistics must stay put in old heads too."""
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, outputs))


def make_clts(pair: Pair, *, model: RoutedModel | None = None, **options: object) -> CLTS:
    """A CLTS strategy with everything small, for 8x8 grey images."""
    from avalanche.training.plugins import EvaluationPlugin

    model = model or RoutedModel(head=small_net(), router=small_net(16))
    settings: dict[str, object] = {
        "captions_per_class": 3,
        "replay_size": 12,
        **({} if "router_training" in options else {"router_epochs": 1}),
        "train_mb_size": 30,  # leaves no batch of one, which batch normalisation refuses
        "train_epochs": 1,
        "eval_mb_size": 256,
        "evaluator": EvaluationPlugin(),
    }
    return CLTS(
        model=model,
        optimizer=torch.optim.Adam(model.parameters(), lr=1e-3),
        pair=pair,
        **{**settings, **options},
    )
