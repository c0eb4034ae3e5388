"""The Runs page: the list of all runs, several of them compared, one of them opened. Layout and thin handlers only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gradio as gr

from geko_app.formatting import format_bytes, format_date
from geko_app.pages.components import ServerFunction, int_arg, live_html, result_or_error, str_arg, str_list_arg
from geko_app.runs.labels import NAME_LIMIT, TAG_LIMIT, TAGS_LIMIT, write_label
from geko_app.runs.queue import QUEUED
from geko_app.runs.summary import FactsReader, RunFacts, all_settings, folder_size, log_tail, text_file, write_note
from geko_app.samples.paired_runs import paired_difference
from geko_app.services import Services
from geko_app.views import charts, runs
from geko_app.views.control_run import control_sentence
from geko_app.views.paired import paired_sentence
from geko_app.views.run_summary import loading_code
from geko_app.views.runs import RunTable
from geko_app.views.worth import worth_of_two
from geko_app.workers.model_downloads import ModelDownloads
from geko_app.workers.supervisor import Supervisor
from geko_engine.exceptions import RunError
from geko_engine.runs.folder import RunFolder

SIZES_AT_ONCE = 20


def build(services: Services, _blocks: gr.Blocks) -> None:
    """Add the page to the open layout."""
    supervisor = services.supervisor
    table = RunTable(supervisor)
    live_html("runs", _list_endpoints(table))
    live_html("run_comparison", _comparison_endpoints(supervisor, table.reader))
    live_html(
        "run_detail", [*_detail_endpoints(supervisor, table.reader), *_action_endpoints(supervisor, services.downloads)]
    )


def _list_endpoints(table: RunTable) -> list[ServerFunction]:
    """What the script of the list may call. Each gets one object and is a public endpoint."""

    def layout(_query: Any) -> dict[str, Any]:
        return {"columns": list(runs.COLUMNS), "name_limit": NAME_LIMIT}

    def changes(query: Any) -> dict[str, Any]:
        return table.changes(str_arg(query, "generation"), int_arg(query, "number"))

    def sizes(query: Any) -> dict[str, tuple[str, int]]:
        found = {}
        for folder in _folders(table.supervisor, str_list_arg(query, "runs", SIZES_AT_ONCE)):
            size = table.reader.size(folder)
            found[folder.id] = (format_bytes(size), size)
        return found

    return [layout, changes, sizes, _keep_label_endpoint(table.supervisor)]


def _comparison_endpoints(supervisor: Supervisor, reader: FactsReader) -> list[ServerFunction]:
    """What the script of the comparison may call."""

    def chart(_query: Any) -> dict[str, Any]:
        return charts.compare()

    def curves(query: Any) -> dict[str, Any]:
        """Figures and differing settings of the chosen runs, and the curves that the tab does not have yet."""
        drawn = query.get("drawn") if isinstance(query, dict) else None
        folders = _folders(supervisor, str_list_arg(query, "runs", charts.RUNS_AT_ONCE))
        chosen, found = [reader.facts(folder) for folder in folders], []
        for folder, facts in zip(folders, chosen, strict=True):
            state = supervisor.feed(folder.id).state()
            key = f"{state.generation}.{state.curve.last_step}.{len(state.evaluations)}"
            curve = None if str_arg(drawn, folder.id) == key else runs.curve(state)
            found.append({"id": folder.id, "name": facts.shown_name, "key": key, "curve": curve})
        configs = [all_settings(reader.config(folder)) for folder in folders]
        paired = worth_of_two(folders, [facts.shown_name for facts in chosen]) or _paired(folders, chosen)
        control = control_sentence(chosen, configs, is_paired=bool(paired))
        return {
            "runs": found,
            "figures": runs.compared_figures(chosen),
            "differences": runs.differing_settings(configs) if len(configs) > 1 else [],
            "sentences": [sentence for sentence in (control, paired) if sentence],
            "going": any(not facts.end for facts in chosen),
        }

    return [chart, curves]


def _paired(folders: Sequence[RunFolder], chosen: Sequence[RunFacts]) -> str:
    """The second one of two runs against the first one, row by row; "" where they did not answer the same rows."""
    if len(folders) != 2:
        return ""
    found = paired_difference(*folders)
    return paired_sentence(chosen[0].shown_name, chosen[1].shown_name, found) if found else ""


def _detail_endpoints(supervisor: Supervisor, reader: FactsReader) -> list[ServerFunction]:
    """What the script of an opened run may read."""

    def opened(query: Any) -> dict[str, Any] | None:
        for folder in _folders(supervisor, [str_arg(query, "run")]):
            return _opened(supervisor, reader, folder)
        return None

    def report(query: Any) -> str:
        for folder in _folders(supervisor, [str_arg(query, "run")]):
            return text_file(folder.report_path)
        return ""

    return [opened, report]


def _opened(supervisor: Supervisor, reader: FactsReader, folder: RunFolder) -> dict[str, Any]:
    facts = reader.facts(folder)
    alive, queued = supervisor.alive(folder.id), facts.phase == QUEUED
    title, reason = runs.run_status(facts, supervisor.queue_place(folder.id))
    model = str(folder.model_path.resolve()) if facts.has_model else ""
    checkpoint = folder.latest_checkpoint()
    return {
        "id": folder.id,
        "name": facts.shown_name,
        "own_name": facts.name,
        "tags": list(facts.tags),
        "limits": {"name": NAME_LIMIT, "tag": TAG_LIMIT, "tags": TAGS_LIMIT},
        "created": format_date(facts.made),
        "phase": facts.phase,
        "title": title,
        "reason": reason,
        "figures": runs.figures(facts),
        "folder": str(folder.path.resolve()),
        "model": model,
        "model_size": format_bytes(folder_size(folder.model_path)),
        "code": loading_code(folder.model_path) if model else "",
        "checkpoint": str(checkpoint.resolve()) if checkpoint else "",
        "command": runs.rerun_command(str(folder.config_path.resolve())),
        "config": reader.config_text(folder),
        "log": log_tail(folder),
        "note": facts.note,
        "size": format_bytes(reader.size(folder)),
        "report": folder.report_path.is_file(),
        "stoppable": queued or (alive and not facts.end),
        "deletable": not queued and not alive,
        "resumable": bool(facts.end) and facts.end != "complete" and not alive,
    }


def _action_endpoints(supervisor: Supervisor, downloads: ModelDownloads) -> list[ServerFunction]:
    """What the script of an opened run may do."""

    def halt(query: Any) -> dict[str, str]:
        return result_or_error(lambda: supervisor.stop(str_arg(query, "run")))

    def resume(query: Any) -> dict[str, str]:
        return result_or_error(lambda: supervisor.resume(str_arg(query, "run")))

    def remove(query: Any) -> dict[str, str]:
        return result_or_error(lambda: supervisor.delete(str_arg(query, "run")))

    def keep_note(query: Any) -> dict[str, str]:
        return result_or_error(
            lambda: write_note(supervisor.store.folder(str_arg(query, "run")), str_arg(query, "text"))
        )

    def pack(query: Any) -> dict[str, Any]:
        return result_or_error(lambda: downloads.pack(supervisor.store.folder(str_arg(query, "run"))), "key")

    return [halt, resume, remove, keep_note, _keep_label_endpoint(supervisor), pack]


def _keep_label_endpoint(supervisor: Supervisor) -> ServerFunction:
    """Saves name and tags of a run: in the list and in its panel."""

    def keep_label(query: Any) -> dict[str, str]:
        tags = str_list_arg(query, "tags", TAGS_LIMIT + 1)  # one too many is refused, and not left out
        return result_or_error(
            lambda: write_label(supervisor.store.folder(str_arg(query, "run")), str_arg(query, "name"), tags)
        )

    return keep_label


def _folders(supervisor: Supervisor, ids: list[str]) -> list[RunFolder]:
    """The folders of those `ids` that are runs; one may have been deleted meanwhile."""
    found = []
    for run_id in ids:
        try:
            found.append(supervisor.store.folder(run_id))
        except RunError:
            continue
    return found
