"""Why a run failed, as a sentence with the way out. Knows the run folder, and no trainer."""

from __future__ import annotations

from geko_engine.exceptions import is_connection_lost, is_out_of_memory
from geko_engine.launch import process_count
from geko_engine.runs.folder import RunFolder
from geko_engine.storage.disk_space import disk_refuses, full_sentence, refused_sentence


def disk_is_full(folder: RunFolder) -> tuple[str, str]:
    """(sentence, field) of a run that ended because the disk is full."""
    newest = folder.latest_checkpoint()
    start = f"from the checkpoint at step {newest.name.split('-')[-1]}" if newest else "from the beginning"
    return f"{full_sentence(folder.path.parent)} Then resume: the run continues {start}.", "output_dir"


def lost_process(error: Exception, folder: RunFolder) -> tuple[str, str] | None:
    """(sentence, field) for an error that comes of another process being gone; None for any other."""
    if process_count() == 1 or not is_connection_lost(error):
        return None
    return (
        "Another process of this run, or its host, is gone: see its output there. Then start all of them again with "
        f"--resume {folder.path}. (The connection said: {str(error).strip().splitlines()[0][:300]})",
        "",
    )


def unexpected(error: Exception, folder: RunFolder) -> tuple[str, str]:
    """(sentence, field) for any other exception. The user can solve a broken disk, and running out of memory."""
    if disk_refuses(error):
        return f"{refused_sentence(folder.path, error)} Then resume.", "output_dir"
    if is_out_of_memory(error):
        return (
            "Memory ran out: halve the batch size and double gradient_accumulation_steps, lower max_length, or switch on "
            "LoRA or gradient checkpointing.",
            "training.batch_size",
        )
    return f"Unexpected error ({type(error).__name__}: {error}). See worker.log for details.", ""
