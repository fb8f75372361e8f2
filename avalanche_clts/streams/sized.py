"""Avalanche's classic benchmarks of images in many sizes, brought to one.

Avalanche's own builders leave sizes to the transforms, behind which a memory of images or captions does not look, and
know no names of classes. What is taken from it are its data sets, its divisions and its orders.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .kinds import Options, StreamKind, count, one_of, size
from .orders import num_classes

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch.utils.data import Subset

_Labelled = tuple[Any, Sequence[int]]  # a data set whose samples begin with an image, and its targets
_SIZE = 64  # pixels a side, where nothing else is asked for
FACTORS = ("clutter", "illumination", "occlusion", "pixel", "mixture-iros")  # of OpenLORIS-Object
_OF_STREETS = ["background", "tree", "car", "people", "street lamp"]  # of Endless-CL-Sim, which has "BG"


def _cub200(seed: int, options: Options, data_root: Path | None) -> Any:
    """Birds, cut out along their boxes."""
    from avalanche.benchmarks.datasets import CUB200

    from .relabelled import names_of_folders

    parts = [CUB200(data_root, train=train, download=False) for train in (True, False)]
    classes = names_of_folders(file for part in parts for file in part.imgs)
    return _split([(part, part.targets) for part in parts], classes, seed, options, {0: 100}, 11)


def _imagenet(seed: int, options: Options, data_root: Path | None) -> Any:
    from avalanche.benchmarks.datasets import ImageNet, default_dataset_location

    root = str(data_root or default_dataset_location("imagenet"))
    parts = [ImageNet(root, split=split) for split in ("train", "val")]
    classes = [synonyms[0] for synonyms in parts[0].classes]
    return _split([(part, part.targets) for part in parts], classes, seed, options, {}, 10)


def _stream51(seed: int, options: Options, data_root: Path | None) -> Any:
    """Objects in video, cut out along their boxes; the test images of things that are never trained are left out."""
    from avalanche.benchmarks.datasets import Stream51
    from torch.utils.data import Subset

    from .relabelled import names_of_folders

    parts = [Stream51(data_root, train=train) for train in (True, False)]
    files = [[(sample[-1], sample[0]) for sample in part.samples] for part in parts]
    classes = names_of_folders(files[0])
    trained = {target for _, target in files[0]}
    chosen = [[i for i, (_, target) in enumerate(of_part) if target in trained] for of_part in files]
    pairs = [
        (Subset(part, indices), [of_part[i][1] for i in indices])
        for part, of_part, indices in zip(parts, files, chosen, strict=True)
    ]
    return _split(pairs, classes, seed, options, dict.fromkeys(range(5), 10), 6)


def _clear(seed: int, options: Options, data_root: Path | None) -> Any:
    """Each period divided into images to train and to test on as in Avalanche's protocol "iid" with seed 0."""
    from avalanche.benchmarks.classic import CLEAR
    from avalanche.benchmarks.datasets import default_dataset_location

    version = options.get("version", "clear10")
    root = Path(data_root or default_dataset_location(version))
    periods = CLEAR(data_name=version, evaluation_protocol="iid", seed=0, dataset_root=root)
    named = next(path for path in (root / "class_names.txt", root / "train" / "class_names.txt") if path.is_file())
    classes = [name.lower() for name in named.read_text(encoding="utf-8").split("\n") if name]
    train, test = ([(e.dataset, e.dataset.targets) for e in s] for s in (periods.train_stream, periods.test_stream))
    return _in_given_order(train, test, classes, options)


def _openloris(seed: int, options: Options, data_root: Path | None) -> Any:
    """Household objects in video, in the order of difficulty; one test set, of all experiences."""
    from avalanche.benchmarks.classic.openloris import fac2dirs, nbatch
    from avalanche.benchmarks.datasets import OpenLORIS
    from avalanche.benchmarks.utils import FilelistDataset

    from .relabelled import names_of_folders

    factor = options.get("factor", "clutter")
    root = OpenLORIS(data_root).root
    lists = root / fac2dirs[factor]
    train = [FilelistDataset(root, lists / f"train_batch_{i:02d}.txt") for i in range(nbatch[factor])]
    test = FilelistDataset(root, lists / "test.txt")
    classes = names_of_folders(file for part in (*train, test) for file in part.imgs)
    if classes is not None:
        classes = [re.sub(r"_\d+$", "", name) for name in classes]  # bottle_01
    return _in_given_order([(part, part.targets) for part in train], [(test, test.targets)], classes, options)


def _endless(seed: int, options: Options, data_root: Path | None) -> Any:
    """Patches of a simulated street."""
    from avalanche.benchmarks.datasets import EndlessCLSimDataset, default_dataset_location

    scenario = options.get("scenario", "classes").capitalize()
    root = data_root or default_dataset_location("endless-cl-sim")
    data = EndlessCLSimDataset(root, scenario=scenario, patch_size=options.get("size", _SIZE), transform=_as_it_is)
    train, test = map(_by_folder, (data.train_sub_sequence_datasets, data.test_sub_sequence_datasets))
    return _in_given_order(train, test, _OF_STREETS, options)


