"""The webhook at the end of a run: one POST to a real local server, and a run that goes on whatever that does."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from geko_engine.config.run_config import RunConfig
from geko_engine.config.training_args import GEKOTrainingArgs
from geko_engine.exceptions import ConfigError
from geko_engine.reporting.events import Event, Message, RunEnded
from geko_engine.reporting.webhook import hidden_path, message_of, post, webhook_problem
from geko_engine.run import run
from geko_engine.runs.folder import RunFolder


class Receiver(HTTPServer):
    """Keeps what is posted to it, and answers with `status`."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests: list[tuple[str, str, dict[str, Any]]] = []
        self.status, self.wait = 200, threading.Event()
        self.wait.set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/hook/part-secret?token=query-secret"


class Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.requests.append((self.path, self.headers["Content-Type"], json.loads(body)))
        self.server.wait.wait(30)
        self.send_response(self.server.status)
        if self.server.status == 302:
            self.send_header("Location", "/elsewhere")
        self.end_headers()

    def do_GET(self) -> None:
        self.server.requests.append((self.path, "GET", {}))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Says nothing."""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    thread = threading.Thread(target=made.serve_forever, daemon=True)
    thread.start()
    yield made
    made.wait.set()
    made.shutdown()
    thread.join()
    made.server_close()


def finished(folder: Path, model: Path, data: Path, url: str) -> tuple[dict[str, Any], list[Event]]:
    values = {
        "model": {"name": str(model)},
        "data": {"train": str(data), "max_length": 64},
        "training": {"num_epochs": 1, "batch_size": 16, "answers_per_epoch": 0, "webhook_url": url},
        "output_dir": str(folder / "runs"),
    }
    events: list[Event] = []
    return run(RunFolder.create(RunConfig.from_dict(values)), on_event=events.append), events


def lines(events: list[Event]) -> list[str]:
    return [event.text for event in events if isinstance(event, Message) and "webhook" in event.text]


def test_the_end_of_a_run_is_posted_once_with_its_figures(
    tmp_path: Path, model_folder: Path, data_file: Path, receiver: Receiver
) -> None:
    report, events = finished(tmp_path, model_folder, data_file, receiver.url)
    ((path, kind, message),) = receiver.requests
    assert path == "/hook/part-secret?token=query-secret" and kind == "application/json"
    assert message["status"] == "complete" and message["reason"] == report["reason"]
    assert message["figures"]["steps"] == report["steps"] and "model_path" not in json.dumps(message)
    assert lines(events) == [f"The webhook at http://127.0.0.1:{receiver.server_port} was called (HTTP 200)."]
    assert isinstance(events[-1], RunEnded)  # what happened stands in the log before the end
    said = json.dumps([event.to_dict() for event in events])
    assert "query-secret" not in said and "part-secret" not in said


def test_a_webhook_that_fails_is_a_line_in_the_log_and_nothing_else(
    tmp_path: Path, model_folder: Path, data_file: Path, receiver: Receiver
) -> None:
    receiver.status = 500
    report, events = finished(tmp_path, model_folder, data_file, receiver.url)
    assert report["end"] == "complete" and lines(events)[0].endswith(
        "failed (it answered HTTP 500). The run is not affected."
    )


def test_every_way_to_fail_has_its_words_and_keeps_the_secret(receiver: Receiver) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        closed = f"http://127.0.0.1:{probe.getsockname()[1]}/hook?token=query-secret"
    said = [post(closed, {"run": "r"})]
    receiver.status = 302
    said.append(post(receiver.url, {"run": "r"}))
    assert len(receiver.requests) == 1  # a redirect is not followed
    receiver.wait.clear()
    said.append(post(receiver.url, {"run": "r"}, seconds=0.2))
    receiver.wait.set()
    said.append(post("ftp://example.org/?token=query-secret", {"run": "r"}))
    assert not any(taken for taken, _ in said) and "query-secret" not in repr(said)
    words = ("refused", "HTTP 302", "no answer within 0.2 s", "no http or https address")
    assert all(word in sentence for word, (_, sentence) in zip(words, said, strict=True))


@pytest.mark.parametrize(
    "url",
    [
        "hook",
        "ftp://example.org/x",
        "https://",
        "https://example.org:0/",
        "https://a b/",
        "https://me:pw@example.org/",
        "http://[::1",
        "https://hooks.example.org/…",
    ],
)
def test_an_address_that_cannot_work_is_refused_before_the_run(url: str) -> None:
    assert webhook_problem(url)
    with pytest.raises(ConfigError):
        GEKOTrainingArgs(webhook_url=url)
    assert webhook_problem("https://hooks.example.org/services/T0?x=1") == ""


def test_of_an_address_others_see_the_host() -> None:
    assert hidden_path("https://hooks.example.org:8443/services/T0?x=1") == "https://hooks.example.org:8443/…"
    assert (hidden_path("services/T0"), hidden_path("")) == ("/…", "")


def test_only_figures_of_the_report_are_posted() -> None:
    report = {"end": "failed", "reason": "Memory ran out.", "seconds": 3.0, "model_path": "/home/ada", "buckets": []}
    assert message_of("r", report) == {
        "run": "r",
        "status": "failed",
        "reason": "Memory ran out.",
        "figures": {"seconds": 3.0},
    }


def test_a_server_that_speaks_no_http_is_a_failure_like_any_other() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def greet() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"SSH-2.0-server\r\n")

        thread = threading.Thread(target=greet)
        thread.start()
        taken, said = post(f"http://127.0.0.1:{listener.getsockname()[1]}/secret", {})
        thread.join()
    assert not taken and "failed" in said and "secret" not in said
