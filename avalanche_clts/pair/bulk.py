"""Captions of whole folders and images of whole files of captions: resumable, by one process or by many."""

from __future__ import annotations

import glob
import gzip
import hashlib
import json
import re
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

from PIL import Image

from .._support.console import bar, begin, detail, shown
from .._support.files import whole_files, write_text
from .._support.locks import held
from ..images.files import open_image, require_readable
from ..images.folders import ImageFile, each_once, image_file, read_tree
from .captioners import Captioner
from .distributed import is_first_process, share_of, wait_for_everyone
from .generators import Generator
from .output import checked_captions, checked_images

_AT_ONCE, _SECONDS = 512, 30  # finished and written before the next are begun, at most, and about
_PIXELS = 2**27  # of images that are open at a time; one may have more
METADATA = "metadata.jsonl"
_GENERATED = "generated.json"  # what images are of


def image_files(paths: Iterable[Path]) -> list[Path]:
    """The files among `paths`, and every image below the folders among them, by name: each once, and nothing hidden.

    Raises `FileNotFoundError` for a path that is not there, or a folder without images.
    """
    images: list[ImageFile] = []
    for path in paths:
        if not path.exists():
            raise FileNotFoundError(f"{shown(path)} is not there; give image files, or folders of them")
        found = read_tree(path).below() if path.is_dir() else [image_file(path)]
        if not found:
            raise FileNotFoundError(f"{shown(path)} is a folder without images; give image files, or folders of them")
        images += found
    return [Path(image.path) for image in each_once(images)]


def require_own_file(out: Path, images: Iterable[Path]) -> None:
    """Raise `ValueError` if what is to be written is a folder, or one of the images that are read."""
    if out.is_dir():
        raise ValueError(f"out is {str(out)!r}, which is a folder; give a file")
    if out.exists() and any(image.exists() and out.samefile(image) for image in images):
        raise ValueError(f"out is {str(out)!r}, which is one of the images; give another file")


def require_captions_file(out: Path, images: Iterable[Path]) -> None:
    """Raise `ValueError` if captions of the images cannot be written to `out` without losing what it holds."""
    require_own_file(out, images)
    if _lines_of_records(out) and not any(_is_record(line) for line in _lines_of_records(out)):
        raise ValueError(f"out is {str(out)!r}, which holds something else than captions; give another file")


def _is_record(line: str) -> bool:
    with suppress(ValueError):
        record = json.loads(line)
        return isinstance(record, dict) and "file_name" in record
    return False


def caption_files(files: Sequence[Path], captioner: Captioner, out: Path, *, identity: str | None = None) -> list[str]:
    """A caption of each file, in order; written to `out`, a line a file, as `{"file_name": ..., "text": ...}`.

    Files whose text `out` already holds are not captioned again, nor are those of an interrupted run. Whatever else
    `out` says of a file, or of others, stays.

    **Arguments:**

    - out: a `metadata.jsonl` in the convention of Hugging Face's imagefolder; file names are relative to its folder,
        where they can be.
    - identity: of the captioner and of how it writes, which is kept beside `out`. None: it is not told apart.

    Raises `ValueError`, before any is captioned, that names the files that cannot be opened, or if `out` holds captions
    of another captioner, is no file of captions, or one of the images.
    """
    require_captions_file(out, files)
    out.parent.mkdir(parents=True, exist_ok=True)
    with _only_command(out.with_name(f".{out.name}.lock"), out):
        return _caption_missing(files, captioner, out, identity)


@contextmanager
def _only_command(lock: Path, out: Path) -> Iterator[None]:
    """Keep other commands than the one that this process belongs to from writing to `out`."""
    with held(lock, out) if is_first_process() else nullcontext():
        yield


