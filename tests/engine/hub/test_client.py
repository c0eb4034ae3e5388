"""Models and data from the Hub: the real clients in processes of their own, against a Hub on this machine."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huggingface_hub
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
import torch
import yaml

from geko_engine.hub.downloads import limit_request_time
from geko_engine.runs.folder import RunFolder
from tests.engine.conftest import character_tokenizer, small_llama, sum_rows
from tests.hub_server import HubServer, Repo

MODEL, DATA = "tiny/llama", "tiny/sums"
READER, STRANGER = "hf_reader0123456789", "hf_stranger0123456789"
# Runs the command once for each JSON list of arguments on standard input, in one process; answers with one JSON line each.
COMMANDS = """
import contextlib, io, json, os, sys
from geko_engine.cli import main
for line in sys.stdin:
    case, said = json.loads(line), io.StringIO()
    os.environ.pop("HF_TOKEN", None)
    os.environ.update(case["environment"])
    with contextlib.redirect_stderr(said):
        code = main(case["arguments"])
    print(json.dumps({"code": code, "stderr": said.getvalue()}), flush=True)
"""
ROWS = """
import json, sys
from geko_engine.config.sections import DataConfig
from geko_engine.exceptions import GekoError
from geko_engine.data.sources import load_rows
for line in sys.stdin:
    try:
        answer = {"rows": load_rows(DataConfig(**json.loads(line)))}
    except GekoError as error:
        answer = {"error": str(error), "field": error.field}
    print(json.dumps(answer), flush=True)
