"""The file of a pack: written whole or not at all, and the LoRAs in it, listed and read.

It is a safetensors file with up to four tensors a layer (`PackedLayer`), named LAYER.left, .right,
.up and .down. Its header has, as JSON, the base, the layers in order, and of every LoRA its name,
header, ranks and error. Biases, normalisations and textual inversions are stored as they are.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from merging.adapter import Adapter, LoraLayer, VectorDelta
from merging.embedding import Embedding
from merging.errors import MergeError
from merging.formats.embeddings import token_width
from merging.formats.layer_tables import TABLES, LayerTable, flat, printable, table
from merging.formats.tensors import Body, opened
from merging.io.atomic_write import write_checked
from merging.io.files import PACK_KEY

if TYPE_CHECKING:
    from torch import Tensor

    from merging.packs.packed_layer import PackedLayer

VERSION = 1
SIDES = ("left", "right", "up", "down")
LOSS = 1e-3  # relative; what is less is the rounding of half precision
LOSSY = "It is from a pack, which holds it with a relative error of {:.1%}."
KEPT = ("name", "family", "trigger", "metadata", "sha256", "warnings", "based")  # of an adapter


@dataclass(frozen=True)
class PackedLora:
    """A LoRA in a pack, by the pack's header."""

    name: str
    error: float  # ‖Δ' − Δ‖ / ‖Δ‖ over all layers
    ranks: tuple[int, ...]  # of every layer of the pack, 0 where the LoRA lacks it
    entry: Mapping[str, Any]  # all that the header says of it


@dataclass(frozen=True)
class PackHeader:
    """What a pack holds."""

    base: str
    layers: tuple[str, ...]
    loras: tuple[PackedLora, ...]

    def place(self, name: str, file: str) -> int:
        """Where the LoRA of this name is; MergeError if there is none."""
        names = [lora.name for lora in self.loras]
        if name not in names:
            raise MergeError(f"{file} has no LoRA “{name}”; there are {', '.join(names)}.")
        return names.index(name)


def write_pack(
    adapters: Sequence[Adapter],
    layers: Mapping[str, PackedLayer],
    errors: Sequence[float],
    path: Path,
) -> int:
    """Write the layers of the adapters, as they are to be stored; returns the size in bytes.

    The file is read back and compared; MergeError if it cannot be written or differs, and for
    numbers that its precision cannot hold.
    """
    from merging.formats.serialise import serialise  # imports torch, which headers do without

    tensors = {
        f"{layer}.{side}": tensor
        for layer, shared in layers.items()
        for side, tensor in shared.tensors.items()
    }
    for place, adapter in enumerate(adapters):
        tensors |= _beside(place, adapter)
    for key, tensor in tensors.items():
        if not tensor.isfinite().all():
            raise MergeError(f"{path.name}: {key} is too large for this precision; pack as fp32.")
    header = {PACK_KEY: json.dumps(_header(adapters, layers, errors), ensure_ascii=False)}
    return write_checked(path, serialise(tensors, header), lambda temp: _check(temp, path, tensors))


def packed_place(path: Path) -> tuple[Path, str] | None:
    """The pack and the name in PACK.safetensors#NAME; None for the path of a file."""
    file, ending, name = str(path).partition(".safetensors#")
    return (Path(f"{file}.safetensors"), name) if ending and not path.exists() else None


def is_pack(path: Path) -> bool:
    """Whether the header says that it is a pack, damaged or not."""
    try:
        with opened(path, printable(path.name)) as body:
            return PACK_KEY in body.header.metadata
    except MergeError:
        return False


def read_pack_header(path: Path, file: str = "") -> PackHeader:
    """What a pack holds, without torch; MergeError for a damaged file, or one that is no pack."""
    with opened(path, file or printable(path.name)) as body:
        return _read_header(body)


def packed_sha256(pack_sha256: str, name: str) -> str:
    """What identifies a LoRA of a pack in recipes, since it has no file of its own."""
    return sha256(f"{pack_sha256}#{name}".encode()).hexdigest()


def read_packed(
    path: Path, name: str, layer_table: LayerTable | None = None, file: str = ""
) -> Adapter:
    """One LoRA of a pack; its factors are float32.

    MergeError if the pack has no such LoRA, is damaged, or is for another base than the table's.
    """
    with opened(path, file or printable(path.name)) as body:
        header = _read_header(body)
        place = header.place(name, body.file)
        if layer_table is not None and layer_table.name != header.base:
            raise MergeError(
                f"{body.file} has LoRAs for {table(header.base).title}, not for "
                f"{layer_table.title}; choose that base model."
            )
        lora = header.loras[place]
        kept = {key: lora.entry[key] for key in KEPT}
        lossy = [LOSSY.format(lora.error)] if lora.error > LOSS else []
        kept |= {
            "family": f"{kept['family']}, packed",
            "sha256": packed_sha256(body.sha256(), name),
            "warnings": (*kept["warnings"], *lossy),
        }
        return Adapter(
            **kept,
            base=header.base,
            layers=dict(_layers(body, header, place)),
            shifts=_shifts(body, place, table(header.base)),
            embeddings=_embeddings(body, lora, place, token_width(table(header.base))),
        )


# --- writing --------------------------------------------------------------------------------------


def _header(
    adapters: Sequence[Adapter], layers: Mapping[str, PackedLayer], errors: Sequence[float]
) -> dict[str, Any]:
    return {
        "version": VERSION,
        "base": adapters[0].base,
        "layers": list(layers),
        "loras": [
            {
                **{key: getattr(adapter, key) for key in KEPT},
                "metadata": dict(adapter.metadata),
                "words": [embedding.word for embedding in adapter.embeddings],
                "ranks": [shared.ranks[place] for shared in layers.values()],
                "error": error,
            }
            for place, (adapter, error) in enumerate(zip(adapters, errors, strict=True))
        ],
    }


