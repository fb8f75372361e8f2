"""What goes wrong in a run is said where it happens, counted, and not carried on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from avalanche.training.plugins import EvaluationPlugin
from diffusers import StableDiffusionPipeline
from diffusers.pipelines.stable_diffusion import StableDiffusionSafetyChecker
from PIL import Image
from torch import nn
from torchvision.transforms import ToTensor
from transformers import CLIPConfig, CLIPImageProcessor

from avalanche_clts import DiffusionGenerator, LabelCaptioner, Pair, RouterTraining, clts_metrics, split_digits
from tests.conftest import make_clts

TINY = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}


def digits(**options):
    return split_digits(5, fixed_class_order=range(10), **options).train_stream


def faults(metrics: dict[str, float]) -> dict[str, float]:
    return {name.rsplit("/", 1)[1]: value for name, value in metrics.items() if name.startswith("Faults")}


def last_faults(strategy) -> dict[str, float]:
    return faults(strategy.evaluator.get_last_metrics())


class Says:
    """A captioner with given words, none among them."""

    def __init__(self, *texts: str) -> None:
        self.texts = texts

    def caption(self, images: Sequence[Image.Image], class_names: Sequence[str] | None = None) -> list[str]:
        return [self.texts[i % len(self.texts)] for i in range(len(images))]


def test_a_heads_loss_that_is_no_number_is_said_with_its_experience_and_step(tiny_pair: Pair) -> None:
    broken = digits(train_transform=lambda image: ToTensor()(image) / 0)
    clts = make_clts(tiny_pair)
    clts.train(digits()[0])
    with pytest.raises(FloatingPointError, match="head of experience 1 is nan at epoch 0, iteration 0"):
        clts.train(broken[1])
    clts.train(digits()[1])
    assert clts.model.num_heads == 2
    assert all(torch.isfinite(p).all() for p in clts.model.parameters())


def test_a_routers_loss_that_is_no_number_is_said(tiny_pair: Pair) -> None:
    broken = RouterTraining(epochs=9, optimizer=lambda p: torch.optim.SGD(p, lr=1e38))
    clts = make_clts(tiny_pair, router_training=broken)
    clts.train(digits()[0])
    with pytest.raises(FloatingPointError, match=r"router after experience 1 is (nan|inf) at epoch"):
        clts.train(digits()[1])
    clts.plugins[0].router_training = RouterTraining(epochs=1)
    clts.train(digits()[1])
    assert all(torch.isfinite(p).all() for p in clts.model.parameters())


def test_generated_values_that_are_not_finite_are_said(tiny_pair: Pair) -> None:
    generator = tiny_pair.generator
    assert isinstance(generator, DiffusionGenerator)
    nn.init.constant_(generator._load().vae.decoder.conv_out.bias, torch.nan)
    with pytest.raises(FloatingPointError, match="not finite"):
        generator.generate(["a photo"], [0])


def test_an_empty_caption_gives_way_to_the_class_name_and_is_counted(tiny_pair: Pair) -> None:
    evaluator = EvaluationPlugin(clts_metrics())
    clts = make_clts(Pair(Says("a thin one", " "), tiny_pair.generator), evaluator=evaluator)
    clts.train(digits()[0])
    texts = [caption.text for caption in clts.plugins[0].storage_policy.memory]
    assert texts == ["a thin one", "zero", "a thin one", "one", "a thin one", "one"]
    assert last_faults(clts)["empty_captions"] == 3


def test_without_class_names_an_empty_caption_is_left_out(tiny_pair: Pair) -> None:
    from avalanche.benchmarks import nc_benchmark
    from torch.utils.data import TensorDataset

    data = TensorDataset(torch.rand(40, 1, 8, 8), torch.arange(40) % 4)
    data.targets = data.tensors[1]
    stream = nc_benchmark(data, data, n_experiences=2, task_labels=False).train_stream
    clts = make_clts(Pair(Says("something", ""), tiny_pair.generator))
    clts.train(stream[0])
    assert [caption.text for caption in clts.plugins[0].storage_policy.memory] == ["something"] * 3
    with pytest.raises(RuntimeError, match="said nothing of any image of experience 0"):
        make_clts(Pair(Says(""), tiny_pair.generator)).train(stream[0])


def test_prompts_too_long_for_the_text_encoder_are_cut_quietly_and_counted(tiny_pair: Pair, caplog) -> None:
    generator = tiny_pair.generator
    assert isinstance(generator, DiffusionGenerator)
    long = "a photo of a thin handwritten seven " * 10
    prompts = [long, "a photo", long]
    assert [generator.cut_prompts(prompts), generator.cut_prompts(prompts)] == [2, 2], "asking counts nothing"
    images = generator.generate(prompts, [0, 0, 0])
    assert images[0].tobytes() == images[2].tobytes() != images[1].tobytes()
    assert "truncated" not in caplog.text
    clts = make_clts(Pair(Says(long), generator), evaluator=EvaluationPlugin(clts_metrics()))
    for experience in digits()[:2]:
        clts.train(experience)
    assert last_faults(clts)["cut_prompts"] == 12


def test_images_that_a_safety_checker_blacks_out_are_not_trained_on(
    tiny_pair_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a real checker, its thresholds such that it objects to about half of the images."""
    pipeline = StableDiffusionPipeline.from_pretrained(tiny_pair_folder / "generator")
    torch.manual_seed(0)
    checker = StableDiffusionSafetyChecker(
        CLIPConfig(vision_config={**TINY, "image_size": 16, "patch_size": 8}, text_config=TINY, projection_dim=8)
    )
    nn.init.normal_(checker.concept_embeds)
    pipeline.register_modules(
        safety_checker=checker,
        feature_extractor=CLIPImageProcessor(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16}),
    )
    pipeline.save_pretrained(tmp_path)
    generator = DiffusionGenerator(tmp_path, steps=1)
    prompts, seeds = ["a photo of a zero", "a photo of a one"] * 30, range(60)
    lowest, highest = -1.0, 1.0  # by halving, as how far the images' scores lie apart depends on the processor
    for _ in range(16):
        threshold = (lowest + highest) / 2
        nn.init.constant_(generator._load().safety_checker.concept_embeds_weights, threshold)
        black = sum(image.getbbox() is None for image in generator.generate(prompts, seeds))
        if 20 <= black <= 40:
            break
        lowest, highest = (threshold, highest) if black > 40 else (lowest, threshold)
    evaluator = EvaluationPlugin(clts_metrics())
    clts = make_clts(Pair(LabelCaptioner("a photo of a {class_name}"), generator), replay_size=60, evaluator=evaluator)
    seen: list[int] = []
    fit = RouterTraining.fit

    def watch(training, router, images, targets, **options):
        seen.append(len(images))
        return fit(training, router, images, targets, **options)

    monkeypatch.setattr(RouterTraining, "fit", watch)
    for experience in digits()[:2]:
        clts.train(experience)
    count = last_faults(clts)["black_images"]
    assert 0 < count < 60
    assert seen == [60 - count]


def test_an_experience_without_any_visible_image_is_an_error(tiny_pair: Pair) -> None:
    class Dark:
        def generate(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[Image.Image]:
            return [Image.new("RGB", (8, 8), "white" if "zero" in p or "one" in p else "black") for p in prompts]

    clts = make_clts(Pair(LabelCaptioner("{class_name}"), Dark()))
    clts.train(digits()[0])
    with pytest.raises(RuntimeError, match="every image regenerated for experience 1 is black"):
        clts.train(digits()[1])
