"""GGUF files: llama.cpp is found or its absence explained, called with the right arguments, and its errors passed on.

A script stands in for llama.cpp here: it checks what it gets, and writes a file. What the real one makes of a model is not
tested.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from geko_engine.exceptions import ExportError, Stopped
from geko_engine.export import to_gguf, to_ollama
from geko_engine.runs.folder import RunFolder

CONVERTER = """\
import json, pathlib, sys, time
source, *options = sys.argv[1:]
options = dict(zip(options[::2], options[1::2]))
assert set(options) == {"--outfile", "--outtype"}, options
assert json.loads((pathlib.Path(source) / "config.json").read_text())["model_type"] == "llama"
assert (pathlib.Path(source) / "tokenizer.json").is_file()
if "MODE" == "slow":
    time.sleep(600)
if "MODE" == "fails":
    print("INFO: reading")
    sys.exit("NotImplementedError: BPE pre-tokenizer was not recognized")
pathlib.Path(options["--outfile"]).write_bytes(b"GGUF" + options["--outtype"].encode())
"""
QUANTIZER = """\
#!/bin/sh
[ "$(head -c 8 "$1")" = "GGUFbf16" ] && printf 'GGUF%s' "$3" > "$2"
"""


def llama_cpp(folder: Path, mode: str = "works", *, quantizer: bool = False) -> Path:
    """A folder like that of llama.cpp."""
    folder.mkdir()
    (folder / "convert_hf_to_gguf.py").write_text(CONVERTER.replace("MODE", mode), encoding="utf-8")
    if quantizer:
        program = folder / "build" / "bin" / "llama-quantize"
        program.parent.mkdir(parents=True)
        program.write_text(QUANTIZER, encoding="utf-8")
        program.chmod(0o755)
    return folder


def test_the_converter_gets_the_complete_model(finished: RunFolder, tmp_path: Path) -> None:
    made = to_gguf(finished, tmp_path / "out", llama_cpp=llama_cpp(tmp_path / "llama.cpp"))
    assert Path(made.place) == tmp_path / "out" / "model.gguf"
    assert Path(made.place).read_bytes() == b"GGUFq8_0"
    assert "(q8_0, 0.0 MB)" in made.sentences[-1]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["model.gguf"]


def test_smaller_ones_are_made_by_the_quantizer(
    finished_whole: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLAMA_CPP_DIR", str(llama_cpp(tmp_path / "llama.cpp", quantizer=True)))
    made = to_gguf(finished_whole, tmp_path / "out", quantization="q4_k_m")
    assert Path(made.place).read_bytes() == b"GGUFQ4_K_M"
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["model.gguf"]


def test_for_ollama_the_modelfile_lies_beside(finished_whole: RunFolder, tmp_path: Path) -> None:
    made = to_ollama(finished_whole, tmp_path / "out", llama_cpp=llama_cpp(tmp_path / "llama.cpp"))
    assert (tmp_path / "out" / "model.gguf").is_file()
    assert Path(made.place).read_text(encoding="utf-8").startswith("FROM ./model.gguf\nTEMPLATE ")
    assert made.sentences[-1] == f"Run it with: ollama create base-{finished_whole.id[-4:]} -f {made.place}"


def test_what_is_missing_is_named_with_the_way_to_get_it(
    finished_whole: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("LLAMA_CPP_DIR", raising=False)
    with pytest.raises(ExportError, match=r"not on the PATH, and LLAMA_CPP_DIR is not set: get it with `git clone"):
        to_gguf(finished_whole, tmp_path / "out")
    with pytest.raises(ExportError, match=r"convert_hf_to_gguf.py is not in '.*nowhere'"):
        to_gguf(finished_whole, tmp_path / "out", llama_cpp=tmp_path / "nowhere")
    folder = llama_cpp(tmp_path / "llama.cpp")
    with pytest.raises(ExportError, match=r"q4_k_m needs llama.cpp's llama-quantize, which was not found"):
        to_gguf(finished_whole, tmp_path / "out", quantization="q4_k_m", llama_cpp=folder)
    with pytest.raises(ExportError, match="'q9' is not a quantization that is offered: give one of q8_0, f16"):
        to_gguf(finished_whole, tmp_path / "out", quantization="q9", llama_cpp=folder)
    assert not (tmp_path / "out").exists()


def test_its_errors_are_passed_on_and_it_can_be_stopped(finished_whole: RunFolder, tmp_path: Path) -> None:
    failed = r"failed \(NotImplementedError: BPE pre-tokenizer was not recognized\): try a newer llama.cpp"
    with pytest.raises(ExportError, match=failed):
        to_gguf(finished_whole, tmp_path / "out", llama_cpp=llama_cpp(tmp_path / "a", "fails"))
    with pytest.raises(Stopped):
        to_gguf(finished_whole, tmp_path / "out", llama_cpp=llama_cpp(tmp_path / "b", "slow"), should_stop=lambda: True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]
