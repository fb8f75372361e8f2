"""Runs are logged to Weights & Biases, by the real package, offline."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from avalanche.training.plugins import EvaluationPlugin
from PIL import Image

from avalanche_clts import Pair, clts_metrics, split_digits
from avalanche_clts._support.accounts import require_account
from avalanche_clts.cli import main
from avalanche_clts.loggers import TextWandBLogger
from tests.conftest import make_clts

wandb = pytest.importorskip("wandb")


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("NETRC", str(tmp_path / "no-accounts"))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    for name in ("WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_DATA_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "wandb-own"))
    yield
    wandb.teardown()  # it reads its environment once


def records(file: Path) -> Iterator[bytes]:
    """What wandb wrote to its log: LevelDB's format, blocks of 32 KiB whose chunks are `crc, length, kind`."""
    content, at, record = file.read_bytes(), 7, b""
    while at < len(content):
        left = 2**15 - at % 2**15
        if left < 7:
            at += left
            continue
        length, kind = int.from_bytes(content[at + 4 : at + 6], "little"), content[at + 6]
        record += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield record
            record = b""


def logged(folder: Path) -> dict[str, dict[str, Any]]:
    """What the files of wandb's runs hold last of each metric, by the run's name."""
    from wandb.proto.wandb_internal_pb2 import Record

    wandb.teardown()  # whose end everything is written by
    runs = {}
    for file in folder.glob("wandb/offline-run-*/*.wandb"):
        name, values = "", {}
        for data in records(file):
            record = Record()
            record.ParseFromString(data)
            name = record.run.display_name or name
            for item in record.history.item:
                values[item.key or "/".join(item.nested_key)] = json.loads(item.value_json)
        runs[name] = values
    return runs


def test_metrics_of_clts_are_logged(tiny_pair: Pair, tmp_path: Path) -> None:
    logger = TextWandBLogger(run_name="a run", dir=str(tmp_path))
    clts = make_clts(tiny_pair, evaluator=EvaluationPlugin(clts_metrics(captions=True), loggers=[logger]))
    benchmark = split_digits(5)
    try:
        for experience in benchmark.train_stream[:2]:  # with one head there is nothing to route, and no image made
            clts.train(experience)
        clts.eval(benchmark.test_stream)
    finally:
        wandb.finish()
    found = logged(tmp_path)["a run"]
    assert found["MemoryBytes/train_phase/train_stream/Task000/captions"] > 0
    assert found["Captions/train_phase/train_stream/Task000/text"].startswith("- ")
    grids = list(tmp_path.glob("wandb/*/files/media/images/RegeneratedImages/train_phase/train_stream/Task000/*.png"))
    assert grids
    assert all(Image.open(grid).width > Image.open(grid).height for grid in grids)  # twelve images, eight a row
    assert 0 <= found["RouterAccuracy_Stream/eval_phase/test_stream/Task000"] <= 1


def test_a_comparison_logs_every_run(tiny_pair_folder: Path, tmp_path: Path) -> None:
    line = ["compare", "--strategies", "naive", "--seeds", "1", "--epochs", "1", "--wandb", "digits-of-mine"]
    assert main([*line, "--pair", str(tiny_pair_folder), "--out", str(tmp_path)]) == 0
    assert wandb.run is None
    found = logged(tmp_path)
    assert list(found) == ["digits, naive, seed 0"]
    (run,) = json.loads((tmp_path / "results.json").read_text())["runs"]
    names = [f"Top1_Acc_Exp/eval_phase/test_stream/Task000/Exp00{j}" for j in range(5)]
    assert [found["digits, naive, seed 0"][name] for name in names] == pytest.approx(run["accuracy_matrix"][-1])


def test_what_wandb_refuses_is_said_with_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"wandb cannot begin a run \(No API key.* set WANDB_MODE=offline"):
        TextWandBLogger(dir=str(tmp_path), params={"mode": "online"})


def test_the_remedy_for_a_missing_key_helps_in_the_same_session(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("NETRC", str(tmp_path / "no-accounts"))
    monkeypatch.delenv("WANDB_MODE")
    wandb.teardown()
    with pytest.raises(ValueError, match="set WANDB_MODE=offline"):
        require_account("wandb", "mine")
    monkeypatch.setenv("WANDB_MODE", "offline")
    require_account("wandb", "mine")
