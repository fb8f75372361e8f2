"""Captioners that are told what to write, from disk: their prompts, batches, images, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

from avalanche_clts import AutoCaptioner, BlipCaptioner, LabelCaptioner, Pair, load_pair
from avalanche_clts.pair.captioning_models import Asked
from avalanche_clts.pair.catalogue import CAPTIONERS
from avalanche_clts.pair.instructed_models import PROMPT
from avalanche_clts.pair.loading import pair_identity
from avalanche_clts.pair.parts import CHATS
from tests.test_families import pictures
from tests.tiny_captioners import TINY, save_tiny

SIZES = [(20, 14), (64, 64), (9, 40), (300, 180)]
NAMES = ["two", "T-shirt or top", "seven", "eight"]
PREFIX = "a photo of a {class_name}"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {kind: save_tiny(kind, tmp_path_factory.mktemp(kind)) for kind in TINY}


def of_many_sizes() -> list[Image.Image]:
    return [image.resize(size) for image, size in zip(pictures(4), SIZES, strict=True)]


def heard(captioner: AutoCaptioner, name: str | None) -> str:
    """What the model is told with an image, without the image."""
    inputs = captioner._inputs(pictures(1), [captioner._asked(name)]).inputs
    return captioner._load().tokenizer.decode(inputs["input_ids"][0], skip_special_tokens=True)


@pytest.mark.parametrize("kind", CHATS)
def test_a_chat_model_is_asked_about_the_class(kind: str, folders: dict[str, Path]) -> None:
    captioner = AutoCaptioner(folders[kind])
    said = "in one short sentence: colours, pose, background."
    assert f"Describe the two {said}" in heard(captioner, "two")
    assert f"Describe the image {said}" in heard(captioner, None)
    asked = AutoCaptioner(folders[kind], prompt="What is a {class_name} like?", prefix=PREFIX)
    told = heard(asked, "eight")
    assert "What is an eight like?" in told
    assert told.lower().rstrip().endswith("a photo of an eight")
    assert told.lower().index("assistant") < told.index("a photo")
    assert told[told.index("a photo") - 1].isspace()
    assert "a photo" not in heard(asked, None)


def test_florence_is_given_one_of_its_tasks(folders: dict[str, Path]) -> None:
    captioner = AutoCaptioner(folders["florence2"])
    assert heard(captioner, "two") == "What does the image describe?"
    captioner = AutoCaptioner(folders["florence2"], prompt="<DETAILED_CAPTION>")
    assert heard(captioner, "two") == "Describe in detail what is shown in the image."
    captioner = AutoCaptioner(folders["florence2"], prompt="What is the {class_name} like?")
    assert heard(captioner, "two") == "What is the two like?"


@pytest.mark.parametrize("kind", TINY)
def test_what_is_said_depends_on_the_prompt(kind: str, folders: dict[str, Path]) -> None:
    images = of_many_sizes()
    prompts = [None, "a two {class_name} seven", "<DETAILED_CAPTION>"]
    captions = [AutoCaptioner(folders[kind], prompt=p, max_new_tokens=8).caption(images, NAMES) for p in prompts]
    assert len({tuple(texts) for texts in captions}) > 1


@pytest.mark.parametrize("prefix", [None, PREFIX])
@pytest.mark.parametrize("kind", TINY)
def test_a_caption_does_not_depend_on_its_batch(kind: str, prefix: str | None, folders: dict[str, Path]) -> None:
    """Images of other sizes and names of other lengths stand beside it, and what pads it is not seen."""
    images = of_many_sizes()

    def captions(order: list[int], batch_size: int, **options: object) -> list[str]:
        captioner = AutoCaptioner(
            folders[kind], prefix=prefix, max_new_tokens=8, batch_size=batch_size, min_new_tokens=2, **options
        )
        texts = captioner.caption([images[i] for i in order], [NAMES[i] for i in order])
        return [text for _, text in sorted(zip(order, texts, strict=True))]

    for options in ({}, {"num_beams": 2}, {"top_p": 0.9, "seed": 3}):
        alone = captions([0, 1, 2, 3], 1, **options)
        assert captions([0, 1, 2, 3], 4, **options) == alone
        assert captions([3, 1, 0, 2], 3, **options) == alone
        assert all(text and "\n" not in text for text in alone) or kind == "florence2"
        for text, name in zip(alone, NAMES, strict=True):
            assert prefix is None or text.startswith(f"a photo of a{'n' * (name == 'eight')} {name}")


def test_shorter_conversations_are_padded_on_the_left(folders: dict[str, Path]) -> None:
    for kind in CHATS:
        captioner = AutoCaptioner(folders[kind], prefix=PREFIX)
        asked = [captioner._asked(name) for name in NAMES]
        inputs = captioner._inputs(of_many_sizes(), asked).inputs
        assert inputs["attention_mask"].min() == 0
        assert inputs["attention_mask"][:, -1].all()


def test_an_answer_stands_on_one_line(folders: dict[str, Path]) -> None:
    for kind in CHATS:
        loaded = AutoCaptioner(folders[kind])._load()
        tokens = loaded.tokenizer("\n a two \n\n on  a photo\n", add_special_tokens=False).input_ids
        tokens += [loaded.tokenizer.eos_token_id, loaded.tokenizer.pad_token_id]
        assert loaded.added(Asked(None, PROMPT), tokens) == "a two on a photo"
        assert loaded.added(Asked("a thin seven", PROMPT), tokens) == " a two on a photo"


# Images


def test_an_image_is_read_as_one_and_not_too_small(folders: dict[str, Path]) -> None:
    small, large = Image.new("RGB", (8, 8), "red"), Image.new("RGB", (900, 700), "red")
    tiles = AutoCaptioner(folders["idefics3"])._inputs([small, large]).inputs["pixel_values"]
    assert tiles.shape == (2, 1, 3, 16, 16)
    for kind, patch in (("qwen2_5_vl", 14), ("qwen3_vl", 16)):
        read = AutoCaptioner(folders[kind])._inputs([small, large]).inputs
        pixels = (read["image_grid_thw"].prod(1) * patch**2).tolist()
        assert 0.8 * 256**2 <= pixels[0] <= 1.3 * 256**2
        assert 0.8 * 512**2 <= pixels[1] <= 512**2


@pytest.mark.parametrize("kind", TINY)
def test_a_given_model_and_its_processor_are_used_as_they_are(kind: str, folders: dict[str, Path]) -> None:
    model = AutoModelForImageTextToText.from_pretrained(folders[kind], dtype=torch.bfloat16)
    processor = AutoProcessor.from_pretrained(folders[kind])
    before = model.generation_config.to_dict()
    captioner = AutoCaptioner(model=model, processor=processor, prefix=PREFIX, max_new_tokens=4)
    captions = captioner.caption(of_many_sizes(), NAMES)
    assert [caption.split()[:3] for caption in captions] == [["a", "photo", "of"]] * 4
    assert model.generation_config.to_dict() == before
    if kind == "idefics3":  # its own settings split large images
        assert captioner._inputs(of_many_sizes()).inputs["pixel_values"].shape[1] > 1
    elif kind == "qwen2_5_vl":
        assert captioner._inputs(pictures(1)).inputs["image_grid_thw"].tolist() == [[1, 4, 2]]


def test_captions_are_decoded_as_asked_and_not_as_for_conversations(folders: dict[str, Path]) -> None:
    loaded = AutoCaptioner(folders["qwen2_5_vl"])._load()
    assert loaded.model.generation_config.repetition_penalty in (None, 1.0)
    assert not loaded.model.generation_config.do_sample
    assert loaded.model.generation_config.eos_token_id


# What is told before


def test_a_prompt_is_for_models_that_take_one(folders: dict[str, Path], tiny_pair_folder: Path) -> None:
    with pytest.raises(ValueError, match=r"prompt is 'Hello', and .* is a blip model, which takes none; .*idefics3"):
        BlipCaptioner(tiny_pair_folder / "captioner", prompt="Hello")
    with pytest.raises(ValueError, match=r"prompt is 'a \{name\}'; \{class_name\} is the only thing"):
        AutoCaptioner(folders["idefics3"], prompt="a {name}")


def test_a_model_that_cannot_be_asked_is_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    base = shutil.copytree(folders["idefics3"], tmp_path / "base")
    template = json.loads((base / "chat_template.json").read_text())
    (base / "chat_template.json").unlink()
    with pytest.raises(ValueError, match=r"a idefics3 model without a chat template; give an instruct one"):
        AutoCaptioner(base)
    expected = AutoCaptioner(folders["idefics3"], max_new_tokens=5).caption(pictures(2))
    (base / "chat_template.jinja").write_text(template["chat_template"])
    assert AutoCaptioner(base, max_new_tokens=5).caption(pictures(2)) == expected
    (base / "chat_template.jinja").unlink()
    settings = json.loads((base / "tokenizer_config.json").read_text()) | template
    (base / "tokenizer_config.json").write_text(json.dumps(settings))
    assert AutoCaptioner(base, max_new_tokens=5).caption(pictures(2)) == expected
    remote = shutil.copytree(folders["florence2"], tmp_path / "remote")
    config = json.loads((remote / "config.json").read_text()) | {
        "auto_map": {"AutoConfig": "configuration_florence2.C"}
    }
    (remote / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"code that comes with it, which is not run; give .*florence-community"):
        AutoCaptioner(remote)


def test_features_are_of_blip_alone(folders: dict[str, Path]) -> None:
    from avalanche_clts.pair.abilities import HasFeatures, TakesPrefix

    captioner = AutoCaptioner(folders["idefics3"], prefix=PREFIX)
    assert not isinstance(captioner, HasFeatures)
    assert isinstance(captioner, TakesPrefix)
    other = captioner.with_prefix("a digit {class_name}")
    assert heard(other, "two").endswith("a digit two")
    assert heard(captioner, "two").endswith("a photo of a two")


def test_pairs_with_other_prompts_are_told_apart(folders: dict[str, Path], tiny_pair_folder: Path) -> None:
    def identity(**options: object) -> list[str]:
        pair = load_pair(f"{folders['florence2']}+{tiny_pair_folder}", captioner=options)
        return pair_identity(pair)

    assert identity() == identity()
    assert identity(prompt="<DETAILED_CAPTION>")[0] != identity()[0]
    assert pair_identity(Pair(LabelCaptioner(), load_pair(tiny_pair_folder).generator))[1] == identity()[1]


RECIPES = {
    "smolvlm-256m": "idefics3",
    "smolvlm-500m": "idefics3",
    "qwen25-vl": "qwen2_5_vl",
    "qwen3-vl": "qwen3_vl",
    "florence2": "florence2",
}


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_one_that_its_model_takes(name: str, folders: dict[str, Path]) -> None:
    recipe = {option: value for option, value in CAPTIONERS[name].arguments.items() if option != "name_or_path"}
    captioner = AutoCaptioner(folders[RECIPES[name]], **recipe)
    (caption,) = captioner.caption(pictures(1), ["eight"])
    assert caption.startswith("a photo of an eight")
    assert len(captioner.caption(pictures(1))) == 1
