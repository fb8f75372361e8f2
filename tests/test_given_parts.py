"""Parts that the user has loaded, any checkpoint in the place of one that is known by name, and a look at a pair."""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, LCMScheduler, StableDiffusionPipeline
from PIL import Image
from transformers import AutoProcessor, BlipForConditionalGeneration

from avalanche_clts import AutoCaptioner, BlipCaptioner, DiffusionGenerator, LabelCaptioner, Pair, cli, load_pair
from avalanche_clts.cli import main
from avalanche_clts.cli.experiments import asked_experiment
from avalanche_clts.cli.parts import add_commands, arguments_of_parts
from avalanche_clts.experiments.config import read_experiment, write_experiment
from avalanche_clts.experiments.experiment import Experiment
from avalanche_clts.pair import inspection
from avalanche_clts.pair.inspection import check
from avalanche_clts.pair.loading import composed, pair_arguments, pair_identity, pair_nbytes
from tests.test_families import save_lora
from tests.tiny_captioners import save_tiny

WORK = {"steps": 2, "guidance_scale": 1.0}


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image).astype(int)


def test_a_pipeline_that_is_loaded_already_is_used_as_it_is(tiny_pair_folder: Path, tmp_path: Path) -> None:
    save_lora(tmp_path / "lora", tiny_pair_folder / "generator")
    pipeline = StableDiffusionPipeline.from_pretrained(tiny_pair_folder / "generator")
    pipeline.scheduler = LCMScheduler.from_config(pipeline.scheduler.config)
    pipeline.load_lora_weights(tmp_path / "lora", weight_name="pytorch_lora_weights.safetensors")
    pipeline.fuse_lora()  # in bfloat16, what is added beside is rounded otherwise
    pipeline.unload_lora_weights()
    (image,) = DiffusionGenerator(pipeline=pipeline, **WORK).generate(["a two"], [4])
    options = {"lora": tmp_path / "lora", "scheduler": "LCMScheduler"}
    (expected,) = DiffusionGenerator(tiny_pair_folder / "generator", **options, **WORK).generate(["a two"], [4])
    assert (pixels(image) == pixels(expected)).all()
    (plain,) = DiffusionGenerator(tiny_pair_folder / "generator", **WORK).generate(["a two"], [4])
    assert np.abs(pixels(image) - pixels(plain)).max() > 1


def test_a_given_pipeline_stays_where_it_is(tiny_pair_folder: Path) -> None:
    pipeline = StableDiffusionPipeline.from_pretrained(tiny_pair_folder / "generator")
    moved: list[object] = []
    move = pipeline.to
    pipeline.to = lambda *a, **k: (moved.append(a), move(*a, **k))[1]
    DiffusionGenerator(pipeline=pipeline, **WORK).generate(["a two"], [4])
    assert moved == []
    DiffusionGenerator(pipeline=pipeline, device="cpu", **WORK).generate(["a two"], [4])
    assert moved == [("cpu",)]


def test_a_given_pipeline_leaves_nothing_else_to_load(tiny_pair_folder: Path) -> None:
    pipeline = StableDiffusionPipeline.from_pretrained(tiny_pair_folder / "generator")
    for argument in ({"scheduler": "LCMScheduler"}, {"lora": "some/lora"}, {"variant": "fp16"}, {"compile": True}):
        with pytest.raises(ValueError, match=f"pipeline is given, and {next(iter(argument))} too"):
            DiffusionGenerator(pipeline=pipeline, **argument)
    with pytest.raises(ValueError, match="pipeline is given, and name_or_path too"):
        DiffusionGenerator(tiny_pair_folder / "generator", pipeline=pipeline)
    pipeline.vae = None
    with pytest.raises(ValueError, match="pipeline has no vae; give one that is loaded whole"):
        DiffusionGenerator(pipeline=pipeline)
    with pytest.raises(TypeError, match="pipeline is a str, not a DiffusionPipeline"):
        DiffusionGenerator(pipeline="some/sd")