def _beside(place: int, adapter: Adapter) -> dict[str, Tensor]:
    """The vectors of an adapter by key: biases, normalisations and textual inversions."""
    shifts = {
        f"shift.{place}.{module}.{end}": vector.float()
        for module, shift in adapter.shifts.items()
        for end, vector in shift.vectors().items()
    }
    words = {f"word.{place}.{i}": word.vectors for i, word in enumerate(adapter.embeddings)}
    return shifts | words


def _check(temporary: Path, path: Path, tensors: Mapping[str, Tensor]) -> int:
    """Read the file back: its size, or MergeError if it differs."""
    with opened(temporary, path.name) as body:
        _read_header(body)
        if not all(body.tensor(key).equal(tensor) for key, tensor in tensors.items()):
            raise MergeError(f"{path.name} was not saved: its values differ when it is read back.")
        return body.size


# --- reading --------------------------------------------------------------------------------------


def _read_header(body: Body) -> PackHeader:
    if PACK_KEY not in body.header.metadata:
        raise MergeError(f"{body.file} is no pack; the command pack writes packs.")
    try:
        saved = json.loads(body.header.metadata[PACK_KEY])
        if saved["version"] > VERSION:
            raise MergeError(f"{body.file} is a pack of a later version; update this program.")
        if saved["base"] not in TABLES:
            raise ValueError("an unknown base")
        loras = tuple(_packed(row, len(saved["layers"])) for row in saved["loras"])
        shapes = table(saved["base"]).shapes
        if not all(layer in shapes for layer in saved["layers"]):
            raise ValueError("a layer that the base does not have")
        return PackHeader(saved["base"], tuple(saved["layers"]), loras)
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise MergeError(
            f"{body.file} is a damaged pack ({error}); pack the LoRAs again."
        ) from error


def _packed(row: Mapping[str, Any], layers: int) -> PackedLora:
    """A LoRA's row of the header; KeyError, TypeError or ValueError for a wrong one."""
    ranks = tuple(row["ranks"])
    whole = len(ranks) == layers and all(type(rank) is int and rank >= 0 for rank in ranks)
    texts = [*(row[key] for key in ("name", "family", "trigger", "sha256")), *row["warnings"]]
    texts += [*row["metadata"], *row["metadata"].values(), *row["words"]]
    lists = isinstance(row["warnings"], list) and isinstance(row["words"], list)
    if not (whole and lists and all(isinstance(text, str) for text in texts)):
        raise ValueError("a wrong row")
    return PackedLora(row["name"], float(row["error"]), ranks, {**row, "based": bool(row["based"])})


def _layers(body: Body, header: PackHeader, place: int) -> Iterator[tuple[str, LoraLayer]]:
    """Every layer that the LoRA has."""
    shapes = table(header.base).shapes
    for number, layer in enumerate(header.layers):
        ranks = tuple(lora.ranks[number] for lora in header.loras)
        if ranks[place]:
            yield layer, _layer(body, layer, ranks, place, flat(shapes[layer]))


def _layer(
    body: Body, layer: str, ranks: tuple[int, ...], place: int, size: tuple[int, int]
) -> LoraLayer:
    """One layer of one LoRA; MergeError where the tensors do not fit the header or the base."""
    import torch

    from merging.packs.packed_layer import PackedLayer

    keys = {side: f"{layer}.{side}" for side in SIDES}
    stored = {side: body.tensor(k) for side, k in keys.items() if k in body.header.tensors}
    try:
        delta = PackedLayer(**stored, ranks=ranks).delta(place)
        up, down = (delta.up.float(), delta.down.float()) if delta else (torch.empty(0),) * 2
    except (TypeError, RuntimeError, IndexError):
        up = down = torch.empty(0)
    fits = up.shape == (size[0], ranks[place]) and down.shape == (ranks[place], size[1])
    if not fits or not (up.isfinite().all() and down.isfinite().all()):
        raise MergeError(f"{body.file}: layer {layer} is damaged; pack the LoRAs again.")
    return LoraLayer(up, down, alpha=float(ranks[place]))


def _shifts(body: Body, place: int, layer_table: LayerTable) -> dict[str, VectorDelta]:
    """Biases and normalisations; MergeError for those that the base does not have."""
    shifts: dict[str, VectorDelta] = {}
    start = f"shift.{place}."
    for key in body.header.tensors:
        if key.startswith(start):
            name = key.removeprefix(start)
            vector = _beside_layers(body, key, (layer_table.vectors.get(name, 0),))
            module, _, end = name.rpartition(".")
            shift = VectorDelta(**{end: vector})
            shifts[module] = shifts.get(module, VectorDelta()).plus(shift)
    return shifts


def _embeddings(body: Body, lora: PackedLora, place: int, width: int) -> tuple[Embedding, ...]:
    words = enumerate(lora.entry["words"])
    keys = {word: f"word.{place}.{i}" for i, word in words}
    return tuple(
        Embedding(word, _beside_layers(body, key, (-1, width)), lora.name)
        for word, key in keys.items()
    )


def _beside_layers(body: Body, key: str, shape: tuple[int, ...]) -> Tensor:
    """A tensor that is no layer's, of this shape (−1: any); MergeError for another."""
    stored = body.header.tensors.get(key)
    sizes = stored.shape if stored else ()
    fits = len(sizes) == len(shape) and all(b in (-1, a) for a, b in zip(sizes, shape, strict=True))
    tensor = body.tensor(key).float() if fits else None
    if tensor is None or not tensor.isfinite().all():
        raise MergeError(f"{body.file}: {key} is damaged; pack the LoRAs again.")
    return tensor
