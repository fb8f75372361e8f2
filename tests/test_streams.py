"""The streams: what they show, what they refuse, and every scenario that CLTS is to work in."""

from __future__ import annotations

import gzip
import pickle
import shutil
import struct
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from avalanche.benchmarks import benchmark_from_datasets, nc_benchmark, with_classes_timeline
from avalanche.benchmarks.utils import DefaultTransformGroups, as_classification_dataset
from avalanche.evaluation.metrics import accuracy_metrics
from avalanche.training.plugins import EvaluationPlugin
from PIL import Image
from torchvision.transforms import ToTensor

from avalanche_clts import Pair, RoutedModel, split_folder, split_shapes
from avalanche_clts.images.avalanche import class_names, image_format
from avalanche_clts.networks import cnn
from avalanche_clts.streams import embedded_shapes as shapes
from avalanche_clts.streams import folders
from avalanche_clts.streams.benchmarks import ImageDataset
from avalanche_clts.streams.embedded_digits import CLASS_NAMES, stream_digits
from avalanche_clts.streams.folders import FolderDataset, open_folder
from avalanche_clts.streams.named import STREAMS, parse_stream, slug
from avalanche_clts.streams.orders import num_classes
from tests.conftest import make_clts


def parts() -> tuple[ImageDataset, ImageDataset]:
    train, test = (ImageDataset(*part, CLASS_NAMES) for part in stream_digits())
    return train, test


TRANSFORMS = {"train_transform": ToTensor(), "eval_transform": ToTensor()}


# Shapes


def test_shapes_of_the_stream_are_not_those_of_the_pair() -> None:
    train, test = shapes.stream_shapes()
    assert (len(train.images), len(test.images)) == (4000, 1000)
    assert [test.targets.count(c) for c in range(20)] == [50] * 20
    pair = {shapes.draw(i % 20, shapes.PAIR_SEED + i)[0].tobytes() for i in range(5000)}
    assert not pair & {image.tobytes() for image in train.images + test.images}


def test_a_shape_is_the_same_every_time() -> None:
    first, look = shapes.draw(3, 17)
    second, same = shapes.draw(3, 17)
    assert (first.tobytes(), look) == (second.tobytes(), same)
    assert (first.size, first.mode) == ((32, 32), "RGB")
    assert shapes.draw(3, 18)[0].tobytes() != first.tobytes()


def test_a_shape_looks_as_its_caption_says() -> None:
    look = shapes.Look(colour=0, background=0, size=2, tilt=1, texture=0)
    image, _ = shapes.draw(1, 5, look=look)
    assert shapes.describe(1, look) == "a large red square on black"
    pixels = np.asarray(image).astype(int)
    assert pixels[0, 0].max() < 40
    red, green, blue = pixels[16, 16]
    assert red > 150
    assert max(green, blue) < 80


@pytest.mark.parametrize("n_experiences", [1, 5, 10, 20])
def test_split_shapes_divides_the_kinds(n_experiences: int) -> None:
    benchmark = split_shapes(n_experiences, seed=3)
    classes = [e.classes_in_this_experience for e in benchmark.train_stream]
    assert len(classes) == n_experiences
    assert sorted(c for group in classes for c in group) == list(range(20))
    x, *_ = benchmark.test_stream[0].dataset[0]
    assert x.shape == (3, 32, 32)
    names = class_names(benchmark.train_stream[0].dataset)
    assert names == {k: shapes.CLASS_NAMES[k] for k in benchmark.train_stream[0].classes_in_this_experience}


def test_classes_that_do_not_divide_are_refused() -> None:
    with pytest.raises(ValueError, match="n_experiences is 3; 20 classes divide into 1, 2, 4, 5, 10, 20"):
        split_shapes(3)


# Folders


def write_images(root: Path, classes: dict[str, int], size: tuple[int, int] = (12, 12), mode: str = "RGB") -> Path:
    random = np.random.RandomState(0)
    for name, count in classes.items():
        (root / name).mkdir(parents=True)
        for i in range(count):
            shape = (size[1], size[0]) if mode == "L" else (size[1], size[0], 3)
            Image.fromarray(random.randint(0, 256, shape).astype(np.uint8)).save(root / name / f"{i:03d}.png")
    return root


