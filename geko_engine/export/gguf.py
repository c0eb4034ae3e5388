"""A run's model as one GGUF file, made by llama.cpp's own converter in a process of its own. Imports nothing of it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from geko_engine.exceptions import ExportError, Stopped
from geko_engine.export.merging import whole_model
from geko_engine.export.results import (
    Exported,
    Say,
    ShouldStop,
    explain_disk,
    never,
    place_for,
    require_room,
    silent,
)
from geko_engine.runs.folder import RunFolder
from geko_engine.storage.atomic_files import replace_folder

FOLDER_VARIABLE = "LLAMA_CPP_DIR"
CONVERTER, QUANTIZER = "convert_hf_to_gguf.py", "llama-quantize"
BY_CONVERTER = ("q8_0", "f16", "bf16", "f32")
BY_QUANTIZER = ("q2_k", "q3_k_m", "q4_0", "q4_k_s", "q4_k_m", "q5_k_s", "q5_k_m", "q6_k")
FILE = "model.gguf"
MAGIC = b"GGUF"
POLL_SECONDS = 0.2
HOW_TO_GET = (
    "get it with `git clone https://github.com/ggml-org/llama.cpp`, install its requirements.txt, and set "
    f"{FOLDER_VARIABLE} to its folder"
)


def to_gguf(
    run: str | Path | RunFolder,
    to: str | Path | None = None,
    *,
    quantization: str = "q8_0",
    llama_cpp: str | Path | None = None,
    say: Say = silent,
    should_stop: ShouldStop = never,
) -> Exported:
    """Convert the model of a run to a GGUF file; an adapter is merged first.

    Args:
        run: folder of the run.
        to: a new folder; by default exports/gguf in the run's folder, which is replaced.
        quantization: of the weights: one of BY_CONVERTER, or of BY_QUANTIZER, which needs llama-quantize too.
        llama_cpp: folder of llama.cpp; by default that in LLAMA_CPP_DIR, or what is on the PATH.
        say: called with what is being done.
        should_stop: called often; True cancels.

    Returns:
        The file model.gguf, and what to know about it.

    Raises:
        ExportError: llama.cpp is missing or fails. ModelError, Stopped: as `merge`.
    """
    folder = run if isinstance(run, RunFolder) else RunFolder.open(run)
    return convert(folder, place_for(folder, "gguf", to), {}, quantization, llama_cpp, say, should_stop)


def convert(
    folder: RunFolder,
    path: Path,
    beside: dict[str, str],
    quantization: str,
    llama_cpp: str | Path | None,
    say: Say,
    should_stop: ShouldStop,
) -> Exported:
    """Fill the folder `path` with model.gguf and with the texts of `beside`, by their names. As `to_gguf` otherwise."""
    converter = find_converter(llama_cpp)
    quantizer = None if quantization in BY_CONVERTER else find_quantizer(quantization, llama_cpp)
    source, made = whole_model(folder, say, should_stop)
    require_room(path, sum(file.stat().st_size for file in source.iterdir()))

    def write(temporary: Path) -> None:
        say(f"Converting to GGUF ({quantization})")
        whole = temporary / FILE if quantizer is None else temporary / ".unquantized.gguf"
        kind = quantization if quantizer is None else "bf16"
        script = [sys.executable] if converter.suffix == ".py" else []
        _run([*script, str(converter), str(source), "--outfile", str(whole), "--outtype", kind], whole, should_stop)
        if quantizer is not None:
            say(f"Quantizing to {quantization}")
            target = temporary / FILE
            _run([str(quantizer), str(whole), str(target), quantization.upper()], target, should_stop)
            whole.unlink()
        for name, text in beside.items():
            (temporary / name).write_text(text, encoding="utf-8")

    with explain_disk(path):
        replace_folder(path, write)
    size = (path / FILE).stat().st_size
    sentence = f"The GGUF file is {str(path / FILE)!r} ({quantization}, {size / 1e6:,.1f} MB)."
    found = made or Exported("")
    return Exported(str(path / FILE), (*found.sentences, sentence), found.compared, found.equal)


def find_converter(llama_cpp: str | Path | None = None) -> Path:
    """llama.cpp's converter. Raises ExportError when there is none."""
    found = _find(llama_cpp, [CONVERTER], [CONVERTER, CONVERTER.removesuffix(".py"), "convert-hf-to-gguf"])
    if found is None:
        where = (
            f"in {str(_folder(llama_cpp))!r}"
            if _folder(llama_cpp)
            else f"on the PATH, and {FOLDER_VARIABLE} is not set"
        )
        raise ExportError(f"llama.cpp's {CONVERTER} is not {where}: {HOW_TO_GET}.")
    return found


def find_quantizer(quantization: str, llama_cpp: str | Path | None = None) -> Path:
    """llama.cpp's quantizer. Raises ExportError when there is none, or `quantization` is none of its names here."""
    if quantization not in BY_QUANTIZER:
        raise ExportError(
            f"{quantization!r} is not a quantization that is offered: give one of {', '.join(BY_CONVERTER)}, or with "
            f"llama-quantize one of {', '.join(BY_QUANTIZER)}."
        )
    found = _find(llama_cpp, [f"build/bin/{QUANTIZER}", f"bin/{QUANTIZER}", QUANTIZER], [QUANTIZER])
    if found is None:
        raise ExportError(
            f"{quantization} needs llama.cpp's {QUANTIZER}, which was not found: build llama.cpp, or choose q8_0, which "
            "needs the converter alone."
        )
    return found


def _folder(llama_cpp: str | Path | None) -> Path | None:
    given = llama_cpp or os.environ.get(FOLDER_VARIABLE)
    return Path(given).expanduser() if given else None


def _find(llama_cpp: str | Path | None, inside: Sequence[str], named: Sequence[str]) -> Path | None:
    """The first of `inside` that is in llama.cpp's folder; without a folder, the first of `named` on the PATH."""
    folder = _folder(llama_cpp)
    if folder is not None:
        return next((folder / name for name in inside if (folder / name).is_file()), None)
    return next((Path(found) for name in named if (found := shutil.which(name))), None)


def _run(command: list[str], result: Path, should_stop: ShouldStop) -> None:
    """Run a program of llama.cpp to its end, and check that it wrote a GGUF file."""
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
        try:
            while not _has_ended(process):
                if should_stop():
                    raise Stopped
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        log.seek(0)
        said = log.read().decode("utf-8", "replace").strip().splitlines()
    if process.returncode != 0 or not _is_gguf(result):
        name = Path(next(part for part in command if part != sys.executable)).name
        last = next((line.strip() for line in reversed(said) if line.strip()), "it said nothing")
        way_out = (
            "install llama.cpp's requirements.txt"
            if "ModuleNotFound" in last
            else "try a newer llama.cpp, or ask there"
        )
        raise ExportError(f"llama.cpp's {name} failed ({last}): {way_out}.")


def _has_ended(process: subprocess.Popen[bytes]) -> bool:
    try:
        process.wait(POLL_SECONDS)
    except subprocess.TimeoutExpired:
        return False
    return True


def _is_gguf(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError:
        return False
