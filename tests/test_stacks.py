"""What differs between versions of PyTorch, transformers and diffusers, and is to come out the same."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch.nn.functional import avg_pool2d
from transformers import ByT5Tokenizer

from avalanche_clts import AutoCaptioner, CachedGenerator, CaptionBuffer, Pair, load_pair
from avalanche_clts.pair.embedded import EMBEDDED
from avalanche_clts.pair.linear_decoder import LinearDecoder
from avalanche_clts.pair.loading import pair_nbytes
from avalanche_clts.pair.parts import CHATS
from avalanche_clts.pair.pipeline_kinds import Reader
from avalanche_clts.pair.precision import fast_multiplication
from avalanche_clts.pair.prompt_encoding import as_read
from avalanche_clts.pretraining.layout import in_eight_bits, lay_out_for_all
from tests.conftest import DIGITS
from tests.tiny_captioners import save_tiny


def require_laid_out(generator: Path) -> None:
    assert all(name.startswith("text_model.") for name in load_file(generator / "text_encoder" / "model.safetensors"))
    tokenizer = json.loads((generator / "tokenizer" / "tokenizer.json").read_text())["model"]
    assert json.loads((generator / "tokenizer" / "vocab.json").read_text()) == tokenizer["vocab"]
    merges = (generator / "tokenizer" / "merges.txt").read_text().splitlines()[1:]
    assert merges == [" ".join(merge) for merge in tokenizer["merges"]]


@pytest.mark.parametrize("name", EMBEDDED)
def test_every_version_finds_its_files_of_the_embedded_pairs(name: str) -> None:
    require_laid_out(EMBEDDED[name].folder / "generator")


def test_what_is_laid_out_for_all_stays_so(tiny_pair_folder: Path) -> None:
    generator = tiny_pair_folder / "generator"
    require_laid_out(generator)
    files = [file for file in sorted(generator.rglob("*")) if file.is_file()]
    before = [file.read_bytes() for file in files]
    lay_out_for_all(generator)
    assert [file.read_bytes() for file in files] == before


def test_a_pair_in_eight_bits_is_half_as_large_and_makes_nearly_the_same(
    embedded_pair_folder: Path, tmp_path: Path
) -> None:
    shutil.copytree(embedded_pair_folder, tmp_path / "small")
    in_eight_bits(tmp_path / "small")
    pair, small = load_pair(embedded_pair_folder), load_pair(tmp_path / "small")
    assert (pair_nbytes(small) or 0) < 0.52 * (pair_nbytes(pair) or 0)
    captions = [f"a handwritten {name} upright" for name in DIGITS]
    images, others = (np.stack(made.generator.generate(captions, range(10))) for made in (pair, small))
    assert abs(images.astype(int) - others).mean() < 5, "levels of 255"
    said, again = (made.captioner.caption([Image.fromarray(image) for image in images]) for made in (pair, small))
    assert sum(a == b for a, b in zip(said, again, strict=True)) >= 9


def test_a_tokenizer_that_tells_no_places_cuts_prompts_where_any_other_does(embedded_pair: Pair) -> None:
    prompt = "a small Red star  on a dark blue background"
    # Version 4 of transformers has a CLIP tokenizer of this kind here.
    assert (
        as_read(embedded_pair.generator._load(), Reader("prompt", "tokenizer"), prompt) == "a small Red star  on a dark"
    )
    by_bytes = ByT5Tokenizer(extra_ids=0, model_max_length=9)  # the text's end is one of the tokens
    assert not by_bytes.is_fast
    pipeline = SimpleNamespace(by_bytes=by_bytes)
    for room, read in ((None, "a red st"), (6, "a red")):
        for prompt in ("a red star", read, ""):
            assert as_read(pipeline, Reader("prompt", "by_bytes", room), prompt) == prompt[: len(read)]


@pytest.mark.parametrize("instructions", ["_is_amx_tile_supported", "_is_avx512_bf16_supported", None])
def test_processors_are_known_to_older_versions_too(
    instructions: str | None, tiny_pair: Pair, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda name=name: name == instructions, raising=False)
    x = torch.rand(4, 4)
    with fast_multiplication("cpu"):
        assert (x @ x).dtype == (torch.float32 if instructions is None else torch.bfloat16)
    assert len(CachedGenerator(tiny_pair.generator, tmp_path).generate(["zero"], [0])) == 1, "a cache asks too"


def test_a_seed_that_is_drawn_is_the_same_in_every_version(tiny_pair: Pair) -> None:
    torch.manual_seed(0)
    assert CaptionBuffer(pair=tiny_pair, captions_per_class=1).first_seed == 398764591
    assert torch.randperm(5).tolist() == [3, 1, 0, 4, 2], "and it takes as much of what is drawn later"


@pytest.mark.parametrize("kind", CHATS)
def test_an_image_is_read_again_as_it_was(kind: str, tmp_path: Path) -> None:
    captioner = AutoCaptioner(save_tiny(kind, tmp_path))
    image = Image.effect_noise((90, 60), 100)
    once, again = (captioner._inputs([image]).inputs for _ in range(2))
    assert all(torch.equal(once[name], again[name]) for name in once), "a processor keeps none of its options"


class Faint:
    """An autoencoder of 8x8 pixels a latent, whose channels are the colours, green and blue much fainter."""

    dtype, device, config = torch.float32, "cpu", SimpleNamespace(scaling_factor=1.0)
    strength = torch.tensor([1, 1e-3, 1e-3])[:, None, None]

    def encode(self, images: torch.Tensor) -> SimpleNamespace:
        return SimpleNamespace(latents=avg_pool2d(images, 8) * self.strength)


def test_faint_latents_are_decoded_as_well() -> None:
    """In single precision, the fit leaves them out; a little less faint, it does so on one version or call only."""
    colours = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    decoded = LinearDecoder(Faint()).decode(Faint().encode(2 * colours - 1).latents)
    torch.testing.assert_close(decoded, avg_pool2d(colours, 8), atol=1e-4, rtol=0)
