"""The files of the Space, uploaded by the real client to a Hub on this machine; and a pause of the Space."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import yaml

from tests.docs.blocks import ROOT
from tests.engine.hub.test_client import child_environment
from tests.hub_server import HubServer, Repo

TOKEN = "hf_owner0123456789"
PAUSE = """
from starlette.applications import Starlette
from starlette.testclient import TestClient
from geko_app.runs.store import RunStore
from geko_app.space.facts import Space
from geko_app.space.routes import routes
from geko_app.workers.supervisor import Supervisor

supervisor = Supervisor(RunStore("runs"))
page = TestClient(Starlette(routes=routes(Space("ada/geko", "ada", frozenset({"ada"}), pushes=True), supervisor)))
assert page.get("/geko-space").json()["can_pause"] is True
answer = page.post("/geko-space/pause", json={})
print(answer.status_code, answer.json()["error"])
"""


def run(hub: HubServer, folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    environment = {
        **child_environment(hub, folder),
        "HF_TOKEN": TOKEN,
        "HF_HUB_DISABLE_XET": "1",
        "PYTHONPATH": str(ROOT),
    }
    return subprocess.run(
        [sys.executable, *command], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def test_the_space_gets_what_its_image_is_built_from(tmp_path: Path) -> None:
    with HubServer() as hub:
        hub.tokens.add(TOKEN)
        for _ in range(2):  # the second time it replaces the files
            done = run(hub, tmp_path, str(ROOT / "scripts" / "space.py"), "me/geko", "--private")
            assert done.returncode == 0, done.stderr
        space = hub.spaces["me/geko"]
        files = space.revisions["main"]
        assert space.private
        assert yaml.safe_load(files["README.md"].decode().split("---")[1])["sdk"] == "docker"
        assert files["Dockerfile"] == (ROOT / "Dockerfile").read_bytes()
        weights = "assets/demo/model/model.safetensors"
        assert files[weights] == (ROOT / weights).read_bytes() and hub.asked("/lfs-objects/", "PUT")
        assert not [name for name in files if name.endswith((".png", ".pyc", ".d.ts")) or name.startswith("tests/")]


def test_an_idle_space_is_paused_by_the_hub(tmp_path: Path) -> None:
    with HubServer() as hub:
        hub.tokens.add(TOKEN)
        hub.spaces["ada/geko"] = Repo({"main": {}}, readers=frozenset({TOKEN}))
        done = run(hub, tmp_path, "-c", PAUSE)
        assert done.stdout.split(maxsplit=1)[0] == "200", done.stdout + done.stderr
        assert hub.asked("/api/spaces/ada/geko/pause", "POST")
        del hub.spaces["ada/geko"]
        refused = run(hub, tmp_path, "-c", PAUSE)
        assert refused.stdout.startswith("502 The Space cannot be paused"), refused.stdout + refused.stderr
