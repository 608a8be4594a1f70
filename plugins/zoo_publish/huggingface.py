"""Repositories of the Hugging Face Hub as destinations."""

from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from zoo.errors import HubError
from zoo.hub import huggingface, web
from zoo.hub.deadline import within
from zoo.hub.download import time_limit
from zoo_publish.destination import WEIGHTS, Held


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
