"""A hub on this machine: as much of the Hugging Face hub's protocol as its client asks for, over real HTTP."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit


class Hub:
    """Repositories, each a folder at a commit, served under an address of this machine.

    `requests` are those that came, as "METHOD path"; `sent` the files whose content was asked for.
    """

    def __init__(self) -> None:
        self.folders: dict[str, Path] = {}
        self.revisions: dict[str, set[str]] = {}
        self.gated: set[str] = set()
        self.withdrawn: set[str] = set()
        self.licences: dict[str, dict[str, str]] = {}
        self.requests: list[str] = []
        self.sent: list[str] = []
        self.address = ""
        self.claimed: dict[str, int] = {}  # bytes that a file is said to have, by its path
        self.pushes = 0  # each gives every repository another commit

    def add(self, name: str, folder: Path, *revisions: str) -> None:
        self.folders[name] = folder
        self.revisions[name] = {"main", *revisions}

    def commit(self, name: str) -> str:
        return hashlib.sha1(f"{name} {self.pushes}".encode()).hexdigest()

    def size(self, path: str, file: Path) -> int:
        return self.claimed.get(path, file.stat().st_size)

    def files(self, name: str) -> dict[str, Path]:
        folder = self.folders[name]
        return {file.relative_to(folder).as_posix(): file for file in sorted(folder.rglob("*")) if file.is_file()}


def _handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            path = unquote(urlsplit(self.path).path).strip("/")
            hub.requests.append(f"{self.command} {path}")
            pieces = path.split("/")
            is_api = pieces[:2] == ["api", "models"]
            name = "/".join(pieces[2:4] if is_api else pieces[:2])
            rest = pieces[4:] if is_api else pieces[2:]
            if name not in hub.folders:
                return self.answer(401, X_Error_Code="RepoNotFound", X_Error_Message="Repository not found")
            if name in hub.withdrawn:
                return self.answer(403, X_Error_Message="Access to this resource is disabled.")
            commit, files = hub.commit(name), hub.files(name)
            if rest[:1] == ["auth-check"]:
                return self.answer(403, X_Error_Code="GatedRepo") if name in hub.gated else self.answer(200)
            revision = rest[1] if len(rest) > 1 else "main"
            if revision not in hub.revisions[name] | {commit}:
                return self.answer(404, X_Error_Code="RevisionNotFound")
            if is_api and rest[:1] == ["tree"]:
                tree = [
                    {"type": "file", "path": p, "size": hub.size(p, f), "oid": hashlib.sha1(p.encode()).hexdigest()}
                    for p, f in files.items()
                ]
                return self.answer(200, json.dumps(tree).encode(), Content_Type="application/json")
            if is_api:
                info = {
                    "id": name,
                    "sha": commit,
                    "gated": "auto" if name in hub.gated else False,
                    "cardData": hub.licences.get(name, {}),
                    "siblings": [{"rfilename": p, "size": hub.size(p, f)} for p, f in files.items()],
                }
                return self.answer(200, json.dumps(info).encode(), Content_Type="application/json")
            file = "/".join(rest[2:])
            if name in hub.gated:
                return self.answer(403, X_Error_Code="GatedRepo")
            if file not in files:
                return self.answer(404, X_Error_Code="EntryNotFound", X_Repo_Commit=commit)
            content = files[file].read_bytes()
            if self.command == "GET":
                hub.sent.append(f"{name}/{file}")
            etag = hashlib.sha256(f"{name}/{file}".encode() + content).hexdigest()
            self.answer(200, content, ETag=f'"{etag}"', X_Repo_Commit=commit)

    return Handler


@contextmanager
def served() -> Iterator[Hub]:
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(hub))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    hub.address = f"http://127.0.0.1:{server.server_port}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
