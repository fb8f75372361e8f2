"""Files and folders that are whole or not there, and stay so when the power fails.

Text, bytes, folders, and nested state in safetensors, which executes nothing on load. Nobody else writes atomically on
their own.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

# What says that a folder cannot be synchronised here, rather than that it failed: some network file systems.
_NOT_OFFERED = {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EBADF}


def files_below(folder: Path) -> list[Path]:
    """Every file in a folder, in order, also behind links to folders, unless they lead back up."""
    found: list[Path] = []
    for where, folders, files in os.walk(folder, followlinks=True):
        here = Path(where).resolve()
        folders[:] = [name for name in folders if not here.is_relative_to((here / name).resolve())]
        found += [Path(where, name) for name in files]
    return sorted(found)


def write_bytes(path: Path, data: bytes) -> None:
    """Write the file: it is whole or, after a failure, what it was before. Its folder must be there."""
    with whole_files([path]) as (partial,):
        partial.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Write the file in UTF-8, as `write_bytes` does; bytes of a path that are none stay what they are."""
    write_bytes(path, text.encode(errors="surrogateescape"))


def read_text(path: Path) -> str:
    """The content of a file as `write_text` writes it."""
    return path.read_text(encoding="utf-8", errors="surrogateescape")


def write_state(path: Path, state: Any) -> None:
    """Write nested state, as `write_bytes` does.

    **Arguments:**

    - path: the `.safetensors` file; its folder is made if missing.
    - state: dicts (string or integer keys), lists, tuples, numbers, strings, booleans, None and tensors, nested.

    Raises `TypeError` for anything else in `state`, and `OSError` where it cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    tensors: dict[str, torch.Tensor] = {}
    structure = json.dumps(_pack(state, tensors))
    _make_folder(path.parent)
    with whole_files([path]) as (partial,):
        try:
            save_file(tensors, partial, metadata={"structure": structure})
        except SafetensorError as error:  # a full disk
            raise OSError(f"cannot write {path} ({error})") from None


def read_state(path: Path) -> Any:
    """What `write_state` wrote to `path`; tuples come back as lists, tensors on the CPU.

    Raises `ValueError` if the file is damaged or was not written by `write_state`.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            structure = json.loads((file.metadata() or {})["structure"])
            names = list(file.keys())
            return _unpack(structure, {name: file.get_tensor(name) for name in names})
    except (SafetensorError, KeyError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is damaged or not a state file of this library ({error}); remove it") from error


@contextmanager
def whole_files(paths: Sequence[Path]) -> Iterator[list[Path]]:
    """A context that yields a file beside each of `paths` to be written; at its end they take the names in `paths`.

    Each file is on the disk before it takes its name, and the names are on the disk when the context is left. After an
    error, files that had not taken their names are removed, and what was there before stays.
    """
    partials = [path.with_name(path.name + ".partial") for path in paths]
    try:
        yield partials
        for partial in partials:
            _to_disk(partial)
        for partial, path in zip(partials, paths, strict=True):
            partial.replace(path)
    except BaseException as error:
        for partial in partials:
            with suppress(OSError):
                partial.unlink()
        if isinstance(error, OSError) and error.errno is not None and error.filename is None:
            error.filename = os.fspath(paths[0])  # where Pillow met a full disk, it does not say
        raise
    for folder in {path.parent for path in paths}:
        _entries_to_disk(folder)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """A context that yields an empty folder beside `path` to be filled; at its end it takes the place of `path`.

    Its files and their names are on the disk before it takes its place, and its own name is when the context is left.
    After an error it is removed, and what was there before stays. Between the old folder's leaving and the new one's
    coming there is an instant without either; should the power fail in it, the next `whole_folder` brings the old one
    back. All that stands beside `path` has a name that ends in `.partial`.
    """
    partial = path.with_name(path.name + ".partial")
    replaced = path.with_name(path.name + ".replaced.partial")
    if replaced.exists() and not path.exists():
        replaced.rename(path)
    for left_over in (partial, replaced):
        shutil.rmtree(left_over, ignore_errors=True)
    _make_folder(partial)
    try:
        yield partial
        for below in partial.rglob("*"):
            _entries_to_disk(below) if below.is_dir() else _to_disk(below)
        _entries_to_disk(partial)
        if path.exists():
            path.rename(replaced)
        try:
            partial.rename(path)
        except BaseException:
            if replaced.exists():
                replaced.rename(path)
            raise
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    _entries_to_disk(path.parent)
    shutil.rmtree(replaced, ignore_errors=True)


def _to_disk(file: Path) -> None:
    """Wait until the file is on the disk: a renamed file whose content is not would be empty after a power failure."""
    with file.open("r+b") as content:
        os.fsync(content.fileno())


def _entries_to_disk(folder: Path) -> None:
    """Wait until the names in the folder are on the disk, where the operating system can do that for folders."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except PermissionError:  # Windows opens no folders
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NOT_OFFERED:
            raise
    finally:
        os.close(descriptor)


def _make_folder(folder: Path) -> None:
    """Make the folder and those above it, their names on the disk."""
    made = [one for one in (folder, *folder.parents) if not one.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for one in made:
        _entries_to_disk(one.parent)


def _pack(node: Any, tensors: dict[str, torch.Tensor]) -> Any:
    import torch

    if isinstance(node, torch.Tensor):
        name = f"tensor{len(tensors)}"
        # A copy of its own: safetensors refuses tensors that share storage.
        tensors[name] = node.detach().cpu().clone().contiguous()
        return {"tensor": name}
    if isinstance(node, dict):
        return {"dict": [[key, _pack(value, tensors)] for key, value in node.items()]}
    if isinstance(node, (list, tuple)):
        return {"list": [_pack(value, tensors) for value in node]}
    if node is None or isinstance(node, (bool, int, float, str)):
        return {"value": node}
    raise TypeError(f"state of type {type(node).__name__} cannot be written without pickle")


def _unpack(node: Any, tensors: dict[str, torch.Tensor]) -> Any:
    ((kind, content),) = node.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "dict":
        return {key: _unpack(value, tensors) for key, value in content}
    if kind == "list":
        return [_unpack(value, tensors) for value in content]
    return content


def read_object(file: Path, *names: str) -> dict[str, Any]:
    """The object that a JSON file holds.

    **Arguments:**

    - names: that it has a value for.

    Raises `ValueError`, naming the file, for anything else.
    """
    try:
        content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file} is damaged ({error}); remove it, and have it made again") from None
    missing = [name for name in names if not isinstance(content, dict) or name not in content]
    if missing or not isinstance(content, dict):
        raise ValueError(f"{file} has no {', '.join(missing) or 'object'}; remove it, and have it made again")
    return content
