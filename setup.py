"""Maps the folders to package names and takes registry.yaml along; the rest: pyproject.toml."""

from pathlib import Path
from shutil import copyfile

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

FOLDERS = {"toolkit": "toolkit", "toolkit_plugins": "plugins", "toolkit_evaluation": "evaluation"}


class BuildWithRegistry(build_py):
    """Puts registry.yaml into the built package, where an installed toolkit finds it."""

    def run(self):
        super().run()
        if not self.editable_mode:
            copyfile("registry.yaml", Path(self.build_lib) / "toolkit" / "registry.yaml")


setup(
    packages=[
        ".".join([name, *below])
        for name, folder in FOLDERS.items()
        for below in [[], *([p] for p in find_packages(folder))]
    ],
    package_dir=FOLDERS,
    cmdclass={"build_py": BuildWithRegistry},
)