def _by_folder(parts: Sequence[Any]) -> list[_Labelled]:
    """Parts of Endless-CL-Sim in the order of their folders, 0, 1, ...: Avalanche has them as the disk lists them."""
    in_order = sorted(parts, key=lambda part: int(Path(part.file_paths[0]).parents[1].name))
    return [(part, [part.labelmap[name] for name in part.targets]) for part in in_order]


def _as_it_is(image: Any) -> Any:
    return image


def _split(
    parts: Sequence[_Labelled],
    classes: Sequence[str] | None,
    seed: int,
    options: Options,
    per_exp_classes: dict[int, int],
    n_experiences: int,
) -> Any:
    """Classes in equally large experiences, as many as the options ask for, or else divided as Avalanche does."""
    from avalanche.benchmarks import nc_benchmark
    from torchvision.transforms import ToTensor

    from .benchmarks import split_classes
    from .relabelled import RelabelledImages

    train, test = (RelabelledImages(*part, classes, options.get("size", _SIZE)) for part in parts)
    if "experiences" in options or not per_exp_classes:
        n_experiences = options.get("experiences", n_experiences)
        return split_classes(train, test, len(set(train.targets)), n_experiences, seed=seed)
    return nc_benchmark(
        train,
        test,
        n_experiences=n_experiences,
        per_exp_classes=per_exp_classes,
        task_labels=False,
        seed=seed,
        train_transform=ToTensor(),
        eval_transform=ToTensor(),
    )


def _in_given_order(
    train: Sequence[_Labelled], test: Sequence[_Labelled], classes: Sequence[str] | None, options: Options
) -> Any:
    """An experience for each data set to train on, without task labels."""
    from avalanche.benchmarks import dataset_benchmark
    from torchvision.transforms import ToTensor

    benchmark = dataset_benchmark(
        _sized_parts(train, classes, options),
        _sized_parts(test, classes, options),
        complete_test_set_only=len(test) < len(train),
        train_transform=ToTensor(),
        eval_transform=ToTensor(),
    )
    # Which Avalanche has of what it divides by classes itself, and its CORe50 says.
    benchmark.n_classes = num_classes(benchmark)
    return benchmark


def _sized_parts(
    parts: Sequence[_Labelled], classes: Sequence[str] | None, options: Options
) -> list[Subset[tuple[Image, int]]]:
    """The data sets as parts of one: of some classes alone it could not be told that their names are theirs."""
    from torch.utils.data import ConcatDataset, Subset

    from .relabelled import RelabelledImages

    targets = [target for _, of_part in parts for target in of_part]
    whole = RelabelledImages(ConcatDataset([data for data, _ in parts]), targets, classes, options.get("size", _SIZE))
    ends = list(accumulate(len(of_part) for _, of_part in parts))
    return [Subset(whole, range(end - len(of_part), end)) for end, (_, of_part) in zip(ends, parts, strict=True)]


SIZED: dict[str, StreamKind] = {
    "split-cub200": StreamKind(
        "Split CUB-200: 200 birds, 100 and then 10 at a time (or experiences=10: equally many), size=64",
        _cub200,
        {"experiences": count, "size": size},
        by_hand="CUB_200_2011/, unpacked from CUB_200_2011.tgz,",
    ),
    "split-imagenet": StreamKind(
        "Split ImageNet: 1,000 classes in 10 experiences, size=64",
        _imagenet,
        {"experiences": count, "size": size},
        by_hand="ILSVRC2012_devkit_t12.tar.gz, ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar of ImageNet",
    ),
    "stream51": StreamKind(
        "Stream-51: 51 objects in video, 10 at a time (or experiences=17: equally many), size=64",
        _stream51,
        {"experiences": count, "size": size},
        by_hand="train/, test/ and the two Stream-51_meta_*.json, unpacked from Stream-51.zip,",
    ),
    "clear": StreamKind(
        "CLEAR: 11 classes in photographs of 10 periods (or version=clear100: 101), domain-incremental, size=64",
        _clear,
        {"version": one_of("clear10", "clear100", "clear10_neurips2021", "clear100_cvpr2022"), "size": size},
        by_hand="train/ and test/, unpacked from clear10-train.zip and clear10-test.zip (or clear100's),",
    ),
    "openloris": StreamKind(
        "OpenLORIS-Object: objects in video, domain-incremental, factor=clutter (or illumination, occlusion, pixel, "
        "mixture-iros), size=64",
        _openloris,
        {"factor": one_of(*FACTORS), "size": size},
        by_hand="OpenLORIS-Object's files, the zips beside what is unpacked from them,",
    ),
    "endless-cl-sim": StreamKind(
        "Endless-CL-Sim: patches of a simulated street, scenario=classes (or illumination, weather), size=64",
        _endless,
        {"scenario": one_of("classes", "illumination", "weather"), "size": count},
    ),
}