def test_folder_with_train_and_test_is_taken_as_it_is(tmp_path: Path) -> None:
    write_images(tmp_path / "train", {"cat": 4, "dog": 4})
    write_images(tmp_path / "test", {"cat": 2, "dog": 2})
    benchmark = split_folder(tmp_path, 2, seed=0)
    assert [len(e.dataset) for e in benchmark.train_stream] == [4, 4]
    assert [len(e.dataset) for e in benchmark.test_stream] == [2, 2]
    named = [class_names(experience.dataset) for experience in benchmark.train_stream]
    assert {k: name for names in named for k, name in names.items()} == {0: "cat", 1: "dog"}
    assert image_format(benchmark.train_stream[0].dataset).size == (12, 12)


def test_undivided_folder_is_divided_within_each_class_by_seed(tmp_path: Path) -> None:
    write_images(tmp_path, {"cat": 10, "dog": 20}, mode="L")
    train, test = open_folder(tmp_path, test_share=0.3, seed=1)
    assert (len(train), len(test)) == (21, 9)
    assert not set(train.indices) & set(test.indices)
    assert open_folder(tmp_path, test_share=0.3, seed=1)[1].indices == test.indices
    assert open_folder(tmp_path, test_share=0.3, seed=2)[1].indices != test.indices
    assert train[0][0].mode == "L"


def test_folder_of_grey_and_coloured_images_is_coloured(tmp_path: Path) -> None:
    write_images(tmp_path, {"cat": 5}, mode="L")
    write_images(tmp_path, {"dog": 5})
    train, test = open_folder(tmp_path)
    assert {image.mode for part in (train, test) for image, _ in part} == {"RGB"} == {test.dataset.mode}


def test_parts_of_a_folder_do_not_meet(tmp_path: Path) -> None:
    write_images(tmp_path / "train", {"cat": 5, "dog": 6})
    write_images(tmp_path / "test", {"cat": 1, "dog": 1})
    first, second = (open_folder(tmp_path, part=(k, 2))[0].indices for k in (1, 2))
    assert sorted(first + second) == list(range(11))
    assert first == [0, 1, 2, 5, 6, 7]


def test_images_are_read_once_and_given_out_as_copies(tmp_path: Path, monkeypatch) -> None:
    write_images(tmp_path, {"cat": 2, "dog": 2})
    dataset = FolderDataset(tmp_path)
    first = dataset[0][0]
    before = first.tobytes()
    first.paste((0, 0, 0), (0, 0, 12, 12))
    for file in tmp_path.rglob("000.png"):
        file.unlink()
    assert dataset[0][0].tobytes() == before
    with pytest.raises(ValueError, match=r"000\.png"):
        pickle.loads(pickle.dumps(dataset))[0]
    monkeypatch.setattr(folders, "MEMORY", 2 * 12 * 12 * 3 - 1)
    large = FolderDataset(tmp_path)
    assert large[0][0].tobytes()
    for file in tmp_path.rglob("001.png"):
        file.unlink()
    with pytest.raises(ValueError, match=r"001\.png"):
        large[0]


def test_images_of_several_sizes_need_a_size(tmp_path: Path) -> None:
    write_images(tmp_path, {"cat": 3})
    write_images(tmp_path, {"dog": 3}, size=(20, 10))
    with pytest.raises(ValueError, match=r"20x10 pixels and the first image 12x12; give the size"):
        open_folder(tmp_path)
    train, _ = open_folder(tmp_path, size=16)
    assert {image.size for image, _ in train} == {(16, 16)}


