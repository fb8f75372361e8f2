"""What two losses on decoded images gain a pair whose generator samples in two steps: matching what small classifiers
see (as in DiM, arXiv 2303.04707), and an adversarial loss on the same features (projected, arXiv 2111.01007).

    python benchmarks/sharpening.py CIFAR10 --pair PAIR --out OUT --steps 1500 --matching 0.3 --adversarial 0.3

CIFAR10 is a folder of class subfolders in train/ and test/, of whose first half PAIR has learnt; OUT becomes a pair
with another denoiser. The loss is of the second step's images, which are kept near what they were; the first is taken
as it comes. What the images teach afterwards is measured by `as_many_as_help.py`.
"""

from __future__ import annotations

import argparse
import copy
import json
import shutil
import sys
import time
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from diffusers import StableDiffusionPipeline
from torch import Tensor, nn

from avalanche_clts._support.files import write_text
from avalanche_clts.pair.precision import fast_multiplication, plain_attention
from avalanche_clts.pretraining import photos_domain
from avalanche_clts.pretraining.pool import pixels, to_tensor

WIDTHS = (16, 24, 32, 16)  # of the classifiers
CLASSES, GENERATED, REAL = 6, 12, 48  # in a batch, and images of each class
KEPT_NEAR = 1.0  # weight of the distance to what the denoiser made before
CPU = "cpu"


class Learnt(NamedTuple):
    """What the pair has learnt from: uint8 images `(n, 3, 32, 32)`, their captions and classes."""

    images: Tensor
    captions: list[str]
    targets: Tensor

    def some_of(self, classes: Tensor, count: int) -> Tensor:
        """Indices of `count` images of each of the classes, one class after the other."""
        found = []
        for label in classes.tolist():
            own = (self.targets == label).nonzero()[:, 0]
            found.append(own[torch.randint(len(own), (count,))])
        return torch.cat(found)


class Classifier(nn.Module):
    """Three convolutions, and the class."""

    def __init__(self, width: int, num_classes: int) -> None:
        super().__init__()
        self.widths = (width, 2 * width, 4 * width)
        inputs = (3, *self.widths)
        self.stages = nn.ModuleList(
            nn.Sequential(nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU())
            for before, after in zip(inputs, self.widths, strict=False)
        )
        self.last = nn.Linear(16 * self.widths[-1], num_classes)

    def forward(self, x: Tensor) -> tuple[list[Tensor], Tensor, Tensor]:
        """What each stage sees, what the last layer sees, and the logits."""
        seen = [self.stages[0](x)]
        for stage in self.stages[1:]:
            seen.append(stage(F.max_pool2d(seen[-1], 2)))
        flat = F.adaptive_max_pool2d(seen[-1], 4).flatten(1)
        return seen, flat, self.last(flat)


class Judge(nn.Module):
    """Real or generated, by the stages of a classifier, given the class."""

    def __init__(self, widths: tuple[int, ...], num_classes: int) -> None:
        super().__init__()
        self.plain = nn.ModuleList(nn.Conv2d(width, 1, 1) for width in widths)
        self.of_class = nn.ModuleList(nn.Embedding(num_classes, width) for width in widths)

    def forward(self, seen: list[Tensor], targets: Tensor) -> Tensor:
        """Above 0 for real, `(stages, n)`."""
        verdicts = []
        for plain, of_class, x in zip(self.plain, self.of_class, seen, strict=True):
            asked = (x.float() * of_class(targets)[:, :, None, None]).mean(1, keepdim=True)
            verdicts.append((plain(x.float()) + asked).flatten(1).mean(1))
        return torch.stack(verdicts)