def test_a_model_that_is_loaded_already_is_used_as_it_is(tiny_pair_folder: Path) -> None:
    folder = tiny_pair_folder / "captioner"
    model = BlipForConditionalGeneration.from_pretrained(folder)
    processor = AutoProcessor.from_pretrained(folder)
    images = [Image.new("RGB", (20, 14), colour) for colour in ("red", "blue")]
    expected = BlipCaptioner(folder, max_new_tokens=4).caption(images)
    for kind in (AutoCaptioner, BlipCaptioner):
        captioner = kind(model=model, processor=processor, max_new_tokens=4)
        assert captioner.caption(images) == expected
        assert captioner._loaded.model is model
    for wrong in ({}, {"model": model}, {"name_or_path": folder, "model": model, "processor": processor}):
        with pytest.raises(ValueError, match="give name_or_path, or a model and its processor"):
            AutoCaptioner(**wrong)


def test_given_parts_are_counted_and_told_apart(tiny_pair_folder: Path) -> None:
    def given() -> Pair:
        folder = tiny_pair_folder / "captioner"
        model = BlipForConditionalGeneration.from_pretrained(folder)
        pipeline = StableDiffusionPipeline.from_pretrained(tiny_pair_folder / "generator")
        captioner = BlipCaptioner(model=model, processor=AutoProcessor.from_pretrained(folder))
        return Pair(captioner, DiffusionGenerator(pipeline=pipeline))

    pair, same = given(), given()
    modules = [pair.captioner.given["model"], *(pair.generator.given[p] for p in ("unet", "vae", "text_encoder"))]
    tensors = {id(t): t for module in modules for t in [*module.parameters(), *module.buffers()]}
    assert pair_nbytes(pair) == sum(t.nbytes for t in tensors.values())
    assert pair_identity(pair) == pair_identity(same)
    with torch.no_grad():
        same.generator.given["unet"].conv_in.weight += 1
    assert pair_identity(pair)[0] == pair_identity(same)[0]
    assert pair_identity(pair)[1] != pair_identity(same)[1]
    other = given()
    pipeline = other.generator._pipeline
    pipeline.scheduler = LCMScheduler.from_config(pipeline.scheduler.config)
    assert pair_identity(Pair(other.captioner, DiffusionGenerator(pipeline=pipeline)))[1] != pair_identity(pair)[1]
    assert pair_identity(other)[1] != pair_identity(pair)[1], "its pipeline was changed after it was given"
    ddim = given()
    ddim.generator._pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config)
    assert pair_identity(ddim)[1] != pair_identity(other)[1], "the same configuration, of another class"


def test_low_rank_weights_of_a_given_pipeline_tell_pairs_apart_as_they_are_set(
    tiny_pair_folder: Path, tmp_path: Path
) -> None:
    save_lora(tmp_path / "lora", tiny_pair_folder / "generator")

    def identity(*, scale: float | None) -> str:
        pipeline = StableDiffusionPipeline.from_pretrained(tiny_pair_folder / "generator")
        pipeline.load_lora_weights(tmp_path / "lora", adapter_name="some")
        if scale is None:
            pipeline.disable_lora()
        else:
            pipeline.set_adapters("some", scale)
        return pair_identity(Pair(LabelCaptioner(), DiffusionGenerator(pipeline=pipeline)))[1]

    half, whole, none = (identity(scale=scale) for scale in (0.5, 1.0, None))
    assert identity(scale=0.5) == half
    assert len({half, whole, none}) == 3


# Names


def test_any_checkpoint_stands_in_the_place_of_a_name(tiny_pair_folder: Path, tmp_path: Path) -> None:
    plus = tmp_path / "one+two"
    shutil.copytree(tiny_pair_folder / "captioner", plus)
    for name in (f"{plus}+{tiny_pair_folder / 'generator'}", f"{plus}+{tiny_pair_folder}", f"{plus}+embedded"):
        pair = load_pair(name, generator=WORK)
        assert isinstance(pair.captioner, BlipCaptioner)
        assert pair.captioner.prefix == "a photo of a {class_name}"
        assert len(pair.generator.generate(["a two"], [0])) == 1
    own = load_pair(f"{tiny_pair_folder}+{tiny_pair_folder}")
    assert (own.captioner.max_new_tokens, own.generator.steps) == (4, 1), "a pair's own arguments"


