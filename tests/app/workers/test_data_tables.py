"""Tables of the first rows of a form's data, read by real worker processes with limits."""

from __future__ import annotations

import sys
from pathlib import Path

from geko_app.form import values as form
from geko_app.form.roots import AllowedRoots
from geko_app.workers.data_tables import DataTables


def test_a_file_is_read_once_until_it_changes(tmp_path: Path) -> None:
    path, log = tmp_path / "rows.csv", tmp_path / "started"
    path.write_text("question,answer\na,b\n", encoding="utf-8")
    worker = f"import sys; open({str(log)!r}, 'a').write('x'); from geko_app.workers.table_worker import main; sys.exit(main())"
    tables, config = DataTables(command=(sys.executable, "-c", worker)), form.data_to_read({"data.train": str(path)})
    first = tables.read(config)
    assert first["columns"] == [["question", "prompt"], ["answer", "completion"]] and first["rows"] == [["a", "b"]]
    assert tables.read(config) == first and log.read_text(encoding="utf-8") == "x"
    path.write_text("question,answer\na,b\nc,d\n", encoding="utf-8")
    assert tables.read(config)["count"] == 2 and log.read_text(encoding="utf-8") == "xx"


def test_what_a_page_may_not_use_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("question,answer\na,b\n", encoding="utf-8")
    roots = AllowedRoots.of([], runs=tmp_path / "runs", is_open=True)
    found = DataTables(roots, command=("no such command",)).read(form.data_to_read({"data.train": str(path)}))
    assert "is not in a folder that this page may use" in found["error"] and found["rows"] == []


def test_a_worker_that_dies_or_hangs_is_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("question,answer\na,b\n", encoding="utf-8")
    config = form.data_to_read({"data.train": str(path)})
    killed = DataTables(command=(sys.executable, "-c", "import os; os.kill(os.getpid(), 9)")).read(config)
    assert "ended the process that reads it (SIGKILL)" in killed["error"]
    slow = DataTables(command=(sys.executable, "-c", "import time; time.sleep(60)"), seconds=1).read(config)
    assert "took longer than 1 s" in slow["error"]
    missing = DataTables(command=(str(tmp_path / "nothing"),)).read(config)
    assert "no process can be started" in missing["error"]


def test_the_demo_is_read_too() -> None:
    found = DataTables().read(form.data_to_read({}))
    assert found["count"] == 10_000 and found["error"] == ""
