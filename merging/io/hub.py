"""A FILE that is no file here but a place on the Hugging Face Hub: owner/repo[/file][@revision].

Only safetensors files are fetched, none larger than an adapter can be, and what is fetched is
pinned to the commit that it came from. A file of that name on the disk goes before the Hub.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from huggingface_hub import HfApi, hf_hub_download
from huggingface_hub.errors import (
    GatedRepoError,
    HFValidationError,
    HTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from merging.errors import MergeError
from merging.io.files import BESIDE, MAX_CONFIG

PLACE = re.compile(
    r"(?P<repo>\w[\w.-]*/\w[\w.-]*)(?:/(?P<file>[^@]+\.safetensors))?(?:@(?P<revision>[\w./-]+))?"
)
PAGE = re.compile(
    r"https?://(?:www\.)?huggingface\.co/(?P<repo>[^/]+/[^/?#]+)"
    r"(?:/(?:blob|resolve|tree)/(?P<revision>[^/?#]+)(?:/(?P<file>[^?#]+))?)?/?(?:[?#].*)?"
)
DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
MAX_DOWNLOAD = 400 << 20  # rank 128 for every layer of SD 1.5 in float32 is about 280 MiB
USUAL = "pytorch_lora_weights.safetensors"  # what diffusers calls every LoRA
REASONS: tuple[tuple[type[Exception], str], ...] = (
    (GatedRepoError, "asks for consent; give it on its page, and log in with `hf auth login`"),
    (RevisionNotFoundError, "has no such revision; look it up on its page"),
    (RepositoryNotFoundError, "is neither a file here nor a model on the Hub; check the name"),
    (HFValidationError, "is neither a file here nor the name of a model on the Hub"),
)


@dataclass(frozen=True)
class Found:
    """A FILE on the disk."""

    path: Path
    name: str  # of the adapter's file
    origin: str = ""  # owner/repo/file@commit where it is from the Hub


def found(given: Path) -> Found:
    """The file itself, or what it names on the Hub, fetched; MergeError if that cannot be had."""
    text = given.as_posix()
    place = PLACE.fullmatch(text)
    if given.exists() or not place or _is_local(place):
        return Found(given, given.name)
    return fetched(text)


def fetched(
    text: str,
    cache: Path | None = None,
    token: bool | None = None,
    most: int = MAX_DOWNLOAD,
) -> Found:
    """What a text names on the Hub, whatever lies on the disk here; its page's address will do.

    ``cache`` is the folder to fetch into, None the Hub's own; ``token`` False asks as anybody, None
    as whoever is logged in; ``most`` bytes are taken. Raises MergeError if it cannot be had.
    """
    place = PLACE.fullmatch(PAGE.sub(_as_place, text.strip()))
    if not place:
        raise MergeError(
            f"“{text.strip()[:80]}” is no place on the Hub; type owner/name or "
            "owner/name/file.safetensors, and @revision after it for an older one."
        )
    try:
        return _Fetching(place["repo"], cache, token, most).found(place["file"], place["revision"])
    except (HTTPError, HFValidationError, OSError) as error:
        reason = next((words for kind, words in REASONS if isinstance(error, kind)), "")
        if getattr(error, "errno", None) in DISK_FULL:
            reason = "does not fit on the disk here; make room"
        reason = reason or (
            f"is no file here, and the Hub could not be asked for it ({type(error).__name__}); "
            "check the name and the network"
        )
        raise MergeError(f"{place[0]} {reason}.") from error


def _as_place(page: re.Match[str]) -> str:
    """owner/name/file@revision of a page's address."""
    place = "/".join(filter(None, [page["repo"], page["file"]]))
    return f"{place}@{page['revision']}" if page["revision"] else place


def _is_local(place: re.Match[str]) -> bool:
    """Whether the first part is a folder here, or a file's name stands in place of a model's."""
    named = not place["file"] and place["repo"].endswith(".safetensors")
    return named or Path(place["repo"].partition("/")[0]).is_dir()


@dataclass(frozen=True)
class _Fetching:
    """A model on the Hub, and on what terms its files are fetched."""

    repo: str
    cache: Path | None
    token: bool | None
    most: int  # bytes

    def found(self, file: str | None, revision: str | None) -> Found:
        """The file, the only one where none is named, at its commit."""
        api = HfApi(token=self.token)
        listing = api.model_info(self.repo, revision=revision, files_metadata=True)
        sizes = {each.rfilename: each.size or 0 for each in listing.siblings or ()}
        file = file or _only(self.repo, sizes)
        self._check(file, sizes)
        beside = str(PurePosixPath(file).with_name(BESIDE))
        if beside in sizes and sizes[beside] <= MAX_CONFIG:
            self._download(beside, listing.sha)
        path = self._download(file, listing.sha)
        name = PurePosixPath(file).name
        if name == USUAL:  # says nothing, so the model's name goes in its place
            name = f"{self.repo.partition('/')[2]}.safetensors"
        return Found(path, name, f"{self.repo}/{file}@{listing.sha}")

    def _check(self, file: str, sizes: Mapping[str, int]) -> None:
        if file not in sizes:
            raise MergeError(f"{self.repo} has no file {file}; {_choice(sizes)}.")
        if sizes[file] > self.most:
            raise MergeError(
                f"{self.repo}/{file} has {sizes[file] / 2**20:.0f} MiB, more than a LoRA for "
                f"Stable Diffusion 1.x needs ({self.most >> 20} MiB): is it a whole model? If it "
                "is an adapter, download it yourself and give the file."
            )

    def _download(self, file: str, commit: str) -> Path:
        return Path(
            hf_hub_download(
                self.repo, file, revision=commit, cache_dir=self.cache, token=self.token
            )
        )


def _only(repo: str, sizes: Mapping[str, int]) -> str:
    """The file that is meant where none is named."""
    files = [name for name in sizes if name.endswith(".safetensors")]
    if USUAL in files:
        return USUAL
    if len(files) != 1:
        raise MergeError(f"{repo} has {len(files)} safetensors files; {_choice(sizes)}.")
    return files[0]


def _choice(sizes: Mapping[str, int]) -> str:
    files = [name for name in sizes if name.endswith(".safetensors")]
    if not files:
        return "there is no safetensors file in it, and no other kind is taken"
    more = ", …" if len(files) > 5 else ""
    return f"name one of {', '.join(files[:5])}{more}"
