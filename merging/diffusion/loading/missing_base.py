"""Why a base model cannot be loaded, in one sentence of ours; the libraries' texts are long."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

from merging.base_models import BaseModel

HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
PARTS = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")
ELSE = (
    "choose the embedded base (mini), a folder in diffusers layout, or a .safetensors checkpoint "
    "on this machine"
)


def why_missing(model: BaseModel, error: BaseException) -> str:
    """The sentence, with what to do; of this machine's folders it has the last name alone."""
    folder = Path(model.source)
    if folder.is_dir():
        return f"The folder {folder.name} {_lack(folder)}; {_remedy('name another folder')}"
    if not HUB_ID.fullmatch(model.source):
        return (
            f"There is no folder or file {folder.name} here, and no model on the Hugging Face Hub "
            f"has such a name (owner/name); {_remedy('correct it')}"
        )
    if any(isinstance(one, RepositoryNotFoundError | RevisionNotFoundError) for one in _all(error)):
        return (
            f"There is no public model {model.source} on the Hugging Face Hub; "
            f"{_remedy('correct its name')}"
        )
    size = f" of {model.download}" if model.download else ""
    return (
        f"{model.title} is not on this machine and could not be downloaded; "
        f"{_remedy(f'connect to the network for one download{size} from the Hugging Face Hub')}"
    )


def _lack(folder: Path) -> str:
    """What a folder in diffusers layout has and this one has not."""
    if not (folder / "model_index.json").is_file():
        return "is no base in diffusers layout: it has no model_index.json"
    missing = [part for part in PARTS if not (folder / part).is_dir()]
    if missing:
        return f"is no whole base in diffusers layout: it has no {', '.join(missing)}"
    return "is no Stable Diffusion 1.x model that can be loaded: a file in it is missing or damaged"


def _remedy(first: str) -> str:
    return f"{first}, or {ELSE}."


def _all(error: BaseException | None) -> Iterator[BaseException]:
    """The error and what led to it."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
