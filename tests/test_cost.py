"""Images cost no more than they need to: of a fitting shape, decoded in slices."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from avalanche_clts import CaptionBuffer, DiffusionGenerator, load_pair, split_folder
from avalanche_clts.pair import slices
from avalanche_clts.pair.sizes import fitting_size
from tests.test_pairs import PROMPTS, pixels


@pytest.mark.parametrize(
    ("wanted", "made"),
    [
        ((32, 32), (512, 512)),
        ((30, 32), (512, 512)),  # nearer to a square than to anything else in whole steps
        ((96, 32), (896, 320)),
        ((32, 96), (320, 896)),
        ((640, 480), (576, 448)),
        ((28, 32), (448, 512)),
        ((1000, 10), (5184, 64)),
        (None, (512, 512)),
    ],
)
def test_size_has_the_shape_of_the_stream_and_the_area_of_the_pipeline(wanted, made) -> None:
    unet = SimpleNamespace(config=SimpleNamespace(sample_size=64, block_out_channels=(320, 640, 1280, 1280)))
    assert fitting_size(SimpleNamespace(unet=unet, vae_scale_factor=8), wanted) == made


@pytest.mark.parametrize(("size", "made"), [((96, 32), (16, 8)), ((32, 96), (8, 16)), ((32, 32), (8, 8))])
def test_wide_and_tall_streams_are_not_squashed_squares(size, made, tiny_pair_folder: Path, tmp_path: Path) -> None:
    random = np.random.RandomState(0)
    for name in ("one", "two"):
        for number in range(4):
            file = tmp_path / name / f"{number}.png"
            file.parent.mkdir(exist_ok=True)
            Image.fromarray(random.randint(0, 256, (size[1], size[0], 3)).astype(np.uint8)).save(file)
    pair = load_pair(tiny_pair_folder)
    decoded: list[tuple[int, int]] = []
    pair.generator._load().vae.decoder.register_forward_hook(
        lambda module, given, output: decoded.append((output.shape[-1], output.shape[-2]))
    )
    buffer = CaptionBuffer(pair=pair, captions_per_class=1, replay_size=3)
    for experience in split_folder(tmp_path, 2, test_share=0.25).train_stream:
        buffer.post_adapt(None, experience)
    assert [made.image.size for made in buffer.regenerate()] == [size] * 3
    assert set(decoded) == {made}
    told = DiffusionGenerator(tiny_pair_folder / "generator", steps=1, guidance_scale=1.0, height=8, width=16)
    assert told._made(size) == (16, 8), "who gives a size means it"


class Short:
    """A tiny pipeline's autoencoder that has memory for some images only; counts what is done."""

    def __init__(self, generator: DiffusionGenerator, limit: int) -> None:
        self.tried: list[int] = []
        self.denoised: list[int] = []
        pipeline = generator._load()
        decode = pipeline.vae._decode

        def short(latents: torch.Tensor, return_dict: bool = True):
            self.tried.append(len(latents))
            if len(latents) > limit:
                raise torch.OutOfMemoryError
            return decode(latents, return_dict=return_dict)

        pipeline.vae._decode = short
        pipeline.unet.register_forward_hook(lambda module, given, output: self.denoised.append(len(given[0])))


def test_what_is_denoised_is_not_lost_where_there_is_no_memory_to_decode_it(tiny_pair_folder: Path) -> None:
    def generator() -> DiffusionGenerator:
        return DiffusionGenerator(tiny_pair_folder / "generator", steps=2, guidance_scale=1.0, batch_size=5)

    expected = generator().generate(PROMPTS, range(5))
    limited = generator()
    short = Short(limited, 2)
    images = limited.generate(PROMPTS, range(5))
    assert all(np.abs(pixels(a) - pixels(b)).max() <= 1 for a, b in zip(images, expected, strict=True))
    assert short.denoised == [5, 5], "a step was done twice"
    assert short.tried == [5, 2, 2, 1]
    limited.generate(PROMPTS, range(5))
    assert short.tried[4] < 5, "what was learnt is forgotten"
    assert short.denoised == [5] * 4
    assert "decode" not in vars(limited._load().vae), "the pipeline is left as it was"


def test_without_memory_for_one_image_it_is_the_devices_own_error(tiny_pair_folder: Path) -> None:
    generator = DiffusionGenerator(tiny_pair_folder / "generator", steps=1, guidance_scale=1.0)
    short = Short(generator, 0)
    with pytest.raises(torch.OutOfMemoryError):
        generator.generate(PROMPTS, range(5))
    assert min(short.tried) == min(short.denoised) == 1


def test_large_images_are_decoded_a_few_at_a_time(tiny_pair_folder: Path, monkeypatch) -> None:
    monkeypatch.setattr(slices, "PIXELS", 2 * 8 * 16)
    generator = DiffusionGenerator(tiny_pair_folder / "generator", steps=1, guidance_scale=1.0, height=8, width=16)
    short = Short(generator, 9)
    generator.generate(PROMPTS, range(5))
    assert (short.denoised, short.tried) == ([5], [2, 2, 1])


def test_a_decoder_of_the_callers_own_stays(tiny_pair_folder: Path) -> None:
    pipeline = DiffusionGenerator(tiny_pair_folder / "generator")._load()
    own = pipeline.vae.decode = lambda *given, decode=pipeline.vae.decode, **options: decode(*given, **options)
    DiffusionGenerator(pipeline=pipeline, steps=1).generate(PROMPTS, range(5))
    assert pipeline.vae.decode is own
