"""How good is a pair? Measured on the stream's digits, of which the pair has seen none."""

from __future__ import annotations

import os
from itertools import product
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms.functional import to_tensor

from ..compare.networks import small_cnn
from ..digits import CLASS_NAMES
from ..images import ImageFormat
from ..pairs import Pair, load_pair
from ..streams import split_digits
from . import digits

_NATIVE = ImageFormat("pil", (8, 8), "L")
_PER_PROMPT = 10  # images for each word that is changed


def measure_quality(pair_folder: str | os.PathLike[str], *, count: int = 1000) -> dict[str, Any]:
    """Measure captioner and generator, as fractions of 1 unless said otherwise.

    **Arguments:**

    - pair_folder: as `load_pair` takes it.
    - count: images generated for the classifiers.
    """
    torch.manual_seed(0)
    pair = load_pair(pair_folder)
    benchmark = split_digits(1, seed=0)
    train, test = (_images(stream[0].dataset) for stream in (benchmark.train_stream, benchmark.test_stream))

    test_captions = pair.captioner.caption(test[0])
    train_captions = pair.captioner.caption(train[0])
    named = [CLASS_NAMES[target] in caption.split() for target, caption in zip(test[1], test_captions, strict=True)]
    # The captions that CLTS would keep: what the captioner says of the stream's training images.
    picks = torch.randint(len(train_captions), (count,)).tolist()
    prompts = [train_captions[i] for i in picks]
    said = [_named_digit(prompt) for prompt in prompts]
    generated = [_NATIVE.restore(image) for image in pair.generator.generate(prompts, list(range(count)))]

    by_real = _train_classifier(_batch(train[0]), torch.tensor(train[1]))
    by_generated = _train_classifier(_batch(generated), torch.tensor(said))
    return {
        "captioner_names_the_digit": sum(named) / len(named),
        "generated_recognised_by_real_classifier": _accuracy(by_real, _batch(generated), torch.tensor(said)),
        "real_recognised_by_real_classifier": _accuracy(by_real, _batch(test[0]), torch.tensor(test[1])),
        "real_recognised_by_generated_classifier": _accuracy(by_generated, _batch(test[0]), torch.tensor(test[1])),
        "changed_words": _changed_words(pair),
        "images_generated": count,
    }


def format_quality(quality: dict[str, Any]) -> str:
    """The measures as text."""
    shares = [
        ("captioner names the right digit (real test images)", "captioner_names_the_digit"),
        ("generated images recognised as the digit in their caption", "generated_recognised_by_real_classifier"),
        ("real test images recognised, trained on real", "real_recognised_by_real_classifier"),
        ("real test images recognised, trained on generated only", "real_recognised_by_generated_classifier"),
    ]
    lines = [f"{text:62}{100 * quality[name]:6.1f} %" for text, name in shares]
    for name, change in quality["changed_words"].items():
        lines.append(
            f"{name:62}{change['from']:6.2f} -> {change['to']:.2f} {change['unit']}, "
            f"as told in {100 * change['as_told']:.0f} % of pairs"
        )
    return "\n".join(lines)


def _changed_words(pair: Pair) -> dict[str, dict[str, Any]]:
    """What a measure is for the images of two captions that differ in a word, from the same noise."""
    changes = {
        "thin -> thick: stroke": ("thickness", "thickness", "pixels"),
        "left -> right: slant": ("slant", "slant", "(tangent)"),
        "small -> large: size": ("size", "size", "pixels"),
    }
    measured = {}
    for name, (word, measure, unit) in changes.items():
        sides = []
        for third in (0, 2):
            prompts = [digits.describe(label, **{word: third}) for label, _ in product(range(10), range(_PER_PROMPT))]
            images = pair.generator.generate(prompts, list(range(len(prompts))))
            sides.append(digits.measure(digits.to_tensor(images))[measure])
        low, high = sides
        measured[name] = {
            "from": low.mean().item(),
            "to": high.mean().item(),
            "unit": unit,
            "as_told": (high > low).float().mean().item(),
        }
    return measured


def _named_digit(caption: str) -> int:
    named = [i for i, name in enumerate(CLASS_NAMES) if name in caption.split()]
    return named[0] if named else 0


def _images(dataset: Any) -> tuple[list[Image.Image], list[int]]:
    raw = dataset.remove_current_transform_group()
    return [raw[i][0] for i in range(len(raw))], [int(target) for target in dataset.targets]


def _batch(images: list[Image.Image]) -> Tensor:
    return torch.stack([to_tensor(image) for image in images])


def _train_classifier(images: Tensor, targets: Tensor, *, epochs: int = 30) -> nn.Module:
    model = small_cnn(10, channels=1, side=8)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _ in range(epochs):
        for batch in torch.randperm(len(images)).split(32):
            loss = nn.functional.cross_entropy(model(images[batch]), targets[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model.eval()


@torch.inference_mode()
def _accuracy(model: nn.Module, images: Tensor, targets: Tensor) -> float:
    return (model(images).argmax(1) == targets).float().mean().item()
