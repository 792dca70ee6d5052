"""The gallery's program makes the pictures whose sizes the page states."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("photo", ["chelsea", "coffee"])
def test_sizes_are_those_of_the_page(photo: str, tmp_path: Path) -> None:
    pytest.importorskip("skimage", reason="scikit-image has the photographs")
    spec = importlib.util.spec_from_file_location("gallery", DOCS / "gallery.py")
    assert spec is not None
    assert spec.loader is not None
    gallery = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(gallery)
    (source,) = gallery.samples().glob(f"{photo}.*")
    page = (DOCS / "gallery.md").read_text()
    table = next(part for part in page.split("\n\n") if f"gallery/{photo}-" in part)
    for codec in ("jpeg", "webp"):
        stated = re.search(rf"`{codec}`, ([\d,]+) bytes", table)
        assert stated is not None
        _, size = gallery.coded(source, codec, tmp_path)
        assert size == pytest.approx(int(stated[1].replace(",", "")), rel=0.02)
