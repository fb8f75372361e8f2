"""Every family of checkpoints that the catalogue names, as a tiny one of the same architecture."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import (
    AutoencoderTiny,
    EulerDiscreteScheduler,
    PNDMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from PIL import Image
from safetensors.torch import load_file
from transformers import (
    BertTokenizerFast,
    BlipImageProcessor,
    CLIPImageProcessor,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizerFast,
    GitConfig,
    GitForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    OPTConfig,
    VisionEncoderDecoderModel,
    ViTConfig,
    ViTImageProcessor,
    ViTModel,
)

from avalanche_clts import AutoCaptioner, DiffusionGenerator, load_pair
from avalanche_clts.pair.captioning_models import _PROMPTS, Asked
from avalanche_clts.pair.catalogue import GENERATORS
from avalanche_clts.pair.parts import CHATS, FAMILIES
from avalanche_clts.pretraining.tokenizers import pair_tokenizer, word_tokenizer
from tests.conftest import WORDS, save_tiny_blip, save_tiny_stable_diffusion, tiny_vae
from tests.tiny_captioners import TINY, gpt2_tokenizer

WIDTH = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2, "num_hidden_layers": 1}
VISION = {**WIDTH, "image_size": 16, "patch_size": 8}
SIZE = {"height": 16, "width": 16}


def pictures(count: int) -> list[Image.Image]:
    random = np.random.RandomState(0)
    return [Image.fromarray(random.randint(0, 256, (20, 14, 3)).astype(np.uint8)) for _ in range(count)]


# What BERT's tokenizer makes of names of CIFAR-100 and Fashion-MNIST.
SPELT = [*WORDS, "aquarium", "_", "fish", "t", "-", "shirt", "/", "top", "cafe", "'", "s", "##s"]


def bert_tokenizer() -> BertTokenizerFast:
    return word_tokenizer(["[DEC]", *SPELT])


def save_blip2(folder: Path) -> None:
    from transformers import Blip2Config, Blip2ForConditionalGeneration, Blip2Processor

    tokenizer = gpt2_tokenizer()
    tokenizer.add_special_tokens({"bos_token": "</s>", "eos_token": "</s>", "pad_token": "<pad>"})
    processor = Blip2Processor(BlipImageProcessor(size=SIZE), tokenizer, num_query_tokens=4)
    tokenizer = processor.tokenizer
    config = Blip2Config(
        vision_config=VISION,
        qformer_config={**WIDTH, "encoder_hidden_size": 16, "vocab_size": 20},
        text_config=OPTConfig(
            hidden_size=16,
            word_embed_proj_dim=16,
            ffn_dim=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            vocab_size=len(tokenizer),
            max_position_embeddings=40,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        ).to_dict(),
        num_query_tokens=4,
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
    )
    Blip2ForConditionalGeneration(config).save_pretrained(folder)
    processor.save_pretrained(folder)


def save_git(folder: Path) -> None:
    tokenizer = bert_tokenizer()
    config = GitConfig(
        vision_config=VISION,
        **WIDTH,
        vocab_size=len(tokenizer),
        max_position_embeddings=24,
        bos_token_id=2,
        eos_token_id=3,
        pad_token_id=0,
    )
    GitForCausalLM(config).save_pretrained(folder)
    CLIPImageProcessor(size={"shortest_edge": 16}, crop_size=SIZE).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def save_vit_gpt2(folder: Path) -> None:
    tokenizer = gpt2_tokenizer()
    tokenizer.add_special_tokens({"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>"})
    decoder = GPT2Config(
        vocab_size=len(tokenizer),
        n_positions=24,
        n_embd=16,
        n_layer=1,
        n_head=2,
        add_cross_attention=True,
        is_decoder=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    model = VisionEncoderDecoderModel(encoder=ViTModel(ViTConfig(**VISION)), decoder=GPT2LMHeadModel(decoder))
    for config in (model.config, model.generation_config):
        config.decoder_start_token_id = tokenizer.bos_token_id
        config.pad_token_id = config.eos_token_id = tokenizer.eos_token_id
    model.save_pretrained(folder)
    ViTImageProcessor(size=SIZE).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


CAPTIONER_FAMILIES: dict[str, Callable[[Path], None]] = {
    "blip": partial(save_tiny_blip, words=SPELT),
    "blip-2": save_blip2,
    "git": save_git,
    "vision-encoder-decoder": save_vit_gpt2,
    **TINY,
}


@pytest.fixture(scope="module", params=CAPTIONER_FAMILIES)
def captioner_folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("family") / "captioner"
    torch.manual_seed(0)
    CAPTIONER_FAMILIES[request.param](folder)
    assert json.loads((folder / "config.json").read_text())["model_type"] == request.param
    return folder


def test_family_captions_with_and_without_a_prefix(captioner_folder: Path) -> None:
    images = pictures(3)
    free = AutoCaptioner(captioner_folder, max_new_tokens=4)
    assert len(free.caption(images)) == 3
    assert all(isinstance(text, str) for text in free.caption(images))
    led = AutoCaptioner(captioner_folder, prefix="a photo of {class_name}", max_new_tokens=4, batch_size=2)
    names = ["seven", "two", "seven"]
    captions = led.caption(images, names)
    for caption, name in zip(captions, names, strict=True):
        assert caption.lower().startswith(f"a photo of {name}")
        assert caption.lower().count("a photo of") == 1
    # What is said depends on the image and on what it is led by.
    assert led.caption(images[:1], ["two"]) != captions[:1]
    alone = AutoCaptioner(captioner_folder, prefix="a photo of {class_name}", max_new_tokens=4, batch_size=1)
    assert alone.caption(images, names) == captions


def test_prefix_is_said_once_and_as_it_was_given(captioner_folder: Path) -> None:
    captioner = AutoCaptioner(captioner_folder, prefix="A photo of a {class_name}", max_new_tokens=4)
    names = ["aquarium_fish", "T-shirt/top", "Café", "one's", "two seven", "unheard-of"]
    prefixes = ["A photo of an aquarium_fish", "A photo of a T-shirt/top", "A photo of a Café", "A photo of a one's"]
    prefixes += ["A photo of a two seven", "A photo of an unheard-of"]
    for caption, prefix in zip(captioner.caption(pictures(6), names), prefixes, strict=True):
        assert caption.startswith(prefix)
        added = caption[len(prefix) :].split()
        assert len(added) <= 4
        assert added[:3] != ["a", "photo", "of"]


def test_what_the_model_adds_is_told_apart_by_tokens(captioner_folder: Path) -> None:
    captioner = AutoCaptioner(captioner_folder)
    loaded, prompt = captioner._load(), "a photo of a T-shirt/top"
    is_chat = loaded.model.config.model_type in CHATS  # whose answer is returned without what it was asked
    asked = [] if is_chat else loaded.told(prompt).ids[: loaded.told(prompt).returned]

    def said(tokens: list[int]) -> str:
        return loaded.added(Asked(prompt), tokens)

    added = loaded.tokenizer(" thin seven", add_special_tokens=False).input_ids
    assert said([*asked, *added]) == " thin seven"
    assert said(asked) == ""
    again = loaded.tokenizer(f" {prompt}", add_special_tokens=False).input_ids
    assert said([*asked, *again, *added]) == " thin seven"
    assert said(added) == " thin seven"  # a model that does not repeat what it was told
    going_on = loaded.tokenizer.convert_tokens_to_ids("##s" if "##s" in loaded.tokenizer.get_vocab() else "s")
    assert said([*asked, going_on, *added]) == "s thin seven"


def test_drawn_captions_depend_on_the_image_and_the_seed_alone(captioner_folder: Path) -> None:
    images, options = pictures(5), {"top_p": 0.95, "max_new_tokens": 6}
    first = AutoCaptioner(captioner_folder, **options).caption(images)
    torch.manual_seed(1)
    assert AutoCaptioner(captioner_folder, **options, batch_size=2).caption(images[::-1]) == first[::-1]
    others = [AutoCaptioner(captioner_folder, **options, seed=seed).caption(images) for seed in (1, 2, 3)]
    assert len({tuple(captions) for captions in [first, *others]}) > 2
    greedy = AutoCaptioner(captioner_folder, max_new_tokens=6).caption(images)
    assert AutoCaptioner(captioner_folder, max_new_tokens=6, top_p=1e-6).caption(images) == greedy


def test_penalised_words_are_not_repeated(captioner_folder: Path) -> None:
    def said(**options: float) -> list[list[int]]:
        captioner = AutoCaptioner(captioner_folder, max_new_tokens=12, **options)
        batch = captioner._inputs(pictures(4))
        return [row[1:] for row in captioner._tokens(batch)[:, -12:].tolist()]

    assert any(len(set(row)) < len(row) for row in said())
    assert all(len(set(row)) == len(row) for row in said(repetition_penalty=1e6))


def test_beams_find_likelier_captions(captioner_folder: Path) -> None:
    images = pictures(8)
    greedy, beams = (AutoCaptioner(captioner_folder, max_new_tokens=8, num_beams=n) for n in (1, 4))

    def scores(captioner: AutoCaptioner) -> list[float]:
        batch, loaded = captioner._inputs(images), captioner._load()
        made = loaded.model.generate(
            **batch.inputs,
            **captioner.decoding.arguments(batch.seeds, 8),
            max_new_tokens=8,
            return_dict_in_generate=True,
            output_scores=True,
        )
        beam = getattr(made, "beam_indices", None)
        every = loaded.model if hasattr(loaded.model, "compute_transition_scores") else loaded.model.text_decoder
        steps = every.compute_transition_scores(made.sequences, made.scores, beam, normalize_logits=beam is None)
        steps = steps.nan_to_num(neginf=0)
        return (steps.sum(1) / (steps < 0).sum(1)).tolist()  # a token, as beams are ranked

    assert sum(scores(beams)) > sum(scores(greedy))
    assert beams.caption(images) != greedy.caption(images)


def test_captions_have_a_least_length(tmp_path: Path) -> None:
    torch.manual_seed(0)
    save_tiny_blip(tmp_path)
    captioner = AutoCaptioner(tmp_path)
    with torch.no_grad():  # a model that ends at once
        captioner._load().model.text_decoder.cls.predictions.bias[3] += 100
    assert captioner.caption(pictures(2)) == ["", ""]
    longer = AutoCaptioner(tmp_path, min_new_tokens=3)
    longer._loaded = captioner._loaded
    tokens = longer._tokens(longer._inputs(pictures(2)))
    assert ((tokens[:, 1:] == 3).int().argmax(1) >= 3).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_beams": 0}, "num_beams is 0; it must be a whole number of at least 1"),
        ({"top_p": 0}, "top_p is 0; it must be more than 0 and at most 1, or None"),
        ({"top_p": 0.9, "num_beams": 3}, "top_p is 0.9 and num_beams 3; .*give one of the two"),
        ({"min_new_tokens": 9, "max_new_tokens": 8}, "min_new_tokens is 9 and max_new_tokens 8; it cannot be more"),
        ({"repetition_penalty": 0}, "repetition_penalty is 0; it must be above 0"),
        ({"seed": -1}, "seed is -1; it must be a whole number of at least 0"),
    ],
)
def test_decoding_that_cannot_be_is_refused(options: dict[str, float], message: str, tiny_pair_folder: Path) -> None:
    with pytest.raises(ValueError, match=message):
        AutoCaptioner(tiny_pair_folder / "captioner", **options)


def test_class_name_that_fills_a_caption_is_all_it_says(captioner_folder: Path) -> None:
    name = " ".join(["seven"] * 300)
    captioner = AutoCaptioner(captioner_folder, prefix="a {class_name}", max_new_tokens=4)
    assert captioner.caption(pictures(1), [name]) == [f"a {name}"]


def test_captions_end_where_a_model_has_no_more_positions(captioner_folder: Path) -> None:
    endless = AutoCaptioner(captioner_folder, max_new_tokens=1000, prefix="a photo of {class_name}")
    assert len(endless.caption(pictures(2), ["two", "two"])) == 2


def test_unknown_family_is_refused_by_name(tmp_path: Path) -> None:
    ViTModel(ViTConfig(**VISION)).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="a vit model; known kinds: blip, blip-2, git, vision-encoder-decoder"):
        AutoCaptioner(tmp_path)


def as_bin(folder: Path) -> None:
    """The weights as older checkpoints have them: pickled, and nothing else beside."""
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def test_weights_without_safetensors_are_read_from_a_bin(captioner_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(captioner_folder, tmp_path / "bin")
    as_bin(tmp_path / "bin")
    expected, captions = (
        AutoCaptioner(folder, max_new_tokens=4).caption(pictures(3)) for folder in (captioner_folder, tmp_path / "bin")
    )
    assert captions == expected


def test_known_families_are_those_that_can_be_told_a_prompt() -> None:
    assert set(FAMILIES) == {*_PROMPTS, *CHATS} == set(CAPTIONER_FAMILIES)


# Generators


def clip_tokenizer() -> CLIPTokenizerFast:
    return pair_tokenizer(CLIPTokenizerFast, [" ".join(WORDS)], vocab_size=600, model_max_length=12)


def text_config(tokenizer: CLIPTokenizerFast, **options: object) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=len(tokenizer),
        **WIDTH,
        max_position_embeddings=12,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        **options,
    )


def tiny_unet(**options: object) -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=4,
        block_out_channels=(8, 16),
        norm_num_groups=4,
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        attention_head_dim=(2, 4),
        use_linear_projection=True,
        **options,
    )


def save_stable_diffusion_2(folder: Path, scheduler: type = PNDMScheduler) -> None:
    tokenizer = clip_tokenizer()
    StableDiffusionPipeline(
        vae=tiny_vae(),
        text_encoder=CLIPTextModel(text_config(tokenizer, hidden_act="gelu")),
        tokenizer=tokenizer,
        unet=tiny_unet(cross_attention_dim=16),
        scheduler=scheduler(timestep_spacing="trailing", steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder)


def save_sd_turbo(folder: Path) -> None:
    save_stable_diffusion_2(folder, EulerDiscreteScheduler)


def save_sdxl(folder: Path) -> None:
    tokenizer = clip_tokenizer()
    unet = tiny_unet(
        cross_attention_dim=32,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        transformer_layers_per_block=(1, 2),
        projection_class_embeddings_input_dim=6 * 8 + 16,
    )
    StableDiffusionXLPipeline(
        vae=tiny_vae(),
        text_encoder=CLIPTextModel(text_config(tokenizer)),
        text_encoder_2=CLIPTextModelWithProjection(text_config(tokenizer, projection_dim=16)),
        tokenizer=tokenizer,
        tokenizer_2=tokenizer,
        unet=unet,
        scheduler=EulerDiscreteScheduler(timestep_spacing="trailing", steps_offset=1),
    ).save_pretrained(folder)


GENERATOR_FAMILIES: dict[str, Callable[[Path], None]] = {
    "sd15": save_tiny_stable_diffusion,
    "sd21": save_stable_diffusion_2,
    "sd-turbo": save_sd_turbo,
    "sdxl-turbo": save_sdxl,
}


@pytest.mark.parametrize("family", GENERATOR_FAMILIES)
def test_family_generates_by_its_recipe(family: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    GENERATOR_FAMILIES[family](tmp_path)
    recipe = {name: GENERATORS[family].arguments[name] for name in ("steps", "guidance_scale")}
    generator = DiffusionGenerator(tmp_path, **recipe, batch_size=2)
    images = generator.generate(["a thin seven", "a two", "a thin seven"], [1, 2, 3])
    assert [image.size for image in images] == [(8, 8)] * 3
    again = generator.generate(["a two"], [2])[0]
    assert np.abs(np.asarray(again, int) - np.asarray(images[1], int)).max() <= 1
    assert np.asarray(images[0]).tobytes() != np.asarray(images[2]).tobytes()


def save_lora(folder: Path, pipeline: Path) -> None:
    from peft import LoraConfig
    from peft.utils import get_peft_model_state_dict

    unet = UNet2DConditionModel.from_pretrained(pipeline / "unet")
    unet.add_adapter(LoraConfig(r=2, target_modules=["to_q", "to_v"], init_lora_weights=False))
    StableDiffusionPipeline.save_lora_weights(folder, unet_lora_layers=get_peft_model_state_dict(unet))


def test_few_steps_with_a_consistency_lora(tmp_path: Path) -> None:
    torch.manual_seed(0)
    save_tiny_stable_diffusion(tmp_path / "pipeline")
    save_lora(tmp_path / "lora", tmp_path / "pipeline")
    options = {name: GENERATORS["sd15-lcm"].arguments[name] for name in ("steps", "guidance_scale", "scheduler")}
    plain, with_lora = (
        DiffusionGenerator(tmp_path / "pipeline", **options, lora=lora) for lora in (None, str(tmp_path / "lora"))
    )
    (before,), (after,) = plain.generate(["a two"], [0]), with_lora.generate(["a two"], [0])
    assert type(with_lora._pipeline.scheduler).__name__ == "LCMScheduler"
    assert np.abs(np.asarray(before, int) - np.asarray(after, int)).max() > 1
    with pytest.raises(ValueError, match="'NoScheduler'; it must be the name"):
        DiffusionGenerator(tmp_path / "pipeline", scheduler="NoScheduler")


def test_denoiser_can_be_compiled(tiny_pair_folder: Path) -> None:
    options = {"steps": 2, "guidance_scale": 1.0}
    plain = DiffusionGenerator(tiny_pair_folder / "generator", **options)
    compiled = DiffusionGenerator(tiny_pair_folder / "generator", **options, compile="eager")
    (expected,), (image,) = (generator.generate(["a two"], [0]) for generator in (plain, compiled))
    assert compiled._pipeline.unet._compiled_call_impl is not None
    assert np.abs(np.asarray(image, int) - np.asarray(expected, int)).max() <= 1


def test_autoencoder_can_be_a_tiny_one(tmp_path: Path) -> None:
    torch.manual_seed(0)
    save_tiny_stable_diffusion(tmp_path / "pipeline")
    AutoencoderTiny(
        encoder_block_out_channels=(8, 8),
        decoder_block_out_channels=(8, 8),
        num_encoder_blocks=(1, 1),
        num_decoder_blocks=(1, 1),
    ).save_pretrained(tmp_path / "tiny")
    generator = DiffusionGenerator(tmp_path / "pipeline", steps=1, guidance_scale=1.0, autoencoder=tmp_path / "tiny")
    assert generator.generate(["a two"], [0])[0].size == (8, 8)
    assert isinstance(generator._pipeline.vae, AutoencoderTiny)
    with pytest.raises(ValueError, match="a UNet2DConditionModel; it must be an AutoencoderKL or an AutoencoderTiny"):
        DiffusionGenerator(tmp_path / "pipeline", autoencoder=tmp_path / "pipeline" / "unet")


# Names


def test_folder_with_another_familys_captioner_is_a_pair(tiny_pair_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "generator").symlink_to(tiny_pair_folder / "generator")
    save_git(tmp_path / "captioner")
    pair = load_pair(tmp_path)
    assert type(pair.captioner) is AutoCaptioner
    assert len(pair.captioner.caption(pictures(1))) == 1
