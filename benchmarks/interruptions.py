"""Kill a comparison again and again, start it again each time, and compare its outcome with an undisturbed one's.

    python benchmarks/interruptions.py --out benchmarks/results/interruptions

Each time the process group gets SIGKILL at a random moment. Writes seed0.json: the moments, what was under way, and
whether the two results.json agree in everything but seconds.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import pty
import random
import re
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time
from pathlib import Path
from typing import Any

from avalanche_clts._support.files import write_text

COMPARISON = ["compare", "--stream", "digits", "--strategies", "clts", "caption-replay", "er-bytes", "--seeds", "1"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        whole, disturbed = Path(temporary) / "whole", Path(temporary) / "disturbed"
        begun = time.monotonic()
        start(whole).wait()
        duration = time.monotonic() - begun
        draw = random.Random(arguments.seed)
        kills = []
        while sum(not kill["finished"] for kill in kills) < arguments.kills:
            # A fresh folder whenever it got to the end.
            folder = disturbed / str(sum(kill["finished"] for kill in kills))
            kills.append(kill_after(draw.uniform(0.1, 0.6) * duration, folder))
            print(kills[-1], flush=True)
        start(folder).wait()
        finished = sorted(disturbed.iterdir())
        outcome = {
            "command": "python benchmarks/interruptions.py " + " ".join(sys.argv[1:]),
            "comparison": "clts " + " ".join(COMPARISON),
            "undisturbed_seconds": round(duration, 1),
            "kills": kills,
            "comparisons_finished": len(finished),
            "all_equal_but_for_seconds": all(without_seconds(whole) == without_seconds(f) for f in finished),
        }
    write_text(arguments.out / f"seed{arguments.seed}.json", json.dumps(outcome, indent=1) + "\n")
    print({name: value for name, value in outcome.items() if name != "kills"})


def start(folder: Path, stderr: int = subprocess.DEVNULL) -> subprocess.Popen[bytes]:
    """The comparison, in a process group of its own."""
    command = [sys.executable, "-m", "avalanche_clts.cli", *COMPARISON, "--out", str(folder)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=stderr, start_new_session=True)


def kill_after(seconds: float, folder: Path) -> dict[str, Any]:
    """Start the comparison, and kill it after so long unless it has ended."""
    screen, terminal = pty.openpty()  # on a terminal, everything that takes long has a progress bar
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 160, 0, 0))
    process = start(folder, terminal)
    os.close(terminal)
    said = Screen(screen)
    said.start()
    try:
        process.wait(timeout=seconds)
        finished = True
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        finished = False
    said.join()
    written = len(list(folder.glob("runs/*.json")))
    return {"after": round(seconds, 2), "finished": finished, "runs": written, "under_way": said.last_bar()}


class Screen(threading.Thread):
    """Reads what a process draws on its terminal."""

    def __init__(self, descriptor: int) -> None:
        super().__init__(daemon=True)
        self.descriptor = descriptor
        self.drawn = b""

    def run(self) -> None:
        try:
            while piece := os.read(self.descriptor, 65536):
                self.drawn = (self.drawn + piece)[-65536:]
        except OSError:  # the process has ended
            pass
        os.close(self.descriptor)

    def last_bar(self) -> str:
        """The label of the progress bar that was drawn last."""
        bars = re.findall(r"([\w,/: -]*?):?\s+\d+%\|", self.drawn.decode(errors="replace"))
        return bars[-1].strip() if bars else "loading"


def without_seconds(folder: Path) -> dict[str, Any]:
    """What must be the same: every run, and everything that was derived from them."""
    document: dict[str, Any] = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    for run in document["runs"]:
        del run["seconds"]
    for name in ("command", "date", "machine", "threads"):
        document.pop(name, None)
    return document


if __name__ == "__main__":
    main()
