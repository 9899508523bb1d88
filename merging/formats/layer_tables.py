"""Layer tables: names and shapes of the base models' weights.

Readers build all keys of a table's layers and look a file's keys up in them; a name with
underscores is never split. The tables are made by assets/build/layer_tables.py.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from math import prod
from pathlib import Path

from merging.adapter import Adapter
from merging.base_models import MINI, SD15, base_model
from merging.errors import MergeError

TABLES = (SD15.name, MINI.name)  # in the order in which they are tried

Shape = tuple[int, ...]
Role = str  # the purpose of a tensor in its layer: "down", "hada_w1_a", "alpha" …
Names = dict[str, str]  # stem of a key → canonical name of a layer


@dataclass(frozen=True, eq=False)  # a key of caches: what is made from a table is made once
class LayerTable:
    """The layers of a base model: canonical name → weight shape, in forward order."""

    name: str
    shapes: Mapping[str, tuple[int, ...]]  # (out, in) or (out, in, kernel height, kernel width)
    # "module.bias" or, of a normalisation, "module.weight" → length
    vectors: Mapping[str, int] = field(default_factory=dict)

    @cached_property
    def modules(self) -> tuple[str, ...]:
        """Every layer, then every normalisation."""
        modules = (name.rpartition(".")[0] for name in self.vectors)
        return tuple(dict.fromkeys((*self.shapes, *modules)))

    @property
    def title(self) -> str:
        """The name of the base model to show."""
        return base_model(self.name).title


@cache
def table(name: str) -> LayerTable:
    """The committed table of "sd15" or "mini"; raises MergeError for any other name."""
    if name not in TABLES:
        raise MergeError(f"There is no layer table “{name}”; choose one of {', '.join(TABLES)}.")
    path = Path(__file__).parent / "tables" / f"{name}.json"
    rows = json.loads(path.read_text(encoding="utf-8"))
    shapes = {layer: tuple(shape) for layer, shape in rows.items() if isinstance(shape, list)}
    return LayerTable(name, shapes, {key: n for key, n in rows.items() if key not in shapes})


def flat(shape: tuple[int, ...]) -> tuple[int, int]:
    """(out, in) of a layer, where ``in`` counts channels × kernel height × kernel width."""
    return shape[0], prod(shape[1:])


def spellings(layer: str) -> tuple[str, ...]:
    """The canonical name, and for CLIP also the name without ``text_model.``.

    transformers 5 dropped that level, so files trained with it lack it too.
    """
    short = layer.replace("text_encoder.text_model.", "text_encoder.", 1)
    return (layer,) if short == layer else (layer, short)


def table_of(adapter: Adapter) -> LayerTable:
    """The table that an adapter's layers fit, trying ``adapter.base`` first; MergeError if none."""
    names = sorted(TABLES, key=lambda name: name != adapter.base)
    misfit = ""
    for candidate in map(table, names):
        misfit = _first_misfit(adapter, candidate)
        if not misfit:
            return candidate
    raise MergeError(
        f"{adapter.name}: layer {misfit} fits no base model that can be written "
        f"({', '.join(base_model(name).title for name in TABLES)}); merge for one of these."
    )


def _first_misfit(adapter: Adapter, table: LayerTable) -> str:
    """The first layer that the table lacks or has in another size, "" if all fit."""
    for name, layer in adapter.layers.items():
        size = (layer.up.shape[0], layer.down.shape[1])
        if name not in table.shapes or flat(table.shapes[name]) != size:
            return name
    for name, shift in adapter.shifts.items():
        for parameter, vector in shift.vectors().items():
            if table.vectors.get(f"{name}.{parameter}") != len(vector):
                return name
    return ""


def printable(name: str) -> str:
    """A file name without surrogates, which stand for bytes that are not valid text."""
    return name.encode("utf-8", "replace").decode("utf-8")


def adapter_title(file: str) -> str:
    """The name of an adapter: its file's name without the ending."""
    return Path(file).stem if Path(file).suffix.lower() == ".safetensors" else file