def test_a_name_stands_for_a_captioner_and_a_generator() -> None:
    captioner, generator = pair_arguments("me/my-blip@v1+blip/sd")
    assert captioner == {"name_or_path": "me/my-blip", "prefix": "a photo of a {class_name}", "revision": "v1"}
    assert generator == {"name_or_path": "blip/sd", "revision": None}
    assert pair_arguments("blip+stabilityai/sd-turbo") == pair_arguments("blip+sd-turbo")
    assert pair_arguments("Salesforce/blip-image-captioning-base+sd15") == pair_arguments("blip+sd15")
    assert pair_arguments("blip+sd15", generator={"steps": 2})[1]["steps"] == 2
    for name in ("blip", "blip+", "+sd15", "blip+nothing", "nowhere/at/all+sd15", "sd15+blip"):
        with pytest.raises(ValueError, match="it must be embedded, embedded-mnist-blood, a folder, or CAPTIONER"):
            pair_arguments(name)


# Checking


def test_a_pair_that_works_is_shown_with_nothing_wrong(tmp_path: Path) -> None:
    found = check("embedded", out=tmp_path / "deep" / "check.png")
    assert found.faults == []
    assert len(found.captions) == 8
    assert set(found.seconds) == {"loading", "captions", "images"}
    assert found.nbytes["weights"] == pair_nbytes(load_pair("embedded"))
    assert found.nbytes["process at most"] > 10**8
    with Image.open(found.picture) as picture:
        shown = np.asarray(picture.convert("RGB"))
    assert picture.format == "PNG"
    left, right = shown[8:264, 8:264], shown[8:264, 272:528]
    assert left.std() > 20
    assert np.corrcoef(left.ravel(), right.ravel())[0, 1] > 0.5, "the image made of the caption looks like it"


def classes(folder: Path) -> Path:
    for name, colour in (("red_star", "red"), ("blue_circle", "blue")):
        (folder / name).mkdir(parents=True)
        for number in range(6):
            Image.new("RGB", (32, 32), colour).save(folder / name / f"{number}.png")
    return folder


