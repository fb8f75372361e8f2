"""Raw images out of Avalanche datasets, and generated images back through the stream's transforms."""

from __future__ import annotations

import pytest
import torch
from avalanche.benchmarks import nc_benchmark
from avalanche.benchmarks.utils import AvalancheDataset, DataAttribute, TransformGroups
from PIL import Image
from torch.utils.data import Subset, TensorDataset
from torchvision.transforms import Compose, Normalize, RandomHorizontalFlip, Resize, ToTensor

from avalanche_clts import split_digits
from avalanche_clts.images.avalanche import as_stream_dataset, class_names, image_format, raw_images, stream_transforms
from avalanche_clts.images.formats import ImageFormat
from avalanche_clts.streams.benchmarks import ImageDataset

TRAIN = Compose([RandomHorizontalFlip(1.0), Resize(16), ToTensor(), Normalize(0.5, 0.25)])
EVAL = Compose([Resize(16), ToTensor(), Normalize(0.5, 0.25)])


def pictures(mode: str = "RGB", count: int = 8) -> list[Image.Image]:
    generator = torch.Generator().manual_seed(0)
    shape = (12, 20, 3) if mode == "RGB" else (12, 20)
    return [Image.fromarray(torch.randint(256, shape, generator=generator).byte().numpy()) for _ in range(count)]


def stream_of(dataset, **transforms) -> AvalancheDataset:
    return nc_benchmark(dataset, dataset, 2, task_labels=False, shuffle=False, **transforms).train_stream[0].dataset


def tensors(x: torch.Tensor) -> AvalancheDataset:
    y = torch.arange(len(x)) % 2
    return AvalancheDataset([TensorDataset(x, y)], data_attributes=[DataAttribute(y.tolist(), "targets")])


def test_captioner_gets_the_untransformed_image() -> None:
    images = pictures()
    dataset = stream_of(ImageDataset(images, [0, 1] * 4, ["cat", "dog"]), train_transform=TRAIN, eval_transform=EVAL)
    raw = raw_images(dataset, range(len(dataset)))
    assert [list(image.getdata()) for image in raw] == [list(image.getdata()) for image in images[::2]]
    assert image_format(dataset) == ImageFormat("pil", (20, 12), "RGB")


@pytest.mark.parametrize("group", ["train", "eval"])
def test_regenerated_images_go_through_the_streams_own_transforms(group: str) -> None:
    images = pictures()
    dataset = stream_of(ImageDataset(images, [0, 1] * 4, ["cat", "dog"]), train_transform=TRAIN, eval_transform=EVAL)
    again = as_stream_dataset(
        images[::2], [0] * 4, [0] * 4, format=image_format(dataset), transforms=stream_transforms(dataset)
    )
    for real, regenerated in zip(dataset.with_transforms(group), again.with_transforms(group), strict=True):
        assert torch.equal(real[0], regenerated[0])
        assert list(real[1:]) == list(regenerated[1:])


def test_nested_transforms_are_all_applied_innermost_first() -> None:
    inner = AvalancheDataset(
        [ImageDataset(pictures("L"), [0] * 8, ["a"])],
        transform_groups=TransformGroups({"train": Resize(6), "eval": Resize(6)}),
    )
    outer = AvalancheDataset([inner], transform_groups=TransformGroups({"train": ToTensor(), "eval": ToTensor()}))
    transforms = stream_transforms(outer)
    again = as_stream_dataset(pictures("L"), [0] * 8, [0] * 8, format=image_format(outer), transforms=transforms)
    assert torch.equal(outer[3][0], again[3][0])


def test_frozen_transforms_belong_to_the_image() -> None:
    dataset = AvalancheDataset(
        [ImageDataset(pictures("L"), [0] * 8, ["a"])],
        transform_groups=TransformGroups({"train": Resize(6), "eval": Resize(6)}),
    )
    frozen = dataset.freeze_transforms()
    assert image_format(frozen).size == frozen[0][0].size == (10, 6)
    assert raw_images(frozen, [0])[0].size == (10, 6)


@pytest.mark.parametrize(
    ("format", "check"),
    [
        (ImageFormat("pil", (28, 28), "L"), lambda x: x.size == (28, 28) and x.mode == "L"),
        (ImageFormat("pil", (64, 48), "RGB"), lambda x: x.size == (64, 48) and x.mode == "RGB"),
        (ImageFormat("float", (8, 6), "RGB"), lambda x: x.shape == (3, 6, 8) and 0 <= x.min() <= x.max() <= 1),
        (ImageFormat("uint8", (8, 6), "L"), lambda x: x.shape == (1, 6, 8) and x.dtype == torch.uint8),
    ],
)
def test_generated_images_get_the_streams_native_size_and_mode(format: ImageFormat, check) -> None:
    assert check(format.restore(pictures("RGB", 1)[0]))


def test_native_bytes_are_height_times_width_times_channels() -> None:
    assert image_format(split_digits(5, seed=0).train_stream[0].dataset).nbytes == 64
    assert ImageFormat("pil", (32, 32), "RGB").nbytes == 3072


@pytest.mark.parametrize("x", [torch.rand(8, 3, 5, 5), (torch.rand(8, 3, 5, 5) * 255).byte(), torch.rand(8, 1, 5, 5)])
def test_tensors_in_range_are_taken_as_images(x: torch.Tensor) -> None:
    dataset = tensors(x)
    format = image_format(dataset)
    assert format.size == (5, 5)
    restored = format.restore(raw_images(dataset, [2])[0])
    assert restored.dtype == x.dtype
    assert torch.allclose(restored.float(), x[2].float(), atol=1 / 255)


def test_normalised_tensors_are_refused_with_the_remedy() -> None:
    with pytest.raises(ValueError, match=r"values from -.*no untransformed image.*train_transform"):
        image_format(tensors(torch.randn(8, 3, 5, 5)))


@pytest.mark.parametrize("x", [torch.rand(8, 13), torch.rand(8, 7, 5, 5), torch.randint(9, (8,))])
def test_samples_that_are_no_images_are_refused(x: torch.Tensor) -> None:
    with pytest.raises(TypeError, match="samples of this stream are not images"):
        image_format(tensors(x))


def test_class_names_come_from_the_data_set_underneath() -> None:
    data = ImageDataset(pictures("L"), [0, 1] * 4, ["cat", "dog"])
    assert class_names(stream_of(data)) == {0: "cat"}
    wrapped = AvalancheDataset([Subset(data, [1, 2])], data_attributes=[DataAttribute([1, 0], "targets")])
    assert class_names(wrapped) == {0: "cat", 1: "dog"}
    assert class_names(tensors(torch.rand(8, 3, 5, 5))) is None


def test_names_of_renumbered_classes_are_unknown_rather_than_wrong() -> None:
    data = ImageDataset(pictures("L"), [0, 1] * 4, ["cat", "dog"])
    stream = nc_benchmark(
        data, data, 2, task_labels=False, fixed_class_order=[1, 0], class_ids_from_zero_from_first_exp=True
    ).train_stream
    assert class_names(stream[0].dataset) is None
