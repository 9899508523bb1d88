"""A merge to the Hugging Face Hub, with the token of whoever asks for it, who alone keeps it."""

from __future__ import annotations

import logging
import re
from pathlib import Path

from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, HTTPError

from merging.errors import MergeError

log = logging.getLogger(__name__)
REPO = re.compile(r"(\w[\w.-]{0,95}/)?\w[\w.-]{0,95}")
REASONS = {
    401: "the Hub does not know this token; make one with the right to write on its page",
    403: "this token may not write there; make one that may",
    404: "there is no such place on the Hub",
}


def push(folder: Path, repo: str, token: str, private: bool = True) -> str:
    """Upload everything in ``folder`` to a model repository; returns its address.

    The token goes to huggingface_hub and nowhere else: no file, no log, no message. Raises
    MergeError, in one sentence, for whatever goes wrong.
    """
    repo, token = repo.strip(), token.strip()
    if not REPO.fullmatch(repo):
        raise MergeError("Name the repository as owner/name, in letters, digits, “-”, “_” and “.”.")
    if not token:
        raise MergeError("Type a token with the right to write: huggingface.co/settings/tokens.")
    api = HfApi(token=token)
    try:
        place = api.create_repo(repo, private=private, exist_ok=True)
        api.upload_folder(repo_id=place.repo_id, folder_path=folder)
    except (HfHubHTTPError, HFValidationError, HTTPError, OSError, ValueError, TypeError) as error:
        log.warning("a push to the Hub failed: %s", type(error).__name__)
        status = getattr(getattr(error, "response", None), "status_code", 0)
        why = REASONS.get(
            status, f"the Hub could not be reached ({type(error).__name__}); check the network"
        )
        raise MergeError(f"{repo} was not pushed: {why}. Nothing of the token was kept.") from None
    return str(place)
