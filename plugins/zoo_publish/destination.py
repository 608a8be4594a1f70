"""Destinations: a directory, an installed package, an fsspec address, the Hugging Face Hub (a wheel is in ``wheel``).

Each has the layout of the hubs that ``zoo fetch`` reads. Weights that are there already are never
overwritten, and whoever sees them sees all of a release.
"""

import os
import re
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

import msgspec

from zoo.errors import HubError, MissingExtraError, SpecError
from zoo.hub import address, huggingface, web
from zoo.hub.deadline import within
from zoo.hub.download import time_limit
from zoo.system import storage

T = TypeVar("T")

SCHEME = "hf://"
WEIGHTS = "model.safetensors"


class Held(msgspec.Struct, frozen=True):
    """Weights at a destination; ``revision`` is the commit there, if it has commits."""

    sha256: str
    revision: str = ""


class Destination(Protocol):
    """``hub``, ``repo`` and ``file`` are the location in the manifest's entry; they contain no secret."""

    repo: str
    file: str
    has_card: bool
    is_local: bool

    @property
    def hub(self) -> str: ...

    @property
    def name(self) -> str:
        """The name in messages."""
        ...

    def held(self) -> Held | None:
        """Returns the weights at the destination."""
        ...

    def put(self, weights: Path, files: dict[str, bytes], message: str) -> str:
        """Publishes everything in one step; returns the commit, "" if there are no commits."""
        ...


def parse(text: str, name: str, *, private: bool = False) -> Destination:
    """Returns the destination ``text`` for the weights ``name``; raises :class:`SpecError` if it is not writable."""
    name = name.rpartition("/")[2]
    if text == "hf" or text.startswith(SCHEME):
        repo = text.removeprefix(SCHEME)
        if not re.fullmatch(r"[\w.-]+/[\w.-]+", repo):
            raise SpecError(f"{text!r} is not a repository.", hint="Use --to hf://OWNER/REPO.")
        return HuggingFace(repo=repo, private=private)
    if text.startswith("embedded:"):
        return _embedded(text, name)
    place = address.parse(text)
    if isinstance(place, address.Directory):
        return Directory(hub=str(Path(place.folder).expanduser().absolute()), repo=name)
    if isinstance(place, address.Website):
        raise SpecError(
            f"{place.name} is a web server, which is read-only.",
            hint="Publish to a directory and serve it.",
        )
    return Filesystem(hub=place.name, repo=name, address=text)


class Directory(msgspec.Struct):
    """``<hub>/<repo>/``, moved into place atomically."""

    hub: str
    repo: str
    file: str = WEIGHTS
    has_card: bool = True
    is_local: bool = True

    @property
    def name(self) -> str:
        return self.hub

    @property
    def folder(self) -> Path:
        return Path(self.hub, self.repo)

    def held(self) -> Held | None:
        return _held_file(self.folder / self.file)

    def put(self, weights: Path, files: dict[str, bytes], message: str) -> str:
        storage.refuse_links(Path(self.hub), self.folder)
        Path(self.hub).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self.hub, prefix=f".{self.repo}.part-") as folder:
            whole = Path(folder, "whole")
            for path, content in {**files, self.file: weights.read_bytes()}.items():
                storage.replace(whole / path, content)
            if self.folder.exists():  # without weights when we looked: nothing that anybody fetches
                self._add(whole, [*files, self.file])
            else:
                os.rename(whole, self.folder)
        return ""

    def _add(self, whole: Path, files: list[str]) -> None:
        if (self.folder / self.file).exists():
            raise _meanwhile(self.folder / self.file)
        for path in files:
            (self.folder / path).parent.mkdir(parents=True, exist_ok=True)
            os.replace(whole / path, self.folder / path)


class Embedded(msgspec.Struct):
    """A folder of an installed package; the manifest serves as the card."""

    hub: str
    repo: str
    file: str
    folder: Path
    has_card: bool = False
    is_local: bool = True

    @property
    def name(self) -> str:
        return f"{self.hub}/{self.repo}"

    def held(self) -> Held | None:
        return _held_file(self.folder / self.file)

    def put(self, weights: Path, files: dict[str, bytes], message: str) -> str:
        storage.replace(self.folder / self.file, weights.read_bytes())
        return ""


