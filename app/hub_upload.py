"""Uploads a merge to the Hugging Face Hub with the visitor's token, which is not stored."""

from __future__ import annotations

import logging
import re
from pathlib import Path

from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, HTTPError

from merging.errors import MergeError

log = logging.getLogger(__name__)
REPO = re.compile(r"(\w[\w.-]{0,95}/)?\w[\w.-]{0,95}")
FAILURES = (HfHubHTTPError, HFValidationError, HTTPError, OSError, ValueError, TypeError)
REASONS = {
    401: "the Hub does not know this token; create a token with write access",
    403: "this token may not write there; create one with write access",
    404: "there is no such repository or owner on the Hub",
}


def push(folder: Path, repo: str, token: str, private: bool = True) -> str:
    """Upload everything in ``folder`` to a model repository; returns its address.

    The token goes to huggingface_hub and nowhere else: no file, no log, no message. Raises
    MergeError if the upload fails.
    """
    repo, token = repo.strip(), token.strip()
    if not REPO.fullmatch(repo):
        raise MergeError("Name the repository as owner/name, in letters, digits, “-”, “_” and “.”.")
    if not token:
        raise MergeError("Type a token with write access: huggingface.co/settings/tokens.")
    api = HfApi(token=token)
    try:
        place = api.create_repo(repo, private=private, exist_ok=True)
        api.upload_folder(repo_id=place.repo_id, folder_path=folder)
    except FAILURES as error:
        why = failure(error)
        raise MergeError(f"{repo} was not uploaded: {why}. The token was not stored.") from None
    return str(place)


def failure(error: Exception) -> str:
    """Why the Hub did not take something, as a part of a sentence; no token is in it."""
    log.warning("upload to the Hub failed: %s", type(error).__name__)
    status = getattr(getattr(error, "response", None), "status_code", 0)
    name = type(error).__name__
    return REASONS.get(status, f"the Hub could not be reached ({name}); check the network")