def _caption_missing(files: Sequence[Path], captioner: Captioner, out: Path, identity: str | None) -> list[str]:
    names = [_relative(file, out.parent) for file in files]
    known = _known_captions(out)
    missing = [i for i, name in enumerate(names) if name not in known]
    require_readable([files[i] for i in missing])  # all of them by every process: an error is one of all
    if identity is not None:
        written_by = out.with_name(f"{out.name}.captioner.json")
        told = f"{out} holds captions of another captioner, or of one that wrote otherwise; choose another --out"
        _require_same(written_by, identity, told if known else None)
    wait_for_everyone()  # nobody writes before everybody has read
    mine = [missing[k] for k in share_of(len(missing))]
    if mine:
        with (
            out.with_name(f"{out.name}.part-{mine[0]}").open("a", encoding="utf-8", errors="surrogateescape") as part,
            _told("captioning", len(mine), len(files) - len(missing)) as shown,
        ):
            part.write("\n")  # the last line may have been cut short by an interruption
            for batch, texts in captions_of([files[i] for i in mine], captioner):
                part.writelines(_line(names[mine[k]], text) for k, text in zip(batch, texts, strict=True))
                part.flush()
                shown(len(batch))
    wait_for_everyone()
    known = _known_captions(out)
    wait_for_everyone()
    if is_first_process():
        _write_captions(out, {name: known[name] for name in names} | known)  # whichever process wrote them
        for part_file in _parts(out):
            part_file.unlink()
    return [known[name] for name in names]


def captions_of(files: Sequence[Path], captioner: Captioner) -> Iterator[tuple[list[int], list[str]]]:
    """Captions of the files, some at a time, as many as fit in memory: their numbers, and their texts."""
    for chunk in _chunks(len(files), captioner):
        batch: list[int] = []
        images: list[Image.Image] = []
        for number in chunk:
            batch.append(number)
            images.append(open_image(files[number]))
            if number == chunk[-1] or sum(image.width * image.height for image in images) >= _PIXELS:
                yield batch, checked_captions(captioner, images)
                batch, images = [], []


def _chunks(count: int, part: Any) -> Iterator[range]:
    """Numbers below `count`: a batch of the captioner or generator, and then as many as take about as long as an
    interruption may cost."""
    own = getattr(part, "batch_size", None)
    start, size = 0, min(own, _AT_ONCE) if isinstance(own, int) else 1
    while start < count:
        begun = time.perf_counter()
        yield range(start, min(start + size, count))
        start += size
        if time.perf_counter() - begun < _SECONDS / 2:
            size = max(1, min(2 * size, _AT_ONCE))


@contextmanager
def _told(doing: str, count: int, there: int) -> Iterator[Callable[[int], None]]:
    """Tells of this process's images, and is called with how many more are finished and written."""
    if count:
        begin(f"{doing} {count} images" + (f"; {there} are there already" if there else ""))
    finished = 0
    with bar(total=count, desc="written", unit="image") as shown:

        def more(number: int) -> None:
            nonlocal finished
            finished += number
            shown.update(number)
            detail(f"{doing}: {finished} of {count} images")

        yield more


def read_prompts(file: Path) -> list[str]:
    """The texts of a `captions.jsonl.gz`, of a `metadata.jsonl`, or of any file with a text a line.

    Raises `ValueError` for a damaged file and, naming the line, for one without a text.
    """
    prompts = []
    for number, line in enumerate(_lines(file), 1):
        if not line.strip():
            continue
        text = _text_of(line) if ".jsonl" in file.suffixes else line.strip()
        if text is None:
            raise ValueError(f'{file}, line {number}: must be an object with "text"')
        prompts.append(text)
    if not prompts:
        raise ValueError(f"{file} holds no text")
    return prompts


def require_generated_folder(out: Path) -> None:
    """Raise `ValueError` if a folder holds images or captions that were not generated into it."""
    if out.is_dir() and not (out / _GENERATED).exists():
        own = [file for file in sorted(out.iterdir()) if re.fullmatch(rf"\d{{4,}}\.png|{METADATA}", file.name)]
        if own:
            raise ValueError(f"out is {str(out)!r}, which holds {shown(own[0].name)} of your own; give another folder")


def generate_files(
    prompts: Sequence[str], seeds: Sequence[int], generator: Generator, out: Path, *, identity: str
) -> list[Path]:
    """An image file of each prompt in `out`, by its number, and a `metadata.jsonl` with the prompts.

    Files that are there are not made again.

    **Arguments:**

    - identity: of the generator and of how it samples. Raises `ValueError` if `out` holds images of another one, or of
        other prompts or seeds, or files that were not generated.
    """
    require_generated_folder(out)
    out.mkdir(parents=True, exist_ok=True)
    with _only_command(out / ".lock", out):
        return _generate_missing(prompts, seeds, generator, out, identity)


