"""Put the recorded results into the README and the docs: table, figure, quality of the pair.

    python benchmarks/readme.py

Each stands between two marks, such as `<!-- table -->` and `<!-- /table -->`. A test fails when they disagree.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from avalanche_clts.compare.figures import accuracy_curves
from avalanche_clts.compare.results import read_runs, write_text
from avalanche_clts.compare.table import format_markdown
from avalanche_clts.pretraining.quality import format_quality

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"


def main() -> None:
    (ROOT / "docs" / "assets").mkdir(exist_ok=True)
    write_text(ROOT / "docs" / "assets" / "accuracy.svg", accuracy_curves(read_runs(RESULTS / "digits")["runs"]))
    for path, text in rendered().items():
        write_text(path, text)


def rendered() -> dict[Path, str]:
    """The README and the docs as they should be, by path."""
    table = format_markdown(read_runs(RESULTS / "digits")["runs"])
    quality = format_quality(json.loads((RESULTS / "embedded-pair" / "quality.json").read_text(encoding="utf-8")))
    return {
        ROOT / "README.md": between(ROOT / "README.md", "table", table),
        ROOT / "docs" / "embedded-pair.md": between(ROOT / "docs" / "embedded-pair.md", "quality", indented(quality)),
    }


def between(path: Path, mark: str, content: str) -> str:
    """The file's text with `content` between its two marks."""
    text, count = re.subn(
        rf"(<!-- {mark} -->\n).*?(\n<!-- /{mark} -->)",
        lambda found: f"{found[1]}\n{content}\n{found[2]}",
        path.read_text(encoding="utf-8"),
        flags=re.DOTALL,
    )
    if count != 1:
        raise ValueError(f"{path} must hold <!-- {mark} --> and <!-- /{mark} --> once")
    return text


def indented(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.splitlines())


if __name__ == "__main__":
    main()
