"""A run's model pushed to the Hugging Face Hub with a model card: the adapter alone, or a complete model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from geko_engine.exceptions import ExportError
from geko_engine.export.merging import whole_model
from geko_engine.export.model_card import is_on_hub, model_card, shown_name
from geko_engine.export.results import Exported, Say, ShouldStop, never, silent, stop_if
from geko_engine.hub.uploads import require_repo_id, upload_model
from geko_engine.inference.examples import dataset_format
from geko_engine.models.adapters import starting_adapter
from geko_engine.models.names import is_rounded_base
from geko_engine.runs.folder import RunFolder

CARD = "README.md"
PROMPT = "Hello!"


def push(
    run: str | Path | RunFolder,
    repo: str,
    *,
    merged: bool = False,
    private: bool = True,
    token: str = "",
    say: Say = silent,
    should_stop: ShouldStop = never,
) -> Exported:
    """Push the model of a run to the Hub, in one commit, with a model card.

    Args:
        run: folder of the run.
        repo: id of the repository, "owner/name"; it is created where it does not exist.
        merged: of a run with LoRA, push the complete model instead of the adapter.
        private: create a private repository; one that exists and is public is refused.
        token: with write access; "" for that of HF_TOKEN or of `hf auth login`.
        say: called with what is being done.
        should_stop: asked before the upload begins.

    Returns:
        The address of the repository, and what to know about it.

    Raises:
        ExportError: there is no model, nobody else could load it, or the Hub refuses it. Stopped: should_stop said so.
    """
    folder = run if isinstance(run, RunFolder) else RunFolder.open(run)
    require_repo_id(repo)
    adapter = not merged and (folder.model_path / "adapter_config.json").is_file()
    if adapter:
        _require_base_on_hub(folder)
        source, made = folder.model_path, None
    else:
        source, made = whole_model(folder, say, should_stop)
    config = folder.config()
    start = starting_adapter(config.model)
    if start is not None:
        config.model = start.base  # what the card names
    card = model_card(
        repo,
        config,
        folder.report() or {},
        adapter=adapter,
        prompt=_prompt(source, config, should_stop),
        in_4bit=is_rounded_base(source),
    )
    files: dict[str, Path | bytes] = {path.name: path for path in sorted(source.iterdir()) if path.is_file()}
    files[CARD] = card.encode()
    stop_if(should_stop)
    size = sum(path.stat().st_size for path in files.values() if isinstance(path, Path))
    say(f"Uploading {len(files)} files, {size / 1e6:,.1f} MB, to {repo}")
    what = "adapter" if adapter else "model"
    url, is_private = upload_model(
        repo, files, private=private, token=token, message=f"Upload {what} of run {folder.id}"
    )
    kind = "private" if is_private else "public"
    sentences = (f"The {what} is at {url}, {kind}. Its model card names no license: choose one.",)
    return Exported(
        url, (*(made.sentences if made else ()), *sentences), *((made.compared, made.equal) if made else ())
    )


def _require_base_on_hub(folder: RunFolder) -> None:
    """An adapter names its base model, which whoever loads it has to find."""
    try:
        base = json.loads((folder.model_path / "adapter_config.json").read_text(encoding="utf-8"))[
            "base_model_name_or_path"
        ]
    except (OSError, ValueError, KeyError) as error:
        raise ExportError(f"The adapter of run {folder.id} names no base model: push the merged model.") from error
    if not is_on_hub(str(base)):
        raise ExportError(
            f"The base model {shown_name(str(base), 'model')!r} is a folder on this machine, so nobody else could load the "
            "adapter: push the merged model."
        )


def _prompt(source: Path, config: Any, should_stop: ShouldStop) -> str | None:
    """How a prompt is written for a model that was trained without a chat template; None with one."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=config.model.trust_remote_code)
    format, _ = dataset_format(config, tokenizer, should_stop)
    return None if format.uses_chat_template else str(format.opening(PROMPT, tokenizer))