def _generate_missing(
    prompts: Sequence[str], seeds: Sequence[int], generator: Generator, out: Path, identity: str
) -> list[Path]:
    told = f"{out} holds images of other texts, seeds or another generator; choose another --out"
    _require_same(out / _GENERATED, [identity, list(prompts), list(seeds)], told)
    digits = max(4, len(str(len(prompts) - 1)))
    files = [out / f"{number:0{digits}d}.png" for number in range(len(prompts))]
    missing = [i for i, file in enumerate(files) if not file.exists() or file.stat().st_size == 0]
    wait_for_everyone()  # nobody writes before everybody has looked
    mine = [missing[k] for k in share_of(len(missing))]
    with _told("generating", len(mine), len(files) - len(missing)) as shown:
        for chunk in _chunks(len(mine), generator):
            batch = [mine[k] for k in chunk]
            images = checked_images(generator, [prompts[i] for i in batch], [seeds[i] for i in batch])
            with whole_files([files[i] for i in batch]) as partials:
                for partial, image in zip(partials, images, strict=True):
                    image.save(partial, "png")
            shown(len(batch))
    wait_for_everyone()
    if is_first_process():
        write_text(out / METADATA, "".join(_line(f.name, p) for f, p in zip(files, prompts, strict=True)))
    return files


def _require_same(file: Path, content: object, otherwise: str | None) -> None:
    """Keep a digest of the content in the file.

    **Arguments:**

    - otherwise: the `ValueError` where the file keeps that of another. None: that is then replaced.

    Raises `ValueError` for a file that keeps none.
    """
    digest = hashlib.sha256(json.dumps(content).encode()).hexdigest()
    if file.exists():
        try:
            known = json.loads(file.read_text(encoding="utf-8"))["sha256"]
        except (ValueError, KeyError, TypeError):
            raise ValueError(f"{file} is damaged; choose another --out, or remove it and what it lies beside") from None
        if known != digest and otherwise is not None:
            raise ValueError(otherwise)
    if is_first_process():
        write_text(file, json.dumps({"sha256": digest}) + "\n")


def _known_captions(out: Path) -> dict[str, str]:
    known: dict[str, str] = {}
    for file in [out, *_parts(out)]:
        for line in _lines_of_records(file):
            try:
                record = json.loads(line)
                known[record["file_name"]] = record["text"]
            except (ValueError, KeyError, TypeError):
                continue  # the line that an interruption cut short: its image is captioned again
    return known


def _lines_of_records(file: Path) -> list[str]:
    """Texts may hold other ends of lines; names of files, and a line that was cut short, what is no UTF-8."""
    if not file.exists():
        return []
    text = file.read_text(encoding="utf-8-sig", errors="surrogateescape")
    return [line for line in text.split("\n") if line.strip()]


def _write_captions(out: Path, captions: Mapping[str, str]) -> None:
    """Every caption, a line each, beside what `out` says of the file already; lines that have none stay, at the end."""
    lines: dict[str, str] = {}
    others: list[str] = []
    for line in _lines_of_records(out):
        try:
            record = json.loads(line)
            lines[record["file_name"]] = json.dumps(
                record | {"text": captions[record["file_name"]]}, ensure_ascii=False
            )
        except (ValueError, KeyError, TypeError):
            others.append(line)
    written = [lines[name] + "\n" if name in lines else _line(name, text) for name, text in captions.items()]
    write_text(out, "".join(written) + "".join(f"{line}\n" for line in others))


def _parts(out: Path) -> Iterator[Path]:
    yield from sorted(out.parent.glob(f"{glob.escape(out.name)}.part-*"))


def _lines(file: Path) -> list[str]:
    try:
        opened = gzip.open if file.suffix == ".gz" else open
        with opened(file, "rt", encoding="utf-8-sig") as lines:  # a byte order mark is no part of a text
            return list(lines)
    except (EOFError, zlib.error, gzip.BadGzipFile, UnicodeDecodeError) as error:
        raise ValueError(f"{file} is damaged, or not a file of texts ({error}); give another") from None


def _text_of(line: str) -> str | None:
    try:
        record = json.loads(line)
    except ValueError:
        return None
    text = record.get("text") if isinstance(record, dict) else None
    return text if isinstance(text, str) else None


def _line(file_name: str, text: str) -> str:
    return json.dumps({"file_name": file_name, "text": text}, ensure_ascii=False) + "\n"


def _relative(file: Path, folder: Path) -> str:
    """As it is called in the folder, though it may be a link that leads out of it; else by its whole path."""
    for path, below in (
        (file.absolute(), folder.absolute()),
        (file.resolve(), folder.resolve()),
    ):
        if path.is_relative_to(below):
            return str(path.relative_to(below))
    return str(file.resolve())
