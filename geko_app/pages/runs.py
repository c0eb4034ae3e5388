"""The Runs page: all runs on disk, several of them compared, one of them opened. Layout and thin handlers only."""

from __future__ import annotations

from typing import Any

import gradio as gr

from geko_app.formatting import format_bytes, run_name
from geko_app.pages.components import ServerFunction, answer, live_html, text_of, texts_of, whole_of
from geko_app.runs.queue import QUEUED
from geko_app.runs.summary import FactsReader, flat, folder_size, log_tail, text_file, write_note
from geko_app.services import Services
from geko_app.views import charts, runs
from geko_app.views.control_run import control_sentence
from geko_app.views.run_summary import loading_code
from geko_app.views.runs import RunTable
from geko_app.workers.model_downloads import ModelDownloads
from geko_app.workers.supervisor import Supervisor
from geko_engine.exceptions import GekoError, RunError
from geko_engine.runs.folder import RunFolder

SIZES_AT_ONCE = 20


def build(services: Services, _blocks: gr.Blocks) -> None:
    """The page's parts, inside whatever is open."""
    supervisor = services.supervisor
    table = RunTable(supervisor)
    live_html("runs", _list_functions(table))
    live_html("run_comparison", _compare_functions(supervisor, table.reader))
    live_html("run_detail", [*_run_functions(supervisor, table.reader), *_actions(supervisor, services.downloads)])


def _list_functions(table: RunTable) -> list[ServerFunction]:
    """What the list's script may call; each gets one object, and each is a public endpoint."""

    def columns(_query: Any) -> list[tuple[str, str]]:
        return list(runs.COLUMNS)

    def news(query: Any) -> dict[str, Any]:
        return table.changes(text_of(query, "book"), whole_of(query, "number"))

    def sizes(query: Any) -> dict[str, tuple[str, int]]:
        found = {}
        for folder in _folders(table.supervisor, texts_of(query, "runs", SIZES_AT_ONCE)):
            size = table.reader.size(folder)
            found[folder.id] = (format_bytes(size), size)
        return found

    return [columns, news, sizes]


def _compare_functions(supervisor: Supervisor, reader: FactsReader) -> list[ServerFunction]:
    """What the comparing part's script may call."""

    def chart(_query: Any) -> dict[str, Any]:
        return charts.compare()

    def curves(query: Any) -> dict[str, Any]:
        """The chosen runs' curves, but those that the tab has as they are; figures and differences of all."""
        had = query.get("had") if isinstance(query, dict) else None
        folders = _folders(supervisor, texts_of(query, "runs", charts.RUNS_AT_ONCE))
        chosen, found = [reader.facts(folder) for folder in folders], []
        for folder, facts in zip(folders, chosen, strict=True):
            state = supervisor.feed(folder.id).state()
            key = f"{state.generation}.{len(state.points)}.{len(state.evaluations)}"
            new = text_of(had, folder.id) != key
            curve = runs.curve(state) if new else None
            found.append({"id": folder.id, "name": run_name(facts.id), "key": key, "curve": curve})
        configs = [flat(reader.config(folder)) for folder in folders]
        return {
            "runs": found,
            "figures": runs.compared_figures(chosen),
            "differences": runs.differing_settings(configs) if len(configs) > 1 else [],
            "control": control_sentence(chosen, configs),
            "going": any(not facts.end for facts in chosen),
        }

    return [chart, curves]


def _run_functions(supervisor: Supervisor, reader: FactsReader) -> list[ServerFunction]:
    """What the script of the opened run may read."""

    def opened(query: Any) -> dict[str, Any] | None:
        for folder in _folders(supervisor, [text_of(query, "run")]):
            return _opened(supervisor, reader, folder)
        return None

    def report(query: Any) -> str:
        for folder in _folders(supervisor, [text_of(query, "run")]):
            return text_file(folder.report_path)
        return ""

    return [opened, report]


def _opened(supervisor: Supervisor, reader: FactsReader, folder: RunFolder) -> dict[str, Any]:
    facts = reader.facts(folder)
    alive, queued = supervisor.alive(folder.id), facts.phase == QUEUED
    title, reason = runs.run_status(facts, supervisor.queued_after(folder.id) if queued else None)
    model = str(folder.model_path.resolve()) if facts.has_model else ""
    checkpoint = folder.latest_checkpoint()
    return {
        "id": folder.id,
        "name": run_name(facts.id),
        "phase": facts.phase,
        "title": title,
        "reason": reason,
        "figures": runs.figures(facts),
        "folder": str(folder.path.resolve()),
        "model": model,
        "model_size": format_bytes(folder_size(folder.model_path)),
        "code": loading_code(model, adapter=(folder.model_path / "adapter_config.json").exists()) if model else "",
        "checkpoint": str(checkpoint.resolve()) if checkpoint else "",
        "command": runs.rerun_command(str(folder.config_path.resolve())),
        "config": text_file(folder.config_path),
        "log": log_tail(folder),
        "note": facts.note,
        "size": format_bytes(reader.size(folder)),
        "report": folder.report_path.is_file(),
        "stoppable": queued or (alive and not facts.end),
        "deletable": not queued and not alive,
        "resumable": bool(facts.end) and facts.end != "complete" and not alive,
    }


def _actions(supervisor: Supervisor, downloads: ModelDownloads) -> list[ServerFunction]:
    """What the script of the opened run may do; each is a public endpoint."""

    def halt(query: Any) -> dict[str, str]:
        return answer(lambda: supervisor.stop(text_of(query, "run")))

    def resume(query: Any) -> dict[str, str]:
        return answer(lambda: supervisor.resume(text_of(query, "run")))

    def remove(query: Any) -> dict[str, str]:
        return answer(lambda: supervisor.delete(text_of(query, "run")))

    def keep_note(query: Any) -> dict[str, str]:
        return answer(lambda: write_note(supervisor.store.folder(text_of(query, "run")), text_of(query, "text")))

    def pack(query: Any) -> dict[str, str]:
        try:
            return {"error": "", "word": downloads.pack(supervisor.store.folder(text_of(query, "run")))}
        except GekoError as error:
            return {"error": str(error), "word": ""}

    return [halt, resume, remove, keep_note, pack]


def _folders(supervisor: Supervisor, ids: list[str]) -> list[RunFolder]:
    """The folders of those that are runs here; one may just have been deleted."""
    found = []
    for run_id in ids:
        try:
            found.append(supervisor.store.folder(run_id))
        except RunError:
            continue
    return found
