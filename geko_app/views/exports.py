"""The export card of a run that has ended: what can be made of its model, and how far that has come. Pure."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from geko_app.workers.export_jobs import ExportJob
from geko_engine.runs.folder import RunFolder

MERGED = ("merged", "Merge into one model", "The adapter and its base model as one folder, for transformers and vLLM.")
OTHERS = (
    ("gguf", "GGUF file", "For llama.cpp, LM Studio and others. Needs llama.cpp's converter on this machine."),
    (
        "ollama",
        "GGUF and Modelfile",
        "For Ollama, with the trained template and stop. Needs llama.cpp's converter, too.",
    ),
    ("hub", "Push to the Hub", "A repository with a model card, private unless you choose otherwise."),
)


def export_card(folder: RunFolder, job: ExportJob | None) -> dict[str, Any]:
    """What the page's script draws.

    Args:
        folder: of the run.
        job: its last export, or None.

    Returns:
        choices: (target, label, what it is); empty while there is no model. adapter: whether the run saved one.
        model: the folder of what it saved.
        job: the fields of the job, with the commands that serve its result; or None.
    """
    adapter = (folder.model_path / "adapter_config.json").is_file()
    whole = (folder.model_path / "config.json").is_file()
    choices = ([MERGED] if adapter else []) + list(OTHERS) if adapter or whole else []
    shown = None if job is None else {**asdict(job), "commands": commands(job, adapter=adapter)}
    model = str(folder.model_path.resolve())
    return {"choices": choices, "adapter": adapter, "model": model, "job": shown, "running": bool(job and job.running)}


def commands(job: ExportJob, *, adapter: bool) -> str:
    """The commands that serve the result of an export; "" where there is none, as for an adapter alone.

    Args:
        job: the export.
        adapter: whether the run saved one.
    """
    is_whole = job.to == "merged" or (job.to == "hub" and (job.merged or not adapter))
    if not job.place or not is_whole:
        return ""
    place = job.place if job.to == "merged" else "/".join(job.place.rsplit("/", 2)[-2:])
    return f"transformers serve {place}\nvllm serve {place}"
