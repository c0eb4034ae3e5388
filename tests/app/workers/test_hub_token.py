"""The pipe that carries the Hub token to a worker."""

from __future__ import annotations

import subprocess
import sys

import pytest

from geko_app.runs.store import RunStore
from geko_app.workers.hub_token import LONGEST, check_token, start_worker
from geko_app.workers.preview_jobs import PreviewJobs
from geko_app.workers.supervisor import Supervisor
from geko_engine.config.run_config import RunConfig
from geko_engine.exceptions import RunError

RECEIVER = """
import os
from geko_app.workers.hub_token import receive_token
with open("/proc/self/environ") as file: before = "hf_secret" in file.read()
receive_token()
with open("/proc/self/environ") as file: after = "hf_secret" in file.read()
from huggingface_hub import get_token
print(get_token(), before, after)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_the_hub_client_finds_the_token_and_the_environment_of_the_process_does_not_show_it() -> None:
    process = start_worker([sys.executable, "-c", RECEIVER], "hf_secret", stdout=subprocess.PIPE)
    assert process.stdout is not None
    with process.stdout as output:
        assert output.read().decode().strip() == "hf_secret False False"
    assert process.wait() == 0
    assert "hf_secret" not in process.args


def test_without_a_token_nothing_is_said_and_nothing_waits() -> None:
    code = "import sys; print(sys.argv[1:], repr(sys.stdin.read()))"
    process = start_worker([sys.executable, "-c", code], "", stdout=subprocess.PIPE)
    assert process.communicate()[0].decode().strip() == "[] ''"


def test_a_worker_that_has_ended_already_harms_nobody() -> None:
    process = start_worker([sys.executable, "-c", "import os; os.close(0)"], "hf_secret")
    assert process.wait() == 0


@pytest.mark.parametrize("token", ["hf a", "hf\nb", "hf\0", "hf_ü", "h" * (LONGEST + 1)])
def test_what_cannot_be_a_token_starts_nothing(store: RunStore, config: RunConfig, token: str) -> None:
    for start in (Supervisor(store).start, PreviewJobs().start):
        with pytest.raises(RunError, match="Hub token") as refused:
            start(config, token)
        assert token not in str(refused.value)
    assert store.ids() == []


def test_a_token_as_the_hub_gives_it_is_fine() -> None:
    check_token("")
    check_token("hf_" + "aZ09" * 9)
