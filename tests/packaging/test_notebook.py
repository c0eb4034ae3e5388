"""The notebook as Colab would run it: by a real kernel, cell after cell, with the package that is installed here."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import nbclient
import nbformat
import pytest
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from jupyter_client.manager import AsyncKernelManager

from scripts.make_notebook import INSTALL, NOTEBOOK, text
from tests.docs.blocks import ROOT


class ThisPython(KernelSpecManager):
    """One kernel: the Python of the tests, whatever is registered on the machine."""

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        """The same for every name."""
        return KernelSpec(
            argv=[sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"], language="python"
        )


def test_the_notebook_is_the_one_that_the_script_writes() -> None:
    assert NOTEBOOK.read_text(encoding="utf-8") == text()
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    assert all(not cell.get("outputs") for cell in notebook.cells)


@pytest.mark.slow
def test_the_notebook_runs_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    notebook.cells = [cell for cell in notebook.cells if INSTALL not in cell.metadata.get("tags", [])]
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    manager = AsyncKernelManager(kernel_spec_manager=ThisPython())
    client = nbclient.NotebookClient(notebook, km=manager, timeout=600, resources={"metadata": {"path": str(tmp_path)}})
    client.execute(env=dict(os.environ))
    printed = "".join(
        output.get("text", "")
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if output.output_type == "stream"
    )
    assert printed.count("Evaluation loss:") == 2 and "Compute saved:" in printed
    assert "Where is the blue hat?" in printed
    assert len(list((tmp_path / "runs").iterdir())) == 2
    assert list((tmp_path / "runs").glob("*/exports/merged/model.safetensors"))
