"""Takes registry.yaml and the examples along into the built package; the rest: pyproject.toml."""

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


setup(cmdclass={"build_py": BuildWithRegistry})
