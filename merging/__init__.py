"""IterIS Studio's library: several Stable Diffusion 1.5 LoRAs in, one merged adapter out.

docs/python.md shows how the names of `__all__` work together. Each is imported when it is first
used, because torch and diffusers take seconds to import.
"""

from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

from merging.version import __version__

if TYPE_CHECKING:
    from merging.diffusion.base import load_base
    from merging.diffusion.render import render
    from merging.errors import Cancelled, MergeError
    from merging.export.save import save
    from merging.methods import METHODS
    from merging.options import MergeOptions
    from merging.python_api import inspect, merge, read
    from merging.request import MergeRequest, Source

__all__ = [
    "METHODS",
    "Cancelled",
    "MergeError",
    "MergeOptions",
    "MergeRequest",
    "Source",
    "__version__",
    "inspect",
    "load_base",
    "merge",
    "read",
    "render",
    "save",
]
_MODULES = {  # name -> the module that defines it
    "METHODS": "methods",
    "Cancelled": "errors",
    "MergeError": "errors",
    "MergeOptions": "options",
    "MergeRequest": "request",
    "Source": "request",
    "inspect": "python_api",
    "load_base": "diffusion.base",
    "merge": "python_api",
    "read": "python_api",
    "render": "diffusion.render",
    "save": "export.save",
}


def __getattr__(name: str) -> Any:
    """A public name, imported now."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return resolve_name(f"{__name__}.{_MODULES[name]}:{name}")


def __dir__() -> list[str]:
    """Public names and what is imported already."""
    return sorted({*globals(), *__all__})
