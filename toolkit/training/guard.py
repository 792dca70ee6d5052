"""Leaving out single bad steps: losses and gradients that aren't finite or are far off."""

from __future__ import annotations

import math
import statistics
from collections import deque
from typing import Any

from toolkit.errors import ToolkitError
from toolkit.training.recipe import Guard


class TrainingDiverged(ToolkitError):
    """Nearly every step is a bad one."""

    exit_status = 5


class StepGuard:
    """Decides which steps are skipped: see ``Guard``. Its state belongs into checkpoints, so that
    a resumed run decides as the unbroken one."""

    def __init__(self, options: Guard) -> None:
        self.options = options
        self.norms: deque[float] = deque(maxlen=options.history)
        self.skipped = 0
        """Steps skipped in the whole run."""
        self.in_a_row = 0
        """Steps skipped since the last that wasn't."""

    def fault(self, loss: float, norm: float) -> str:
        """Why a step with this loss and gradient norm is to be skipped; empty if it isn't.

        Counts the step. Raises TrainingDiverged after too many skipped ones in a row.
        """
        fault = self._fault(loss, norm)
        if not fault:
            self.norms.append(norm)
            self.in_a_row = 0
            return fault
        self.skipped += 1
        self.in_a_row += 1
        if self.in_a_row >= self.options.in_a_row:
            raise TrainingDiverged(
                f"{self.in_a_row} steps in a row were skipped, the last because its {fault}. The "
                "last checkpoint is from before them, or has the same weights: go on from it with "
                "a lower learning rate (--set optimizer.kernel_lr=..., optimizer.other_lr=...), "
                "with precision=float32, or, if such gradients are as they should be, with a "
                "higher guard.factor"
            )
        return fault

    def _fault(self, loss: float, norm: float) -> str:
        if not math.isfinite(loss):
            return f"loss is {loss}"
        if not math.isfinite(norm):
            return f"gradient norm is {norm}"
        if self.options.factor is None or len(self.norms) < self.options.least:
            return ""
        median = statistics.median(self.norms)
        if 0 < median * self.options.factor < norm:
            return f"gradient norm is {norm:.3g}, {norm / median:.0f} times the median"
        return ""

    def state_dict(self) -> dict[str, Any]:
        return {
            "norms": list(self.norms),
            "skipped": self.skipped,
            "in_a_row": self.in_a_row,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.norms = deque(state["norms"], maxlen=self.options.history)
        self.skipped, self.in_a_row = state["skipped"], state["in_a_row"]
