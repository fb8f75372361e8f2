"""Bring together the comparison on the second half of CIFAR-10: what was run on a CPU, and what a GPU had run before.

    python benchmarks/cifar10_half.py ON_CPU

ON_CPU is the folder of the comparison on the CPU, whose `results.json` says under which settings. The GPU's runs are
files in benchmarks/results/cifar10-half/runs, whose names hold a digest of settings, images, device and versions: what
was run under others is not found. Both are written to benchmarks/results/cifar10-half as one, with a sheet of
regenerated images. To be called where the folder `cifar10` is.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import shutil
from pathlib import Path
from typing import Any

from PIL import Image

from avalanche_clts._support.files import write_text
from avalanche_clts.experiments.comparison import Settings, format_table, write_report
from avalanche_clts.experiments.page.memory_curve import areas
from avalanche_clts.experiments.rows.strategies import STRATEGIES
from avalanche_clts.experiments.runs.execution import Task
from avalanche_clts.experiments.runs.results import ResultsFolder, merged, read_runs, to_csv
from avalanche_clts.streams.named import parse_stream

OUT = Path(__file__).parent / "results" / "cifar10-half"
GPU = {
    "device": "cuda",
    "versions": {
        "avalanche-clts": "0.1.0",
        "avalanche-lib": "0.6.0",
        "torch": "2.11.0",
        "torchvision": "0.26.0",
        "transformers": "5.17.0",
        "diffusers": "0.42.1",
        "numpy": "2.5.2",
    },
}
ON_GPU = ("joint", "ewc", "lwf", "er-count")
SEEDS = 3


def main() -> None:
    parser = argparse.ArgumentParser(description="Bring together what was run on a CPU and on a GPU.")
    parser.add_argument("on_cpu", type=Path, metavar="ON_CPU", help="folder of the comparison on the CPU")
    folder = parser.parse_args().on_cpu
    on_cpu = read_runs(folder)
    document = merged([on_cpu, of_gpu(on_cpu)], ["the CPU's runs", "the GPU's runs"])
    order = list(STRATEGIES)
    document["runs"].sort(key=lambda run: (order.index(run["strategy"]), run["seed"]))
    document["accuracy_memory_area"] = areas(document["runs"])
    write_text(OUT / "results.json", json.dumps(document, indent=1))
    write_text(OUT / "results.csv", to_csv(document["runs"]))
    (samples,) = folder.glob("samples-*.json")
    shutil.copy(samples, OUT)
    sheet(json.loads(samples.read_text(encoding="utf-8"))).save(OUT / "generated.png", optimize=True)
    write_report(OUT)
    print(format_table(document["runs"]))


def sheet(samples: dict[str, Any], *, side: int = 64, gap: int = 2) -> Image.Image:
    """A column a class of images regenerated from one caption. Raises `ValueError` if there are real ones beside them,
    which are not ours to hand on."""
    if samples["real_images"]:
        raise ValueError("the comparison shows real images; call it with --no-real-images")
    columns = [sample["regenerated"] for sample in samples["samples"]]
    page = Image.new("RGB", (len(columns) * (side + gap) - gap, len(columns[0]) * (side + gap) - gap), "white")
    for x, column in enumerate(columns):
        for y, url in enumerate(column):
            with Image.open(io.BytesIO(base64.b64decode(url.split(",")[1]))) as image:
                page.paste(image.resize((side, side)), (x * (side + gap), y * (side + gap)))
    return page


def of_gpu(on_cpu: dict[str, Any]) -> dict[str, Any]:
    """The GPU's runs as a `results.json` of the same settings. Raises `FileNotFoundError` for one that is missing."""
    stream = parse_stream(on_cpu["arguments"]["stream"])
    settings = Settings(**on_cpu["settings"])
    folder = ResultsFolder(OUT, GPU)
    runs = []
    for strategy in ON_GPU:
        for seed in range(SEEDS):
            task = Task(stream, strategy, seed, settings, pair="", device=GPU["device"])
            found = folder.load(task)
            if found is None:
                raise FileNotFoundError(f"{folder.file(task)}: there is no such run; see README.md beside it")
            runs.append(found)
    arguments = {"stream": stream.name, "strategies": list(ON_GPU), "seeds": SEEDS, "device": GPU["device"]}
    return {
        "runs": runs,
        "arguments": arguments | {"pair": on_cpu["arguments"]["pair"]},
        "settings": on_cpu["settings"],
        "command": on_cpu["command"],
        "versions": GPU["versions"],
    }


if __name__ == "__main__":
    main()
