"""Takes registry.yaml and the examples along into the built package, and the README in a form that
needs no repository around it; the rest: pyproject.toml."""

import re
from pathlib import Path
from shutil import copyfile, copytree, ignore_patterns

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithRegistry(build_py):
    """Puts registry.yaml, and the examples that `toolkit new` begins with, into the built package,
    where an installed toolkit finds them."""

    def run(self):
        super().run()
        if not self.editable_mode:
            package = Path(self.build_lib) / "toolkit"
            copyfile("registry.yaml", package / "registry.yaml")
            ignored = ignore_patterns("__pycache__")
            copytree("examples", package / "examples", ignore=ignored, dirs_exist_ok=True)


def description():
    """The README without its pictures; links to files of the repository become their paths."""
    text = Path("README.md").read_text(encoding="utf-8")
    text = re.sub(r"^!\[[^\]]*\]\([^)]*\)\n+", "", text, flags=re.MULTILINE)

    def path(match):
        label, target = match[1], match[2]
        return label if label == target else f"{label} (`{target}`)"

    return re.sub(r"\[([^\]]+)\]\((?!\w+:)([^)]+)\)", path, text)


setup(
    cmdclass={"build_py": BuildWithRegistry},
    long_description=description(),
    long_description_content_type="text/markdown",
)
