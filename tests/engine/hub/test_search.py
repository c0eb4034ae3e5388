"""Search on a Hub on this machine, by the real client in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys

from tests.hub_server import HubServer, Repo

SEARCH = """
import dataclasses, json, sys
from geko_engine.hub.search import search_hub
for kind in ("model", "dataset"):
    found = search_hub(sys.argv[1], kind)
    print(json.dumps(None if found is None else [dataclasses.astuple(entry) for entry in found]))
"""


def search(text: str, **environment: str) -> list[object]:
    """What a search finds among models and among datasets."""
    done = subprocess.run(
        [sys.executable, "-c", SEARCH, text],
        env={**os.environ, "HF_HUB_OFFLINE": "0", **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_models_and_datasets_are_found_with_what_one_chooses_by() -> None:
    with HubServer() as hub:
        hub.models = {"tiny/llama": Repo({"main": {}}), "tiny/gated": Repo({"main": {}}, gated=True)}
        hub.models["mine/secret-llama"] = Repo({"main": {}}, private=True)
        hub.datasets = {"tiny/sums": Repo({"main": {}})}
        assert search("llama", HF_ENDPOINT=hub.url) == [[["tiny/llama", "mit", False, 1234, 7]], []]
        models, datasets = search("tiny", HF_ENDPOINT=hub.url)
        assert ["tiny/gated", "mit", True, 1234, 7] in models and datasets == [["tiny/sums", "mit", False, None, 7]]


def test_a_hub_that_is_out_of_reach_is_none_at_once() -> None:
    assert search("llama", HF_ENDPOINT="http://127.0.0.1:9") == [None, None]
    with HubServer() as hub:
        assert search("llama", HF_ENDPOINT=hub.url, HF_HUB_OFFLINE="1") == [None, None] and hub.requests == []
