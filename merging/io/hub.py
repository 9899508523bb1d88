"""Files on the Hugging Face Hub, named owner/repo[/file][@revision] in place of a local path.

Only safetensors files are fetched, none larger than an adapter can be, and the commit is recorded.
If a local file has the same name, the local file is used.
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
from merging.io.files import MAX_CONFIG, PEFT_CONFIG

HUB_FILE = re.compile(
    r"(?P<repo>\w[\w.-]{0,95}/\w[\w.-]{0,95})"
    r"(?:/(?P<file>(?!(?:.*/)?\.\.?/)[^@\x00-\x1f\\]{1,200}\.safetensors))?"
    r"(?:@(?P<revision>(?!.*\.\.)[\w./-]{1,100}))?",
    re.ASCII,
)
HUB_PAGE = re.compile(
    r"https?://(?:www\.)?huggingface\.co/(?P<repo>[^/]+/[^/?#]+)"
    r"(?:/(?:blob|resolve|tree)/(?P<revision>[^/?#]+)(?:/(?P<file>[^?#]+))?)?/?(?:[?#].*)?"
)
DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
MAX_DOWNLOAD = 400 << 20  # rank 128 for every layer of SD 1.5 in float32 is about 280 MiB
DIFFUSERS_NAME = "pytorch_lora_weights.safetensors"  # the name that diffusers gives every LoRA
REASONS: tuple[tuple[type[Exception], str], ...] = (
    (GatedRepoError, "asks for consent; give it on its page, and log in with `hf auth login`"),
    (RevisionNotFoundError, "has no such revision; look it up on its page"),
    (RepositoryNotFoundError, "is neither a local file nor a model on the Hub; check the name"),
    (HFValidationError, "is neither a local file nor the name of a model on the Hub"),
)


@dataclass(frozen=True)
class NamedFile:
    """A file on the disk, and what it is called."""

    path: Path
    name: str  # to show; it may differ from the name on the disk
    origin: str = ""  # owner/repo/file@commit if it came from the Hub


def resolve_file(path: Path) -> NamedFile:
    """The local file, or the file downloaded from the Hub; MergeError if the download fails."""
    text = path.as_posix()
    place = HUB_FILE.fullmatch(text)
    if path.exists() or not place or _is_local(place):
        return NamedFile(path, path.name)
    return fetch_file(text)


def fetch_file(
    text: str,
    cache: Path | None = None,
    token: bool | None = None,
    max_bytes: int = MAX_DOWNLOAD,
) -> NamedFile:
    """Download a file from the Hub, by its name there or by the address of its page.

    ``cache`` is the download folder, None the Hub client's default. ``token`` False downloads
    anonymously, None as the user who is logged in. Larger files than ``max_bytes`` are refused.
    Raises MergeError if the download fails. Local files of the same name are ignored.
    """
    place = HUB_FILE.fullmatch(HUB_PAGE.sub(_page_file, text.strip()))
    if not place:
        raise MergeError(
            f"“{text.strip()[:80]}” is no place on the Hub; type owner/name or "
            "owner/name/file.safetensors, and @revision after it for an older one."
        )
    try:
        repository = _Repository(place["repo"], cache, token, max_bytes)
        return repository.fetch(place["file"], place["revision"])
    except (HTTPError, HFValidationError, OSError) as error:
        reason = next((text for kind, text in REASONS if isinstance(error, kind)), "")
        if getattr(error, "errno", None) in DISK_FULL:
            reason = "does not fit on the disk; make room"
        reason = reason or (
            f"is no local file, and the Hub could not be asked for it ({type(error).__name__}); "
            "check the name and the network"
        )
        raise MergeError(f"{place[0]} {reason}.") from error


def _page_file(page: re.Match[str]) -> str:
    """owner/name/file@revision of a page's address."""
    place = "/".join(filter(None, [page["repo"], page["file"]]))
    return f"{place}@{page['revision']}" if page["revision"] else place


def _is_local(place: re.Match[str]) -> bool:
    """Whether the text names a local folder, or a file in place of a model."""
    names_file = not place["file"] and place["repo"].endswith(".safetensors")
    return names_file or Path(place["repo"].partition("/")[0]).is_dir()


@dataclass(frozen=True)
class _Repository:
    """A model on the Hub, and how its files are downloaded."""

    repo: str
    cache: Path | None
    token: bool | None
    max_bytes: int

    def fetch(self, file: str | None, revision: str | None) -> NamedFile:
        """Download a file at its commit; without a file name, the model's only one."""
        api = HfApi(token=self.token)
        listing = api.model_info(self.repo, revision=revision, files_metadata=True)
        sizes = {sibling.rfilename: sibling.size or 0 for sibling in listing.siblings or ()}
        file = file or _default_file(self.repo, sizes)
        self._check(file, sizes)
        config = str(PurePosixPath(file).with_name(PEFT_CONFIG))
        if config in sizes and sizes[config] <= MAX_CONFIG:
            self._download(config, listing.sha)
        path = self._download(file, listing.sha)
        name = PurePosixPath(file).name
        if name == DIFFUSERS_NAME:  # the model's name says more
            name = f"{self.repo.partition('/')[2]}.safetensors"
        return NamedFile(path, name, f"{self.repo}/{file}@{listing.sha}")

    def _check(self, file: str, sizes: Mapping[str, int]) -> None:
        if file not in sizes:
            raise MergeError(f"{self.repo} has no file {file}; {_choices(sizes)}.")
        if sizes[file] > self.max_bytes:
            raise MergeError(
                f"{self.repo}/{file} has {sizes[file] / 2**20:.0f} MiB, more than a LoRA for "
                f"Stable Diffusion 1.x needs ({self.max_bytes >> 20} MiB): is it a checkpoint? If "
                "it is an adapter, download it yourself and choose the local file."
            )

    def _download(self, file: str, commit: str) -> Path:
        return Path(
            hf_hub_download(
                self.repo, file, revision=commit, cache_dir=self.cache, token=self.token
            )
        )


def _default_file(repo: str, sizes: Mapping[str, int]) -> str:
    """The file to use when only the model is named; MergeError if that is not clear."""
    files = [name for name in sizes if name.endswith(".safetensors")]
    if DIFFUSERS_NAME in files:
        return DIFFUSERS_NAME
    if len(files) != 1:
        raise MergeError(f"{repo} has {len(files)} safetensors files; {_choices(sizes)}.")
    return files[0]


def _choices(sizes: Mapping[str, int]) -> str:
    files = [name for name in sizes if name.endswith(".safetensors")]
    if not files:
        return "there is no safetensors file in it, and other formats are not supported"
    more = ", …" if len(files) > 5 else ""
    return f"name one of {', '.join(files[:5])}{more}"
