"""Files beside an adapter: textual inversions, the sidecar of user interfaces, a preview picture.

Their names begin with the adapter's, which is how A1111, Forge and InvokeAI find them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from merging import formats
from merging.adapter import Adapter
from merging.base_models import base_model
from merging.block_weights import describe_strength
from merging.calibration.prompts import joint_prompt
from merging.embedding import Embedding
from merging.errors import MergeError
from merging.formats.layer_tables import adapter_title, table_of
from merging.io.atomic_write import write_whole
from merging.io.png import save_png
from merging.methods import METHODS
from merging.request import MergeRequest, Source
from merging.runtime.progress import Progress

if TYPE_CHECKING:
    from merging.diffusion.base import Base  # which imports diffusers


def path_beside(out: Path, ending: str) -> Path:
    """OUT.ending in place of OUT.safetensors."""
    return out.with_name(f"{adapter_title(out.name)}.{ending}")


class EmbeddingFile(TypedDict):
    """A textual inversion that lies beside an adapter, as plain data for JSON."""

    word: str
    vectors: int  # number of tokens
    source: str  # name of the file it comes from, without the ending
    path: str


def write_embeddings(adapter: Adapter, out: Path) -> list[EmbeddingFile]:
    """Write a file for every textual inversion of the adapter."""
    files: list[EmbeddingFile] = []
    for embedding in adapter.embeddings:
        path = embedding_path(embedding, out)
        formats.write_embedding(embedding, path, table_of(adapter))
        files.append(
            {
                "word": embedding.word,
                "vectors": len(embedding.vectors),
                "source": embedding.source,
                "path": str(path),
            }
        )
    return files


def embedding_path(embedding: Embedding, out: Path) -> Path:
    """The path of a textual inversion's file."""
    return path_beside(out, f"{embedding.file_stem}.safetensors")


def rename_notes(files: Sequence[EmbeddingFile]) -> list[str]:
    """Notes on the file names that A1111, Forge and ComfyUI need."""
    return [
        f"{Path(file['path']).name} has the vectors of the word {file['word']}; A1111, Forge and "
        "ComfyUI take a file's name for the word, so rename it there."
        for file in files
    ]


def write_sidecar(request: MergeRequest, adapter: Adapter, out: Path) -> Path:
    """OUT.json, as A1111 and Forge write it; InvokeAI reads it too."""
    names = [f"{source.adapter.name} at {_strength(source)}" for source in request.sources]
    embeddings = [f"{item.word} ({embedding_path(item, out).name})" for item in adapter.embeddings]
    notes = f"Made with IterIS Studio of {', '.join(names)}."
    if embeddings:
        notes += f" Needs the embeddings {', '.join(embeddings)}."
    fields = {
        "description": f"{METHODS[request.method].title} of "
        + " and ".join(source.adapter.name for source in request.sources),
        "sd version": base_model(adapter.base).a1111_version,
        "activation text": adapter.trigger,
        "preferred weight": 1.0,  # the strengths are in the file
        "negative text": "",
        "notes": notes,
    }
    path = path_beside(out, "json")
    write_whole(path, json.dumps(fields, ensure_ascii=False, indent=4).encode())
    return path


def _strength(source: Source) -> str:
    return describe_strength(source.strength, source.text_encoder, source.unet, source.blocks)


def preview_prompt(request: MergeRequest, prompt: str) -> str:
    """The prompt of the preview: the user's, or one that names every concept."""
    triggers = [source.phrase for source in request.sources if source.phrase]
    if not prompt and not triggers:
        raise MergeError(
            "No trigger phrase is known for any of the LoRAs, so the preview needs a prompt: "
            "--preview PROMPT."
        )
    return prompt or joint_prompt(triggers)


def write_preview(
    base: Base, adapter: Adapter, prompt: str, request: MergeRequest, out: Path, progress: Progress
) -> Path:
    """OUT.preview.png, drawn with the adapter at full strength, with the merge's seed."""
    from merging.diffusion.render import render

    (image,) = render(
        base,
        [prompt],
        [request.seed],
        adapters=[(adapter, 1.0)],
        clip_skip=request.clip_skip,
        progress=progress,
    )
    path = path_beside(out, "preview.png")
    save_png(image, path)
    return path
