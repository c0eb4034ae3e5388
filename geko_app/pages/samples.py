"""The Samples page: every training sample of a run, live. Layout and thin handlers only."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr

from geko_app.pages.components import ServerFunction, live_html, text_of, whole_of
from geko_app.pages.token_losses import keyed, looking
from geko_app.samples.exclusions import (
    as_settings,
    export_sentence,
    flagged_rows,
    flags_version,
    set_flags,
    write_dataset,
    write_list,
)
from geko_app.samples.store import Samples, SampleStore
from geko_app.services import Services
from geko_app.views import charts
from geko_app.views import samples as sample_views
from geko_app.views.dashboard import run_label
from geko_app.views.samples import Query
from geko_app.workers.inference_jobs import InferenceJobs, InferenceRequest, models_of
from geko_app.workers.supervisor import Supervisor
from geko_engine.exceptions import GekoError, RunError

RUNS_LISTED = 50
LONGEST_SEARCH = 200  # characters
AT_ONCE = 1000  # ids that one call may flag
Answer = dict[str, Any]


def build(services: Services, _blocks: gr.Blocks) -> None:
    """The page's components, inside whatever is open."""
    supervisor, inference = services.supervisor, services.inference
    store = SampleStore(supervisor.store)
    page = live_html("samples", [*_server_functions(supervisor, store), _unsure(inference, store), looking(inference)])
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
    """The run that was chosen, else the one at work, else the newest; None where there is none."""
    ids = supervisor.store.ids()
    return run if run in ids else supervisor.active() or (ids[0] if ids else None)


def _server_functions(supervisor: Supervisor, store: SampleStore) -> list[Callable[[Any], Any]]:
    """What the page's script may call; each gets one object, and each is a public endpoint."""

    def samples_pull(query: Any) -> Answer:
        run = chosen_run(supervisor, text_of(query, "run"))
        if run is None:
            return {"run": None, "version": "none", "runs": [], "sentence": "There are no runs yet. Start one."}
        found = [[entry.id, run_label(entry)] for entry in supervisor.store.entries(RUNS_LISTED)]
        version = _version(store, run)
        said = {"run": run, "version": version, "runs": found, "active": supervisor.active() == run}
        if version == text_of(query, "version"):
            return said  # nothing is read while nothing has changed
        return {**said, **_told(lambda: _overview(store.samples(run)))}

    def samples_page(query: Any) -> Answer:
        return _told(lambda: _page(store.samples(text_of(query, "run")), query_of(query)))

    def samples_one(query: Any) -> Answer:
        return _told(lambda: _one(store.samples(text_of(query, "run")), whole_of(query, "id")))

    def samples_map(query: Any) -> Answer:
        return _told(lambda: sample_views.data_map(store.samples(text_of(query, "run"))))

    def samples_mark(query: Any) -> Answer:
        return _told(lambda: _flag(store.samples(text_of(query, "run")), query))

    def samples_figure(_query: Any) -> Answer:
        return {theme: charts.map_figure(theme) for theme in ("light", "dark")}

    return [samples_pull, samples_page, samples_one, samples_map, samples_mark, samples_figure]


def _unsure(inference: InferenceJobs, store: SampleStore) -> ServerFunction:
    """Asks for the losses of one sample's tokens, by the model that the run began with and by its newest one."""

    def begin(query: Any) -> str:
        samples = store.samples(text_of(query, "run"))
        models = models_of(samples.folder)
        if not models:
            raise RunError("The run has no model and no checkpoint yet, so nothing can be asked.")
        text, pieces = sample_views.whole_text(samples, min(whole_of(query, "id"), samples.count - 1))
        return inference.token_losses(InferenceRequest(samples.folder.id, models[0], "", text, pieces=pieces))

    def samples_unsure(query: Any) -> dict[str, str]:
        return keyed(lambda: begin(query))

    return samples_unsure


def _told(action: Callable[[], Answer]) -> Answer:
    """What `action` gives, or the sentence why there is nothing."""
    try:
        return {"sentence": "", **action()}
    except GekoError as error:
        return {"sentence": str(error)}


def _version(store: SampleStore, run: str) -> str:
    """A text that changes with the files and the flags of a run, also those set in another tab."""
    try:
        return f"{run} {store.version(run)} {flags_version(store.folder(run))}"
    except GekoError:
        return "gone"


def query_of(query: Any) -> Query:
    """What a tab asks to see; what is no such thing counts as not asked."""
    return Query(
        filter=text_of(query, "filter"),
        text=text_of(query, "text")[:LONGEST_SEARCH].strip(),
        sort=text_of(query, "sort"),
        down=isinstance(query, dict) and query.get("down") is True,
        page=whole_of(query, "page"),
    )


def _overview(samples: Samples) -> Answer:
    flagged = flagged_rows(samples.folder)
    return {
        **sample_views.overview(samples, flagged),
        "record": samples.version,
        "marks": as_settings(samples.folder),
        "export": export_sentence(samples, len(flagged)),
    }


def _page(samples: Samples, query: Query) -> Answer:
    return sample_views.lines(samples, query, flagged_rows(samples.folder))


def _one(samples: Samples, index: int) -> Answer:
    return sample_views.opened(samples, min(index, samples.count - 1), flagged_rows(samples.folder))


def _flag(samples: Samples, query: Any) -> Answer:
    """Flag or unflag `ids`, or with `all` everything that filter and search select."""
    flagged = isinstance(query, dict) and query.get("marked") is True
    if isinstance(query, dict) and query.get("all") is True:
        ids = sample_views.matching(samples, query_of(query), flagged_rows(samples.folder)).tolist()
    else:
        asked = query.get("ids") if isinstance(query, dict) else None
        ids = [i for i in asked[:AT_ONCE] if type(i) is int] if isinstance(asked, list) else []
    return {"count": set_flags(samples.folder, sample_views.rows_of(samples, ids), flagged=flagged)}


def _exporter(store: SampleStore) -> Callable[[gr.EventData], str]:
    """Writes what was asked for to a temporary file, which Gradio hands out under a name that nobody can guess."""

    folder = tempfile.TemporaryDirectory(prefix="geko-export-")  # goes with this process

    def export(event: gr.EventData) -> str:
        query = event._data if isinstance(event._data, dict) else {}
        try:
            samples = store.samples(text_of(query, "run"))
            if text_of(query, "kind") == "list":
                path = Path(folder.name) / f"{samples.folder.id}-suspicious.csv"
                write_list(sample_views.suspicious_list(samples, flagged_rows(samples.folder)), path)
            else:
                path = Path(folder.name) / f"{samples.folder.id}-cleaned.jsonl"
                _, cut = write_dataset(samples, path)
                if cut:
                    gr.Warning(f"{cut:,} samples are too long to be kept whole beside the run, and were left out.")
        except GekoError as error:
            raise gr.Error(str(error), print_exception=False) from error
        except OSError as error:
            raise gr.Error(f"The file cannot be written ({error.strerror}).", print_exception=False) from error
        return str(path)

    return export
