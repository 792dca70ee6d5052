"""A figure that notebooks show by itself, whatever matplotlib was told."""

from __future__ import annotations

import io

from matplotlib.figure import Figure


class InlineFigure(Figure):
    """As its base, which notebooks show only where ``pyplot`` was imported."""

    def _repr_png_(self) -> bytes:
        content = io.BytesIO()
        self.savefig(content, format="png", dpi=72)
        return content.getvalue()
