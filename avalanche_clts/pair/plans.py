"""What a part needs is looked for at once, and brought here before it is used: nothing is downloaded in mid-run."""

from __future__ import annotations

import glob
import shutil
from dataclasses import dataclass
from pathlib import Path

from .parts import Part
from .repositories import (
    Listing,
    cache_folder,
    cached_listing,
    folder_listing,
    hub_listing,
    is_offline,
    is_repository,
    why_not,
)
from .weights import MissingWeightsError, listed, require_whole

_WEIGHTS = (".safetensors", ".bin")


@dataclass(frozen=True)
class Plan:
    """A part, and the files of it that are loaded.

    **Arguments:**

    - files: by their paths in the checkpoint.
    """

    part: Part
    listing: Listing
    files: tuple[str, ...]

    @property
    def folder(self) -> Path:
        """Where the files are, or will be once they are fetched."""
        return self.listing.folder

    @property
    def absent(self) -> list[str]:
        """The files that are not on this machine."""
        return [path for path in self.files if not (self.folder / path).is_file()]

    @property
    def nbytes(self) -> int:
        """Of all files."""
        return sum(self.listing.sizes[path] for path in self.files)

    @property
    def weight_nbytes(self) -> int:
        """Of the files with weights."""
        return sum(self.listing.sizes[path] for path in self.files if path.endswith(_WEIGHTS))

    @property
    def absent_nbytes(self) -> int:
        """Of the files that are not on this machine."""
        return sum(self.listing.sizes[path] for path in self.absent)

    @property
    def pinned(self) -> str:
        """The repository at the commit that is loaded; the folder."""
        return self.part.name if self.listing.commit is None else f"{self.part.name}@{self.listing.commit}"


def survey(part: Part, *, pair: str | None = None) -> Plan:
    """What is loaded of a part: of its folder, of the local cache, or, where that lacks anything, of the hub.

    **Arguments:**

    - pair: as `clts fetch` is told it, for messages. None: the part's own name.

    Raises `MissingWeightsError` for what is not there, not whole, or cannot be had, and `ValueError` for a checkpoint
    of another kind.
    """
    if Path(part.name).is_dir():
        return _planned(part, folder_listing(Path(part.name)))
    if Path(part.name).is_absolute() or not is_repository(part.name):
        raise MissingWeightsError(f"{part.name} is neither a folder nor the name of a repository (owner/name)")
    lacking = "not in the local cache"
    cached = cached_listing(part.name, part.revision)
    if cached is not None:
        try:
            plan = _planned(part, cached, whole=False)
        except (MissingWeightsError, ValueError) as error:
            if cached.whole:
                raise
            # Another program may have left part of it there.
            lacking = f"in the local cache, but not whole ({error})"
        else:
            if not plan.absent:
                return _planned(part, cached)
            lacking = f"in the local cache, but without {listed(plan.absent)}"
    advice = f'with a network, run: clts fetch {pair or part.name} - without one, load_pair("embedded") works offline'
    try:
        if is_offline():
            raise MissingWeightsError("HF_HUB_OFFLINE is set")
        return _planned(part, hub_listing(part.name, part.revision), whole=False)
    except MissingWeightsError as error:
        raise MissingWeightsError(
            f"the weights of {_at(part)} are {lacking}, and cannot be fetched: {error}; {advice}"
        ) from None


def survey_here(part: Part) -> Plan:
    """As `survey`, and never asks the hub."""
    if Path(part.name).is_dir():
        return survey(part)
    cached = cached_listing(part.name, part.revision) if is_repository(part.name) else None
    if cached is None:
        raise MissingWeightsError(f"{part.name} is not in the local cache")
    return _planned(part, cached)


def survey_hub(part: Part) -> Plan:
    """As `survey`, and asks the hub whatever the cache holds: a branch may have moved on."""
    if Path(part.name).is_dir():
        return survey(part)
    return _planned(part, hub_listing(part.name, part.revision), whole=False)


def bring(plans: list[Plan]) -> None:
    """Download what is absent, into the hub's local cache, and see that it is whole.

    Raises `MissingWeightsError` if there is no room for it, or if it cannot be fetched.
    """
    from huggingface_hub import snapshot_download

    require_room(plans)
    for plan in plans:
        part = plan.part
        if plan.listing.commit is None or plan.listing.fetch_file is None:
            continue
        try:
            # By the branch's name, not the commit: so the cache knows it by that name too.
            found = snapshot_download(
                part.name, revision=part.revision, allow_patterns=[glob.escape(path) for path in plan.files]
            )
        except Exception as error:  # the hub's client raises a dozen unrelated types, depending on how it failed
            raise MissingWeightsError(why_not(part.name, part.revision, error)) from None
        if Path(found).name != plan.listing.commit:
            raise MissingWeightsError(f"{part.name} has been changed while it was fetched; fetch it again")
        _require_whole(plan)


def require_room(plans: list[Plan]) -> None:
    """Raise `MissingWeightsError` unless the disk has room for what is to be downloaded."""
    needed, folder = sum(plan.absent_nbytes for plan in plans), cache_folder()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise MissingWeightsError(
            f"{cache_folder()} has room for {free / 1e9:.1f} GB, and {needed / 1e9:.1f} GB are to be downloaded; make "
            "room, or set HF_HOME to a folder on another disk"
        )


def _planned(part: Part, listing: Listing, *, whole: bool = True) -> Plan:
    plan = Plan(part, listing, tuple(dict.fromkeys(part.files(listing))))
    if whole:
        _require_whole(plan)
    return plan


def _require_whole(plan: Plan) -> None:
    for path in plan.files:
        file, size = plan.folder / path, plan.listing.sizes[path]
        if not file.is_file():
            raise MissingWeightsError(f"{plan.listing.where} lacks {path}; fetch it again")
        if file.stat().st_size != size:
            raise MissingWeightsError(f"{file} has {file.stat().st_size} bytes of {size}; delete it and fetch it again")
        require_whole(file)


def _at(part: Part) -> str:
    return part.name if part.revision is None else f"{part.name} at {part.revision}"