"""


def folder_files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def jsonl(rows: list[dict[str, str]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def parquet_file(rows: list[dict[str, str]]) -> bytes:
    buffer = io.BytesIO()
    parquet.write_table(pa.Table.from_pylist(rows), buffer, compression="none", row_group_size=1000)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def model_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("model")
    small_llama(hidden_size=64).save_pretrained(folder)
    character_tokenizer().save_pretrained(folder)
    return folder_files(folder)


@pytest.fixture
def hub(model_files: dict[str, bytes]) -> Iterator[HubServer]:
    card = {
        "configs": [
            {
                "config_name": name,
                "data_files": [{"split": s, "path": f"{name}/{s}.parquet"} for s in ("train", "test")],
            }
            for name in ("easy", "hard")
        ]
    }
    sums = {
        f"{name}/{s}.parquet": parquet_file(sum_rows(24, i))
        for i, name in enumerate(("easy", "hard"))
        for s in ("train", "test")
    }
    sums["README.md"] = f"---\n{yaml.safe_dump(card)}---\n".encode()
    with HubServer() as server:
        older = {**model_files, "NOTE.md": b"an older version"}
        server.models[MODEL] = Repo({"main": {**model_files, "onnx/model.onnx": b"0" * 1000}, "v1": older})
        server.datasets[DATA] = Repo({"main": sums})
        server.datasets["tiny/plain"] = Repo(
            {"main": {"train.jsonl": jsonl(sum_rows(24)), "test.jsonl": jsonl(sum_rows(8))}}
        )
        yield server


def child_environment(hub: HubServer, home: Path, **more: str) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    ours = {"HF_ENDPOINT": hub.url, "HF_HOME": str(home), "CUDA_VISIBLE_DEVICES": "", "NO_PROXY": "*"}
    return {**inherited, **ours, **more}


def arguments(folder: Path, **settings: Any) -> list[str]:
    """The command line of a short run; `settings` are dotted keys with __ for the dot."""
    values = {
        "model.name": MODEL,
        "data.train": "tiny/plain",
        "training.num_epochs": 1,
        "training.batch_size": 8,
        "output_dir": str(folder / "runs"),
        **{name.replace("__", "."): value for name, value in settings.items()},
    }
    return ["--demo", "--set", "data.eval=", *(part for k, v in values.items() for part in ("--set", f"{k}={v}"))]


def geko_train(
    hub: HubServer, folder: Path, settings: dict[str, Any] | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "geko_engine", *arguments(folder, **(settings or {}))],
        env=child_environment(hub, folder / "home", **environment),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def ask(script: str, cases: list[Any], environment: dict[str, str]) -> list[dict[str, Any]]:
    """One answer for each case, from one process."""
    done = subprocess.run(
        [sys.executable, "-c", script],
        input="".join(json.dumps(case) + "\n" for case in cases),
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def last_run(folder: Path) -> Path:
    return max((folder / "runs").iterdir(), key=lambda run: run.stat().st_mtime_ns)


def report_of(folder: Path) -> dict[str, Any]:
    return json.loads((last_run(folder) / "report.json").read_text(encoding="utf-8"))


def test_model_and_data_from_the_hub_are_trained_and_only_what_is_needed_is_fetched(
    hub: HubServer, tmp_path: Path
) -> None:
    data = {"data__train": DATA, "data__train_config": "hard", "data__eval": DATA, "data__eval_config": "easy"}
    done = geko_train(hub, tmp_path, {**data, "model__revision": "v1"})
    assert done.returncode == 0, done.stderr
    report = report_of(tmp_path)
    assert (report["end"], report["samples"], report["steps"]) == ("complete", 24, 3)
    commit = hub.models[MODEL].commit("v1")
    assert hub.asked(f"{commit}/model.safetensors") and not hub.asked("NOTE.md") and not hub.asked("onnx")
    events = (last_run(tmp_path) / "events.jsonl").read_text(encoding="utf-8")
    assert '"downloading", "message": "model tiny/llama"' in events


def test_loftq_reads_the_weights_of_the_commit_that_was_loaded(hub: HubServer, tmp_path: Path) -> None:
    lora = {"lora__enabled": True, "lora__init_lora_weights": "loftq", "model__quantization": "4bit"}
    for environment in ({}, {"HF_HUB_OFFLINE": "1"}):
        done = geko_train(hub, tmp_path, {**lora, "model__revision": "v1", "data__train": "tiny/plain"}, **environment)
        assert done.returncode == 0, done.stderr
        events = (last_run(tmp_path) / "events.jsonl").read_text(encoding="utf-8")
        assert "the adapters of 4 layers make up for" in events
        assert (last_run(tmp_path) / "model" / "fits_4bit_only.json").is_file()


def page(name: str, kind: str = "model") -> str:
    return f"https://huggingface.co/{'datasets/' if kind == 'dataset' else ''}{name}"


LOGIN = "log in (`hf auth login`) or set HF_TOKEN."
REFUSED = {
    "no such model and no such data, reported together": (
        {"model.name": "no/model", "data.train": "no/data"},
        "",
        [
            f"model.name: There is no model 'no/model' on the Hub, or it is private: check the name at "
            f"{page('no/model')}. For a private model, {LOGIN}",
            f"data.train: There is no dataset 'no/data' on the Hub, or it is private: check the name at "
            f"{page('no/data', 'dataset')}. For a private dataset, {LOGIN}",
        ],
    ),
    "no such evaluation data": (
        {"data.eval": "no/data"},
        "",
        [
            f"data.eval: There is no dataset 'no/data' on the Hub, or it is private: check the name at "
            f"{page('no/data', 'dataset')}. For a private dataset, {LOGIN}"
        ],
    ),
    "no such revision": (
        {"model.revision": "v9"},
        "",
        [
            f"model.revision: The model 'tiny/llama' has no revision 'v9': choose a branch or tag from "
            f"{page(MODEL)}/tree/main, or leave the revision empty for the main branch."
        ],
    ),
    "gated, without a token": (
        {"model.name": "tiny/gated", "data.train": "tiny/gated-rows"},
        "",
        [
            f"{field}: The {kind} '{name}' is gated: accept its license at {page(name, kind)}, then log in "
            "(`hf auth login`) or set HF_TOKEN."
            for field, kind, name in (
                ("model.name", "model", "tiny/gated"),
                ("data.train", "dataset", "tiny/gated-rows"),
            )
        ],
    ),
    "gated, with the token of an account that has not accepted": (
        {"model.name": "tiny/gated"},
        STRANGER,
        [
            f"model.name: The model 'tiny/gated' is gated, and your account has no access: accept its license at "
            f"{page('tiny/gated')} with this account, or set HF_TOKEN to the token of another account."
        ],
    ),
    "gated, with a token that does not exist": (
        {"model.name": "tiny/gated"},
        "hf_mistyped0123456789",
        [
            f"{field}: The Hub rejects the token for the {kind} '{name}': create a new one at "
            "https://huggingface.co/settings/tokens and log in again (`hf auth login`) or set HF_TOKEN. For a gated "
            f"{kind}, accept its license at {page(name, kind)} too."
            for field, kind, name in (
                ("model.name", "model", "tiny/gated"),
                ("data.train", "dataset", "tiny/plain"),  # the Hub answers nothing at all to such a token
            )
        ],
    ),
    "no such split": (
        {"data.train": "tiny/plain", "data.train_split": "training"},
        "",
        ["data.train_split: The dataset 'tiny/plain' has no split 'training': choose one of train, test."],
    ),
    "no such split for evaluation": (
        {"data.eval": "tiny/plain", "data.eval_split": "validation"},
        "",
        ["data.eval_split: The dataset 'tiny/plain' has no split 'validation': choose one of train, test."],
    ),
    "no such configuration": (
        {"data.train": DATA, "data.train_config": "medium"},
        "",
        ["data.train_config: The dataset 'tiny/sums' has no configuration 'medium': choose one of easy, hard."],
    ),
    "no configuration where there are several": (
        {"data.eval": DATA},
        "",
        ["data.eval_config: The dataset 'tiny/sums' has several configurations: choose one of easy, hard."],
    ),
    "no data files": (
        {"data.train": "tiny/empty"},
        "",
        [
            "data.train: The dataset 'tiny/empty' has no files that can be read as rows: check them at "
            f"{page('tiny/empty', 'dataset')}/tree/main, or choose another dataset."
        ],
    ),
    "no config.json": (
        {"model.name": "tiny/words"},
        "",
        [
            "model.name: The model 'tiny/words' has no config.json, so it cannot be loaded: check its files at "
            f"{page('tiny/words')}/tree/main and give the id of a transformers model."
        ],
    ),
    "no weights": (
        {"model.name": "tiny/weightless"},
        "",
        [
            "model.name: The model 'tiny/weightless' has no weights (model.safetensors or pytorch_model.bin): check "
            f"its files at {page('tiny/weightless')}/tree/main and give the id of the original model. Its GGUF files "
            "cannot be fine-tuned."
        ],
    ),
    "weights that are none": (
        {"model.name": "tiny/broken"},
        "",
        [
            "model.name: The weights of 'tiny/broken' are damaged or cut off (Error while deserializing header: invalid "
            "header length): download the model again."
        ],
    ),
}


def test_every_refusal_is_one_plain_sentence_at_its_field(
    hub: HubServer, model_files: dict[str, bytes], tmp_path: Path
) -> None:
    config, weights = model_files["config.json"], model_files["model.safetensors"]
    hub.tokens = {READER, STRANGER}
    hub.models["tiny/gated"] = Repo({"main": model_files}, gated=True, readers=frozenset({READER}))
    hub.datasets["tiny/gated-rows"] = Repo({"main": {"train.jsonl": jsonl(sum_rows(4))}}, gated=True)
    hub.datasets["tiny/empty"] = Repo({"main": {"README.md": b"# Nothing yet"}})
    hub.models["tiny/words"] = Repo({"main": {"README.md": b"# Words"}})
    hub.models["tiny/weightless"] = Repo({"main": {"config.json": config, "q4.gguf": b"GGUF"}})
    hub.models["tiny/broken"] = Repo({"main": {**model_files, "model.safetensors": weights[:500]}})
    cases = [
        {
            "arguments": arguments(tmp_path / str(i), **{k.replace(".", "__"): v for k, v in settings.items()}),
            "environment": {"HF_TOKEN": token} if token else {},
        }
        for i, (settings, token, _) in enumerate(REFUSED.values())
    ]
    answers = ask(COMMANDS, cases, child_environment(hub, tmp_path / "home"))
    for i, ((name, (_, token, sentences)), answer) in enumerate(zip(REFUSED.items(), answers, strict=True)):
        report = report_of(tmp_path / str(i))
        assert answer["code"] == 1 and report["end"] == "failed", name
        assert "Traceback" not in answer["stderr"] and (not token or token not in answer["stderr"]), name
        end = json.loads((last_run(tmp_path / str(i)) / "events.jsonl").read_text(encoding="utf-8").splitlines()[-1])
        assert end["field"] == sentences[0].split(":")[0], name
        several = len(sentences) > 1  # then each line names its field
        reported = report["reason"].splitlines() if several else [f"{end['field']}: {report['reason']}"]
        assert reported == sentences, name
    assert not hub.asked("/tiny/gated/resolve/")


@pytest.mark.slow
def test_weights_and_code_of_other_kinds_are_fetched_too(
    hub: HubServer, model_files: dict[str, bytes], tmp_path: Path
) -> None:
    tensors, weights = small_llama(hidden_size=64).state_dict(), io.BytesIO()
    torch.save(tensors, weights)
    code = b"from transformers import LlamaForCausalLM\n\n\nclass OwnModel(LlamaForCausalLM):\n    pass\n"
    config = json.loads(model_files["config.json"]) | {"auto_map": {"AutoModelForCausalLM": "own.OwnModel"}}
    files = {**model_files, "own.py": code, "config.json": json.dumps(config).encode()}
    files["pytorch_model.bin"] = weights.getvalue()
    files.pop("model.safetensors")
    hub.models["tiny/old"] = Repo({"main": files})
    done = geko_train(hub, tmp_path, {"model__name": "tiny/old", "model__trust_remote_code": "true"})
    assert done.returncode == 0, done.stderr
    assert hub.asked("own.py") and len(hub.asked("pytorch_model.bin")) == 1


def test_the_token_of_a_gated_run_is_used_and_written_nowhere(
    hub: HubServer, model_files: dict[str, bytes], tmp_path: Path
) -> None:
    hub.tokens = {READER, STRANGER}
    hub.models["tiny/gated"] = Repo({"main": model_files}, gated=True, readers=frozenset({READER}))
    rows = {"train.jsonl": jsonl(sum_rows(24))}
    hub.datasets["tiny/gated-rows"] = Repo({"main": rows}, gated=True, readers=frozenset({READER}))
    settings = {"model__name": "tiny/gated", "data__train": "tiny/gated-rows"}
    refused = geko_train(hub, tmp_path, settings, HF_TOKEN=STRANGER)
    done = geko_train(hub, tmp_path, settings, HF_TOKEN=READER)
    assert (refused.returncode, done.returncode) == (1, 0), done.stderr
    assert READER in {r.token for r in hub.requests}
    written = {path: path.read_bytes() for path in (tmp_path / "runs").rglob("*") if path.is_file()}
    said = (refused.stderr + refused.stdout + done.stderr + done.stdout).encode()
    assert len(written) > 8
    assert not [
        path
        for path, text in {**written, Path("said"): said}.items()
        if READER.encode() in text or STRANGER.encode() in text
    ]


def test_the_worker_of_the_page_writes_no_token_either(
    hub: HubServer, model_files: dict[str, bytes], tmp_path: Path
) -> None:
    from geko_engine.config.run_config import RunConfig

    hub.tokens = {STRANGER}
    hub.models["tiny/gated"] = Repo({"main": model_files}, gated=True)
    config = RunConfig.from_dict({"model": {"name": "tiny/gated"}, "output_dir": str(tmp_path / "runs")})
    folder = RunFolder.create(config)
    with folder.log_path.open("wb") as log:
        environment = child_environment(hub, tmp_path / "home", HF_TOKEN=STRANGER)
        command = [sys.executable, "-m", "geko_app.workers.training_worker", str(folder.path)]
        assert (
            subprocess.run(command, env=environment, stdout=log, stderr=log, check=False, timeout=300).returncode == 1
        )
    texts = [path.read_bytes() for path in folder.path.iterdir() if path.is_file()]
    assert "is gated" in report_of(tmp_path)["reason"] and not [text for text in texts if STRANGER.encode() in text]


UNREACHED = (
    "The Hub cannot be reached, and the {} is not completely on this machine: check the network, or give a local path."
)


def test_a_hub_that_hangs_ends_the_run_with_a_sentence(hub: HubServer, tmp_path: Path) -> None:
    hub.fail("hang")
    done = geko_train(hub, tmp_path, HF_HUB_DOWNLOAD_TIMEOUT="1", HF_HUB_ETAG_TIMEOUT="1")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    both = [("model.name", "model 'tiny/llama'"), ("data.train", "dataset 'tiny/plain'")]
    assert report_of(tmp_path)["reason"] == "\n".join(f"{key}: {UNREACHED.format(name)}" for key, name in both)
    assert not loaded_torch(tmp_path)  # which takes longer than the answer


def loaded_torch(folder: Path) -> bool:
    """Whether the last run came so far."""
    return any(event.get("message") == "loading torch" for _, event in RunFolder(last_run(folder)).events())


@pytest.mark.parametrize("where", ["/api/", "model.safetensors"])
def test_stop_does_not_wait_for_a_hub_that_hangs(where: str, hub: HubServer, tmp_path: Path) -> None:
    """The time limit of the requests is far beyond that of the test: only the stop can end this run."""
    trouble = hub.fail("hang", where)
    environment = child_environment(hub, tmp_path / "home", HF_HUB_DOWNLOAD_TIMEOUT="3600", HF_HUB_ETAG_TIMEOUT="3600")
    command = [sys.executable, "-m", "geko_engine", *arguments(tmp_path)]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    assert trouble.begun.wait(120)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 130, said
    assert report_of(tmp_path)["end"] == "stopped" and "Traceback" not in said


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["die", "hang"])
def test_a_download_that_breaks_off_is_reported_and_can_be_started_again(
    kind: str, hub: HubServer, model_files: dict[str, bytes], tmp_path: Path
) -> None:
    hub.fail(kind, "model.safetensors", after=50_000)
    limits = {"HF_HUB_DOWNLOAD_TIMEOUT": "1", "HF_HUB_ETAG_TIMEOUT": "1"}
    broken = geko_train(hub, tmp_path, **limits)
    assert broken.returncode == 1 and "Traceback" not in broken.stderr
    assert report_of(tmp_path)["reason"] == (
        "The connection to the Hub was lost while the model 'tiny/llama' was loading: check the network and start "
        "again. Files that were downloaded completely are kept."
    )
    assert not list((tmp_path / "home").rglob("snapshots/*/model.safetensors"))
    hub.mend()
    assert geko_train(hub, tmp_path, **limits).returncode == 0
    (file,) = (tmp_path / "home").rglob("snapshots/*/model.safetensors")
    assert file.read_bytes() == model_files["model.safetensors"]


@pytest.mark.slow
def test_what_is_in_the_cache_is_enough_without_a_network(hub: HubServer, tmp_path: Path) -> None:
    settings = {"data__train": DATA, "data__train_config": "hard", "data__eval": "tiny/plain"}
    assert geko_train(hub, tmp_path, settings).returncode == 0
    online = report_of(tmp_path)
    hub.forget()
    few = {"train": DATA, "train_config": "hard", "sample_count": 5}
    (answer,) = ask(ROWS, [few], child_environment(hub, tmp_path / "home", HF_HUB_OFFLINE="1"))
    assert answer["rows"] == sum_rows(24, 1)[:5]
    offline = geko_train(hub, tmp_path, settings, HF_HUB_OFFLINE="1")
    assert offline.returncode == 0 and not hub.requests, offline.stderr
    assert report_of(tmp_path)["eval_loss_after"] == online["eval_loss_after"]
    hub.fail("die")
    gone = geko_train(hub, tmp_path, settings)
    assert gone.returncode == 0, gone.stderr
    assert report_of(tmp_path)["eval_loss_after"] == online["eval_loss_after"]


def test_offline_with_an_empty_cache_says_what_is_missing(hub: HubServer, tmp_path: Path) -> None:
    offline = "HF_HUB_OFFLINE is set, and the {} is not completely on this machine: unset it, or give a local path."
    cases = [
        {"arguments": arguments(tmp_path / name, **settings), "environment": {}}
        for name, settings in (("data", {"model__name": "demo"}), ("model", {"data__train": "demo"}))
    ]
    answers = ask(COMMANDS, cases, child_environment(hub, tmp_path / "home", HF_HUB_OFFLINE="1"))
    assert [answer["code"] for answer in answers] == [1, 1] and not hub.requests
    assert report_of(tmp_path / "data")["reason"] == offline.format("dataset 'tiny/plain'")
    assert report_of(tmp_path / "model")["reason"] == offline.format("model 'tiny/llama'")
    assert not any("Traceback" in answer["stderr"] for answer in answers)
    assert not loaded_torch(tmp_path / "data") and not loaded_torch(tmp_path / "model")


def test_a_number_of_rows_is_streamed_and_not_downloaded_whole(hub: HubServer, tmp_path: Path) -> None:
    rows = [{"prompt": f"prompt {i}", "completion": f"{i:0200}"} for i in range(10_000)]
    one = parquet_file(rows)
    hub.datasets["tiny/large"] = Repo({"main": {f"data/train-{i:05}-of-00008.parquet": one for i in range(8)}})
    environment = child_environment(hub, tmp_path / "home")
    (few,) = ask(ROWS, [{"train": "tiny/large", "sample_count": 1500}], environment)
    assert few["rows"] == rows[:1500]
    assert 0 < hub.bytes_sent < 1.5 * len(one) and not list((tmp_path / "home").rglob("*.arrow"))
    assert hub.asked("train-00000") and not hub.asked("train-00001")
    (part,) = ask(ROWS, [{"train": "tiny/large", "sample_count": 3, "train_split": "train[5:50]"}], environment)
    assert part["rows"] == rows[5:8]


def test_a_stream_that_breaks_off_is_reported(hub: HubServer, tmp_path: Path) -> None:
    hub.datasets["tiny/large"] = Repo({"main": {"train.jsonl": jsonl(sum_rows(50_000))}})
    hub.fail("die", "train.jsonl", after=100_000)
    (answer,) = ask(ROWS, [{"train": "tiny/large", "sample_count": 40_000}], child_environment(hub, tmp_path / "home"))
    assert answer["field"] == "data.train"
    assert answer["error"].startswith("The connection to the Hub was lost while the dataset 'tiny/large' was loading")


def test_a_session_that_another_thread_has_closed_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    sessions = iter([None, huggingface_hub.get_session()])
    monkeypatch.setattr(huggingface_hub, "get_session", lambda: next(sessions))
    monkeypatch.setattr(huggingface_hub, "set_client_factory", lambda factory: None)
    limit_request_time()
    assert not list(sessions)
