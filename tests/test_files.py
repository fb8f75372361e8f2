"""Files and folders are whole or not there, whatever happens while they are written."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch
from safetensors import SafetensorError

from avalanche_clts._support.files import read_state, whole_files, whole_folder, write_bytes, write_state, write_text

WRITERS: dict[str, tuple[Callable[[Path, object], None], Callable[[Path], object], list[object]]] = {
    "bytes": (write_bytes, Path.read_bytes, [b"\x00old\xff", b"new\r\n"]),
    "text": (write_text, lambda path: path.read_bytes().decode(), ["old", "new ends\nof\r\nlines, ünïcode"]),
    "state": (write_state, lambda path: read_state(path), [{"a": 1}, {"a": [1.5, None, "b"]}]),
}


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was synchronised, in order: "file SIZE" or "folder"."""
    seen: list[str] = []
    fsync = os.fsync

    def watched(descriptor: int) -> None:
        status = os.fstat(descriptor)
        seen.append("folder" if stat.S_ISDIR(status.st_mode) else f"file {status.st_size}")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", watched)
    return seen


def full_disk(*given: object, **named: object) -> None:
    raise OSError(28, "disk is full")


def fill(folder: Path, content: str, *, failing: bool = False) -> None:
    with whole_folder(folder) as partial:
        assert list(partial.iterdir()) == []
        (partial / "below").mkdir()
        (partial / "below" / "file").write_text(content)
        (partial / "top").write_text(content)
        if failing:
            full_disk()


@pytest.mark.parametrize("kind", WRITERS)
def test_a_file_is_replaced_as_a_whole_and_is_on_the_disk_with_its_name(
    kind: str, tmp_path: Path, synced: list[str]
) -> None:
    write, read, contents = WRITERS[kind]
    for content in contents:
        synced.clear()
        write(tmp_path / "file", content)
        assert read(tmp_path / "file") == content
        assert synced == [f"file {(tmp_path / 'file').stat().st_size}", "folder"]
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("kind", WRITERS)
def test_after_a_failure_the_old_file_is_whole_and_nothing_lies_beside_it(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, read, (old, new) = WRITERS[kind]
    write(tmp_path / "file", old)
    for method in ("replace", "open"):
        with monkeypatch.context() as patched:
            patched.setattr(Path, method, full_disk)
            with pytest.raises(OSError, match="disk is full"):
                write(tmp_path / "file", new)
        assert read(tmp_path / "file") == old
        assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_what_meets_a_full_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        pytest.raises(OSError, match=r"No space left on device: '.*image\.png'"),
        whole_files([tmp_path / "image.png"]),
    ):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # as Pillow does

    def full(*args: object, **options: object) -> None:
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(safetensors.torch, "save_file", full)
    with pytest.raises(OSError, match=r"cannot write .*state\.safetensors \(I/O error: No space left"):
        write_state(tmp_path / "state.safetensors", {"a": 1})
    assert list(tmp_path.iterdir()) == []


def test_many_files_are_synchronised_before_any_takes_its_name(tmp_path: Path, synced: list[str]) -> None:
    files = [tmp_path / f"{i}.png" for i in range(3)]
    with whole_files(files) as partials:
        for i, partial in enumerate(partials):
            partial.write_bytes(b"x" * i)
        assert not any(file.exists() for file in files)
    assert synced == ["file 0", "file 1", "file 2", "folder"]
    assert sorted(tmp_path.iterdir()) == files


def test_state_makes_its_folder_and_text_does_not(tmp_path: Path, synced: list[str]) -> None:
    write_state(tmp_path / "a" / "b" / "state", {"t": torch.arange(3)})
    assert synced[:2] == ["folder", "folder"], "the new folders' own names"
    assert torch.equal(read_state(tmp_path / "a" / "b" / "state")["t"], torch.arange(3))
    with pytest.raises(FileNotFoundError):
        write_text(tmp_path / "c" / "text", "a folder that has vanished is not made anew")
    assert not (tmp_path / "c").exists()


def test_a_folder_takes_its_place_as_a_whole(tmp_path: Path, synced: list[str]) -> None:
    folder = tmp_path / "folder"
    for content in ("old", "newer"):
        (tmp_path / "folder.partial").mkdir()
        (tmp_path / "folder.partial" / "left over").write_text("by an interrupted run")
        synced.clear()
        fill(folder, content)
        assert (folder / "below" / "file").read_text() == (folder / "top").read_text() == content
        assert sorted(path.name for path in folder.iterdir()) == ["below", "top"]
        assert [path.name for path in tmp_path.iterdir()] == ["folder"]
        assert synced.count(f"file {len(content)}") == 2
        assert synced[-2:] == ["folder", "folder"], "what it holds, then its own name"


def test_after_a_failure_the_old_folder_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "folder"
    fill(folder, "old")
    with pytest.raises(OSError, match="disk is full"):
        fill(folder, "new", failing=True)
    rename = Path.rename

    def fails_at_the_end(self: Path, target: Path) -> Path:
        if self.name == "folder.partial":
            full_disk()
        return rename(self, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", fails_at_the_end)
        with pytest.raises(OSError, match="disk is full"):
            fill(folder, "new")
    assert (folder / "below" / "file").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_a_folder_that_left_before_the_power_failed_comes_back(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    fill(folder, "old")
    folder.rename(tmp_path / "folder.replaced.partial")
    with pytest.raises(OSError, match="disk is full"):
        fill(folder, "new", failing=True)
    assert (folder / "top").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_file_systems_that_synchronise_no_folders_are_served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fsync = os.fsync

    def files_only(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(22, "invalid argument")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", files_only)
    write_text(tmp_path / "file", "whole")
    fill(tmp_path / "folder", "whole")
    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="disk is full"):
        write_text(tmp_path / "file", "not")
    assert (tmp_path / "file").read_text() == "whole"
