"""Packages that only a benchmark needs, above all gekolib 0.3.1: fetched once into benchmarks/.third-party (ignored by git),
never installed.

Where it cannot be had, its rows are left out and the reason is printed.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

REQUIREMENT = "gekolib==0.3.1"
FOLDER = Path(__file__).parent / ".third-party"


def load_gekolib() -> Any | None:
    """The module `geko` of gekolib, or None, said in one line."""
    if not (FOLDER / "geko").is_dir():
        fetch(REQUIREMENT)
    make_importable()
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            return importlib.import_module("geko")
    except ImportError as error:
        print(f"gekolib: its rows are left out, {REQUIREMENT} cannot be had here ({error}).")
        return None


def make_importable() -> None:
    """What was fetched can be imported from now on."""
    if str(FOLDER) not in sys.path:
        sys.path.append(str(FOLDER))  # at the end: it must not hide anything


def fetch(*requirements: str) -> None:
    """Put packages into FOLDER, without what they depend on; nothing is said where they cannot be had."""
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / ".gitignore").write_text("*\n", encoding="utf-8")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(FOLDER), *requirements]
    with contextlib.suppress(subprocess.TimeoutExpired):  # who needs them tells
        subprocess.run(command, check=False, capture_output=True, timeout=300)


def make_trainer(module: Any, model: Any, rows: Any, batch: int, folder: str) -> Any:
    """gekolib's trainer with its own defaults, without loader processes, saving and screen."""
    args = module.GEKOTrainingArgs(
        output_dir=folder,
        num_epochs=1,
        batch_size=batch,
        save_steps=10**9,
        eval_steps=10**9,
        logging_steps=10**9,
        save_at_end=False,
        dataloader_num_workers=0,
        use_rich_ui=False,
    )
    return module.GEKOTrainer(model=model, train_dataset=rows, args=args)


def run_gekolib(module: Any, model: Any, rows: list[dict[str, Any]], batch: int) -> None:
    """One epoch of gekolib's trainer. Rows must be of one length: it has no collator."""
    with tempfile.TemporaryDirectory() as folder, silence():
        make_trainer(module, model, [dict(row) for row in rows], batch, folder).train()


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Nothing is printed inside; gekolib prints at many places."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield
