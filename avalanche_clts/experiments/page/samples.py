"""Real images beside what the pair makes of them: the caption, and the image regenerated from it."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypedDict

from avalanche.benchmarks import NCScenario
from PIL.Image import Image, Resampling

from ...images.avalanche import image_format, raw_images
from ...images.formats import to_pil
from ...memory.origins import names_in_words
from ...pair.loading import Pair
from ...pair.output import checked_images

if TYPE_CHECKING:
    from typing_extensions import NotRequired  # of Python 3.11


class Sample(TypedDict):
    """One class's example; images are PNG data URLs. `real` is None where the page is to show none. `experiences` are
    those that show the class, in the order of the stream's seed 0; files of earlier versions do not tell."""

    class_name: str
    experiences: NotRequired[list[int]]
    caption: str
    real: str | None
    regenerated: list[str]


def make_samples(
    benchmark: NCScenario, pair: Pair, *, real_images: bool = True, copies: int = 4, most: int = 20
) -> list[Sample]:
    """For each class of the stream (`most` at most): its first training image (if `real_images`), the caption that the
    pair writes of it, and `copies` images regenerated from that caption, in the stream's native size."""
    chosen: dict[int, tuple[Image, str]] = {}
    shown: dict[int, list[int]] = {}
    for number, experience in enumerate(benchmark.train_stream):
        names = names_in_words(experience.dataset)
        for target, indices in experience.dataset.targets.val_to_idx.items():
            image = raw_images(experience.dataset, indices[:1])[0]
            shown.setdefault(int(target), []).append(number)
            chosen.setdefault(int(target), (image, names[target] if names else str(target)))
    classes = sorted(chosen)[:most]
    images = [chosen[target][0] for target in classes]
    names_of = [chosen[target][1] for target in classes]
    captions = pair.captioner.caption(images, names_of)
    prompts = [caption for caption in captions for _ in range(copies)]
    format = image_format(benchmark.train_stream[0].dataset)
    generated = checked_images(pair.generator, prompts, range(len(prompts)), format.size)
    native = [data_url(to_pil(format.restore(image))) for image in generated]
    return [
        Sample(
            class_name=names_of[i],
            experiences=shown[target],
            caption=captions[i],
            real=data_url(images[i]) if real_images else None,
            regenerated=native[i * copies : (i + 1) * copies],
        )
        for i, target in enumerate(classes)
    ]


def classes_by_experience(samples: Sequence[Sample], num_classes: int, num_experiences: int) -> list[list[str]] | None:
    """The names of each experience's classes, in the order of the stream's seed 0; None where `samples` do not tell all
    of them."""
    names: list[list[str]] = [[] for _ in range(num_experiences)]
    for sample in samples:
        for experience in sample.get("experiences", []):
            if experience < num_experiences:
                names[experience].append(sample["class_name"])
    return names if len(samples) == num_classes and all(names) else None


def data_url(image: Image, *, side: int = 64) -> str:
    """A PNG data URL of the image; small images are enlarged to `side` pixels, pixel by pixel."""
    if max(image.size) < side:
        factor = side // max(image.size)
        image = image.resize((image.width * factor, image.height * factor), Resampling.NEAREST)
    file = io.BytesIO()
    image.save(file, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