def test_grey_of_16_bits_keeps_its_shades(tmp_path: Path) -> None:
    ramp = np.linspace(0, 2**16 - 1, 256).astype(np.uint16).reshape(16, 16)
    for name in ("cat/a.png", "cat/b.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(ramp).save(tmp_path / name)
    dataset = FolderDataset(tmp_path)
    image, _ = dataset[0]
    assert image.mode == "L"
    assert np.array_equal(np.asarray(image), ramp >> 8)
    Image.fromarray(np.zeros((16, 16), np.float32)).save(tmp_path / "cat" / "a.tiff")
    (tmp_path / "cat" / "a.png").unlink()
    with pytest.raises(ValueError, match=r"a\.tiff .* floating-point numbers"):
        FolderDataset(tmp_path)


def test_bad_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere is not a folder"):
        split_folder(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="must hold a subfolder for each class"):
        split_folder(tmp_path)
    write_images(tmp_path / "train", {"cat": 1, "dog": 1})
    write_images(tmp_path / "test", {"cat": 1, "cow": 1})
    with pytest.raises(ValueError, match="hold different classes: cow, dog"):
        split_folder(tmp_path)
    write_images(tmp_path / "broken", {"cat": 2, "dog": 2})
    (tmp_path / "broken" / "cat" / "a.png").write_bytes(b"not an image")
    with pytest.raises(ValueError, match=r"a\.png is not an image that Pillow can read"):
        split_folder(tmp_path / "broken", 1)
    with pytest.raises(ValueError, match=r"part is \(3, 2\)"):
        split_folder(tmp_path, part=(3, 2))


# Names on the command line


def test_options_are_read() -> None:
    assert len(parse_stream("shapes:experiences=20").build(0).train_stream) == 20
    folder = parse_stream("folder:some/where,experiences=4,size=64x48,part=1/2")
    assert folder.options == {"root": "some/where", "experiences": 4, "size": (64, 48), "part": (1, 2)}
    assert slug(folder.name).startswith("folder-some-where-experiences-4-size-64x48-part-1-2-")
    assert slug("shapes:experiences=20") == "shapes-experiences-20"
    names = ["folder:写真", "folder:猫", "folder:cats_dogs", "folder:cats-dogs", "folder:cats/dogs"]
    assert len({slug(name) for name in names}) == len(names)


def test_contents_of_a_folder_are_told_apart(tmp_path: Path) -> None:
    def contents() -> str | None:
        return parse_stream(f"folder:{root}").contents

    root = write_images(tmp_path / "photos", {"cat": 3, "dog": 3})
    before = contents()
    shutil.copytree(root, tmp_path / "copy")
    assert parse_stream(f"folder:{tmp_path / 'copy'}").contents == before
    (root / "cat" / "000.png").unlink()
    assert contents() != before
    assert parse_stream("shapes").contents is None


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("letters", "known streams: digits, shapes, split-mnist"),
        ("shapes:tasks=4", "shapes has no option 'tasks'; its options: experiences="),
        ("shapes:experiences=few", "'few' is no value for the option experiences"),
        ("folder", "name the folder: folder:PATH"),
        ("core50:scenario=abc", "'abc' is no value for the option scenario"),
        ("core50:size=64", "'64' is no value for the option size"),
    ],
)
def test_bad_names_say_what_is_known(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_stream(name)


@pytest.mark.parametrize("name", [name for name, kind in STREAMS.items() if kind.downloads])
def test_missing_data_set_is_one_clear_line(name: str, tmp_path: Path, monkeypatch) -> None:
    import urllib.request

    def unreachable(*args, **kwargs):
        raise urllib.error.URLError("no network")

    monkeypatch.setattr(urllib.request, "urlopen", unreachable)
    with pytest.raises(OSError, match=f"the data of {name} are not in .* give their folder with --data-root") as caught:
        parse_stream(name, tmp_path).build(0)
    assert len(str(caught.value).splitlines()) == 1


@pytest.fixture
def mnist_root(tmp_path: Path) -> Path:
    """Random digits in the files that MNIST comes in."""
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    random = np.random.RandomState(0)
    for part, count in (("train", 60), ("t10k", 20)):
        labels = (np.arange(count) % 10).astype(np.uint8)
        images = random.randint(0, 256, (count, 28, 28)).astype(np.uint8)
        for name, data, magic in (("images-idx3", images, 2051), ("labels-idx1", labels, 2049)):
            header = struct.pack(f">{1 + data.ndim}i", magic, *data.shape)
            (raw / f"{part}-{name}-ubyte").write_bytes(header + data.tobytes())
            with gzip.open(raw / f"{part}-{name}-ubyte.gz", "wb") as file:
                file.write(header + data.tobytes())
    return tmp_path


@pytest.mark.parametrize("name", ["split-mnist", "permuted-mnist", "rotated-mnist"])
def test_clts_runs_in_avalanches_classics(name: str, mnist_root: Path, tiny_pair: Pair) -> None:
    benchmark = parse_stream(f"{name}:experiences=2", mnist_root).build(0)
    assert num_classes(benchmark) == 10, "however often they come"
    model = RoutedModel(head=cnn(10, channels=1), router=cnn(10, channels=1))
    clts = make_clts(tiny_pair, model=model)
    for experience in benchmark.train_stream:
        clts.train(experience)
    buffer = clts.plugins[0].storage_policy
    assert (buffer.format.size, buffer.format.mode) == ((28, 28), "L")
    assert model.router.num_heads == 2
    clts.eval(benchmark.test_stream)


# Scenarios: what CLTS does in each is a row of docs/streams.md. Domain- and task-incremental streams, and classes that
# come back, are in test_strategy.py.


def train_through(clts, stream) -> None:
    for experience in stream:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            clts.train(experience)


def test_one_class_an_experience(embedded_pair: Pair) -> None:
    torch.manual_seed(0)
    benchmark = nc_benchmark(*parts(), 10, task_labels=False, seed=0, **TRANSFORMS)
    evaluator = EvaluationPlugin(accuracy_metrics(stream=True))
    clts = make_clts(
        embedded_pair, captions_per_class=20, replay_size=300, router_epochs=20, train_epochs=2, evaluator=evaluator
    )
    train_through(clts, benchmark.train_stream)
    assert [len(record.classes) for record in clts.model.records] == [1] * 10
    # A head of one class has nothing to choose: whatever is right is the router's.
    accuracy = clts.eval(benchmark.test_stream)["Top1_Acc_Stream/eval_phase/test_stream/Task000"]
    assert accuracy > 0.75


def test_experiences_of_unequal_size(tiny_pair: Pair) -> None:
    benchmark = nc_benchmark(
        *parts(), 4, task_labels=False, seed=0, per_exp_classes={0: 1, 1: 4, 2: 2, 3: 3}, **TRANSFORMS
    )
    clts = make_clts(tiny_pair, replay_size=16)
    train_through(clts, benchmark.train_stream)
    assert [len(record.classes) for record in clts.model.records] == [1, 4, 2, 3]
    prompts = clts.plugins[0].storage_policy.memory.prompts(16)
    assert [sum(p.caption.experience == t for p in prompts) for t in range(4)] == [4, 4, 4, 4]


def test_first_experience_with_half_of_the_classes(tiny_pair: Pair) -> None:
    benchmark = nc_benchmark(*parts(), 6, task_labels=False, seed=0, per_exp_classes={0: 5}, **TRANSFORMS)
    clts = make_clts(tiny_pair)
    train_through(clts, benchmark.train_stream)
    assert [len(record.classes) for record in clts.model.records] == [5, 1, 1, 1, 1, 1]
    assert clts.model.router.num_heads == 6


def test_class_incremental_with_repetition(tiny_pair: Pair) -> None:
    """Every class in two experiences, each time with other classes beside it."""
    train, test = parts()
    groups = [(0, 1, 2), (2, 3, 4), (0, 3, 5), (1, 4, 5)]
    datasets = []
    for turn, group in enumerate(groups):
        chosen = [i for i, t in enumerate(train.targets) if t in group and i % 2 == turn // 2]
        datasets.append(
            ImageDataset([train.images[i] for i in chosen], [train.targets[i] for i in chosen], train.classes)
        )
    transforms = DefaultTransformGroups((ToTensor(), None))
    streams = {
        name: [as_classification_dataset(part, transform_groups=transforms) for part in stream]
        for name, stream in (("train", datasets), ("test", [test]))
    }
    benchmark = with_classes_timeline(benchmark_from_datasets(**streams))
    clts = make_clts(tiny_pair, train_epochs=12, evaluator=EvaluationPlugin(accuracy_metrics(stream=True)))
    train_through(clts, benchmark.train_stream)
    assert [record.classes for record in clts.model.records] == groups
    counts = [sum(c.target == k for c in clts.plugins[0].storage_policy.memory) for k in range(6)]
    assert counts == [6] * 6, "three captions each time"
    clts.eval(benchmark.test_stream)


def test_fifty_experiences(tiny_pair: Pair) -> None:
    train, _ = parts()
    five = [train.images[k::50][:4] for k in range(50)]
    datasets = [ImageDataset(images, [k] * len(images), [str(i) for i in range(50)]) for k, images in enumerate(five)]
    benchmark = nc_benchmark(
        datasets, datasets, 50, task_labels=False, one_dataset_per_exp=True, shuffle=False, **TRANSFORMS
    )
    model = RoutedModel(
        head=torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 50)), router=torch.nn.Flatten()
    )
    clts = make_clts(tiny_pair, model=model, captions_per_class=2, replay_size=100)
    train_through(clts, benchmark.train_stream)
    assert clts.model.num_heads == clts.model.router.num_heads == 50
    assert len(clts.plugins[0].storage_policy.memory) == 100
    clts.eval(benchmark.test_stream)
