"""How good is a pair? Measured on real images that it has never seen."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms.functional import to_pil_image, to_tensor

from .._support.console import bar
from ..images.formats import LabelledImages
from ..memory.mentions import Names
from ..networks import network_for
from ..pair.abilities import Autoencodes
from ..pair.loading import Pair, load_pair
from .pool import Change, Domain, rgb

_SHARES = {
    "words_kept": "words of a caption that are said again of its image",
    "captioner_names_the_class": "captioner names the right class (real test images)",
    "generated_recognised_by_real_classifier": "generated images recognised as the class in their caption",
    "real_recognised_by_real_classifier": "real test images recognised, trained on real",
    "real_recognised_by_as_many_real": "the same, trained on as many real as are generated",
    "autoencoded_recognised_by_real_classifier": "the same, after the generator's autoencoder",
    "real_recognised_by_generated_classifier": "real test images recognised, trained on generated only",
}


def measure_quality(
    pair_folder: str | os.PathLike[str], domains: Sequence[Domain], *, count: int | None = None, device: str = "cpu"
) -> dict[str, Any]:
    """Measure captioner and generator in each domain, by its name; fractions of 1 unless said otherwise.

    **Arguments:**

    - pair_folder: as `load_pair` takes it.
    - count: images generated for the classifiers, in each domain. None: as many as the domain says.
    - device: where pair and classifiers run.
    """
    pair = load_pair(pair_folder, device=device)
    return {domain.name: _measure(pair, domain, count or domain.num_generated, device) for domain in domains}


def format_quality(quality: dict[str, Any]) -> str:
    """The measures as text."""
    lines: list[str] = []
    for name, measured in quality.items():
        if "changed_words" not in measured:  # the command, or the seconds of training
            continue
        lines += ([""] if lines else []) + [f"{name}:"]
        lines += [f"{text:62}{100 * measured[share]:6.1f} %" for share, text in _SHARES.items() if share in measured]
        for change, outcome in measured["changed_words"].items():
            lines.append(
                f"{change:62}{outcome['from']:6.2f} -> {outcome['to']:.2f} {outcome['unit']}, "
                f"as told in {100 * outcome['as_told']:.0f} % of pairs"
            )
    return "\n".join(lines)


def _measure(pair: Pair, domain: Domain, count: int, device: str) -> dict[str, Any]:
    torch.manual_seed(0)
    train, test = domain.held_out()
    if not domain.class_names:
        return {"images_generated": len(test.images), "words_kept": _words_kept(pair, test.images), "changed_words": {}}
    test_captions = pair.captioner.caption(test.images)
    named = [named_class(c, domain.class_names) == t for t, c in zip(test.targets, test_captions, strict=True)]
    # The captions that CLTS would keep: what the captioner says of images to train on.
    rounds = -(-count // len(train.images))
    picks = torch.cat([torch.randperm(len(train.images)) for _ in range(rounds)])[:count].tolist()
    names = [domain.class_names[train.targets[i]] for i in picks]
    prompts = pair.captioner.caption([train.images[i] for i in picks], names)
    said = named_or_known(prompts, [train.targets[i] for i in picks], domain.class_names)
    generated = batch_of(pair.generator.generate(prompts, list(range(count))), said, domain, device)
    real_test = batch_of(*test, domain, device)
    by_real = train_classifier(*batch_of(*train, domain, device), domain)
    by_generated = train_classifier(*generated, domain)
    shown = sorted(set(picks))  # as many real images as generated ones, if there are
    as_many = batch_of([train.images[i] for i in shown], [train.targets[i] for i in shown], domain, device)
    by_as_many = by_real if len(shown) == len(train.images) else train_classifier(*as_many, domain)
    return {
        "images_generated": count,
        "words_kept": _words_kept(pair, test.images[:count]),
        "captioner_names_the_class": sum(named) / len(named),
        "generated_recognised_by_real_classifier": accuracy(by_real, *generated),
        "real_recognised_by_real_classifier": accuracy(by_real, *real_test),
        "real_recognised_by_as_many_real": accuracy(by_as_many, *real_test),
        "autoencoded_recognised_by_real_classifier": accuracy(by_real, *_autoencoded(pair, test, domain, device)),
        "real_recognised_by_generated_classifier": accuracy(by_generated, *real_test),
        "changed_words": {name: _measure_change(pair, change) for name, change in domain.changes.items()},
    }


def _autoencoded(pair: Pair, images: LabelledImages, domain: Domain, device: str) -> tuple[Tensor, Tensor]:
    """The images as the generator would make them, had it drawn them right: what its autoencoder loses is lost."""
    assert isinstance(pair.generator, Autoencodes)
    pixels = torch.stack([to_tensor(image) for image in rgb(images.images)])
    restored = torch.cat([pair.generator.autoencode(batch) for batch in pixels.split(500)])
    return batch_of([to_pil_image(image) for image in restored], images.targets, domain, device)


def _words_kept(pair: Pair, images: Sequence[Image.Image]) -> float:
    """Of the words of these images' captions, the share that the captioner says of images generated from them."""
    captions = pair.captioner.caption(images)
    again = pair.captioner.caption(pair.generator.generate(captions, list(range(len(captions)))))
    kept = [word in second.split() for first, second in zip(captions, again, strict=True) for word in first.split()]
    return sum(kept) / max(1, len(kept))


