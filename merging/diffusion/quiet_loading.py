"""Models are loaded without the libraries' warnings and bars."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from diffusers.utils import logging as diffusers_logging
from transformers.utils import logging as transformers_logging


@contextmanager
def quiet_loading() -> Iterator[None]:
    """No warnings, which are about weights that nothing here uses, and no bars for files on disk.

    Nor does diffusers tell that a small autoencoder is another class than SD's. Downloads keep the
    bars of huggingface_hub.
    """
    libraries = (transformers_logging, diffusers_logging)
    verbosities = [library.get_verbosity() for library in libraries]
    for library in libraries:
        library.set_verbosity_error()
        library.disable_progress_bar()
    try:
        yield
    finally:
        for library, verbosity in zip(libraries, verbosities, strict=True):
            library.set_verbosity(verbosity)
            library.enable_progress_bar()
