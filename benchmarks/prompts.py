"""The prompts that class names of well-known streams become, one a line, to be read.

    python benchmarks/prompts.py --tiny-imagenet tiny-imagenet-200 --core50 core50

where the one folder holds Tiny ImageNet's `words.txt`, and its classes in `wnids.txt` or as the folders of `train`, and
the other CORe50's `labels2names.pkl`. Without them, their names are left out.
"""

from __future__ import annotations

import argparse
import pickle
from collections.abc import Sequence
from pathlib import Path

from torchvision.datasets import MNIST, FashionMNIST

from avalanche_clts._support.files import write_text
from avalanche_clts.pair.catalogue import CAPTIONERS
from avalanche_clts.pair.prompts import fill, words_of
from avalanche_clts.streams.core50 import object_names
from avalanche_clts.streams.named import STREAMS

# As their archives spell them; torchvision reads them from there.
CIFAR10 = "airplane automobile bird cat deer dog frog horse ship truck"
CIFAR100 = """apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can
castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant
flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree
motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate poppy
porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake spider squirrel
streetcar sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle wardrobe whale
willow_tree wolf woman worm"""


def main() -> None:
    parser = argparse.ArgumentParser(description="Prompts of the class names of well-known streams.")
    parser.add_argument("--tiny-imagenet", type=Path, help="the folder of its words.txt")
    parser.add_argument("--core50", type=Path, help="the folder of its labels2names.pkl")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/prompts/prompts.txt"))
    arguments = parser.parse_args()
    labels: dict[str, Sequence[str]] = {
        "split-mnist": MNIST.classes,
        "split-fmnist": FashionMNIST.classes,
        "split-cifar10": CIFAR10.split(),
        "split-cifar100": CIFAR100.split(),
    }
    if arguments.core50 is not None:
        mapping = pickle.loads((arguments.core50 / "labels2names.pkl").read_bytes())
        for scenario in ("nc", "ni"):  # run 0 of each; those of other scenarios are called as those of NI
            labels[f"core50:scenario={scenario}"] = object_names(mapping, scenario, run=0)
    if arguments.tiny_imagenet is not None:
        labels["split-tiny-imagenet"] = wordnet_ids(arguments.tiny_imagenet)
    lines = [
        f"{stream}\t{label}\t{fill(template(stream), name)}"
        for stream, names in labels.items()
        for label, name in zip(names, words_of(names, arguments.tiny_imagenet), strict=True)
    ]
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    write_text(arguments.out, "\n".join(["stream\tlabel\tprompt", *lines, ""]))


def template(stream: str) -> str:
    prefix: str = STREAMS[stream.partition(":")[0]].template or CAPTIONERS["blip"].arguments["prefix"]
    return prefix


def wordnet_ids(folder: Path) -> list[str]:
    listed = folder / "wnids.txt"
    if listed.is_file():
        return listed.read_text().split()
    return sorted(path.name for path in (folder / "train").iterdir() if path.is_dir())


if __name__ == "__main__":
    main()
