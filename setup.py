"""Packaging: the extension `growkernels._C` by ninja. Where it cannot be built, the package installs without it."""

from __future__ import annotations

import os
import re
import shutil
import site
import subprocess
import sys
import sysconfig
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar

from setuptools import Command, Extension, setup
from setuptools.command.build import build as build_command
from setuptools.command.build_ext import build_ext
from setuptools.command.sdist import sdist

ROOT = Path(__file__).resolve().parent
PACKAGE = ROOT / "growkernels"
REMEDY = (
    "Install torch and GCC (tested with 12) or clang (apt-get install g++ python3-dev), then: "
    "pip install --no-deps --no-cache-dir --force-reinstall -v ."
)


def find_torch() -> Path:
    """The folder of torch, whose headers and libraries are all that is needed: it is not imported.

    GROWKERNELS_TORCH names it. An isolated build has no torch of its own: that of the environment to install into serves.
    """
    spec = find_spec("torch")
    own = [Path(spec.origin).parent] if spec and spec.origin else []
    named = os.environ.get("GROWKERNELS_TORCH")
    folders = [Path(named)] if named else [*own, *(Path(folder, "torch") for folder in site.getsitepackages())]
    for folder in folders:
        if (folder / "include/torch/csrc/stable/library.h").exists():
            return folder
    raise RuntimeError(f"there is no torch to compile against in {', '.join(map(str, folders))}")


def build(temp: Path, library: str, target: Path) -> None:
    """Bring a library of the graph up to date in the folder `temp`, and copy it to `target`.

    Without the kernels for CUDA, and with a warning, where nvcc does not work. Honors MAX_JOBS.
    """
    sys.path.insert(0, str(ROOT / "csrc"))
    try:
        from build_graph import Cuda, find_compiler, find_cuda, write_graph
        from ninja import BIN_DIR
    except ModuleNotFoundError as error:
        raise RuntimeError(f"{error.name} is not installed; the build needs `pip install pybind11 ninja`") from error

    compiler, torch = find_compiler(), find_torch()
    version = re.search(r'__version__ = "(.+)"', (PACKAGE / "__init__.py").read_text())[1]
    ninja = [str(Path(BIN_DIR, "ninja")), "-C", str(temp)]
    jobs = ["-j", os.environ["MAX_JOBS"]] if os.environ.get("MAX_JOBS") else []
    temp.mkdir(parents=True, exist_ok=True)

    def compile_with(cuda: Cuda | None) -> None:
        write_graph(temp / "build.ninja", version, compiler, torch, cuda)
        subprocess.run([*ninja, *jobs, library], check=True)

    cuda = None
    try:
        cuda = find_cuda()
        compile_with(cuda)
    except (OSError, RuntimeError, subprocess.CalledProcessError) as error:
        if cuda is None and isinstance(error, subprocess.CalledProcessError):
            raise
        left_out = "warning: nvcc does not work, so the kernels for CUDA are left out"
        print(f"{error}\n{left_out}; GROWKERNELS_CUDA=0 does so without trying", file=sys.stderr)
        compile_with(None)
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(temp / library, target)
    if ROOT in temp.parents:  # where clangd finds it: build/compile_commands.json
        with (temp.parent / "compile_commands.json").open("w") as commands:
            subprocess.run([*ninja, "-t", "compdb", "cxx", "nvcc"], check=True, stdout=commands)


class Build(build_command):
    """A build without what an older one left: modules that have moved, and libraries that are not built this time."""

    def run(self) -> None:
        shutil.rmtree(Path(self.build_lib, "growkernels"), ignore_errors=True)
        super().run()


class BuildExtension(build_ext):
    """A build whose failure is a warning, except where building is all that was asked for."""

    def run(self) -> None:
        # Where this build leaves no library, Python would load an older one. That for the limited API fits every Python.
        for library in PACKAGE.glob("_C*.so" if self.inplace else "_C.abi3*.so"):
            library.unlink()
        try:
            super().run()
        except Exception as error:
            if "build_ext" in sys.argv:
                raise
            print(f"warning: growkernels is installed WITHOUT its compiled kernels: {error}\n{REMEDY}", file=sys.stderr)
            # What is left is Python alone, and the tag of its wheel says so.
            self.extensions = self.distribution.ext_modules = []
            self.distribution.get_command_obj("bdist_wheel").root_is_pure = True

    def build_extension(self, extension: Extension) -> None:
        build(Path(self.build_temp).resolve(), "_C.so", Path(self.get_ext_fullpath(extension.name)))


class BuildEmulated(Command):
    """The emulated GPU of the tests: `python setup.py build_emulated`."""

    user_options: ClassVar = [("build-lib=", "d", "folder of the library [default: tests/emulated]")]

    def initialize_options(self) -> None:
        self.build_lib = "tests/emulated"

    def finalize_options(self) -> None:
        """There is nothing to derive."""

    def run(self) -> None:
        folder = Path(self.build_lib)
        for older in folder.glob("growkernels_emulated*.so"):
            older.unlink()
        suffix = sysconfig.get_config_var("EXT_SUFFIX")
        temp = Path(self.get_finalized_command("build_ext").build_temp)
        build(temp.resolve(), "growkernels_emulated.so", folder / f"growkernels_emulated{suffix}")


class SourceArchive(sdist):
    """An archive that holds the Triton kernels once, growkernels/kernels being a link as in the source tree."""

    def make_release_tree(self, base_dir: str, files: list[str]) -> None:
        super().make_release_tree(base_dir, files)
        link = Path(base_dir, "growkernels", "kernels")
        shutil.rmtree(link)
        link.symlink_to("../kernels")


setup(
    ext_modules=[] if os.environ.get("GROWKERNELS_NO_EXTENSION") else [Extension("growkernels._C", [])],
    cmdclass={"build": Build, "build_ext": BuildExtension, "build_emulated": BuildEmulated, "sdist": SourceArchive},
)
