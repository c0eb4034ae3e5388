"""One export as plain values, for the command line and for worker processes. Imports torch only to do it."""

from __future__ import annotations

from dataclasses import dataclass

from geko_engine.export.results import Exported, Say, ShouldStop

TARGETS = {
    "merged": "one complete model for transformers, vLLM and others",
    "gguf": "one GGUF file for llama.cpp and its relatives",
    "ollama": "a GGUF file and a Modelfile with template and stop",
    "hub": "a repository on the Hugging Face Hub with a model card",
}


@dataclass(frozen=True)
class ExportRequest:
    """What to make of a run's model. The functions of geko_engine.export explain the fields.

    Attributes:
        run: folder of the run.
        to: one of TARGETS.
    """

    run: str
    to: str
    out: str | None = None
    dtype: str = "auto"
    prompts: int = 5
    quantization: str = "q8_0"
    llama_cpp: str | None = None
    repo: str = ""
    merged: bool = False
    private: bool = True
    token: str = ""

    def do(self, say: Say, should_stop: ShouldStop) -> Exported:
        """Do it. Raises GekoError with one sentence, or Stopped."""
        from transformers.utils import logging

        logging.disable_progress_bar()  # `say` gets the progress
        if self.to == "merged":
            from geko_engine.export.merging import merge

            return merge(self.run, self.out, dtype=self.dtype, prompts=self.prompts, say=say, should_stop=should_stop)
        if self.to == "hub":
            from geko_engine.export.pushing import push

            options = {"merged": self.merged, "private": self.private, "token": self.token}
            return push(self.run, self.repo, **options, say=say, should_stop=should_stop)  # type: ignore[arg-type]
        from geko_engine.export.gguf import to_gguf
        from geko_engine.export.ollama import to_ollama

        convert = to_gguf if self.to == "gguf" else to_ollama
        return convert(
            self.run,
            self.out,
            quantization=self.quantization,
            llama_cpp=self.llama_cpp,
            say=say,
            should_stop=should_stop,
        )
