"""Puts this checkout into a Hugging Face Space: `python scripts/space.py OWNER/NAME`, after `hf auth login`.

The Space gets what the image is built from (.dockerignore) and space/README.md, whose front matter describes it. It is uploaded
file by file, so large and binary files go where the Hub wants them. What else is in the Space is removed.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from huggingface_hub import CommitInfo, HfApi

ROOT = Path(__file__).parents[1]
FILES = ("LICENSE", "Dockerfile", ".dockerignore", "constraints.txt", "hatch_build.py", "pyproject.toml")
FILES += ("scripts/requirements.py", "assets/demo", "geko_app", "geko_engine")
IGNORED = shutil.ignore_patterns("__pycache__", "*.pyc", "*.d.ts")


def assemble(folder: Path) -> None:
    """Put the files of the Space into an empty folder."""
    for name in FILES:
        source, target = ROOT / name, folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=IGNORED)
        else:
            shutil.copyfile(source, target)
    shutil.copyfile(ROOT / "space" / "README.md", folder / "README.md")


def upload(name: str, *, private: bool, api: HfApi | None = None) -> CommitInfo:
    """Create the Space if there is none, and replace its files in one commit.

    Args:
        name: "owner/name".
        private: whether a new one is private.
        api: of the Hub.
    """
    hub = api or HfApi()
    hub.create_repo(name, repo_type="space", space_sdk="docker", private=private, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="geko-space-") as folder:
        assemble(Path(folder))
        return hub.upload_folder(
            repo_id=name, repo_type="space", folder_path=folder, delete_patterns="*", commit_message="GEKO"
        )


def main() -> int:
    """Entry point; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("name", help="OWNER/NAME of the Space")
    parser.add_argument("--private", action="store_true", help="only you see a new Space")
    options = parser.parse_args()
    print(upload(options.name, private=options.private).commit_url)
    return 0


if __name__ == "__main__":
    sys.exit(main())
