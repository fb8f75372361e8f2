"""A small BLIP, trained from nothing to caption the images of a pool."""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from transformers import BlipConfig, BlipForConditionalGeneration, BlipImageProcessor, BlipProcessor

from ..pair.precision import fast_multiplication
from .pool import Pool, rgb
from .recipe import Recipe
from .tokenizers import word_tokenizer
from .training import draw, fit


def train_captioner(pool: Pool, out: Path, *, work: Path, recipe: Recipe) -> None:
    """Train on `pool` and save model and processor to `out`, laid out like any BLIP checkpoint, in fp16.

    **Arguments:**

    - work: folder of the checkpoints that a killed run goes on from.
    """
    processor = _processor(pool.captions, recipe.side)
    tokens = processor.tokenizer(pool.captions, padding=True, return_tensors="pt").to(recipe.device)
    model = BlipForConditionalGeneration(_config(processor, recipe.side, tokens.input_ids.shape[1] + 4))
    model.to(recipe.device)
    # As BLIP was trained: the decoder starts from [DEC], and padding bears no loss.
    input_ids = tokens.input_ids.clone()
    input_ids[:, 0] = model.config.text_config.bos_token_id
    labels = input_ids.masked_fill(tokens.attention_mask == 0, -100)
    pixels = torch.cat(
        [
            processor.image_processor(rgb(pool.images[i : i + 500]), return_tensors="pt").pixel_values.half()
            for i in range(0, len(pool.images), 500)
        ]
    ).to(recipe.device)

    def batch_loss(generator: torch.Generator) -> torch.Tensor:
        i = draw(len(pixels), recipe.batch_size, generator)
        with fast_multiplication(recipe.device):
            return model(
                pixel_values=pixels[i].float(),
                input_ids=input_ids[i],
                attention_mask=tokens.attention_mask[i],
                labels=labels[i],
            ).loss

    fit(
        model,
        batch_loss,
        name="captioner",
        folder=work,
        steps=recipe.captioner_steps,
        learning_rate=1e-3,
        ema_decay=0.99,
        position=1,
    )
    model.cpu().half().save_pretrained(out)
    processor.save_pretrained(out)


def words_of(caption: str) -> list[str]:
    """The words and punctuation marks of a caption, as the captioner's tokenizer divides it."""
    plain = BertNormalizer(lowercase=True).normalize_str(caption)  # without accents, too
    return [word for word, _ in BertPreTokenizer().pre_tokenize_str(plain)]


def _processor(captions: list[str], side: int) -> BlipProcessor:
    words = sorted({word for caption in captions for word in words_of(caption)})
    tokenizer = word_tokenizer(words, bos_token="[DEC]")
    images = BlipImageProcessor(
        size={"height": side, "width": side}, image_mean=[0.5, 0.5, 0.5], image_std=[0.5, 0.5, 0.5]
    )
    return BlipProcessor(images, tokenizer)


def _config(processor: BlipProcessor, side: int, caption_length: int) -> BlipConfig:
    tokenizer = processor.tokenizer
    width = {"hidden_size": 128, "intermediate_size": 512, "num_attention_heads": 4, "attention_dropout": 0.0}
    return BlipConfig(
        vision_config={**width, "num_hidden_layers": 4, "image_size": side, "patch_size": 8},
        text_config={
            **width,
            "num_hidden_layers": 2,
            "encoder_hidden_size": 128,
            "hidden_dropout_prob": 0.0,
            "attention_probs_dropout_prob": 0.0,
            "label_smoothing": 0.0,
            "vocab_size": len(tokenizer),
            "max_position_embeddings": caption_length,
            "bos_token_id": tokenizer.convert_tokens_to_ids("[DEC]"),
            "eos_token_id": tokenizer.convert_tokens_to_ids("[SEP]"),
            "sep_token_id": tokenizer.convert_tokens_to_ids("[SEP]"),
            "pad_token_id": tokenizer.convert_tokens_to_ids("[PAD]"),
        },
        projection_dim=128,
        image_text_hidden_size=128,
    )
