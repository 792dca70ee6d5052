"""What the things that plugins name must be, checked when they are first seen."""

from __future__ import annotations

import importlib
import inspect
from typing import Any


def subclass_problem(found: Any, base: str) -> str:
    """Why ``found`` is no concrete subclass of ``base`` (``package.module:Name``); empty if it
    is."""
    module, _, name = base.partition(":")
    wanted = getattr(importlib.import_module(module), name)
    needed = sorted(getattr(wanted, "__abstractmethods__", ()))
    if not isinstance(found, type):
        return f"is no class: it must be a subclass of {name} ({base})"
    if not issubclass(found, wanted):
        missing = [method for method in needed if not hasattr(found, method)]
        lacks = f", and lacks {', '.join(missing)}" if missing else ""
        return f"is no subclass of {name} ({base}){lacks}"
    return missing_methods(found)


def missing_methods(found: type) -> str:
    """Which methods a class has to implement still; empty if none."""
    missing = sorted(getattr(found, "__abstractmethods__", ()))
    return f"lacks {', '.join(missing)}" if missing else ""


def model_problem(found: Any) -> str:
    """Why ``found`` is no class of an entropy model; empty if it is."""
    missing = [name for name in ("options_class", "training_pass") if not hasattr(found, name)]
    if not isinstance(found, type):
        return "is no class: it must be an nn.Module (see toolkit.entropy_model.base)"
    if missing:
        return f"lacks {', '.join(missing)}"
    return missing_methods(found)


def metric_problem(found: Any) -> str:
    """Why ``found`` is no function of (original, decoded); empty if it is."""
    if not callable(found):
        return "is no function"
    try:
        inspect.signature(found).bind(None, None)
    except TypeError:
        return "doesn't take two pictures: (original, decoded)"
    except ValueError:  # a built-in without a signature
        return ""
    return ""