class Filesystem(msgspec.Struct):
    """``<hub>/<repo>/`` on an fsspec address; the weights are written last, and only if none are there."""

    hub: str
    repo: str
    address: str
    file: str = WEIGHTS
    has_card: bool = True
    is_local: bool = False

    @property
    def name(self) -> str:
        return self.hub

    def held(self) -> Held | None:
        system, folder = self._open()
        path = f"{folder}/{self.file}"

        def read() -> Held | None:
            if not system.exists(path):
                return None
            with system.open(path, "rb") as stream:
                return Held(storage.sha256_of(stream))

        return self._call(read)

    def put(self, weights: Path, files: dict[str, bytes], message: str) -> str:
        system, folder = self._open()

        def write() -> None:
            system.makedirs(folder, exist_ok=True)
            for path, content in files.items():
                system.pipe_file(f"{folder}/{path}", content)
            system.pipe_file(f"{folder}/{self.file}", weights.read_bytes(), mode="create")

        self._call(write)
        return ""

    def _open(self) -> tuple[Any, str]:
        from fsspec.core import url_to_fs

        system, folder = self._call(lambda: url_to_fs(self.address))
        system.invalidate_cache()  # a listing of an earlier call may be out of date
        return system, f"{folder.rstrip('/')}/{self.repo}".rstrip("/")

    def _call(self, action: Callable[[], T]) -> T:
        try:
            return action()
        except ImportError as error:
            if self.address.startswith("s3"):
                raise MissingExtraError.of(f"The hub {self.name}", "s3fs", "zoo-vision[s3]") from None
            raise HubError(f"{self.name} needs a package that is not installed: {error}") from None
        except FileExistsError:
            raise _meanwhile(f"{self.name}/{self.repo}/{self.file}") from None
        except Exception as error:  # each file system raises its client's own errors
            kind = type(error).__name__
            hint = "Check the credentials in the environment." if "Credentials" in kind or "Permission" in kind else ""
            reason = web.without_user(str(error))
            raise HubError(f"{self.name} cannot be written: {kind}: {reason}", hint=hint) from None


def _embedded(text: str, name: str) -> Embedded:
    from importlib.util import find_spec

    package, _, folder = text.removeprefix("embedded:").partition("/")
    spec = find_spec(package) if re.fullmatch(r"[A-Za-z_]\w*", package) else None
    if spec is None or spec.origin is None:
        raise SpecError(f"No such installed package: {package!r}.", hint="Use --to embedded:PACKAGE/FOLDER.")
    home = Path(spec.origin).parent
    if {"", ".", ".."} & set(folder.split("/")):
        raise SpecError(f"{text!r} is not a folder of {package}.", hint="Use --to embedded:PACKAGE/FOLDER.")
    return Embedded(f"embedded:{package}", folder, f"{name}.safetensors", home / folder)


def _meanwhile(file: object) -> HubError:
    return HubError(f"{file} was published by another process in the meantime.")


def _held_file(file: Path) -> Held | None:
    try:
        return Held(storage.sha256_of(file))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise HubError(f"{file} cannot be read: {error.strerror or error}") from None


class HuggingFace(msgspec.Struct):
    """A repository of the hub at HF_ENDPOINT; one commit per release. The token is sent only there."""

    repo: str
    private: bool = False
    hub: str = "hf"
    file: str = WEIGHTS
    has_card: bool = True
    is_local: bool = False

    @property
    def name(self) -> str:
        return f"{huggingface.host()}/{self.repo}"

    def held(self) -> Held | None:
        from huggingface_hub.errors import RepositoryNotFoundError

        try:
            return self._held(self._api())
        except RepositoryNotFoundError:
            return None
        except Exception as error:  # the client's own, and its HTTP library's
            raise self._refused(error) from None

    def put(self, weights: Path, files: dict[str, bytes], message: str) -> str:
        from huggingface_hub import CommitOperationAdd

        try:
            api = self._api()
            api.create_repo(self.repo, private=self.private or None, exist_ok=True)
            head = api.model_info(self.repo).sha
            operations = [CommitOperationAdd(path, content) for path, content in files.items()]
            operations.append(CommitOperationAdd(self.file, str(weights)))
            # Whoever commits in between makes this commit fail rather than vanish under it.
            done = api.create_commit(self.repo, operations, commit_message=message, parent_commit=str(head))
            return str(done.oid)
        except Exception as error:  # the client's own, and its HTTP library's
            raise self._refused(error) from None

    def _api(self) -> Any:
        from huggingface_hub import HfApi, get_token

        token = get_token()
        if not token:
            raise HubError(
                f"Publishing to {self.name} needs a token, but none was found.",
                hint="Set HF_TOKEN, or run hf auth login, with a token that has write access.",
            )
        return HfApi(endpoint=huggingface.endpoint(), token=token)

    def _held(self, api: Any) -> Held | None:
        info = within(time_limit(), partial(api.model_info, self.repo, files_metadata=True))
        for file in info.siblings or ():
            if file.rfilename == self.file:
                if file.lfs is None:
                    raise HubError(f"{self.name} holds {self.file} as a plain file, without a sha256.")
                return Held(file.lfs.sha256, info.sha or "")
        return None

    def _refused(self, error: Exception) -> HubError:
        if isinstance(error, HubError):
            return error
        status = getattr(getattr(error, "response", None), "status_code", None)
        reason = web.without_user(str(error).strip().partition("\n")[0]) or f"no response within {time_limit():g} s"
        hint = {
            401: "The token is invalid. Set HF_TOKEN, or run hf auth login.",
            403: "The token has no write access.",
            412: "There is a newer commit. Check it, then publish again.",
        }.get(status or 0, "")
        return HubError(f"{self.name} cannot be published to: {type(error).__name__}: {reason}", hint=hint)
