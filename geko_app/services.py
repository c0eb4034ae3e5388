"""The services behind the pages, shared by all tabs. Knows no layout."""

from __future__ import annotations

from dataclasses import dataclass, field

from geko_app.workers.data_tables import DataTables
from geko_app.workers.export_jobs import ExportJobs
from geko_app.workers.form_checks import FormChecks
from geko_app.workers.inference_jobs import InferenceJobs
from geko_app.workers.model_downloads import ModelDownloads
from geko_app.workers.preview_jobs import PreviewJobs
from geko_app.workers.supervisor import Supervisor


@dataclass
class Services:
    """One of each service, for all tabs."""

    supervisor: Supervisor
    downloads: ModelDownloads
    checks: FormChecks = field(default_factory=FormChecks)
    tables: DataTables = field(default_factory=DataTables)
    previews: PreviewJobs = field(default_factory=PreviewJobs)
    inference: InferenceJobs = field(init=False)
    exports: ExportJobs = field(init=False)

    def __post_init__(self) -> None:
        self.inference = InferenceJobs(self.supervisor.store)
        self.exports = ExportJobs(self.supervisor.store)

    def shutdown(self) -> None:
        """End every process of the page; an active training saves a checkpoint first."""
        self.supervisor.request_shutdown()  # first: a container gives ten seconds, and the others take some of them
        self.previews.shutdown()
        self.inference.shutdown()
        self.exports.shutdown()
        self.downloads.shutdown()
        self.supervisor.shutdown()
