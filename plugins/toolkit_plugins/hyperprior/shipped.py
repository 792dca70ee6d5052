"""Whether the weights that ship are there, found out without importing torch."""

from pathlib import Path

FILE = Path(__file__).parent / "weights" / "hyperprior.safetensors"


def unavailable_reason(name: str) -> str:
    """Why the model can't code by default; empty if its weights are there."""
    return "" if FILE.is_file() else "no weights: train them, or -o weights=FILE"
