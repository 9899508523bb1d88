"""The one way to write an adapter: its file with header and checks, textual inversions beside it.

Every file is read back and compared; with a base model, diffusers loads it too. A wrong file is
removed, and MergeError names the wrong layer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypedDict

from merging import formats
from merging.adapter import Adapter
from merging.engine import MergeResult
from merging.export.recipe import header
from merging.export.sidecar import EmbeddingFile, rename_notes, write_embeddings
from merging.formats.layer_tables import adapter_title, printable
from merging.formats.verify import Written, WrittenData
from merging.options import Precision

if TYPE_CHECKING:
    from merging.diffusion.base import Base  # which imports diffusers


class RecipeBase(NamedTuple):
    """The base model in a recipe: the last arguments of `recipe` and of `header`."""

    name: str = ""
    fingerprint: str = ""
    precision: Precision = "auto"


def recipe_base(base: Base | None, name: str = "") -> RecipeBase:
    """From a loaded base; its ``name`` only, where a merge needed no base."""
    return RecipeBase(base.name, base.fingerprint, base.precision) if base else RecipeBase(name)


class SavedData(TypedDict):
    """A saved adapter as plain data for JSON."""

    out: str
    sha256: str
    verified: WrittenData
    embeddings: list[EmbeddingFile]


@dataclass(frozen=True)
class Saved:
    """An adapter file that has passed its checks, and the textual inversions beside it."""

    path: Path
    written: Written
    embeddings: tuple[EmbeddingFile, ...] = ()

    @property
    def notes(self) -> list[str]:
        """Notes for users of the files."""
        return rename_notes(self.embeddings)

    def as_dict(self) -> SavedData:
        """Plain data for JSON."""
        return {
            "out": str(self.path),
            "sha256": self.written.sha256,
            "verified": self.written.as_dict(),
            "embeddings": list(self.embeddings),
        }


def save(
    result: MergeResult,
    path: str | Path,
    form: str = "kohya",
    dtype: str = "fp16",
    base: Base | None = None,
    merged_on: RecipeBase | None = None,
    embeddings: bool = True,
) -> Saved:
    """Write a merge, with its recipe and its sources' licences in the header.

    ``form`` is one of `formats.ALL_WRITERS`, ``dtype`` one of `formats.DTYPES`. ``merged_on`` is
    the base that the recipe names, if not ``base``. Without ``embeddings`` the textual inversions
    that the merge needs are not written, for another file of the same merge has them beside it.
    """
    fields = header(result.request, result, *(merged_on or recipe_base(base)))
    return save_adapter(result.adapter, Path(path), form, dtype, fields, base, embeddings)


def save_adapter(
    adapter: Adapter,
    path: Path,
    form: str,
    dtype: str,
    fields: Mapping[str, str],
    base: Base | None = None,
    embeddings: bool = True,
) -> Saved:
    """Write an adapter that is no new merge, under the name of its file.

    ``fields`` go into the header unchanged.
    """
    adapter = replace(adapter, name=adapter_title(printable(path.name)))
    written = formats.ALL_WRITERS[form](adapter, path, formats.DTYPES[dtype], fields)
    if base:
        from merging.diffusion.loader_check import check_with_diffusers

        written = check_with_diffusers(base, path, adapter, written)
    beside = write_embeddings(adapter, path) if embeddings else []
    return Saved(path, written, tuple(beside))
