"""Takes registry.yaml along into the built package; the rest: pyproject.toml."""

from pathlib import Path
from shutil import copyfile

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithRegistry(build_py):
    """Puts registry.yaml into the built package, where an installed toolkit finds it."""

    def run(self):
        super().run()
        if not self.editable_mode:
            copyfile("registry.yaml", Path(self.build_lib) / "toolkit" / "registry.yaml")


setup(cmdclass={"build_py": BuildWithRegistry})
