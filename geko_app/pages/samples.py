"""The Samples page: every training sample of a run, live. Layout and thin handlers only."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr

from geko_app.pages.components import ServerFunction, int_arg, live_html, result_or_sentence, str_arg
from geko_app.pages.core_set import core_set_endpoints, export_core_set
from geko_app.pages.review import CHANGED_MEANWHILE, offered_retraining, review_endpoints
from geko_app.pages.sample_query import query_of
from geko_app.pages.token_losses import token_loss_endpoints
from geko_app.samples import corrections
from geko_app.samples.correction_log import file_version, own_decisions
from geko_app.samples.exclusions import (
    as_settings,
    dataset_name,
    export_sentence,
    flagged_rows,
    flags_version,
    set_flags,
    write_dataset,
    write_list,
)
from geko_app.samples.store import Samples, SampleStore
from geko_app.services import Services
from geko_app.views import charts, slices
from geko_app.views import data_map as data_map_view
from geko_app.views import samples as sample_views
from geko_app.views.corrections import contents_sentence
from geko_app.views.dashboard import run_label
from geko_app.views.sample_filters import Query, matching
from geko_app.workers.inference_jobs import InferenceJobs, InferenceRequest, models_of
from geko_app.workers.issue_checks import IssueChecks
from geko_app.workers.supervisor import Supervisor
from geko_engine.exceptions import GekoError, RunError

RUNS_LISTED = 50
MAX_FLAGGED = 1000  # ids that one call may flag
Result = dict[str, Any]


def build(services: Services, _blocks: gr.Blocks) -> None:
    """Add the page to the open layout."""
    supervisor = services.supervisor
    store = SampleStore(supervisor.store)
    endpoints = [
        *sample_endpoints(supervisor, store, services.issue_checks),
        *token_loss_endpoints(services.inference, _begin_token_losses(services.inference, store)),
        *review_endpoints(supervisor, store, services.inference),
        *core_set_endpoints(supervisor, store),
    ]
    page = live_html("samples", endpoints)
    download = gr.DownloadButton(visible=False)
    page.download(
        _exporter(store), None, download, show_progress="hidden", api_visibility="private", concurrency_limit=2
    ).success(
        fn=None,
        inputs=download,
        js="(file) => { window.dispatchEvent(new CustomEvent('geko-download', { detail: file })); }",
        show_progress="hidden",
        api_visibility="private",
    )


def chosen_run(supervisor: Supervisor, run: str) -> str | None:
    """The run that was chosen, else the active one, else the newest one; None if there is none."""
    ids = supervisor.store.ids()
    return run if run in ids else supervisor.active() or (ids[0] if ids else None)


def sample_endpoints(supervisor: Supervisor, store: SampleStore, checks: IssueChecks) -> list[ServerFunction]:
    """What the page's script may call. Each gets one object and is a public endpoint."""

    def pull(query: Any) -> Result:
        run = chosen_run(supervisor, str_arg(query, "run"))
        if run is None:
            return {"run": None, "version": "none", "runs": [], "sentence": "There are no runs yet. Start one."}
        runs = [[entry.id, run_label(entry)] for entry in supervisor.store.entries(RUNS_LISTED)]
        state = _check_state(store, checks, run)
        version = f"{_version(store, run)} {state}"
        common = {"run": run, "version": version, "runs": runs, "active": supervisor.alive(run)}
        if version == str_arg(query, "version"):
            return common  # nothing is read while nothing changes
        return {**common, **result_or_sentence(lambda: _overview(store.samples(run), state))}

    def table(query: Any) -> Result:
        return result_or_sentence(lambda: _page(store.samples(str_arg(query, "run")), query_of(query)))

    def sample(query: Any) -> Result:
        return result_or_sentence(lambda: _sample(store.samples(str_arg(query, "run")), int_arg(query, "id")))

    def data_map(query: Any) -> Result:
        return result_or_sentence(lambda: data_map_view.data_map(store.samples(str_arg(query, "run"))))

    def flag_samples(query: Any) -> Result:
        return result_or_sentence(lambda: _flag(store.samples(str_arg(query, "run")), query))

    def groups(query: Any) -> Result:
        return result_or_sentence(lambda: slices.slice_tables(store.samples(str_arg(query, "run"))))

    def map_figure(_query: Any) -> Result:
        return {theme: charts.map_figure(theme) for theme in ("light", "dark")}

    return [pull, table, sample, data_map, flag_samples, groups, map_figure]


