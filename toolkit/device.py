"""Where networks run: the processor, or a GPU of NVIDIA (``cuda``) or Apple (``mps``)."""

from __future__ import annotations

from enum import StrEnum

from toolkit.errors import MissingError, UsageError


class Device(StrEnum):
    """What a user can ask for."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"
    mps = "mps"


def resolve_device(wanted: str) -> str:
    """The device that ``wanted`` means here: ``auto`` takes a GPU where there is one.

    Raises UsageError for a word that is none, MissingError for a device that isn't there.
    """
    if wanted == Device.cpu:
        return wanted
    if wanted not in list(Device):
        raise UsageError(f"device '{wanted}': one of {', '.join(Device)}")
    import torch

    there = {Device.cuda: torch.cuda.is_available(), Device.mps: torch.backends.mps.is_available()}
    if wanted == Device.auto:
        return next((device.value for device, found in there.items() if found), Device.cpu.value)
    if not there[Device(wanted)]:
        raise MissingError(f"device '{wanted}': torch {torch.__version__} sees none here")
    return wanted
