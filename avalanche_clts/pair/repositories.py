"""Where a checkpoint's files are: in a folder, in the hub's local cache, or on the hub; and which there are."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .weights import MissingWeightsError, read_json

_COMMIT = re.compile(r"[0-9a-f]{40}")
_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")
_TIMEOUT = 10  # seconds; one request and no retries: who has no network hears so at once


@dataclass(frozen=True)
class Listing:
    """The files of a checkpoint.

    **Arguments:**

    - where: a folder, or the name of a repository, for messages.
    - sizes: of the files in bytes, by their paths in it.
    - folder: that they are in, or will be in once they are fetched.
    - commit: of the repository; None for a folder.
    - whole: whether all files of the repository are listed; of what another program left in the cache that is not
        known.
    - licence: as the hub names it; None where it is not known.
    - gated: whether the repository's terms are to be accepted before its files can be had.
    - fetch_file: brings one file into `folder`, and says where it is.
    """

    where: str
    sizes: dict[str, int]
    folder: Path
    commit: str | None = None
    whole: bool = True
    licence: str | None = None
    gated: bool = False
    fetch_file: Callable[[str], Path] | None = field(default=None, compare=False)

    def json(self, path: str) -> dict[str, Any]:
        """The object in a file of JSON, empty if there is no such file."""
        if path not in self.sizes:
            return {}
        file = self.folder / path
        if not file.is_file():
            if self.fetch_file is None:
                raise MissingWeightsError(f"{self.where} lacks {path}")
            file = self.fetch_file(path)
        return read_json(file)

    def path_of(self, part: str) -> str:
        """A folder in it, as messages name it."""
        return f"{self.where}/{part}" if part else self.where


def is_repository(name: str) -> bool:
    """Whether it has the form of a repository's name on the hub, owner/name."""
    return _REPOSITORY.fullmatch(name) is not None


def is_offline() -> bool:
    """Whether the hub is not to be asked, by `HF_HUB_OFFLINE`."""
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


def cache_folder() -> Path:
    """Of the hub's client, which transformers and diffusers use too."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE).expanduser()


def folder_listing(folder: Path) -> Listing:
    """The files in a folder and in the folders in it."""
    return Listing(str(folder), _files_in(folder), folder)


def cached_listing(name: str, revision: str | None) -> Listing | None:
    """Of a repository's files as the local cache knows them; None if it knows nothing of this revision."""
    from huggingface_hub.file_download import repo_folder_name

    stored = cache_folder() / repo_folder_name(repo_id=name, repo_type="model")
    commit = revision or "main"
    if not _COMMIT.fullmatch(commit):
        ref = stored / "refs" / commit
        if not ref.is_file():
            return None
        commit = ref.read_text(encoding="utf-8").strip()
    folder = stored / "snapshots" / commit
    if not folder.is_dir():
        return None
    tree = _cached_tree(name, commit)
    if tree is None:
        return Listing(name, _files_in(folder), folder, commit, whole=False)
    return Listing(name, tree, folder, commit)


def _cached_tree(name: str, commit: str) -> dict[str, int] | None:
    """All files of a repository and their sizes in bytes; None where the cache does not know them."""
    try:
        from huggingface_hub import get_cached_repo_tree
        from huggingface_hub.errors import CachedRepoTreeNotFoundError
    except ImportError:  # the hub's client that goes with transformers 4 keeps no such list
        return None
    try:
        return {file.path: file.size for file in get_cached_repo_tree(name, revision=commit, cache_dir=cache_folder())}
    except CachedRepoTreeNotFoundError:
        return None


def hub_listing(name: str, revision: str | None) -> Listing:
    """Of a repository's files as the hub knows them.

    Raises `MissingWeightsError` if there is no such repository or revision, if it has been withdrawn, if its terms have
    not been accepted, and if the hub cannot be reached.
    """
    from huggingface_hub import HfApi, hf_hub_download
    from huggingface_hub.file_download import repo_folder_name

    api = HfApi()
    try:
        info = api.model_info(name, revision=revision, timeout=_TIMEOUT, files_metadata=True)
        if info.gated:
            api.auth_check(name)
    except Exception as error:  # the hub's client raises a dozen unrelated types, depending on how it failed
        raise MissingWeightsError(why_not(name, revision, error)) from None
    if info.disabled:
        raise MissingWeightsError(f"{name} has been withdrawn from the hub; give another repository or a folder")
    commit = str(info.sha)

    def fetch_file(path: str) -> Path:
        try:
            return Path(hf_hub_download(name, path, revision=commit))
        except Exception as error:
            raise MissingWeightsError(why_not(name, revision, error)) from None

    return Listing(
        name,
        {file.rfilename: file.size or 0 for file in info.siblings or []},
        cache_folder() / repo_folder_name(repo_id=name, repo_type="model") / "snapshots" / commit,
        commit,
        licence=_licence(info.card_data),
        gated=bool(info.gated),
        fetch_file=fetch_file,
    )


def why_not(name: str, revision: str | None, error: Exception) -> str:
    """What an error of the hub's client means, and what can be done."""
    from huggingface_hub.errors import (
        DisabledRepoError,
        GatedRepoError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    if isinstance(error, OfflineModeIsEnabled):
        return f"{name} cannot be fetched, since HF_HUB_OFFLINE is set"
    if isinstance(error, GatedRepoError):
        return (
            f"{name} is gated: accept its terms on its page on the hub, then run hf auth login with a token of that "
            "account"
        )
    if isinstance(error, RevisionNotFoundError):
        return f"revision is {revision!r}, which {name} does not have on the hub; give a branch, a tag or a commit"
    if isinstance(error, RepositoryNotFoundError):
        return f"{name} is not on the hub: misspelt, withdrawn, or private (then run hf auth login)"
    if isinstance(error, DisabledRepoError):
        return f"{name} has been withdrawn from the hub; give another repository or a folder"
    reason = str(error).partition("\n")[0]
    return f"{name} cannot be fetched ({type(error).__name__}: {reason[:120]})"


def _licence(card: Any) -> str | None:
    """Of a repository's metadata: a licence of its own is called "other" there, and named beside."""
    licence = None if card is None else card.get("license")
    name = None if card is None else card.get("license_name")
    return str(name) if licence in (None, "other") and name else licence and str(licence)


def _files_in(folder: Path) -> dict[str, int]:
    files = [*folder.glob("*"), *folder.glob("*/*")]
    return {file.relative_to(folder).as_posix(): file.stat().st_size for file in files if file.is_file()}
