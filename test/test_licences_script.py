"""The page of licences names every locked package, in its locked version, and none without a licence."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LOCK, PAGE = ROOT / "requirements" / "lock.txt", ROOT / "docs" / "licences.md"


def test_every_locked_package_is_on_the_page() -> None:
    locked = set(re.findall(r"^([A-Za-z0-9_.-]+)==([^ ;\n]+)", LOCK.read_text(), flags=re.MULTILINE))
    table = re.findall(r"^\| ([A-Za-z0-9_.-]+) \| ([^|]+) \| ([^|]+) \|$", PAGE.read_text(), flags=re.MULTILINE)
    told = {(name, version) for name, versions, _ in table if name != "package" for version in versions.split(", ")}
    assert told == locked, "run scripts/licences.py"
    assert all(licence.strip() for _, _, licence in table)
    assert "unknown" not in PAGE.read_text()


def test_a_page_without_its_mark_is_not_overwritten(tmp_path: Path) -> None:
    program = (
        "import sys; sys.path.insert(0, sys.argv[1]); import licences, pathlib;"
        "licences.PAGE = pathlib.Path(sys.argv[2]); sys.argv = ['x']; licences.main()"
    )
    page = tmp_path / "page.md"
    page.write_text("mine\n")
    done = subprocess.run(
        [sys.executable, "-c", program, str(ROOT / "scripts"), str(page)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "has no line" in done.stderr
    assert page.read_text() == "mine\n"