def main() -> None:
    parser = argparse.ArgumentParser(description="Train a pair's last sampling step on what classifiers see.")
    parser.add_argument("images", type=Path, metavar="CIFAR10")
    parser.add_argument("--pair", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--classifier-steps", type=int, default=1500)
    parser.add_argument("--matching", type=float, default=0.3)
    parser.add_argument("--adversarial", type=float, default=0.3)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    pool = photos_domain(arguments.images, part=(1, 2)).pool()
    learnt = Learnt(to_tensor(pool.images, 32), pool.captions, torch.tensor(pool.targets))
    classifiers = [trained(learnt, width, arguments.classifier_steps) for width in WIDTHS]
    pipeline = StableDiffusionPipeline.from_pretrained(arguments.pair / "generator", torch_dtype=torch.float32)
    begun = time.perf_counter()
    sharpen(pipeline, learnt, classifiers, arguments.steps, arguments.matching, arguments.adversarial)
    shutil.copytree(arguments.pair, arguments.out, dirs_exist_ok=True)
    pipeline.unet.half().save_pretrained(arguments.out / "generator" / "unet")
    said = {"command": " ".join(["python", *sys.argv]), "seconds": round(time.perf_counter() - begun)}
    write_text(arguments.out / "sharpening.json", json.dumps(said, indent=1) + "\n")


def trained(learnt: Learnt, width: int, steps: int) -> Classifier:
    """A classifier of the real images, frozen."""
    model = Classifier(width, int(learnt.targets.max()) + 1)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=steps)
    for _ in range(steps):
        i = torch.randint(len(learnt.images), (64,))
        with fast_multiplication(CPU):
            logits = model(moved(pixels(learnt.images[i])))[2]
        loss = F.cross_entropy(logits.float(), learnt.targets[i], label_smoothing=0.1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return model.eval().requires_grad_(False)


def moved(x: Tensor) -> Tensor:
    """A batch mirrored or not, and shifted by up to three pixels."""
    if torch.rand(1).item() < 0.5:
        x = x.flip(3)
    down, right = torch.randint(7, (2,)).tolist()
    return F.pad(x, (3,) * 4, mode="reflect")[:, :, down : down + x.shape[2], right : right + x.shape[3]]


def sharpen(
    pipeline: StableDiffusionPipeline,
    learnt: Learnt,
    classifiers: list[Classifier],
    steps: int,
    matching: float,
    adversarial: float,
) -> None:
    """Train the denoiser of a pipeline that samples in two steps in place; the average of its weights is left in it."""
    denoiser, autoencoder = pipeline.unet.train(), pipeline.vae.requires_grad_(False)
    text_encoder = pipeline.text_encoder.requires_grad_(False)
    before = copy.deepcopy(denoiser).eval().requires_grad_(False)
    tokens = pipeline.tokenizer(learnt.captions, padding="max_length", truncation=True, return_tensors="pt").input_ids
    pipeline.scheduler.set_timesteps(2)
    timesteps = pipeline.scheduler.timesteps
    cumulative = pipeline.scheduler.alphas_cumprod[timesteps]
    alphas, sigmas = cumulative.sqrt(), (1 - cumulative).sqrt()
    num_classes = int(learnt.targets.max()) + 1
    judges = nn.ModuleList(Judge(classifier.widths, num_classes) for classifier in classifiers)
    judging = torch.optim.Adam(judges.parameters(), lr=2e-3, betas=(0.5, 0.99))
    optimizer = torch.optim.AdamW(denoiser.parameters(), lr=1e-4, weight_decay=0.0, betas=(0.9, 0.99))
    average = {name: value.clone() for name, value in denoiser.state_dict().items()}

    def velocity(network: nn.Module, latents: Tensor, step: int, text: Tensor) -> Tensor:
        with fast_multiplication(CPU), plain_attention(CPU):
            return network(latents, timesteps[step], text).sample.float()

    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 1e-4 * min(1, (step + 1) / 20) * (1 - step / steps)
        classes = torch.randperm(num_classes)[:CLASSES]
        shown, real = learnt.some_of(classes, GENERATED), pixels(learnt.images[learnt.some_of(classes, REAL)])
        side, channels = denoiser.config.sample_size, denoiser.config.in_channels
        noise = torch.randn(len(shown), channels, side, side)
        with torch.no_grad():
            text = text_encoder(tokens[shown]).last_hidden_state
            first = velocity(denoiser, noise, 0, text)
            clean, still_noise = alphas[0] * noise - sigmas[0] * first, alphas[0] * first + sigmas[0] * noise
            middle = alphas[1] * clean + sigmas[1] * still_noise
            made_before = alphas[1] * middle - sigmas[1] * velocity(before, middle, 1, text)
        latents = alphas[1] * middle - sigmas[1] * velocity(denoiser, middle, 1, text)
        with fast_multiplication(CPU):
            made = autoencoder.decode(latents / autoencoder.config.scaling_factor).sample
        which = int(torch.randint(len(classifiers), (1,)))
        with fast_multiplication(CPU):
            of_made = classifiers[which](moved(made.float().clamp(-1.2, 1.2)))
            with torch.no_grad():
                of_real = classifiers[which](moved(real))
        targets, real_targets = classes.repeat_interleave(GENERATED), classes.repeat_interleave(REAL)
        loss = matching * moment_distance(of_made, of_real) + KEPT_NEAR * F.mse_loss(latents, made_before)
        loss = loss - adversarial * judges[which](of_made[0], targets).mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(denoiser.parameters(), 1.0)
        optimizer.step()
        verdicts = judges[which](of_real[0], real_targets), judges[which]([x.detach() for x in of_made[0]], targets)
        mistaken = F.relu(1 - verdicts[0]).mean() + F.relu(1 + verdicts[1]).mean()
        judging.zero_grad()
        mistaken.backward()
        judging.step()
        for name, value in denoiser.state_dict().items():
            average[name].lerp_(value, 0.03)
        if step % 10 == 9:
            print(f"{step + 1}: {loss.item():.4f}, judges {mistaken.item():.4f}", flush=True)
    denoiser.load_state_dict(average)


def moment_distance(made: tuple[list[Tensor], Tensor, Tensor], real: tuple[list[Tensor], Tensor, Tensor]) -> Tensor:
    """How far the means and deviations of each class are apart in a classifier's stages, last layer and logits, in
    units of the real deviation."""
    distance = torch.zeros(())
    for x, y in zip(*([*(stage.mean((2, 3)) for stage in side[0]), *side[1:]] for side in (made, real)), strict=True):
        x, y = x.float().reshape(CLASSES, GENERATED, -1), y.float().reshape(CLASSES, REAL, -1)
        scale = y.std(1).mean(0).clamp_min(1e-3)
        for moment in (torch.mean, torch.std):
            distance = distance + ((moment(x, 1) - moment(y, 1)) / scale).square().mean()
    return distance


if __name__ == "__main__":
    main()
