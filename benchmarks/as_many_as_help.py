"""What a pair's images teach, by their number, beside as many real ones.

    python benchmarks/as_many_as_help.py cells --size 32 --pair embedded-mnist-blood --out cells.json

The folder has class subfolders in train/ and test/, and of its train/ the pair has learnt the first half. The second
half is captioned, images are generated of the captions, and a small network that has seen so many of them names the
real images in test/; so does one that has seen as many of the second half itself.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import torch

from avalanche_clts import load_pair
from avalanche_clts._support.files import write_text
from avalanche_clts.pretraining import photos_domain
from avalanche_clts.pretraining.pool import Domain
from avalanche_clts.pretraining.quality import accuracy, batch_of, named_or_known, train_classifier


def main() -> None:
    parser = argparse.ArgumentParser(description="What a pair's images teach, by their number.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--size", type=int, help="side that images are brought to; as they are by itself")
    parser.add_argument("--pair", required=True)
    parser.add_argument("--numbers", type=int, nargs="+", default=[1000, 3000, 10_000, 25_000])
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    rows = measure(photos_domain(arguments.folder, size=arguments.size, part=(1, 2)), arguments.pair, arguments.numbers)
    command = " ".join(["python", *sys.argv])
    write_text(arguments.out, json.dumps({"command": command, "real_test_images_recognised": rows}, indent=1) + "\n")


def measure(domain: Domain, pair_name: str, numbers: list[int]) -> list[dict[str, Any]]:
    """A row for each number: the share of real test images that are recognised."""
    pair = load_pair(pair_name)
    train, test = domain.held_out()
    real, real_test = (batch_of(*part, domain) for part in (train, test))
    rounds = -(-max(numbers) // len(train.images))
    picks = torch.cat([torch.randperm(len(train.images)) for _ in range(rounds)])[: max(numbers)].tolist()
    shown = sorted(set(picks))
    captions = pair.captioner.caption(
        [train.images[i] for i in shown], [domain.class_names[train.targets[i]] for i in shown]
    )
    caption_of = dict(zip(shown, captions, strict=True))
    prompts = [caption_of[i] for i in picks]
    said = named_or_known(prompts, [train.targets[i] for i in picks], domain.class_names)
    generated = batch_of(pair.generator.generate(prompts, list(range(len(prompts)))), said, domain)
    rows = []
    for number in numbers:
        row: dict[str, Any] = {"images": number}
        row["generated"] = accuracy(train_classifier(*(part[:number] for part in generated), domain), *real_test)
        if number <= len(train.images):
            row["real"] = accuracy(train_classifier(*(part[picks[:number]] for part in real), domain), *real_test)
        rows.append(row)
        print(row, flush=True)
    return rows


if __name__ == "__main__":
    main()
