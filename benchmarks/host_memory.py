"""Host memory for regenerated images: those of a small stream, made by a pipeline of large ones.

    python benchmarks/host_memory.py --side 192 --out benchmarks/results/host-memory

The pipeline is a tiny Stable Diffusion with random weights: what it weighs does not hide what images take. Writes
`host-memory.json` with bytes in use at most before and after 20,000 images were made for a stream of 32x32.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from pathlib import Path

from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizerFast

from avalanche_clts import DiffusionGenerator
from avalanche_clts._support.files import write_text
from avalanche_clts.experiments.runs.runner import versions
from avalanche_clts.pair.output import checked_images
from avalanche_clts.pretraining.tokenizers import pair_tokenizer

STREAM = 32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--side", type=int, default=512, help="of the generated images, in pixels")
    arguments = parser.parse_args()
    generator = DiffusionGenerator(pipeline=_pipeline(arguments.side), steps=1, guidance_scale=1.0, batch_size=16)
    prompts = [f"thing {i % 100}" for i in range(arguments.images)]
    checked_images(generator, prompts[:32], range(32), (STREAM, STREAM))
    before, start = _peak(), time.perf_counter()
    images = checked_images(generator, prompts, range(len(prompts)), (STREAM, STREAM))
    found = {
        "images": len(images),
        "generated": f"{arguments.side}x{arguments.side}",
        "stream": f"{STREAM}x{STREAM}",
        "peak_bytes_before": before,
        "peak_bytes": _peak(),
        "peak_bytes_beside_the_pair": _peak() - before,
        "bytes_in_full_size": arguments.images * 3 * arguments.side**2,
        "seconds": time.perf_counter() - start,
        "versions": versions(),
    }
    arguments.out.mkdir(parents=True, exist_ok=True)
    write_text(arguments.out / "host-memory.json", json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


def _peak() -> int:
    """Bytes that the process had in use at once so far, after a first batch."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _pipeline(side: int) -> StableDiffusionPipeline:
    tokenizer = pair_tokenizer(CLIPTokenizerFast, ["a thing 0123456789"], vocab_size=600, model_max_length=12)
    text = CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2
    )
    unet = UNet2DConditionModel(
        sample_size=side // 8,
        block_out_channels=(4, 8),
        norm_num_groups=4,
        layers_per_block=1,
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
        mid_block_type=None,
        cross_attention_dim=16,
    )
    vae = AutoencoderKL(
        block_out_channels=(4, 4, 4, 4),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        norm_num_groups=4,
        sample_size=side,
        mid_block_add_attention=False,
    )
    pipeline = StableDiffusionPipeline(
        vae=vae,
        text_encoder=CLIPTextModel(text),
        tokenizer=tokenizer,
        unet=unet,
        scheduler=DDIMScheduler(steps_offset=1, clip_sample=False),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    return pipeline


if __name__ == "__main__":
    main()
