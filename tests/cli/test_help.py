"""`fastvlm --help` is instant and light, and every command explains itself."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from fastvlm.cli.main import COMMANDS

HEAVY = ("torch", "openvino", "numpy", "PIL", "rich", "tokenizers", "safetensors", "huggingface_hub", "jinja2")


def test_help_imports_nothing_heavy() -> None:
    program = (
        "import sys; sys.argv = ['fastvlm', '--help']\n"
        "from fastvlm.cli.main import main\n"
        "try: main()\n"
        "except SystemExit as leaving: assert not leaving.code, leaving.code\n"
        f"print('LOADED', [name for name in {HEAVY!r} if name in sys.modules])"
    )
    output = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert output.splitlines()[-1] == "LOADED []"
    assert all(name in output for name in COMMANDS)


def test_importing_the_package_imports_nothing_heavy() -> None:
    program = f"import sys, fastvlm; fastvlm.Message; print([name for name in {HEAVY!r} if name in sys.modules])"
    output = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert output.strip() == "[]"


@pytest.mark.skipif(sys.platform == "win32", reason="needs the processor time of a child")
def test_help_takes_less_than_150_ms_of_processor_time() -> None:
    """User and system time of the child, best of five: a busy machine makes it wait, but hardly makes it work more."""
    import resource

    durations_s = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-m", "fastvlm", "--help"], capture_output=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        durations_s.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert 0 < min(durations_s) < 0.15, durations_s


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_explains_itself_without_heavy_imports(name: str) -> None:
    program = (
        f"import sys; sys.argv = ['fastvlm', {name!r}, '--help']\n"
        "from fastvlm.cli.main import main\n"
        "try: main()\n"
        "except SystemExit as leaving: assert not leaving.code, leaving.code\n"
        "print('LOADED', [name for name in ('torch', 'openvino') if name in sys.modules])"
    )
    output = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert output.splitlines()[-1] == "LOADED []"
    assert output.startswith(f"Usage: fastvlm {name} ")


def test_first_lines_in_the_listing_are_those_of_the_commands() -> None:
    from importlib import import_module

    for name, first_line in COMMANDS.items():
        command = getattr(import_module(f"fastvlm.cli.{name}"), f"{name}_command")
        assert command.help.splitlines()[0] == first_line


def test_every_module_of_the_command_line_is_importable_without_torch() -> None:
    modules = sorted(path.stem for path in Path(__file__).parents[2].glob("src/fastvlm/cli/*.py"))
    imports = "\n".join(f"import fastvlm.cli.{module}" for module in modules if module != "__init__")
    program = f"import sys\n{imports}\nprint('torch' in sys.modules)"
    output = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert output.strip() == "False"


def test_the_namespace_offers_what_it_lists() -> None:
    import fastvlm

    for name in fastvlm.__all__:
        assert getattr(fastvlm, name) is not None
    assert set(fastvlm.__all__) <= set(dir(fastvlm))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = fastvlm.nothing  # type: ignore[attr-defined]
