"""Links of the documentation: their files are there, and the headings that they name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)|(?:src|href)=\"([^\"]+)\"")


def without_code(text: str) -> str:
    """A page without its blocks and spans of code."""
    text = re.sub(r"^( *)```.*?^\1```$", "", text, flags=re.DOTALL | re.MULTILINE)
    return re.sub(r"`[^`\n]*`", lambda span: "" if "](" in span[0] else span[0], text)


def links(page: Path) -> list[str]:
    return [first or second for first, second in LINK.findall(without_code(page.read_text()))]


def anchors(page: Path) -> set[str]:
    """What headings are called in links, by GitHub and by the site alike."""
    headings = re.findall(r"^#+ (.*)$", without_code(page.read_text()), re.MULTILINE)
    plain = (re.sub(r"[^\w\s-]", "", re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", h)) for h in headings)
    return {re.sub(r"\s", "-", text.strip().lower()) for text in plain}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    broken = []
    for link in links(page):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = page if not name else (page.parent / name).resolve()
        inside = target.is_relative_to(ROOT) and target.exists()
        if not inside or (anchor and target.suffix == ".md" and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


def test_links_are_found() -> None:
    assert sum(len(links(page)) for page in PAGES) > 60
    assert without_code("a\n```sh\n[x](y)\n```\n`[a](b)` [c](d)").split() == ["a", "[c](d)"]


def test_every_page_is_in_the_navigation() -> None:
    """What a strict build of the site asks for, too."""
    listed = re.findall(r"[\w/-]+\.md", (ROOT / "mkdocs.yml").read_text())
    assert sorted(listed) == sorted(
        str(page.relative_to(ROOT / "docs")) for page in PAGES if page.is_relative_to(ROOT / "docs")
    )


def test_no_page_fetches_anything_from_elsewhere() -> None:
    for page in PAGES:
        assert not re.search(r"!\[[^\]]*\]\(https?:", page.read_text()), page
    config = (ROOT / "mkdocs.yml").read_text().replace("!!python", "python")
    assert yaml.safe_load(config)["theme"]["font"] is False