class Wrong:
    """A captioner and a generator that do all that can go wrong."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def caption(self, images: Sequence[Image.Image], class_names: Sequence[str] | None = None) -> list[str]:
        self.asked = list(class_names or [])
        texts = ["", "a red star", "something else", "a blue circle " + "long " * 40]
        return (texts * 2)[: len(images)]

    def generate(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[Image.Image]:
        noise = Image.fromarray(np.random.RandomState(0).randint(0, 256, (8, 8, 3)).astype(np.uint8))
        made = [Image.new("RGB", (8, 8)), Image.new("RGB", (8, 8), "green"), noise]
        return [made[min(i, 2)] for i in range(len(prompts))]

    def cut_prompts(self, prompts: Sequence[str]) -> int:
        return sum(len(prompt) > 100 for prompt in prompts)


def test_what_looks_wrong_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = Wrong()
    monkeypatch.setattr(inspection, "load_pair", lambda *a, **k: Pair(wrong, wrong))
    found = check("mine", [classes(tmp_path / "images")], tmp_path / "check.png")
    assert wrong.asked == ["blue circle"] * 4 + ["red star"] * 4
    assert found.faults == [
        "empty captions: number 1, 5",
        "captions that do not name their class: number 2, 3, 7, 8; give a prefix with class_name",
        "captions that are longer than the text encoder has room for: number 4, 8",
        "black images: number 1; a safety checker blacks out, and so does overflow",
        "images of one colour: number 2",
    ]
    assert sum(line.startswith("wrong: ") for line in found.lines()) == 5
    single = check("mine", [tmp_path / "images" / "red_star"], tmp_path / "check.png")
    assert wrong.asked == []
    assert not any("class" in fault for fault in single.faults)
    with pytest.raises(FileNotFoundError, match="is not there"):
        check("mine", [tmp_path / "none"], tmp_path / "check.png")


def test_a_picture_is_written_over_by_the_next_and_nothing_else_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = Wrong()
    monkeypatch.setattr(inspection, "load_pair", lambda *a, **k: Pair(wrong, wrong))
    folder = classes(tmp_path / "images")
    first = check("mine", [folder], folder / "check.png")
    assert len(check("mine", [folder], folder / "check.png").captions) == len(first.captions) == 8
    photograph = folder / "red_star" / "0.png"
    before = photograph.read_bytes()
    with pytest.raises(ValueError, match=r"out is '.*0\.png', which holds something else than such a picture"):
        check("mine", [folder], photograph)
    assert photograph.read_bytes() == before


def test_classes_are_called_as_a_stream_calls_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = Wrong()
    monkeypatch.setattr(inspection, "load_pair", lambda *a, **k: Pair(wrong, wrong))
    for number, name in enumerate(("AnnualCrop", "SeaLake")):
        folder = tmp_path / "photos" / name / "images"
        folder.mkdir(parents=True)
        for image in range(6):
            Image.new("RGB", (32, 32), (number, image, 0)).save(folder / f"{image}.png")
    parser = argparse.ArgumentParser()
    add_commands(parser.add_subparsers(required=True))
    arguments = parser.parse_args(["check", "mine", str(tmp_path / "photos"), "--out", str(tmp_path / "check.png")])
    arguments.run(arguments)
    assert wrong.asked == ["annual crop"] * 4 + ["sea lake"] * 4


# Commands


def test_commands_do_it(tmp_path: Path, tiny_pair_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers(required=True)
    add_commands(commands)

    def run(*words: str) -> int:
        arguments = parser.parse_args(words)
        return arguments.run(arguments)

    assert run("check", "embedded", "--out", str(tmp_path / "check.png")) == 0
    assert "nothing looks wrong" in capsys.readouterr().out
    assert (tmp_path / "check.png").is_file()
    out = ["--out", str(tmp_path / "tiny.png"), "--set", "generator.steps=2", "captioner.max_new_tokens=30"]
    assert run("check", str(tiny_pair_folder), *out) == 1, "it babbles, and its captions are too long"
    assert "wrong: captions that are longer than the text encoder has room for" in capsys.readouterr().out
    assert run("fetch", str(tiny_pair_folder)) == 0
    assert "to download: 0 bytes" in capsys.readouterr().out


def test_a_part_is_taken_in_the_place_of_the_pairs() -> None:
    assert composed("embedded") == "embedded"
    assert composed("embedded", generator="sd-turbo") == "embedded+sd-turbo"
    assert composed("blip@v1+sd15@v2", generator="me/sd@v3") == "blip@v1+me/sd@v3"
    assert composed("blip@v1+sd15@v2", captioner="smolvlm-256m") == "smolvlm-256m+sd15@v2"
    assert composed("nonsense", "git", "sd15") == "git+sd15"
    with pytest.raises(ValueError, match=r"generator is 'blip'; it must be one of sd15, .*, or owner/name on the hub"):
        composed("embedded", generator="blip")
    with pytest.raises(ValueError, match="captioner is '/nowhere'; it must be one of blip"):
        composed("embedded", captioner="/nowhere")


def test_every_command_takes_parts_and_their_arguments(
    tmp_path: Path, tiny_pair_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = tmp_path / "image.png"
    Image.new("RGB", (20, 14), "red").save(image)
    captioner = save_tiny("idefics3", tmp_path / "captioner")
    generator = str(tiny_pair_folder / "generator")
    seen = "captioner.max_new_tokens=3", "pair.captioner.prefix=so it is"
    assert main(["caption", str(image), "--captioner", str(captioner), "--set", *seen]) == 0
    expected = AutoCaptioner(captioner, prefix="a photo of a {class_name}", max_new_tokens=3)
    assert capsys.readouterr().out == f"{image}\t{expected.caption([Image.open(image)])[0]}\n"
    made = ["--generator", generator, "--set", "generator.steps=1", "generator.height=16", "generator.width=24"]
    assert main(["generate", "a two", *made, "--out", str(tmp_path / "made")]) == 0
    with Image.open(next((tmp_path / "made").glob("*.png"))) as drawn:
        assert drawn.size == (24, 16)
    capsys.readouterr()
    checked = ["check", "embedded", str(image), "--captioner", str(captioner), *made, "--out", str(tmp_path / "c.png")]
    main(checked)
    assert (tmp_path / "c.png").is_file()
    capsys.readouterr()
    assert main(["fetch", "--captioner", str(captioner), "--generator", generator]) == 0
    assert f"{captioner}+{generator} is complete" in capsys.readouterr().out
    for wrong in (["fetch"], ["generate", "a two", "--generator", "blip"], ["caption", str(image), "--set", "a.b=1"]):
        assert main(wrong) == 2


def test_an_experiment_takes_parts_and_their_arguments(tiny_pair_folder: Path, tmp_path: Path) -> None:
    def asked(*words: str) -> Experiment:
        return asked_experiment(cli._parsers()[0].parse_args(["compare", *words]))

    part = str(tiny_pair_folder / "generator")
    told = ["pair.generator.steps=2", "pair.captioner.prompt=Describe the {class_name}.", "clts.replay_size=7"]
    found = asked("--captioner", "smolvlm-256m", "--generator", part, "--set", *told)
    assert found.pair == f"smolvlm-256m+{part}"
    assert (found.generator, found.captioner) == ({"steps": 2}, {"prompt": "Describe the {class_name}."})
    assert found.hyperparameters["clts"]["replay_size"] == 7
    write_experiment(tmp_path / "experiment.toml", found)
    assert read_experiment(tmp_path / "experiment.toml") == found
    again = asked("--config", str(tmp_path / "experiment.toml"), "--generator", "sd15", "--set", "generator.height=64")
    assert again.pair == "smolvlm-256m+sd15"
    assert again.generator == {"steps": 2, "height": 64}
    assert asked("--pair", "blip+sd15").pair == "blip+sd15"
    with pytest.raises(ValueError, match="captioner has prefix without a value"):
        asked("--set", "pair.captioner.prefix=null")
    own = asked(
        "--stream", "digits", "--pair", str(tiny_pair_folder), "--generator", part, "--set", told[0]
    ).load_pair()
    assert own.generator.steps == 2


def test_options_of_parts_are_read_as_json_or_words() -> None:
    texts = [
        "pair.generator.steps=2",
        "generator.autoencoder=me/taesd",
        "captioner.prefix=null",
        "generator.compile=True",
    ]
    assert arguments_of_parts(texts) == {
        "captioner": {"prefix": None},
        "generator": {"steps": 2, "autoencoder": "me/taesd", "compile": True},
    }
    for text in ("steps=2", "generator.steps", "other.steps=2"):
        with pytest.raises(ValueError, match=r"write captioner\.OPTION=VALUE"):
            arguments_of_parts([text])


def test_a_pairs_file_is_as_documented(tiny_pair_folder: Path, tmp_path: Path) -> None:
    """The example in docs/pairs.md is one that loads."""
    page = (Path(__file__).parents[1] / "docs" / "pairs.md").read_text(encoding="utf-8")
    example = json.loads(page.split("```json", 1)[1].split("```", 1)[0])
    for part in ("captioner", "generator"):
        shutil.copytree(tiny_pair_folder / part, tmp_path / part)
    (tmp_path / "pair.json").write_text(json.dumps(example))
    pair = load_pair(tmp_path)
    assert pair.captioner.prefix == example["captioner"]["prefix"]
    assert pair.generator.steps == example["generator"]["steps"]