def _begin_token_losses(jobs: InferenceJobs, store: SampleStore) -> Callable[[Any], str]:
    def begin(query: Any) -> str:
        """Submit one sample to the base model and to the newest model of its run."""
        samples = store.samples(str_arg(query, "run"))
        models = models_of(samples.folder)
        if not models:
            raise RunError("The run has no model and no checkpoint yet, so it has no token losses to show.")
        text, pieces = sample_views.whole_text(samples, min(int_arg(query, "id"), samples.count - 1))
        return jobs.token_losses(InferenceRequest(samples.folder.id, models[0], "", text, pieces=pieces))

    return begin


def _version(store: SampleStore, run: str) -> str:
    """A text that changes with the files, the decisions and the flags of a run, also those made in another tab."""
    try:
        return f"{run} {store.version(run)} {flags_version(store.folder(run))}"
    except GekoError:
        return "gone"


def _check_state(store: SampleStore, checks: IssueChecks, run: str) -> str:
    """How far the check of a run's texts is; "" when there is nothing to do."""
    try:
        return checks.look(store.folder(run))
    except GekoError:
        return ""


def _overview(samples: Samples, check_state: str) -> Result:
    flagged = flagged_rows(samples.folder)
    decided = own_decisions(samples.folder)
    contents = contents_sentence(found.action for found in decided.values())
    return {
        **sample_views.overview(samples, flagged, check_state),
        "changes": len(decided.keys() & samples.first_of_row.keys()),
        "record": "-".join(map(file_version, (samples.folder.samples_path, samples.folder.history_path))),
        "next_run": {**as_settings(samples.folder), **corrections.as_settings(samples.folder)},
        "export": export_sentence(samples, len(flagged), contents),
        "retraining": offered_retraining(samples),
    }


def _page(samples: Samples, query: Query) -> Result:
    return sample_views.lines(samples, query, flagged_rows(samples.folder))


def _sample(samples: Samples, index: int) -> Result:
    return sample_views.opened(samples, min(index, samples.count - 1), flagged_rows(samples.folder))


def _flag(samples: Samples, query: Any) -> Result:
    """Flag or unflag `ids`, or with `all` everything that filter and search select, as the button with its `key` has said."""
    flag = isinstance(query, dict) and query.get("flagged") is True
    if isinstance(query, dict) and query.get("all") is True:
        flagged = flagged_rows(samples.folder)
        found = sample_views.bulk_flags(samples, matching(samples, query_of(query), flagged), flagged, flag=flag)
        if found.key != str_arg(query, "key"):
            raise RunError(CHANGED_MEANWHILE)
        return {"count": set_flags(samples.folder, found.rows, flagged=flag)}
    given = query.get("ids") if isinstance(query, dict) else None
    ids = [i for i in given[:MAX_FLAGGED] if type(i) is int] if isinstance(given, list) else []
    return {"count": set_flags(samples.folder, sample_views.rows_of(samples, ids), flagged=flag)}


def _exporter(store: SampleStore) -> Callable[[gr.EventData], str]:
    """Writes an export to a temporary file; Gradio serves that under a name that nobody can guess."""

    folder = tempfile.TemporaryDirectory(prefix="geko-export-")  # removed with this process

    def export(event: gr.EventData) -> str:
        query = event._data if isinstance(event._data, dict) else {}
        try:
            samples = store.samples(str_arg(query, "run"))
            if str_arg(query, "kind") == "list":
                path = Path(folder.name) / f"{samples.folder.id}-suspicious.csv"
                write_list(sample_views.suspicious_list(samples, flagged_rows(samples.folder)), path)
                return str(path)
            if str_arg(query, "kind") == "core_set":
                path, cut = export_core_set(samples, query, Path(folder.name))
            else:
                path = Path(folder.name) / dataset_name(samples.folder)
                _, cut = write_dataset(samples, path)
            if cut:
                gr.Warning(
                    f"{cut:,} samples were left out: they are too long, so the run did not keep their whole text."
                )
        except GekoError as error:
            raise gr.Error(str(error), print_exception=False) from error
        except OSError as error:
            raise gr.Error(f"The file cannot be written ({error.strerror}).", print_exception=False) from error
        return str(path)

    return export
