"""The only module that imports k2: lazily, and with an error that says how to get it."""
from __future__ import annotations

import importlib.util
from types import ModuleType


def available() -> bool:
    return importlib.util.find_spec("k2") is not None


def k2(purpose: str) -> ModuleType:
    """The k2 module.

    Raises ValueError where k2 is not installed, naming ``purpose``, the thing that wanted it.
    """
    try:
        import k2
    except ImportError as error:
        raise ValueError(
            f"{purpose} needs k2, which cannot be imported here ({error}). "
            "'make env STACK=k2' builds an environment that has it; 'asr doctor' tells what works without it."
        ) from None
    return k2
