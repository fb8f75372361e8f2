"""A tiny one, with random weights, of every captioner that takes instructions, its files as the hub has them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import (
    CLIPImageProcessor,
    Florence2Config,
    Florence2ForConditionalGeneration,
    GPT2Tokenizer,
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    Idefics3ImageProcessor,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2Tokenizer,
    Qwen2VLImageProcessor,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
)

from tests.conftest import WORDS

TEXT = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "num_hidden_layers": 1,
}
SMOLVLM_TEMPLATE = (
    "<|im_start|>{% for message in messages %}{{ message['role'] | capitalize }}:"
    "{% for piece in message['content'] %}"
    "{% if piece['type'] == 'image' %}<image>{% else %}{{ piece['text'] }}{% endif %}"
    "{% endfor %}<end_of_utterance>\n{% endfor %}"
    "{% if add_generation_prompt %}Assistant:{% endif %}"
)
QWEN_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% for piece in message['content'] %}"
    "{% if piece['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% else %}{{ piece['text'] }}{% endif %}"
    "{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def gpt2_tokenizer(**special: str) -> GPT2Tokenizer:
    return GPT2Tokenizer().train_new_from_iterator(
        [" ".join(WORDS)], vocab_size=400, new_special_tokens=None, **special
    )


def save(folder: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, images: Any, **files: Any) -> None:
    """Model, tokenizer and image processor side by side, and further files by their names without the ending."""
    with torch.no_grad():  # so that what is said depends on the image
        for weights in model.parameters():
            if weights.dim() > 1:
                weights.mul_(6)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    images.save_pretrained(folder)
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))


def save_smolvlm(folder: Path) -> None:
    tokenizer = gpt2_tokenizer()
    tokenizer.add_special_tokens({"bos_token": "<|im_start|>", "eos_token": "<end_of_utterance>", "pad_token": "<pad>"})
    tiles = [f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7)]
    tokenizer.add_tokens(["<fake_token_around_image>", "<image>", "<global-img>", *tiles], special_tokens=True)
    config = Idefics3Config(
        vision_config={**TEXT, "image_size": 16, "patch_size": 4},
        text_config={
            "model_type": "llama",
            **TEXT,
            "vocab_size": len(tokenizer),
            "max_position_embeddings": 200,
            "pad_token_id": tokenizer.pad_token_id,
        },
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        scale_factor=2,
        pad_token_id=tokenizer.pad_token_id,
        tie_word_embeddings=True,
    )
    model = Idefics3ForConditionalGeneration(config)
    model.generation_config.update(
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id
    )
    save(
        folder,
        model,
        tokenizer,
        Idefics3ImageProcessor(size={"longest_edge": 64}, max_image_size={"longest_edge": 16}),
        processor_config={"image_seq_len": 4, "processor_class": "Idefics3Processor"},
        chat_template={"chat_template": SMOLVLM_TEMPLATE},
    )


def qwen_tokenizer() -> Qwen2Tokenizer:
    tokenizer = Qwen2Tokenizer().train_new_from_iterator([" ".join(WORDS)], vocab_size=400)
    names = ["<|im_start|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]
    tokenizer.add_special_tokens({"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"})
    tokenizer.add_tokens(names, special_tokens=True)
    return tokenizer


def save_qwen(folder: Path, kind: Callable[..., PreTrainedModel], config: type, vision: dict[str, Any]) -> None:
    tokenizer = qwen_tokenizer()
    token = tokenizer.convert_tokens_to_ids
    patch = vision["patch_size"]
    made = config(
        text_config={
            **TEXT,
            "head_dim": 8,
            "vocab_size": len(tokenizer),
            "max_position_embeddings": 300,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 1, 1]},
            "pad_token_id": tokenizer.pad_token_id,
        },
        vision_config=vision,
        image_token_id=token("<|image_pad|>"),
        video_token_id=token("<|video_pad|>"),
        vision_start_token_id=token("<|vision_start|>"),
        vision_end_token_id=token("<|vision_end|>"),
    )
    model = kind(made)
    # As the hub's, whose suggestions are for conversations.
    model.generation_config.update(
        do_sample=True,
        temperature=0.1,
        top_k=1,
        repetition_penalty=1.05,
        eos_token_id=[tokenizer.eos_token_id, tokenizer.pad_token_id],
        pad_token_id=tokenizer.pad_token_id,
    )
    images = Qwen2VLImageProcessor(patch_size=patch, size={"shortest_edge": 4 * patch**2, "longest_edge": 9**9})
    films = {"video_processor_type": "Qwen2VLVideoProcessor", "patch_size": patch}
    save(
        folder,
        model,
        tokenizer,
        images,
        chat_template={"chat_template": QWEN_TEMPLATE},
        video_preprocessor_config=films,
    )


def save_qwen25(folder: Path) -> None:
    vision = {
        "depth": 1,
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_heads": 2,
        "out_hidden_size": 16,
        "patch_size": 14,
        "fullatt_block_indexes": [0],
        "window_size": 112,
    }
    save_qwen(folder, Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLConfig, vision)


def save_qwen3(folder: Path) -> None:
    vision = {
        "depth": 2,
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_heads": 2,
        "out_hidden_size": 16,
        "patch_size": 16,
        "num_position_embeddings": 64,
        "deepstack_visual_indexes": [0],
    }
    save_qwen(folder, Qwen3VLForConditionalGeneration, Qwen3VLConfig, vision)


def save_florence2(folder: Path) -> None:
    tokenizer = gpt2_tokenizer()
    tokenizer.add_special_tokens({"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"})
    tokenizer.add_tokens(["<image>"], special_tokens=True)
    config = Florence2Config(
        vision_config={
            "depths": [1, 1],
            "patch_size": [7, 3],
            "patch_stride": [4, 2],
            "patch_padding": [3, 1],
            "patch_prenorm": [False, True],
            "embed_dim": [8, 16],
            "num_heads": [2, 2],
            "num_groups": [2, 2],
            "window_size": 2,
            "projection_dim": 16,
        },
        text_config={
            "model_type": "bart",
            "d_model": 16,
            "encoder_layers": 1,
            "decoder_layers": 1,
            "encoder_attention_heads": 2,
            "decoder_attention_heads": 2,
            "encoder_ffn_dim": 32,
            "decoder_ffn_dim": 32,
            "vocab_size": len(tokenizer),
            "max_position_embeddings": 200,
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
            "decoder_start_token_id": tokenizer.eos_token_id,
        },
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
    )
    model = Florence2ForConditionalGeneration(config)
    model.generation_config.update(
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        decoder_start_token_id=tokenizer.eos_token_id,
        forced_bos_token_id=tokenizer.bos_token_id,
        forced_eos_token_id=tokenizer.eos_token_id,
        num_beams=3,
        no_repeat_ngram_size=3,
    )
    size = {"height": 32, "width": 32}
    images = CLIPImageProcessor(size=size, crop_size=size, do_center_crop=False, image_seq_length=17)
    save(folder, model, tokenizer, images)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings |= {"image_token": "<image>", "extra_special_tokens": {"image_token": "<image>"}}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


# By the model_type of config.json.
TINY: dict[str, Callable[[Path], None]] = {
    "idefics3": save_smolvlm,
    "qwen2_5_vl": save_qwen25,
    "qwen3_vl": save_qwen3,
    "florence2": save_florence2,
}


def save_tiny(kind: str, folder: Path) -> Path:
    torch.manual_seed(0)
    TINY[kind](folder)
    return folder
