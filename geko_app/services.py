"""The services behind the pages, shared by all tabs. Knows no layout."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field

from geko_app.workers.data_tables import DataTables
from geko_app.workers.export_jobs import ExportJobs
from geko_app.workers.form_checks import FormChecks
from geko_app.workers.inference_jobs import InferenceJobs
from geko_app.workers.issue_checks import IssueChecks
from geko_app.workers.model_downloads import ModelDownloads
from geko_app.workers.preview_jobs import PreviewJobs
from geko_app.workers.supervisor import Supervisor
from geko_engine.exceptions import GekoError
from geko_engine.runs.folder import RunFolder
from geko_engine.runs.lock import RunLock
from geko_engine.runs.status import Status


@dataclass
class Services:
    """One of each service, for all tabs."""

    supervisor: Supervisor
    downloads: ModelDownloads
    checks: FormChecks = field(default_factory=FormChecks)
    tables: DataTables = field(default_factory=DataTables)
    previews: PreviewJobs = field(init=False)
    inference: InferenceJobs = field(init=False)
    exports: ExportJobs = field(init=False)
    issue_checks: IssueChecks = field(default_factory=IssueChecks)

    def __post_init__(self) -> None:
        self.previews = PreviewJobs(order_gpus=self.supervisor.gpus_in_order)
        self.inference = InferenceJobs(self.supervisor.store, choose_gpu=self.supervisor.gpu_beside)
        self.exports = ExportJobs(self.supervisor.store, choose_gpu=self.supervisor.gpu_beside)

    def shutdown(self, *, requeue: bool = False) -> None:
        """End every process of the page; active runs save a checkpoint first.

        Args:
            requeue: whether the next page over these runs goes on with them by itself.
        """
        continued = self._not_being_stopped() if requeue else []
        self.supervisor.request_shutdown()  # first: a container gives ten seconds, and the others take some of them
        self.previews.shutdown()
        self.inference.shutdown()
        self.exports.shutdown()
        self.issue_checks.shutdown()
        self.downloads.shutdown()
        self.supervisor.shutdown()
        for run_id in continued:  # the one that began first goes before all others at the end
            self._requeue(self.supervisor.store.folder(run_id))

    def _not_being_stopped(self) -> list[str]:
        """Ids of the active runs that no user has asked to stop."""
        folder = self.supervisor.store.folder
        return [run_id for run_id in self.supervisor.all_active() if not folder(run_id).stop_path.exists()]

    def _requeue(self, folder: RunFolder) -> None:
        """Put a run that was stopped by the shutdown before all that wait. A run of the command line goes on by itself."""
        if (folder.status() or Status()).end != "stopped":
            return
        with contextlib.suppress(GekoError, OSError), RunLock(folder.path):  # else it can be resumed by hand
            self.supervisor.queue.add(folder, resume=True, first=True)
