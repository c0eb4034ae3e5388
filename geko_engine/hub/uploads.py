"""A model repository on the Hub: created, and filled in one commit. Imports no torch.

The token is passed on to the client, or found by it (HF_TOKEN, `hf auth login`); it is written nowhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from geko_engine.exceptions import ExportError
from geko_engine.hub.client import hub_id_problem
from geko_engine.hub.downloads import long_requests

NEEDS_TOKEN = (
    "Pushing needs a Hub token with write access: log in (`hf auth login`), set HF_TOKEN, or enter a token on the page."
)
TOKENS_PAGE = "https://huggingface.co/settings/tokens"


def upload_model(
    repo: str,
    files: Mapping[str, Path | bytes],
    *,
    private: bool = True,
    token: str = "",
    message: str = "Upload model",
) -> tuple[str, bool]:
    """Create a model repository, or take the one that exists, and commit files to it.

    Args:
        repo: its id, "owner/name"; a name alone is of the token's owner.
        files: name in the repository -> file, or content. Other files there stay.
        private: whether a new repository is private. An existing public one is refused then.
        token: with write access; "" to find it where the client does.
        message: of the commit.

    Returns:
        (address of the repository, whether it is private).

    Raises:
        ExportError: with one sentence on what the Hub refuses, or that it cannot be reached.
    """
    from huggingface_hub import CommitOperationAdd, HfApi, get_token

    require_repo_id(repo)
    if not (token or get_token()):
        raise ExportError(NEEDS_TOKEN)
    api = HfApi(token=token or None)
    operations = [
        CommitOperationAdd(name, source if isinstance(source, bytes) else str(source)) for name, source in files.items()
    ]
    with long_requests():
        try:
            url = api.create_repo(repo, private=private, exist_ok=True)
            is_private = bool(api.repo_info(url.repo_id).private)
            if private and not is_private:
                raise ExportError(
                    f"The repository {url.repo_id!r} exists already and is public: choose another name, make it private "
                    "on the Hub, or push publicly."
                )
            api.create_commit(url.repo_id, operations, commit_message=message)
        except ExportError:
            raise
        except Exception as error:  # the client raises its own families, OSError, RuntimeError and more
            raise _refusal(error, repo) from error
    return str(url), is_private


def require_repo_id(repo: str) -> None:
    """Raise ExportError when `repo` cannot be the id of a repository."""
    if not repo.strip() or hub_id_problem(repo, "model"):
        raise ExportError(f"{repo!r} is not the id of a repository: give owner/name, such as ada/support-answers.")


def _refusal(error: Exception, repo: str) -> ExportError:
    status = next((found for link in _chain(error) if (found := _status(link))), 0)
    if status == 401:
        return ExportError(f"The Hub does not know this token: create a new one with write access at {TOKENS_PAGE}.")
    if status in (403, 404):
        return ExportError(
            f"This token may not write to {repo!r}: check the owner's name, and that the token has write access "
            f"({TOKENS_PAGE})."
        )
    if status == 402 or status == 413:
        return ExportError(f"The Hub has no room left for {repo!r}: free storage there, or push the adapter alone.")
    return ExportError(
        f"The upload to {repo!r} did not finish ({_first_line(error)}): check the network and push again. What was "
        "uploaded completely is not sent twice."
    )


def _chain(error: BaseException | None) -> list[BaseException]:
    found = []
    while error is not None:
        found.append(error)
        error = error.__cause__ or error.__context__
    return found


def _status(error: BaseException) -> int:
    return int(getattr(getattr(error, "response", None), "status_code", 0) or 0)


def _first_line(error: Any) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
