"""Encoders whose bytes are the same every time on one type of machine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

_wanted = False


def deterministic_wanted() -> bool:
    """Whether this process is within ``deterministic``."""
    return _wanted


@contextmanager
def deterministic(wanted: bool = True) -> Iterator[None]:
    """Within it, networks compute in float32 with fixed kernels and by one thread, in the whole
    process: the same picture, options and weights give the same bytes on every processor of one
    type with the same version of torch. Slower; files decode everywhere either way.

    Processors with other instruction sets still round otherwise: see docs/reliability.md.

    Arguments:
        wanted: False changes nothing.
    """
    global _wanted
    if not wanted:
        yield
        return
    before, _wanted = _wanted, True
    try:
        with _fixed_kernels():
            yield
    finally:
        _wanted = before


@contextmanager
def _fixed_kernels() -> Iterator[None]:
    import torch

    algorithms = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    threads, kernels = torch.get_num_threads(), torch.backends.mkldnn.deterministic
    precision = torch.get_float32_matmul_precision()
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.set_num_threads(1)
    try:
        torch.backends.mkldnn.deterministic = True  # type: ignore[assignment]
        torch.set_float32_matmul_precision("highest")
        yield
    finally:
        torch.backends.mkldnn.deterministic = kernels
        torch.set_float32_matmul_precision(precision)
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(algorithms, warn_only=warn_only)
