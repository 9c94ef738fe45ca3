"""Fetches the libraries of the page from npm: `make vendor`. The copies are part of the repository.

versions.json says of each file its package, version, place in the package and SHA-256, so that
what is served can be compared with what was published.
"""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent.parent / "web" / "vendor"
VERSIONS = "versions.json"


def main() -> None:
    """Fetch every package and write its files and their digests."""
    path = FOLDER / VERSIONS
    packages: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    for package in packages:
        content = fetch(package["package"], package["version"])
        for file in package["files"]:
            data = content[file["source"]]
            (FOLDER / file["name"]).write_bytes(data)
            file["sha256"] = hashlib.sha256(data).hexdigest()
    path.write_text(json.dumps(packages, indent=2) + "\n", encoding="utf-8")


def fetch(package: str, version: str) -> dict[str, bytes]:
    """Path in the package → content."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["npm", "pack", "--silent", f"{package}@{version}"], cwd=folder, check=True)
        (archive,) = Path(folder).glob("*.tgz")
        with tarfile.open(fileobj=io.BytesIO(archive.read_bytes())) as tar:
            found = {}
            for member in tar.getmembers():
                file = tar.extractfile(member)
                if file is not None:
                    found[member.name.removeprefix("package/")] = file.read()
    return found


if __name__ == "__main__":
    main()
