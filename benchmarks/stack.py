"""Record how the suite fares on the installed versions, and what examples/clts_strategy.py reaches on them.

    python -m pytest --junitxml=build/newest.xml
    python benchmarks/stack.py --suite build/newest.xml --out benchmarks/results/stacks/newest.json

`.ci/floors` does so for the oldest versions that are allowed.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import subprocess
import sys
from importlib.metadata import requires, version
from pathlib import Path
from xml.etree import ElementTree

from avalanche_clts.experiments.page.provenance import provenance

EXAMPLE = Path(__file__).parents[1] / "examples/clts_strategy.py"


def versions() -> dict[str, str]:
    """Of Python, and of what is installed of the package's dependencies."""
    names = [re.match(r"[\w-]+", line)[0] for line in requires("avalanche-clts") or [] if "extra ==" not in line]
    tomli = [] if sys.version_info < (3, 11) else ["tomli"]
    return {"python": platform.python_version()} | {name: version(name) for name in names if name not in tomli}


def outcome(suite: Path) -> dict[str, float]:
    """Tests that passed, failed and were skipped, and the seconds that they took, of a file of JUnit's format."""
    found = ElementTree.parse(suite).getroot().find("testsuite").attrib
    failed, skipped = int(found["failures"]) + int(found["errors"]), int(found["skipped"])
    return {
        "passed": int(found["tests"]) - failed - skipped,
        "failed": failed,
        "skipped": skipped,
        "seconds": round(float(found["time"])),
    }


def example_accuracy() -> float:
    """On all classes, after the last experience."""
    done = subprocess.run([sys.executable, EXAMPLE], capture_output=True, text=True, check=True)
    return float(re.findall(r"Top1_Acc_Stream/\S+ = ([\d.]+)", done.stdout)[-1])


def main() -> None:
    """Write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--suite", type=Path, required=True, help="what pytest --junitxml wrote")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    record = {
        "suite": outcome(arguments.suite),
        "example_accuracy": example_accuracy(),
        **provenance(),
        "versions": versions(),
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(json.dumps({name: record[name] for name in ("suite", "example_accuracy")}))


if __name__ == "__main__":
    main()
