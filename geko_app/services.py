"""What all pages work with: one of each for all tabs. Knows no layout."""

from __future__ import annotations

from dataclasses import dataclass, field

from geko_app.workers.inference_jobs import Talks
from geko_app.workers.model_downloads import Downloads
from geko_app.workers.preview_jobs import Looks
from geko_app.workers.supervisor import Supervisor


@dataclass
class Services:
    """What the pages work with; one of each for all tabs."""

    supervisor: Supervisor
    downloads: Downloads
    looks: Looks = field(default_factory=Looks)
    talks: Talks = field(init=False)

    def __post_init__(self) -> None:
        self.talks = Talks(self.supervisor.store)

    def shutdown(self) -> None:
        """End every process of the page; a training saves first."""
        self.supervisor.ask_to_end()  # at once: a container has ten seconds, and the others need some of them
        self.looks.shutdown()
        self.talks.shutdown()
        self.downloads.shutdown()
        self.supervisor.shutdown()
