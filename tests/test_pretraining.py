"""The recipe of the embedded pair: its data, its resuming, and what came out of it."""

from __future__ import annotations

import json
import os
import shutil
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image, ImageOps
from torch import nn

from avalanche_clts import Pair, load_pair, pretraining, split_digits
from avalanche_clts.cli import main
from avalanche_clts.images.formats import ImageFormat, LabelledImages
from avalanche_clts.pretraining import Recipe, arguments_of_pair, distillation, embedded_domains, training
from avalanche_clts.pretraining import digit_pool as pools
from avalanche_clts.pretraining import shape_pool as drawings
from avalanche_clts.pretraining.captioner import _processor, train_captioner, words_of
from avalanche_clts.pretraining.generator import _tokens as generator_tokens
from avalanche_clts.pretraining.generator import train_generator
from avalanche_clts.pretraining.photo_pool import describe_photo, photos_domain
from avalanche_clts.pretraining.pool import Domain, Pool
from avalanche_clts.pretraining.quality import measure_quality, named_class, named_or_known
from avalanche_clts.streams.embedded_digits import CLASS_NAMES, pair_digits, stream_digits
from avalanche_clts.streams.embedded_shapes import Look, draw
from tests.test_stacks import require_laid_out

QUICK = Recipe(
    captioner_steps=2,
    autoencoder_steps=2,
    diffusion_steps=2,
    distillation_steps=2,
    num_trajectories=8,
    batch_size=8,
)


def test_the_stream_never_shows_what_the_pair_was_trained_on() -> None:
    pair = pair_digits()
    stream = [image for part in stream_digits() for image in part.images]
    assert (len(pair.images), len(stream)) == (600, 1197)
    assert [pair.targets.count(k) for k in range(10)] == [60] * 10
    assert not {image.tobytes() for image in pair.images} & {image.tobytes() for image in stream}
    benchmark = split_digits(5, seed=1)
    shown = sum(len(e.dataset) for s in (benchmark.train_stream, benchmark.test_stream) for e in s)
    assert shown == 1197


def test_captions_say_what_is_measured() -> None:
    pool = pools.digit_pool(600)
    measures = pools.measure(pools.to_tensor(pool.images))
    labels = torch.tensor(pool.targets)
    for words, name in ((("thin", "thick"), "thickness"), (("left", "right"), "slant"), (("small", "large"), "size")):
        for label in range(10):
            low, high = (
                measures[name][[i for i in range(600) if labels[i] == label and word in pool.captions[i].split()]]
                for word in words
            )
            assert low.max() <= high.min()
    assert all(CLASS_NAMES[k] in caption.split() for k, caption in zip(pool.targets, pool.captions, strict=True))


def test_pool_is_the_same_every_time() -> None:
    first, second = pools.digit_pool(40), pools.digit_pool(40)
    assert first.captions == second.captions
    assert [i.tobytes() for i in first.images] == [i.tobytes() for i in second.images]


