"""Bring together the comparison on the second half of CIFAR-10: what was run on a CPU, and what a GPU had run before.

    python benchmarks/cifar10_half.py ON_CPU

ON_CPU is the folder of the comparison on the CPU, of benchmarks/experiments/cifar10-half.toml. The GPU's runs are files
in benchmarks/results/cifar10-half/runs, under the same settings. Both are written to benchmarks/results/cifar10-half as
one, with a sheet of regenerated images.
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
from avalanche_clts.experiments.config import read_experiment
from avalanche_clts.experiments.page.memory_curve import areas
from avalanche_clts.experiments.page.report import write_report
from avalanche_clts.experiments.page.table import format_table
from avalanche_clts.experiments.rows import ROWS
from avalanche_clts.experiments.runs.results import merged, read_runs, to_csv
from avalanche_clts.streams.named import slug

OUT = Path(__file__).parent / "results" / "cifar10-half"
EXPERIMENT = Path(__file__).parent / "experiments" / "cifar10-half.toml"
GPU_VERSIONS = {
    "avalanche-clts": "0.1.0",
    "avalanche-lib": "0.6.0",
    "torch": "2.11.0",
    "torchvision": "0.26.0",
    "transformers": "5.17.0",
    "diffusers": "0.42.1",
    "numpy": "2.5.2",
}
ON_GPU = ("joint", "ewc", "lwf", "er-count")


def main() -> None:
    parser = argparse.ArgumentParser(description="Bring together what was run on a CPU and on a GPU.")
    parser.add_argument("on_cpu", type=Path, metavar="ON_CPU", help="folder of the comparison on the CPU")
    folder = parser.parse_args().on_cpu
    on_cpu = read_runs(folder)
    document = merged([on_cpu, of_gpu(on_cpu["command"])], ["the CPU's runs", "the GPU's runs"])
    order = list(ROWS)
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


def of_gpu(command: str) -> dict[str, Any]:
    """The GPU's runs as a `results.json`. Raises `ValueError` for one that is missing."""
    experiment = read_experiment(EXPERIMENT)
    runs = []
    for strategy in ON_GPU:
        for seed in range(experiment.seeds):
            files = list(OUT.glob(f"runs/{slug(experiment.stream)}-{strategy}-seed{seed}-*.json"))
            if len(files) != 1:
                raise ValueError(f"{OUT}/runs holds {len(files)} runs of {strategy} with seed {seed}, not one")
            runs.append(json.loads(files[0].read_text(encoding="utf-8")))
    arguments = {"stream": experiment.stream, "strategies": list(ON_GPU), "seeds": experiment.seeds, "device": "cuda"}
    return {
        "runs": runs,
        "arguments": arguments | {"pair": experiment.pair},
        "settings": experiment.settings(),
        "command": command,
        "versions": GPU_VERSIONS,
    }


if __name__ == "__main__":
    main()
