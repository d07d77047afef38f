"""Writes the table of docs/licences.md: every locked package with its licence, as its own metadata says.

`python scripts/licences.py` in the set-up environment; `--check` only says whether the page is up to date.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import re
import sys
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parents[1]
LOCK, PAGE = ROOT / "requirements" / "lock.txt", ROOT / "docs" / "licences.md"
PINNED = re.compile(r"^([A-Za-z0-9_.-]+)==([^ ;]+)")
# What the licence files of packages say whose metadata names none. Each was read in the installed package.
FILES = {
    "anny": "Apache-2.0",
    "ros-fastcdr": "Apache-2.0",
    "ros-fastdds": "Apache-2.0",
    "segment-anything": "Apache-2.0",
    "setuptools": "MIT",
    "smplx": "non-commercial research (Max Planck)",
    "cuda-toolkit": "LicenseRef-NVIDIA-Proprietary",
}
# One name for each licence, however the metadata spell it.
SPELLINGS = {
    "Apache Software License": "Apache-2.0",
    "Apache Software License 2.0": "Apache-2.0",
    "Apache License, Version 2.0": "Apache-2.0",
    "Apache License 2.0": "Apache-2.0",
    "Apache 2.0 License": "Apache-2.0",
    "Apache 2.0": "Apache-2.0",
    "MIT License": "MIT",
    "BSD License": "BSD",
    "3-Clause BSD License": "BSD-3-Clause",
    "ISC License (ISCL)": "ISC",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "NVIDIA Proprietary Software": "LicenseRef-NVIDIA-Proprietary",
    "Python Software Foundation License": "PSF-2.0",
}
HEAD, TABLE = "<!-- Below: written by scripts/licences.py -->\n", "| package | version | licence |\n|---|---|---|\n"


def licence_of(name: str) -> str:
    """What a package says of its licence: in its metadata, in its ROS manifest, or in a file of its own."""
    try:
        distribution = importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return "*not installed here*"
    if name in FILES:
        return FILES[name]
    metadata = distribution.metadata
    if "License-Expression" in metadata:
        return str(metadata["License-Expression"])
    known = [
        text.split("::")[-1].strip() for text in metadata.get_all("Classifier") or [] if text.startswith("License")
    ]
    told = known or [line for line in "\n".join(metadata.get_all("License") or []).splitlines() if line.strip()][:1]
    told = told or _manifest(distribution)
    return " / ".join(SPELLINGS.get(text, text) for text in told) or "**unknown**"


def _manifest(distribution: importlib.metadata.Distribution) -> list[str]:
    """The licences in the `package.xml` of a ROS package."""
    for file in distribution.files or []:
        if file.name == "package.xml":
            root = ElementTree.parse(str(distribution.locate_file(file))).getroot()
            return [item.text.strip() for item in root.iter("license") if item.text]
    return []


def page() -> str:
    """The page's text."""
    packages: dict[str, list[str]] = {}
    for match in filter(None, map(PINNED.match, LOCK.read_text().splitlines())):
        # Another Python may need another version.
        packages.setdefault(match[1], []).append(match[2])
    rows = [f"| {name} | {', '.join(versions)} | {licence_of(name)} |" for name, versions in sorted(packages.items())]
    kept, mark, _ = PAGE.read_text().partition(HEAD)
    if not mark:
        raise SystemExit(f"licences: {PAGE} has no line {HEAD.strip()}")
    return kept + HEAD + TABLE + "\n".join(rows) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit status 1 where the page is out of date"
    )
    options = parser.parse_args()
    text = page()
    if "**unknown**" in text:
        print("licences: unknown for", *re.findall(r"\| (\S+) \| \S+ \| \*\*unknown", text), file=sys.stderr)
        return 1
    if options.check:
        return 0 if PAGE.read_text() == text else 1
    PAGE.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
