"""Features of a frozen backbone, each image's computed once and kept: in memory, and on disk from run to run."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from hashlib import blake2b
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from .pretrained import Backbone

_AT_ONCE = 32  # images that a backbone computes together, always as many: what a batch holds changes no feature
_ASKED_AT_ONCE = 500  # keys in one question to the database


class FeatureStore:
    """Features by the image that they are of.

    **Arguments:**

    - file: an SQLite database, made if missing; several processes may share it. None: nothing is kept on disk.
    - below: where features are looked for that are not here; none are put there. None: nowhere.
    - in_memory: bytes of features in memory at most; the oldest then give way.
    - on_disk: bytes of the database at most; further features are not written.

    Raises `OSError` if the file is damaged or cannot be written.
    """

    def __init__(
        self,
        file: Path | None = None,
        *,
        below: FeatureStore | None = None,
        in_memory: int = 2**30,
        on_disk: int = 2**32,
    ) -> None:
        self._file, self._below = file, below
        self._in_memory, self._on_disk = in_memory, on_disk
        self._row_of: dict[bytes, int] = {}
        self._keys: list[bytes] = []  # by row
        self._rows = torch.empty(0, 0)
        self._next = 0
        if file is not None:
            with self._database():  # which finds out whether it can be written
                pass

    def found(self, keys: Sequence[bytes]) -> dict[bytes, Tensor]:
        """The features, `(width,)`, of those keys that have some; what is on disk is brought into memory."""
        here = [key for key in keys if key in self._row_of]
        known = dict(zip(here, self._rows[[self._row_of[key] for key in here]], strict=True))
        unknown = [key for key in keys if key not in known]
        if unknown and self._file is not None:
            read = self._read(unknown)
            self._remember(read)
            known |= read
        if self._below is not None and len(known) < len(set(keys)):
            known |= self._below.found([key for key in keys if key not in known])
        return known

    def keep(self, keys: Sequence[bytes], features: Tensor) -> None:
        """Keep the features `(n, width)` of these keys."""
        self._remember(dict(zip(keys, features, strict=True)))
        if self._file is None or (self._file.exists() and self._file.stat().st_size >= self._on_disk):
            return
        rows = [(key, row.numpy().tobytes()) for key, row in zip(keys, features, strict=True)]
        with self._database() as database:
            database.executemany("INSERT OR IGNORE INTO features VALUES (?, ?)", rows)

    def _remember(self, found: dict[bytes, Tensor]) -> None:
        for key, row in found.items():
            if self._next == len(self._rows):
                self._grow(row)
            if self._next < len(self._keys):
                del self._row_of[self._keys[self._next]]
                self._keys[self._next] = key
            else:
                self._keys.append(key)
            self._rows[self._next] = row
            self._row_of[key] = self._next
            self._next += 1

    def _grow(self, row: Tensor) -> None:
        """Make room for as many again; where that would be too much, begin anew with the oldest."""
        most = max(2 * _ASKED_AT_ONCE, self._in_memory // row.nbytes)
        capacity = min(most, max(2 * _ASKED_AT_ONCE, 2 * len(self._rows)))
        if capacity == len(self._rows):
            self._next = 0
            return
        grown = torch.empty(capacity, len(row))
        grown[: len(self._rows)] = self._rows if len(self._rows) else grown[:0]
        self._rows = grown

    def _read(self, keys: Sequence[bytes]) -> dict[bytes, Tensor]:
        found: dict[bytes, Tensor] = {}
        with self._database() as database:
            for start in range(0, len(keys), _ASKED_AT_ONCE):
                lot = keys[start : start + _ASKED_AT_ONCE]
                marks = ",".join("?" * len(lot))
                rows = database.execute(f"SELECT key, value FROM features WHERE key IN ({marks})", lot)
                found |= {key: torch.from_numpy(np.frombuffer(value, np.float32).copy()) for key, value in rows}
        return found

    @contextmanager
    def _database(self) -> Iterator[sqlite3.Connection]:
        assert self._file is not None
        try:
            with closing(sqlite3.connect(self._file, timeout=300)) as database, database:
                # Each time: whoever removes the file while a worker lives finds it made anew.
                database.execute("CREATE TABLE IF NOT EXISTS features (key BLOB PRIMARY KEY, value BLOB) WITHOUT ROWID")
                yield database
        except sqlite3.Error as error:
            raise OSError(
                f"the features in {self._file} cannot be used ({error}); make room if the disk is full, or remove the "
                "file: they are computed again"
            ) from error


class FrozenFeatures(nn.Module):
    """A backbone that does not learn, shared by every copy of a network.

    Its weights are no part of what a strategy trains, counts, copies or saves.

    **Arguments:**

    - backbone: on its device.
    - identity: what its features depend on beside the image; see `Pretrained.identity`.
    - store: where features are kept.
    - device: where the backbone is.
    - frozen_nbytes: of its weights; 0 where they are counted elsewhere.
    """

    def __init__(
        self, backbone: Backbone, identity: str, store: FeatureStore, device: str = "cpu", *, frozen_nbytes: int = 0
    ) -> None:
        super().__init__()
        self.frozen_nbytes = frozen_nbytes
        self._device = torch.device(device)
        self._backbone = (backbone.eval().requires_grad_(False),)  # in a tuple: no part of what contains this
        self._salt = blake2b(identity.encode(), digest_size=16).digest()
        self._store = store
        self.width = self._computed(torch.zeros(1, 3, 8, 8)).shape[1]

    def __deepcopy__(self, memo: dict[int, object]) -> FrozenFeatures:
        return self

    def forward(self, x: Tensor) -> Tensor:
        """`(n, 1 or 3, h, w)` to `(n, width)`, without gradients."""
        keys = [blake2b(image.numpy().tobytes(), digest_size=16, key=self._salt).digest() for image in x.detach().cpu()]
        known = self._store.found(keys)
        new = {key: i for i, key in enumerate(keys) if key not in known}  # an image that comes twice is computed once
        for start in range(0, len(new), _AT_ONCE):
            lot = list(new)[start : start + _AT_ONCE]
            computed = self._computed(x[[new[key] for key in lot]])
            self._store.keep(lot, computed)
            known |= zip(lot, computed, strict=True)
        return torch.stack([known[key] for key in keys]).to(x.device)

    @torch.no_grad()
    def _computed(self, x: Tensor) -> Tensor:
        padded = torch.cat([x, x[:1].expand(_AT_ONCE - len(x), *x.shape[1:])]).to(self._device)
        (backbone,) = self._backbone
        with torch.autocast(self._device.type, enabled=False):
            features: Tensor = backbone(padded)[: len(x)]
        return features.float().cpu()
