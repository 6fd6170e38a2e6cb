"""That stage-1 finds every module it imports is seen here, and in a real boot, not on a console."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

from repo_tools.errors import RepoToolsError
from repo_tools.stage1.python_files import collect_python

PROJECT = Path(__file__).parents[4]
LOADED = """
import sys
sys.path.insert(0, sys.argv[1])
import signpost.stage1.init, signpost.table_write, mmap, pathlib
print({
    name: getattr(getattr(module, "__spec__", None), "origin", None)
    for name, module in sys.modules.items()
})
"""


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> frozenset[str]:
    """Collect from the running Python, laid out as Debian does; return names in the library."""
    system = tmp_path_factory.mktemp("system")
    version = f"python3.{sys.version_info.minor}"
    (system / "usr/bin").mkdir(parents=True)
    (system / "usr/lib").mkdir()
    (system / "usr/bin" / version).symlink_to(Path(sys.executable).resolve())
    (system / "usr/lib" / version).symlink_to(Path(json.__file__).parents[1])
    files = collect_python(system).files
    return frozenset(name.removeprefix(f"usr/lib/{version}/") for name in files)


def test_everything_that_stage_1_imports_is_collected(names: frozenset[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-IS", "-c", LOADED, str(PROJECT)],
        check=True,
        capture_output=True,
        text=True,
    )
    modules = {name.partition(".")[0] for name in names}
    missing = [
        name
        for name, origin in ast.literal_eval(done.stdout).items()
        if origin and origin.endswith(".py") and name != "__main__"
        if not {name.replace(".", "/"), f"{name.replace('.', '/')}/__init__"} & modules
    ]
    assert missing == []
    assert any(name.startswith("lib-dynload/_ctypes.") for name in names)


def test_nothing_of_the_commands_or_of_other_packages_goes_in(names: frozenset[str]) -> None:
    assert not any("click" in name or "signpost/cli" in name for name in names)


def test_a_system_without_python_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RepoToolsError, match="no Python"):
        collect_python(tmp_path)
