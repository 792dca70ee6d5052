"""Whether the weights that ship are there, found out without importing torch."""

from pathlib import Path

FILE = Path(__file__).parent / "weights" / "hyperprior.safetensors"


def state(name: str) -> str:
    """What a line of a listing says of the weights; empty if they are there."""
    return "" if FILE.is_file() else "no weights: train them, or -o weights=FILE"
