"""The two origins of the hub of the tests: the hub with its API, and the content to which it redirects."""

import base64
import hashlib
import json
import re
import time
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import parse_qs, quote, unquote, urlsplit

from support.hub_repositories import CHUNK, DATE, File, Repo, Request, git_sha1, is_large

if TYPE_CHECKING:
    from support.hub_server import HubServer


class Handler(BaseHTTPRequestHandler):
    """What both origins share: the log, JSON, errors, files with ranges and faults."""

    protocol_version = "HTTP/1.1"
    hub: ClassVar["HubServer"]
    origin: ClassVar[str]

    def log_message(self, *_: object) -> None:
        pass

    def note(self, status: int) -> Request:
        range_, authorization = self.headers.get("Range", ""), self.headers.get("Authorization", "")
        request = Request(self.origin, self.command, self.path, range_, authorization, status)
        self.hub.requests.append(request)
        return request

    def body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        content = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            content += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return content

    def answer(self, status: int, content: Any = b"", *, kind: str = "application/json", **headers: str) -> None:
        self.note(status)
        raw = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(raw)), "Content-Type": kind, **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(raw)

    def refuse(self, status: int, code: str = "", message: str = "", **headers: str) -> None:
        self.answer(status, {"error": message or code}, X_Error_Code=code, X_Error_Message=message, **headers)

    def fails(self) -> bool:
        """Returns whether an injected fault took the place of the answer."""
        if silent := self.hub.take("silent", self.path):
            time.sleep(silent.seconds)
            self.close_connection = True
            return True
        for status in (403, 429, 500, 503):
            if fault := self.hub.take(str(status), self.path):
                wait = {"Retry_After": f"{fault.seconds:g}"} if fault.seconds else {}
                self.refuse(status, message="injected", **wait, **fault.headers)
                return True
        return False

    def send_file(self, content: bytes | memoryview, path: str, **headers: str) -> None:
        """Sends a whole file, or the range that was asked for, with the faults injected for ``path``."""
        first, last, status = 0, len(content) - 1, 200
        if match := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
            first, last, status = int(match[1]), min(int(match[2] or last), last), 206
            if first >= len(content):
                return self.answer(416, Content_Range=f"bytes */{len(content)}")
            headers["Content_Range"] = f"bytes {first}-{last}/{len(content)}"
        content = content[first : last + 1]
        if self.command == "HEAD":
            self.note(status)
            self.send_response(status)
        else:
            if self.hub.take("flip", path):
                middle = len(content) // 2
                content = bytes(content[:middle]) + bytes([content[middle] ^ 1]) + bytes(content[middle + 1 :])
            if self.hub.take("size", path):
                content = bytes(content) + b"more"
            request = self.note(status)
            self.send_response(status)
        for name, value in {"Accept-Ranges": "bytes", "Content-Length": str(len(content)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.send_body(content, path, request)
        return None

    def send_body(self, content: bytes | memoryview, path: str, request: Request) -> None:
        cut, slow, hang = (self.hub.take(kind, path) for kind in ("cut", "slow", "hang"))
        end = cut.after if cut else hang.after if hang else len(content)
        with self.hub.lock:
            self.hub.sending += 1
            self.hub.most_at_once = max(self.hub.most_at_once, self.hub.sending)
        try:
            for at in range(0, end, CHUNK):
                request.sent += self.wfile.write(content[at : min(at + CHUNK, end)])
                if slow:
                    time.sleep(slow.seconds)
            if hang:
                time.sleep(hang.seconds)
        except OSError:  # the client went away
            self.close_connection = True
        with self.hub.lock:
            self.hub.sending -= 1
        if cut or hang:
            self.close_connection = True


class Content(Handler):
    """The content origin: stored files by sha256, and the mirror's by path."""

    def do_GET(self) -> None:
        if self.fails():
            return None
        path = unquote(urlsplit(self.path).path)
        if path.startswith("/mirror/"):
            return self.mirror(path.removeprefix("/mirror/"))
        stored = self.hub.store / path.strip("/")
        if not stored.is_file():
            return self.refuse(404)
        if self.hub.links and self.path not in self.hub.links:
            return self.answer(403, b"<Error><Code>AccessDenied</Code></Error>", kind="application/xml")
        return self.send_file(self.hub.stored(stored.name), self.path, ETag=f'"{stored.name}"')

    do_HEAD = do_GET  # noqa: N815

    def mirror(self, path: str) -> None:
        owner, name, file = [*path.split("/", 2), "", ""][:3]
        repo = self.hub.repos.get(f"{owner}/{name}")
        held = repo.commits[repo.branches["main"]].files.get(file) if repo else None
        if held is None:
            return self.refuse(404)
        return self.send_file(self.hub.stored(held.sha256) if held.sha256 else held.content, self.path)

    def do_PUT(self) -> None:
        sha256, content = urlsplit(self.path).path.rsplit("/", 1)[-1], self.body()
        if hashlib.sha256(content).hexdigest() != sha256:
            return self.refuse(400, message="sha256 mismatch")
        self.hub.keep(".bin", content)
        return self.answer(200)


class Hub(Handler):
    """The hub: who may see what, commits, trees, uploads, and where a file lies."""

    def route(self) -> None:
        self.content = self.body()
        if self.fails():
            return None
        url = urlsplit(self.path)
        repo = r"(?P<name>[\w.-]+/[\w.-]+)"
        routes = (
            ("POST", "/api/repos/create", self.create),
            ("POST", "/api/validate-yaml", self.validate),
            ("GET", "/api/whoami-v2", self.whoami),
            ("POST", rf"/{repo}\.git/info/lfs/objects/batch", self.plan_upload),
            ("GET", rf"/{repo}/resolve/(?P<revision>[^/]+)/(?P<path>.+)", self.resolve),
            ("GET", rf"/api/models/{repo}(/revision/(?P<revision>[^/]+))?", self.describe),
            ("GET", rf"/api/models/{repo}/tree/(?P<revision>[^/]+)(/(?P<folder>.*))?", self.tree),
            ("GET", rf"/api/models/{repo}/commits/(?P<revision>[^/]+)", self.history),
            ("GET", rf"/api/models/{repo}/refs", self.refs),
            ("POST", rf"/api/models/{repo}/paths-info/(?P<revision>[^/]+)", self.paths),
            ("POST", rf"/api/models/{repo}/preupload/(?P<revision>[^/]+)", self.preupload),
            ("POST", rf"/api/models/{repo}/commit/(?P<branch>[^/]+)", self.take_commit),
            ("GET", rf"/api/models/{repo}/xet-(?P<right>read|write)-token/(?P<revision>[^/]+)", self.lend_token),
        )
        method = "GET" if self.command == "HEAD" else self.command
        self.query = {key: values[0] for key, values in parse_qs(url.query, keep_blank_values=True).items()}
        for old, new in self.hub.renamed.items():
            if re.match(rf"(/api/models)?/{old}(/|$)", url.path):
                return self.answer(307, kind="text/plain", Location=self.path.replace(old, new, 1))
        for wanted, pattern, handle in routes:
            if method == wanted and (match := re.fullmatch(pattern, url.path)):
                return handle(**{key: unquote(value or "") for key, value in match.groupdict().items()})
        return self.refuse(404, message="Not found")

    do_GET = do_HEAD = do_POST = route  # noqa: N815

    # ---- who, which repository, which commit; None means that the refusal was sent

    def user(self) -> tuple[str, bool] | None:
        """Returns the user of the token and whether it may write; ('', False) for a token nobody knows."""
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        return self.hub.tokens.get(token, ("", False)) if token else None

    def repo(self, name: str, *, write: bool = False) -> Repo | None:
        user, repo = self.user(), self.hub.repos.get(name)
        if user and not user[0]:
            self.refuse(401, message="Invalid credentials in Authorization header")
        elif repo is None or (repo.is_private and (user is None or user[0] != repo.owner)):
            self.refuse(404 if user else 401, "RepoNotFound", "Repository not found")
        elif repo.is_disabled:
            self.refuse(403, "DisabledRepo", "Access to this resource is disabled.")
        elif write and user is None:
            self.refuse(401, message="Invalid username or password.")
        elif write and user != (repo.owner, True):
            self.refuse(403, message="You need write access")
        else:
            return repo
        return None

    def files_at(self, name: str, revision: str) -> tuple[str, dict[str, File]] | None:
        """Returns a commit and its files."""
        repo = self.repo(name)
        if repo is None:
            return None
        oid = repo.branches.get(revision, revision)
        if oid not in repo.commits:
            self.refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
            return None
        return oid, repo.commits[oid].files

    def is_open(self, name: str) -> bool:
        """Returns whether the user may read the files of a repository that he may see; or else the refusal was sent."""
        repo, user = self.hub.repos[name], (self.user() or ("", False))[0]
        if repo.gate and not user:
            self.refuse(401, "GatedRepo", f"Access to model {name} is restricted. You must log in to access it.")
        elif repo.gate and user != repo.owner and user in repo.gate.pending:
            self.refuse(403, "GatedRepo", f"Your request to access model {name} is awaiting a review.")
        elif repo.gate and user != repo.owner and user not in repo.gate.accepted:
            self.refuse(403, "GatedRepo", f"Access to model {name} is restricted and you are not authorized.")
        else:
            return True
        return False

    # ---- reading

    def resolve(self, name: str, revision: str, path: str) -> None:
        if (found := self.files_at(name, revision)) is None:
            return None
        oid, files = found
        if not self.is_open(name):
            return None
        if path not in files:
            return self.refuse(404, "EntryNotFound", "Entry not found", X_Repo_Commit=oid)
        file = files[path]
        headers = {"X_Repo_Commit": oid, "ETag": file.etag}
        if not file.sha256:
            return self.send_file(file.content, self.path, **headers)
        headers |= {"X_Linked_Size": str(file.size), "X_Linked_Etag": file.etag}
        if self.hub.redirects:
            headers |= self.hub.xet.headers(self.hub, name, oid, file.sha256) if self.hub.xet else {}
            return self.answer(302, kind="text/plain", Location=self.hub.sign(file.sha256), **headers)
        return self.send_file(self.hub.stored(file.sha256), self.path, **headers)

    def describe(self, name: str, revision: str) -> None:
        if (found := self.files_at(name, revision or "main")) is None:
            return None
        oid, files = found
        siblings = []
        for path, file in sorted(files.items()):
            row: dict[str, Any] = {"rfilename": path}
            if "blobs" in self.query:
                row |= {"size": file.size, "blobId": file.oid}
                if file.sha256:
                    row["lfs"] = {"sha256": file.sha256, "size": file.size, "pointerSize": 134}
            siblings.append(row)
        about = {"_id": "0", "id": name, "modelId": name, "author": name.split("/")[0], "sha": oid, "tags": []}
        about |= {"private": self.hub.repos[name].is_private, "disabled": False, "gated": False}
        about |= {"downloads": 0, "likes": 0, "lastModified": DATE, "createdAt": DATE, "siblings": siblings}
        return self.answer(200, about)

    def tree(self, name: str, revision: str, folder: str) -> None:
        if (found := self.files_at(name, revision)) is None:
            return None
        above = f"{folder.strip('/')}/" if folder else ""
        is_deep = self.query.get("recursive", "").lower() in ("true", "1")
        rows: dict[str, dict[str, Any]] = {}
        for path, file in sorted(found[1].items()):
            if not path.startswith(above):
                continue
            *folders, _ = path.removeprefix(above).split("/")
            for depth in range(1, len(folders) + 1) if is_deep else [1] if folders else []:
                inner = above + "/".join(folders[:depth])
                rows[inner] = {"type": "directory", "oid": git_sha1(inner.encode()), "size": 0, "path": inner}
            if is_deep or not folders:
                rows[path] = file.described(path)
        if above and not rows:
            return self.refuse(404, "EntryNotFound", f"{folder} does not exist on {revision}")
        start = int(self.query.get("cursor", "0"))
        end = start + self.hub.page
        headers = {}
        if end < len(rows):
            address = f"{self.hub.url}{quote(urlsplit(self.path).path)}"
            headers["Link"] = f'<{address}?recursive={is_deep}&expand=False&cursor={end}>; rel="next"'
        return self.answer(200, list(rows.values())[start:end], **headers)

    def paths(self, name: str, revision: str) -> None:
        if (found := self.files_at(name, revision)) is None:
            return None
        try:
            wanted = json.loads(self.content)["paths"]
        except ValueError:
            wanted = parse_qs(self.content.decode()).get("paths", [])
        return self.answer(200, [found[1][path].described(path) for path in wanted if path in found[1]])

    def history(self, name: str, revision: str) -> None:
        if (found := self.files_at(name, revision)) is None:
            return None
        oid, rows = found[0], []
        while oid:
            commit = self.hub.repos[name].commits[oid]
            rows.append({"id": oid, "title": commit.title, "message": "", "authors": [], "date": DATE})
            oid = commit.parent
        return self.answer(200, rows)

    def refs(self, name: str) -> None:
        if (repo := self.repo(name)) is None:
            return None
        branches = repo.branches.items()
        rows = [{"name": branch, "ref": f"refs/heads/{branch}", "targetCommit": oid} for branch, oid in branches]
        return self.answer(200, {"branches": rows, "tags": [], "converts": []})

    def whoami(self) -> None:
        user = self.user()
        if not user or not user[0]:
            return self.refuse(401, message="Invalid credentials in Authorization header")
        role = {"accessToken": {"role": "write" if user[1] else "read"}}
        return self.answer(200, {"type": "user", "name": user[0], "auth": role, "orgs": []})

    def validate(self) -> None:
        self.answer(200, {"errors": [], "warnings": []})

    # ---- writing

    def create(self) -> None:
        wanted, user = json.loads(self.content), self.user()
        if not user or not user[0]:
            return self.refuse(401, message="Invalid username or password.")
        owner = wanted.get("organization") or user[0]
        if user != (owner, True):
            return self.refuse(403, message="You don't have the rights to create a repo under this namespace")
        name = f"{owner}/{wanted['name']}"
        about = {"url": f"{self.hub.url}/{name}", "name": name, "id": name}
        with self.hub.lock:
            if name in self.hub.repos:
                return self.answer(409, {"error": "You already created this model repo", **about})
            is_private = wanted.get("visibility") == "private" or bool(wanted.get("private"))
            self.hub.commit(name, {".gitattributes": b"*.safetensors filter=lfs -text\n"}, private=is_private)
        return self.answer(200, about)

    def preupload(self, name: str, revision: str) -> None:
        if self.repo(name, write=True) is None or (found := self.files_at(name, revision)) is None:
            return None
        plan = []
        for file in json.loads(self.content)["files"]:
            held = found[1].get(file["path"])
            mode = "lfs" if is_large(file["path"], file["size"]) else "regular"
            oid = (held.sha256 or held.oid) if held else None
            plan.append({"path": file["path"], "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        return self.answer(200, {"files": plan})

    def plan_upload(self, name: str) -> None:
        wanted = json.loads(self.content)
        if self.repo(name, write=wanted["operation"] == "upload") is None:
            return None
        objects = []
        for item in wanted["objects"]:
            row = {"oid": item["oid"], "size": item["size"]}
            if not (self.hub.store / item["oid"]).is_file():
                row["actions"] = {"upload": {"href": f"{self.hub.content_url}/put/{item['oid']}"}}
            objects.append(row)
        return self.answer(200, {"transfer": "basic", "objects": objects}, kind="application/vnd.git-lfs+json")

    def lend_token(self, name: str, right: str, revision: str) -> None:
        """Sends a token for the Xet store, in the headers and in the body."""
        if self.repo(name, write=right == "write") is None:
            return None
        if self.hub.xet is None:
            return self.refuse(404, message="Xet is not enabled")
        lent = self.hub.xet.access()
        names = {"X_Xet_Cas_Url": "casUrl", "X_Xet_Access_Token": "accessToken", "X_Xet_Token_Expiration": "exp"}
        return self.answer(200, lent, **{header: str(lent[key]) for header, key in names.items()})

    def take_commit(self, name: str, branch: str) -> None:
        with self.hub.lock:
            repo = self.repo(name, write=True)
            if repo is None or (found := self.files_at(name, branch)) is None:
                return None
            (head, files), title = (found[0], dict(found[1])), ""
            for line in self.content.splitlines():
                entry = json.loads(line)
                value = entry["value"]
                if entry["key"] == "header":
                    title = value["summary"]
                    if value.get("parentCommit", head) != head:
                        return self.refuse(412, message="A commit has happened since. Please refresh and try again.")
                elif entry["key"] == "file":
                    raw = base64.b64decode(value["content"])
                    files[value["path"]] = File(git_sha1(raw), raw, len(raw))
                elif entry["key"] == "lfsFile":
                    if not (self.hub.store / value["oid"]).is_file():
                        return self.refuse(400, message=f"LFS pointer to a file that does not exist: {value['oid']}")
                    files[value["path"]] = self.hub.large(value["oid"])
                elif entry["key"] == "deletedFile":
                    files.pop(value["path"], None)
                elif entry["key"] == "deletedFolder":
                    inside = f"{value['path'].rstrip('/')}/"
                    files = {path: file for path, file in files.items() if not path.startswith(inside)}
            oid = repo.add(branch, title, files)
        url = f"{self.hub.url}/{name}/commit/{oid}"
        return self.answer(200, {"success": True, "commitOid": oid, "commitUrl": url, "hookOutput": ""})