def _measure_change(pair: Pair, change: Change) -> dict[str, Any]:
    """What a measure is for the images of two captions that differ in a word, from the same noise."""
    seeds = list(range(len(change.captions[0])))
    low, high = (change.measure(pair.generator.generate(captions, seeds)) for captions in change.captions)
    return {
        "from": low.mean().item(),
        "to": high.mean().item(),
        "unit": change.unit,
        "as_told": (high > low).float().mean().item(),
    }


def named_class(caption: str, class_names: Sequence[str]) -> int | None:
    """The class that the caption names first, in any case and spacing, and of two at one place ("pine" and "pine tree")
    the longer."""
    mentioned = _names(tuple(class_names)).mentions(caption)
    return [Names.key(name) for name in class_names].index(mentioned[0].name) if mentioned else None


@lru_cache(maxsize=16)
def _names(class_names: tuple[str, ...]) -> Names:
    return Names(class_names)


def named_or_known(captions: Sequence[str], targets: Sequence[int], class_names: Sequence[str]) -> list[int]:
    """The class that each caption names, or else its image's."""
    named = [named_class(caption, class_names) for caption in captions]
    return [target if name is None else name for name, target in zip(named, targets, strict=True)]


def batch_of(
    images: Sequence[Image.Image], targets: Sequence[int], domain: Domain, device: str = "cpu"
) -> tuple[Tensor, Tensor]:
    """Images in the domain's format, `(n, channels, h, w)` in [0, 1], and their targets."""
    pixels = torch.stack([to_tensor(domain.format.restore(image)) for image in images])
    return pixels.to(device), torch.tensor(targets, device=device)


def train_classifier(images: Tensor, targets: Tensor, domain: Domain) -> nn.Module:
    """The judge: a small network, trained on a batch as `batch_of` gives it."""
    steps = min(3000, 60 * len(images) // 32)  # 60 epochs of few images
    model = network_for(domain.format)(len(domain.class_names)).to(images.device)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    criterion = nn.CrossEntropyLoss(label_smoothing=0.1)  # some generated images do not show what their caption says
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=1.0, end_factor=0.0, total_iters=steps)
    for _ in bar(range(steps), desc=f"{domain.name}: training a classifier", leave=False):
        batch = torch.randint(len(images), (32,)).to(images.device)
        loss = criterion(model(images[batch]), targets[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return model.eval()


@torch.inference_mode()
def accuracy(model: nn.Module, images: Tensor, targets: Tensor) -> float:
    """The share of images whose class the network names."""
    guesses = torch.cat([model(batch).argmax(1) for batch in images.split(500)])
    return (guesses == targets).float().mean().item()
