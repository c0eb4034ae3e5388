"""A small Hub on this machine, for the unmodified clients: repos, revisions, licences, and ways to fail.

Speaks as much of the Hub's HTTP as huggingface_hub, transformers and datasets ask for: reading, searching, and pushing models with
the LFS protocol (clients need HF_HUB_DISABLE_XET=1). Knows nothing of GEKO.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

API = re.compile(
    r"/api/(models|datasets|spaces)/([^/]+/[^/]+)(?:/(revision|tree|paths-info|refs|auth-check|preupload|commit|pause)(?:/(.*))?)?"
)
BATCH = re.compile(r"(?:/spaces)?/[^/]+/[^/]+\.git/info/lfs/objects/batch")
OBJECT = re.compile(r"/lfs-objects/([0-9a-f]{64})")
LARGE = (".safetensors", ".gguf", ".bin")  # are kept by LFS
FILE = re.compile(r"/(datasets/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)")
CHUNK = 4096


@dataclass
class Repo:
    """One repository: `revisions` maps a branch or tag to its files. Gated: only `readers` (tokens) get the files.

    Private: it does not exist for others. Only `readers` may write, too.
    """

    revisions: dict[str, dict[str, bytes]]
    gated: bool = False
    readers: frozenset[str] = frozenset()
    private: bool = False

    def __post_init__(self) -> None:
        self._commits = {name: commit_of(files) for name, files in self.revisions.items()}

    def commit(self, revision: str) -> str | None:
        """The commit that a branch, tag or commit stands for, or None."""
        return self._commits.get(revision) or (revision if revision in self._commits.values() else None)

    def add(self, revision: str, files: Mapping[str, bytes]) -> str:
        """A new commit on `revision` with `files` added or replaced."""
        self.revisions[revision] = {**self.revisions[revision], **files}
        self._commits[revision] = commit_of(self.revisions[revision])
        return self._commits[revision]

    def files(self, commit: str) -> dict[str, bytes]:
        """The files of a commit."""
        return next(self.revisions[name] for name, known in self._commits.items() if known == commit)


@dataclass(frozen=True)
class Request:
    """What a client asked for; `token` is what it sent of itself."""

    method: str
    path: str
    token: str


@dataclass
class Trouble:
    """How the Hub fails: at requests whose path holds `where`, after `after` bytes of a body (None: before any answer).

    Until `mend`, everything after the first such request fails as well, so that retries do not help.
    """

    kind: str  # "hang": never go on; "die": close the connection
    where: str = ""
    after: int | None = None
    begun: threading.Event = field(default_factory=threading.Event)


def commit_of(files: Mapping[str, bytes]) -> str:
    """Forty hexadecimal digits that name the content."""
    digest = hashlib.sha1()
    for name, content in sorted(files.items()):
        digest.update(name.encode() + b"\0" + content)
    return digest.hexdigest()


class HubServer:
    """The server; use as a context manager. `models` and `datasets` map ids to repos and may change at any time."""

    def __init__(self) -> None:
        self.models: dict[str, Repo] = {}
        self.datasets: dict[str, Repo] = {}
        self.spaces: dict[str, Repo] = {}
        self.tokens: set[str] = set()  # accounts that exist; any other token is refused
        self.objects: dict[str, bytes] = {}  # of LFS, by sha256
        self.requests: list[Request] = []
        self.bytes_sent = 0
        self.trouble: Trouble | None = None
        self._mended = threading.Event()
        self._lock = threading.Lock()
        hub = self

        class Bound(_Handler):
            server_hub = hub

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Bound)
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_port}"

    def __enter__(self) -> HubServer:
        threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.mend()
        self._http.shutdown()
        self._http.server_close()

    def fail(self, kind: str, where: str = "", after: int | None = None) -> Trouble:
        """From now on fail as said; its `begun` is set with the first request that meets it."""
        self._mended.clear()
        self.trouble = Trouble(kind, where, after)
        return self.trouble

    def mend(self) -> None:
        """Answer again; whoever hangs is let go."""
        self.trouble = None
        self._mended.set()

    def forget(self) -> None:
        """Begin new records of requests and bytes."""
        with self._lock:
            self.requests, self.bytes_sent = [], 0

    def asked(self, where: str, method: str = "GET") -> list[str]:
        """Paths of the requests that hold `where`."""
        return [r.path for r in self.requests if where in r.path and r.method == method]

    def record(self, request: Request) -> None:
        with self._lock:
            self.requests.append(request)

    def count(self, sent: int) -> None:
        with self._lock:
            self.bytes_sent += sent

    def wait_mended(self) -> None:
        self._mended.wait()


class _Gone(Exception):
    """This connection is closed without another word."""


class _Handler(BaseHTTPRequestHandler):
    server_hub: HubServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def do_PUT(self) -> None:
        self._answer()

    def log_message(self, format: str, *args: Any) -> None:
        """Silent: a test reads `requests`."""

    def _answer(self) -> None:
        url = urlsplit(self.path)
        self.body = self._read_body()
        self.token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        self.server_hub.record(Request(self.command, self.path, self.token))
        try:
            self._fail_before(url.path)
            path = unquote(url.path)
            if self.token and self.token not in self.server_hub.tokens:
                self._json({"error": "Invalid credentials in Authorization header"}, 401)
            elif match := API.fullmatch(path):
                self._api(*match.groups(), query=parse_qs(url.query))
            elif path in ("/api/models", "/api/datasets"):
                self._list(path.endswith("datasets"), parse_qs(url.query))
            elif match := FILE.fullmatch(path):
                self._file(*match.groups())
            elif path in ("/api/repos/create", "/api/validate-yaml"):
                self._create() if path.endswith("create") else self._json({"warnings": [], "errors": []})
            elif BATCH.fullmatch(path):
                self._batch()
            elif match := OBJECT.fullmatch(path):
                self._store(match[1])
            else:
                self._error(404, "", "Not found")
        except (_Gone, ConnectionError):
            self.close_connection = True

    def _read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _create(self) -> None:
        asked = json.loads(self.body)
        name = f"{asked['organization'] or 'me'}/{asked['name']}"
        url = {"url": f"{self.server_hub.url}/{name}", "name": name, "id": name}
        if not self.token:
            return self._error(401, "", "Unauthorized")
        repos = self.server_hub.spaces if asked.get("type") == "space" else self.server_hub.models
        if name in repos:
            return self._json({**url, "error": "You already created this model repo"}, 409)
        private = asked.get("visibility", "private" if asked.get("private") else "public") == "private"
        readers = frozenset({self.token})
        repos[name] = Repo({"main": {}}, readers=readers, private=private)
        return self._json(url)

    def _write(self, repo: Repo, action: str) -> None:
        if self.token not in repo.readers:
            return self._error(403, "", "Forbidden")
        if action == "preupload":
            files = [file["path"] for file in json.loads(self.body)["files"]]
            modes = {name: "lfs" if name.endswith(LARGE) else "regular" for name in files}
            answer = [{"path": n, "uploadMode": mode, "shouldIgnore": False, "oid": None} for n, mode in modes.items()]
            return self._json({"files": answer})
        lines = [json.loads(line) for line in self.body.splitlines() if line.strip()]
        small = [line["value"] for line in lines if line["key"] == "file"]
        large = [line["value"] for line in lines if line["key"] == "lfsFile"]
        files = {file["path"]: base64.b64decode(file["content"]) for file in small}
        commit = repo.add("main", {**files, **{file["path"]: self.server_hub.objects[file["oid"]] for file in large}})
        return self._json(
            {"success": True, "commitOid": commit, "commitUrl": f"{self.server_hub.url}/o/n/commit/{commit}"}
        )

    def _batch(self) -> None:
        objects = []
        for asked in json.loads(self.body)["objects"]:
            upload = {"upload": {"href": f"{self.server_hub.url}/lfs-objects/{asked['oid']}"}}
            known = asked["oid"] in self.server_hub.objects
            objects.append(asked if known else {**asked, "actions": upload})
        self._json({"transfer": "basic", "objects": objects})

    def _store(self, oid: str) -> None:
        if hashlib.sha256(self.body).hexdigest() != oid:
            return self._error(422, "", "The content has another sha256")
        self.server_hub.objects[oid] = self.body
        return self._json({})

    def _fail_before(self, path: str) -> None:
        trouble = self.server_hub.trouble
        if trouble and (trouble.begun.is_set() or (trouble.after is None and trouble.where in path)):
            self._fail(trouble)

    def _fail(self, trouble: Trouble) -> None:
        trouble.begun.set()
        if trouble.kind == "hang":
            self.server_hub.wait_mended()
        raise _Gone

    def _api(self, kind: str, name: str, action: str | None, rest: str | None, *, query: dict[str, Any]) -> None:
        repo = self.server_hub.spaces.get(name) if kind == "spaces" else self._visible(kind == "datasets", name)
        if repo is None:
            return self._error(404 if self.token else 401, "RepoNotFound", "Repository not found")
        if action == "pause":
            return self._json({"stage": "PAUSED", "hardware": {"current": None, "requested": None}, "storage": None})
        if action in ("preupload", "commit"):
            return self._write(repo, action)
        if action == "auth-check":
            return self._json({}) if self._may_read(repo) else self._refuse()
        if action == "refs":
            refs = [{"name": n, "ref": f"refs/heads/{n}", "targetCommit": repo.commit(n)} for n in repo.revisions]
            return self._json({"branches": refs, "tags": [], "converts": []})
        revision, _, folder = (rest or "main").partition("/")
        commit = repo.commit(revision)
        if commit is None:
            return self._error(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        files = repo.files(commit)
        if action == "tree":
            return self._json(_tree(files, folder, recursive="true" in str(query.get("recursive")).lower()))
        if action == "paths-info":
            asked = _asked_paths(self.body, self.headers.get("Content-Type", ""))
            return self._json([entry for entry in _tree(files, "", recursive=True) if entry["path"] in asked])
        siblings = [{"rfilename": name, "size": len(content)} for name, content in files.items()]
        gated = "manual" if repo.gated else False
        return self._json({"id": name, "sha": commit, "private": repo.private, "gated": gated, "siblings": siblings})

    def _list(self, datasets: bool, query: dict[str, Any]) -> None:
        repos = self.server_hub.datasets if datasets else self.server_hub.models
        wanted = query.get("search", [""])[0].lower()
        found = [name for name in repos if wanted in name.lower() and self._visible(datasets, name)]
        size = {} if datasets else {"safetensors": {"parameters": {"F32": 1234}, "total": 1234}}
        about = {"tags": ["license:mit"], "downloads": 7, **size}
        self._json([{"id": name, "gated": "manual" if repos[name].gated else False, **about} for name in found])

    def _visible(self, dataset: object, name: str) -> Repo | None:
        repo = (self.server_hub.datasets if dataset else self.server_hub.models).get(name)
        return repo if repo is None or not repo.private or self.token in repo.readers else None

    def _file(self, dataset: str | None, name: str, revision: str, path: str) -> None:
        repo = self._visible(dataset, name)
        if repo is None:
            return self._error(404 if self.token else 401, "RepoNotFound", "Repository not found")
        if not self._may_read(repo):
            return self._refuse()
        commit = repo.commit(revision)
        if commit is None:
            return self._error(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        content = repo.files(commit).get(path)
        if content is None:
            return self._error(404, "EntryNotFound", "Entry not found", {"X-Repo-Commit": commit})
        return self._send_file(content, path, commit)

    def _may_read(self, repo: Repo) -> bool:
        return not repo.gated or self.token in repo.readers

    def _refuse(self) -> None:
        self._error(403 if self.token else 401, "GatedRepo", "Access to this repository is restricted")

    def _send_file(self, content: bytes, path: str, commit: str) -> None:
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        first = int(asked[1]) if asked else 0
        last = min(int(asked[2] or len(content)), len(content) - 1) if asked else len(content) - 1
        if asked and first >= len(content):
            return self._error(416, "", "Range not satisfiable")
        self.send_response(206 if asked else 200)
        self.send_header("ETag", f'"{hashlib.sha1(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", commit)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(last - first + 1))
        if asked:
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(content)}")
        self.end_headers()
        if self.command != "HEAD":
            self._send_body(memoryview(content)[first : last + 1], path)
        return None

    def _send_body(self, body: memoryview, path: str) -> None:
        trouble = self.server_hub.trouble
        breaks = trouble is not None and trouble.after is not None and trouble.where in path
        whole = trouble.after if trouble is not None and breaks else len(body)
        for start in range(0, min(whole or 0, len(body)), CHUNK):
            part = body[start : min(start + CHUNK, whole or 0)]
            self.wfile.write(part)
            self.server_hub.count(len(part))
        if trouble is not None and breaks:
            self.wfile.flush()
            self._fail(trouble)

    def _error(self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        known = {"X-Error-Code": code, "X-Error-Message": message} if code else {}
        self._json({"error": message}, status, {**known, **(headers or {})})

    def _json(self, value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> None:
        content = json.dumps(value).encode()
        self.send_response(status)
        for name, text in (headers or {}).items():
            self.send_header(name, text)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)
            self.server_hub.count(len(content))


def _tree(files: Mapping[str, bytes], folder: str, *, recursive: bool) -> list[dict[str, Any]]:
    """The entries below `folder`, with the folders between."""
    entries: dict[str, dict[str, Any]] = {}
    prefix = folder + "/" if folder else ""
    for path, content in files.items():
        if not path.startswith(prefix):
            continue
        parts = path.removeprefix(prefix).split("/")
        for depth in range(1, len(parts) if recursive else min(2, len(parts))):
            parent = prefix + "/".join(parts[:depth])
            entries[parent] = {"type": "directory", "oid": hashlib.sha1(parent.encode()).hexdigest(), "path": parent}
        if recursive or len(parts) == 1:
            oid = hashlib.sha1(content).hexdigest()
            entries[path] = {"type": "file", "oid": oid, "size": len(content), "path": path}
    return [{"size": 0, **entry} for entry in entries.values()]


def _asked_paths(body: bytes, kind: str) -> list[str]:
    if "json" in kind:
        paths = json.loads(body)["paths"]
        return paths if isinstance(paths, list) else [paths]
    return parse_qs(body.decode()).get("paths", [])