def test_measures_move_with_what_they_measure() -> None:
    line = torch.zeros(3, 32, 32)
    for row in range(4, 28):
        line[0, row, 15:17] = 1
        line[1, row, 13:19] = 1
        line[2, row, 22 - row // 2 : 24 - row // 2] = 1  # its top leans to the right
    thickness, slant = pools.measure(line)["thickness"], pools.measure(line)["slant"]
    assert thickness[1] > 2 * thickness[0]
    assert slant[2] > 0.4 > abs(slant[0])


def test_killed_training_goes_on_to_the_same_weights(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(training, "SAVE_EVERY", 5)
    x = torch.rand(50, 3, generator=torch.Generator().manual_seed(0))

    def train(folder: Path, die_at: int | None = None) -> dict[str, torch.Tensor]:
        torch.manual_seed(0)
        model = nn.Linear(3, 1)
        steps = 0

        def batch_loss(generator: torch.Generator) -> torch.Tensor:
            nonlocal steps
            steps += 1
            if steps == die_at:
                raise KeyboardInterrupt
            batch = x[training.draw(50, 8, generator)]
            return (model(batch) - batch.sum(1, keepdim=True)).square().mean()

        training.fit(model, batch_loss, name="line", folder=folder, steps=23, learning_rate=0.1)
        return model.state_dict()

    whole = train(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "killed", die_at=14)
    resumed = train(tmp_path / "killed")
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_one_training_at_a_time_is_in_a_folder(tmp_path: Path) -> None:
    def again() -> Pool:
        with pytest.raises(OSError, match=f"pair is in use by process {os.getpid()}"):
            pretraining.pretrain(tmp_path / "pair", domains=[domain], recipe=QUICK)
        raise KeyboardInterrupt

    domain = pools.digits_domain(20)
    with pytest.raises(KeyboardInterrupt):
        pretraining.pretrain(tmp_path / "pair", domains=[replace(domain, pool=again)], recipe=QUICK)


def test_loss_that_is_not_finite_stops_training(tmp_path: Path) -> None:
    model = nn.Linear(1, 1)
    with pytest.raises(FloatingPointError, match=r"loss of the line is nan at step 0"):
        training.fit(
            model, lambda g: model.weight.sum() * torch.nan, name="line", folder=tmp_path, steps=3, learning_rate=0.1
        )


def test_what_is_for_images_is_refused_without_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--part", "1/2", "--size", "64", "--no-mirror"]
    assert main(["pretrain", "--out", str(tmp_path / "pair"), *options]) == 2
    assert "--size, --part, --no-mirror is for images of your own" in capsys.readouterr().err
    assert not (tmp_path / "pair").exists()


def test_recipe_makes_a_pair_that_loads(tmp_path: Path) -> None:
    pool = pools.digit_pool(40)
    train_captioner(pool, tmp_path / "captioner", work=tmp_path / "work", recipe=QUICK)
    train_generator(pool, tmp_path / "generator", work=tmp_path / "work", recipe=QUICK)
    pair = load_pair(tmp_path)
    assert len(pair.captioner.caption(pool.images[:2])) == 2
    (image,) = pair.generator.generate(["a handwritten seven"], [0])
    assert (image.size, image.mode) == ((32, 32), "RGB")


def test_command_trains_both_parts_and_says_how_good_they_are(tmp_path: Path, monkeypatch, capsys) -> None:
    def few() -> tuple[LabelledImages, LabelledImages]:
        pool = pools.digit_pool(20)
        return LabelledImages(pool.images, pool.targets), LabelledImages(pool.images, pool.targets)

    domains = [replace(pools.digits_domain(20), held_out=few), replace(drawings.shapes_domain(20), held_out=few)]
    monkeypatch.setattr(pretraining, "embedded_domains", lambda: domains)
    monkeypatch.setattr(pretraining, "Recipe", lambda: QUICK)
    monkeypatch.setattr(pretraining, "measure_quality", partial(measure_quality, count=20))
    assert main(["pretrain", "--out", str(tmp_path / "pair")]) == 0
    assert capsys.readouterr().out.count("captioner names the right class") == 2
    assert sorted(p.name for p in (tmp_path / "pair").iterdir()) == [
        "captioner", "generator", "pair.json", "quality.json", "recipe.json",
    ]  # fmt: skip
    quality = json.loads((tmp_path / "pair" / "quality.json").read_text())
    assert {name: quality[name]["images_generated"] for name in ("digits", "shapes")} == {"digits": 20, "shapes": 20}
    require_laid_out(tmp_path / "pair" / "generator")
    assert quality["seconds"].keys() == {"autoencoder", "captioner", "diffusion", "distillation"}
    assert min(quality["seconds"].values()) > 0
    assert main(["pretrain", "--out", str(tmp_path / "pair"), "--diffusion-steps", "3"]) == 2
    assert "begun with other settings" in capsys.readouterr().err
    monkeypatch.setattr(
        pretraining, "measure_quality", lambda *a, **k: pytest.fail("a finished pair was measured again")
    )
    assert main(["pretrain", "--out", str(tmp_path / "pair")]) == 0
    assert capsys.readouterr().out.count("captioner names the right class") == 2
    assert json.loads((tmp_path / "pair" / "quality.json").read_text()) == quality
    own = tmp_path / "pair" / "work" / "thesis.tex"
    own.parent.mkdir()
    own.write_text("put there since")
    assert main(["pretrain", "--out", str(tmp_path / "pair")]) == 0
    assert own.read_text() == "put there since"


def test_shapes_are_captioned_by_what_was_drawn() -> None:
    pool = drawings.shape_pool(200)
    assert all(named_class(c, drawings.CLASS_NAMES) == t for c, t in zip(pool.captions, pool.targets, strict=True))
    areas = drawings.shape_areas(pool.images)
    small, large = (
        areas[[i for i, caption in enumerate(pool.captions) if word in caption.split()]] for word in ("small", "large")
    )
    assert large.mean() > 1.5 * small.mean()


def test_measures_of_shapes_move_with_what_they_measure() -> None:
    def images(**changed: int):
        look = Look(**{"colour": 0, "background": 2, "size": 1, "tilt": 1, "texture": 0, **changed})
        return [draw(drawings.CLASS_NAMES.index("key"), seed, look=look)[0] for seed in range(5)]

    assert (drawings.tilts(images(tilt=2)) > drawings.tilts(images(tilt=0)) + 0.4).all()
    assert (drawings.redness(images(colour=0)) > drawings.redness(images(colour=5)) + 0.5).all()
    assert (drawings.borders(images(background=1)) > drawings.borders(images(background=0)) + 0.5).all()


@pytest.fixture(scope="module", params=["digits", "shapes"])
def quality(request: pytest.FixtureRequest, embedded_pair_folder: Path) -> dict:
    (domain,) = (domain for domain in embedded_domains() if domain.name == request.param)
    count = {"digits": 1000, "shapes": 300}[domain.name]
    return measure_quality(embedded_pair_folder, [domain], count=count)[domain.name]


def test_embedded_captioner_names_the_class(quality: dict) -> None:
    assert quality["captioner_names_the_class"] >= 0.95


def test_embedded_generator_follows_the_caption(quality: dict) -> None:
    if "thin -> thick: stroke" in quality["changed_words"]:
        assert quality["generated_recognised_by_real_classifier"] >= 0.93
        assert quality["real_recognised_by_generated_classifier"] >= 0.94
    else:  # a few hundred images are too few to teach
        assert quality["generated_recognised_by_real_classifier"] >= 0.9


def test_the_autoencoder_loses_no_class(quality: dict) -> None:
    lost = quality["real_recognised_by_real_classifier"] - quality["autoencoded_recognised_by_real_classifier"]
    assert lost <= 0.05


def test_real_images_are_compared_at_the_number_of_generated_ones(quality: dict) -> None:
    by_as_many, by_all = (quality[f"real_recognised_by_{real}"] for real in ("as_many_real", "real_classifier"))
    if quality["images_generated"] == 300:  # of 1,200
        assert by_as_many < by_all
    else:  # there are fewer real ones than were generated
        assert by_as_many == by_all


def test_changing_a_word_changes_the_picture(quality: dict) -> None:
    for change in quality["changed_words"].values():
        assert change["to"] > change["from"]
        assert change["as_told"] >= 0.85


def test_regenerated_digit_reads_back_as_what_was_asked_for(embedded_pair: Pair) -> None:
    prompts = [pools.describe(label) for label in range(10) for _ in range(5)]
    images = embedded_pair.generator.generate(prompts, list(range(50)))
    native = ImageFormat("pil", (8, 8), "L")
    captions = embedded_pair.captioner.caption([native.restore(image) for image in images])
    named = [CLASS_NAMES[i // 5] in caption.split() for i, caption in enumerate(captions)]
    assert sum(named) >= 45


def test_photos_are_captioned_by_class_brightness_and_colours() -> None:
    image = Image.new("RGB", (32, 32), (70, 120, 60))
    image.paste((190, 45, 40), (8, 8, 24, 24))
    assert describe_photo(image, "frog") == "a photo of a frog red on green in the dark"
    assert describe_photo(Image.new("RGB", (32, 32), "white"), "polar bear") == (
        "a photo of a polar bear white on white in bright light"
    )


def test_a_colour_or_a_part_of_a_name_is_no_class() -> None:
    names = ["orange", "pine", "pine tree", "tulip"]
    captions = ["a photo of a tulip orange on green", "a photo of an orange orange on white", "a photo of a pine tree"]
    assert [named_class(caption, names) for caption in captions] == [3, 0, 2]
    assert named_class("a photo of a rose", names) is None
    said = ["a photo of a dog", "a t - shirt or top", "a jalapeno"]  # as the captioner's tokenizer spells them
    assert [named_class(caption, ["T-shirt or top", "jalapeño", "Dog"]) for caption in said] == [2, 0, 1]
    assert named_or_known(["a dog", "a rose"], [1, 1], ["Dog", "Cat"]) == [0, 1]


def test_a_captioner_has_words_for_names_in_any_script() -> None:
    captions = ["a photo of a jalapeño", "a photo of a 猫咪", "a photo of a black_cat", "a photo of a t-shirt (new)"]
    tokenizer = _processor(captions, 32).tokenizer
    for caption in captions:
        assert tokenizer.unk_token not in tokenizer.tokenize(caption)
        assert tokenizer.tokenize(caption) == words_of(caption)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    root = tmp_path / "photos"
    for name, colour in (("frog", (70, 120, 60)), ("sky", (75, 120, 185))):
        for part, count, first in (("train", 20, 0), ("test", 4, 20)):
            (root / part / name).mkdir(parents=True)
            for i in range(count):
                noise = np.random.RandomState(first + i).randint(-20, 20, (16, 16, 3))
                pixels = (np.array(colour) + noise).clip(0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(root / part / name / f"{i:02d}.png")
    return root


def test_photos_that_are_learnt_are_not_those_that_judge(photos: Path) -> None:
    for part, learnt, others in (((1, 2), 20, 20), ((1, 1), 36, 4)):
        domain = photos_domain(photos, part=part)
        pool, (train, test) = domain.pool(), domain.held_out()
        assert (len(pool.images), len(train.images), len(test.images)) == (2 * learnt, others, 8)
        assert not {i.tobytes() for i in pool.images} & {i.tobytes() for i in train.images}
        as_they_are, mirrored = pool.images[:learnt], pool.images[learnt:]
        assert [ImageOps.mirror(i).tobytes() for i in mirrored] == [i.tobytes() for i in as_they_are]
        assert pool.captions[:learnt] == pool.captions[learnt:]
        assert photos_domain(photos, part=part, mirror=False).pool().captions == pool.captions[:learnt]


def test_command_trains_a_pair_on_a_folder(photos: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(pretraining, "measure_quality", partial(measure_quality, count=20))
    steps = [f"--{part}-steps=1" for part in ("captioner", "feature", "autoencoder", "diffusion")]
    assert main(["pretrain", "--images", str(photos), "--part", "1/2", "--out", str(tmp_path / "pair"), *steps]) == 0
    assert "photos:" in capsys.readouterr().out
    pair = load_pair(tmp_path / "pair")
    (image,) = pair.generator.generate(["a photo of a frog green on green in the dark"], [0])
    assert image.size == (16, 16)
    assert pair.captioner.caption([image], ["frog"])[0].startswith("a photo of a frog")


def test_a_prefix_that_all_captions_have_is_the_pairs(photos: Path) -> None:
    domain = photos_domain(photos, part=(1, 2))
    pool = domain.pool()

    def prefix(*domains: Domain) -> str | None:
        return arguments_of_pair(domains, pool, QUICK)["captioner"].get("prefix")

    other, none = (replace(domain, prefix=text) for text in ("a drawing of a {class_name}", None))
    assert prefix(domain) == prefix(domain, domain) == "a photo of a {class_name}"
    assert prefix(domain, other) is prefix(domain, none) is prefix(none) is None


def test_a_pair_is_not_gone_on_with_on_other_images(photos: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    out = tmp_path / "pair"
    monkeypatch.setattr(pretraining, "ProcessPoolExecutor", lambda *a, **k: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        pretraining.pretrain(out, domains=[photos_domain(photos, part=(1, 2))], recipe=QUICK)
    with pytest.raises(KeyboardInterrupt):
        pretraining.pretrain(out, domains=[photos_domain(photos, part=(1, 2))], recipe=QUICK)
    with pytest.raises(ValueError, match="begun with other settings"):
        pretraining.pretrain(out, domains=[photos_domain(photos, part=(1, 1))], recipe=QUICK)
    pool = photos_domain(photos, part=(1, 2)).pool()
    turned = Pool([image.rotate(180) for image in pool.images], pool.captions, pool.targets)
    other = replace(photos_domain(photos, part=(1, 2)), pool=lambda: turned)
    with pytest.raises(ValueError, match="begun with other settings or images"):
        pretraining.pretrain(out, domains=[other], recipe=QUICK)


def test_command_trains_a_pair_on_given_captions(photos: Path, tmp_path: Path, capsys) -> None:
    files = sorted((photos / "train" / "frog").iterdir())
    lines = [json.dumps({"file_name": f.name, "text": f"A frog, number {f.stem}."}) for f in files]
    (files[0].parent / "metadata.jsonl").write_text("\n".join(lines))
    steps = [f"--{part}-steps=1" for part in ("captioner", "feature", "autoencoder", "diffusion")]
    assert main(["pretrain", "--images", str(files[0].parent), "--out", str(tmp_path / "pair"), *steps]) == 0
    assert "words of a caption that are said again of its image" in capsys.readouterr().out
    (files[0].parent / "metadata.jsonl").write_text('{"file_name": "00.png"}')
    assert main(["pretrain", "--images", str(files[0].parent), "--out", str(tmp_path / "other")]) == 2
    assert "line 1: must be an object with file_name and text" in capsys.readouterr().err


@pytest.mark.parametrize("text", [["a", "b"], None, "", " ", 3], ids=repr)
def test_given_captions_are_texts(text: object, photos: Path, tmp_path: Path) -> None:
    root = tmp_path / "captioned"
    shutil.copytree(photos, root)
    files = sorted(root.glob("train/*/*.png"))
    lines = [json.dumps({"file_name": str(f.relative_to(root)), "text": "a frog"}) for f in files]
    lines[2] = json.dumps({"file_name": str(files[2].relative_to(root)), "text": text})
    (root / "metadata.jsonl").write_text("\n".join(lines))
    with pytest.raises(ValueError, match=r"line 3: text is .*; caption the image, or leave the line out"):
        photos_domain(root)
    (root / "metadata.jsonl").write_bytes("\n".join(lines[:2]).encode("utf-8-sig"))
    assert set(photos_domain(root).pool().captions) == {"a frog"}
    (root / "metadata.jsonl").write_bytes(b'{"file_name": "caf\xe9"}')
    with pytest.raises(ValueError, match=r"metadata\.jsonl is not UTF-8"):
        photos_domain(root)


def test_class_too_small_to_be_judged_is_told_of(photos: Path, tmp_path: Path) -> None:
    root = tmp_path / "uneven"
    shutil.copytree(photos, root)
    for file in sorted((root / "train" / "sky").iterdir())[3:]:
        file.unlink()
    with pytest.warns(UserWarning, match=r"of sky/: none is held out, and the measured quality says nothing"):
        photos_domain(root)
    with pytest.raises(ValueError, match=r"part is 4/4, and .* too few images of sky/"):
        photos_domain(root, part=(4, 4))


def test_given_captions_of_images_to_test_on_are_not_learnt(photos: Path, tmp_path: Path) -> None:
    root = tmp_path / "captioned"
    shutil.copytree(photos, root)
    files = sorted(root.glob("*/*/*.png"))
    lines = [json.dumps({"file_name": str(f.relative_to(root)), "text": str(f.relative_to(root))}) for f in files]
    (root / "metadata.jsonl").write_text("\n".join(lines))
    domain = photos_domain(root)
    learnt, (_, judged) = domain.pool(), domain.held_out()
    assert all(caption.startswith("train") for caption in learnt.captions)
    assert (len(learnt.images), len(judged.images)) == (36, 4)
    assert {caption.split("/")[1] for caption in learnt.captions} == {"frog", "sky"}
    assert not {i.tobytes() for i in learnt.images} & {i.tobytes() for i in judged.images}
    with pytest.raises(ValueError, match=r"part is \(1, 2\), but .* holds a metadata.jsonl"):
        photos_domain(root, part=(1, 2))
    Image.new("RGB", (20, 16)).save(files[-1])
    Image.new("RGB", (20, 16)).save(root / "train" / "frog" / "03.png")
    with pytest.raises(ValueError, match=r"03\.png is 20x16 pixels and the first image 16x16; give the size"):
        photos_domain(root)


def test_too_few_images_are_refused_before_anything_is_trained(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for i in range(5):
            Image.new("RGB", (8, 8), (i, ord(name[0]), 0)).save(tmp_path / name / f"{i}.png")
    with pytest.raises(ValueError, match="fewer than 10 images to train on in every class"):
        photos_domain(tmp_path)


def test_steps_to_learn_must_divide_those_to_learn_from() -> None:
    with pytest.raises(ValueError, match="sampling_steps is 3; it must divide teacher_steps, which is 4"):
        Recipe(sampling_steps=3)


def test_distilled_denoiser_takes_its_teachers_path(tmp_path: Path, monkeypatch) -> None:
    """What distillation asks for, step by step, leads from noise to where the guided teacher got."""
    torch.manual_seed(0)
    pool = pools.digit_pool(40)
    work, recipe = tmp_path / "work", replace(QUICK, distillation_steps=0)
    train_generator(pool, tmp_path / "generator", work=work, recipe=recipe)
    pipeline = StableDiffusionPipeline.from_pretrained(tmp_path / "generator").to(torch.float32)
    tokens = generator_tokens(pipeline.tokenizer, pool.captions)
    # In the pipeline's precision, whatever the processor.
    monkeypatch.setattr(distillation, "fast_multiplication", lambda device: nullcontext())
    sampler = distillation.Sampler(pipeline.unet, pipeline.text_encoder, tokens, pipeline.scheduler)
    captions, states = distillation._trajectories(sampler, work, recipe)
    assert states.shape == (8, 3, 4, 8, 8)
    guided = pipeline(
        prompt=[pool.captions[i] for i in captions],
        latents=states[:, 0],
        num_inference_steps=4,
        guidance_scale=1.5,
        output_type="latent",
    ).images
    assert torch.allclose(guided, states[:, 2], atol=1e-3)
    timesteps = distillation._timesteps(pipeline.scheduler, 2)
    alphas, sigmas = distillation._levels(pipeline.scheduler, timesteps)
    latents = states[:, 0]
    for k, timestep in enumerate(timesteps):
        levels = (alphas[k], sigmas[k], alphas[k + 1], sigmas[k + 1])
        velocity = distillation._velocity_between(states[:, k], states[:, k + 1], *levels)
        latents = pipeline.scheduler.step(velocity, timestep, latents).prev_sample
        assert torch.allclose(latents, states[:, k + 1], atol=1e-4)

    def distance() -> float:
        """Between the denoiser's own two steps and where its teacher got."""
        own = pipeline(
            prompt=[pool.captions[i] for i in captions],
            latents=states[:, 0],
            num_inference_steps=2,
            guidance_scale=1.0,
            output_type="latent",
        ).images
        return (own - states[:, 2]).square().mean().item()

    before = distance()
    distillation.distill(sampler, work=work, recipe=replace(recipe, distillation_steps=40))
    assert distance() < 0.5 * before


def test_an_image_of_several_captions_is_learnt_or_held_out(photos: Path, tmp_path: Path) -> None:
    """As data sets of captions have five of each."""
    root = tmp_path / "captioned"
    shutil.copytree(photos / "train", root)
    files = sorted(root.glob("*/*.png"))
    lines = [{"file_name": str(f.relative_to(root)), "text": f"{f.stem}, said {i}"} for f in files for i in range(5)]
    (root / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)))
    domain = photos_domain(root)
    learnt, (_, judged) = domain.pool(), domain.held_out()
    assert len(judged.images) == len(files) // 10
    assert len(learnt.images) == 5 * (len(files) - len(judged.images))
    assert not {i.tobytes() for i in learnt.images} & {i.tobytes() for i in judged.images}
