"""What a package index shows, and what an image installs: links, addresses and requirements. `make wheel-test` builds."""

from __future__ import annotations

import re
import tomllib

import pytest
import yaml

from hatch_build import absolute_links, addresses, ref_of, repository
from scripts.requirements import requirements
from tests.docs.blocks import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
HOME = "https://example.org/geko"
PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", re.MULTILINE)


def test_links_of_the_readme_are_absolute_for_an_index() -> None:
    shown = absolute_links(README, HOME, "v2.0.0")
    links = re.findall(r"\]\(([^)\s]+)\)", shown)
    assert len(links) > 10 and all(link.startswith(("https://", "http://")) for link in links)
    assert f"![The Train page during a run]({HOME}/raw/v2.0.0/docs/images/train-running.png)" in shown
    assert f"[Your data]({HOME}/blob/v2.0.0/docs/data.md)" in shown


def test_where_the_repository_is_not_known_links_are_their_text() -> None:
    shown = absolute_links("![A picture](a.png) [Your data](docs/data.md) [PyTorch](https://pytorch.org)", "", "main")
    assert shown == " Your data [PyTorch](https://pytorch.org)"
    assert addresses("", "main") == {}


@pytest.mark.parametrize(
    ("environment", "found"),
    [
        ({}, ""),
        ({"GEKO_REPOSITORY": f"{HOME}/"}, HOME),
        ({"GITHUB_SERVER_URL": "https://example.org", "GITHUB_REPOSITORY": "geko"}, HOME),
        ({"GITHUB_SERVER_URL": "https://example.org"}, ""),
    ],
)
def test_the_repository_is_named_or_that_of_the_workflow(environment: dict[str, str], found: str) -> None:
    assert repository(environment) == found


def test_a_release_links_to_its_tag() -> None:
    assert ref_of("2.0.0") == "v2.0.0" and ref_of("2.0.0.dev0") == "main"
    assert addresses(HOME, "v2.0.0")["Changelog"] == f"{HOME}/blob/v2.0.0/CHANGELOG.md"


def test_the_image_installs_what_the_package_needs() -> None:
    found = requirements(PROJECT, ["app", "mcp"])
    assert found == [
        *PROJECT["dependencies"],
        *PROJECT["optional-dependencies"]["app"],
        *PROJECT["optional-dependencies"]["mcp"],
    ]
    with pytest.raises(ValueError, match="no extra 'nothing'"):
        requirements(PROJECT, ["nothing"])
    asked = re.search(r"requirements.py ([\w ]+) >", (ROOT / "Dockerfile").read_text(encoding="utf-8"))
    assert asked and set(asked[1].split()) <= set(PROJECT["optional-dependencies"])


def test_pictures_and_tests_stay_out_of_the_image() -> None:
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert "*" in lines
    let_in = {line[1:] for line in lines if line.startswith("!")}
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", (ROOT / "Dockerfile").read_text(encoding="utf-8"), re.MULTILINE)
    assert {path for line in copied for path in line.split()} <= {*let_in, "assets"}
    assert not any(path.startswith(("docs", "tests", "assets/demo/..")) for path in let_in)


def test_compose_keeps_runs_and_caches_and_gives_time_to_save() -> None:
    services = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))["services"]
    for service in services.values():
        assert service["volumes"] == ["runs:/runs", "cache:/cache"] and service["read_only"]
        assert (service["restart"], service["stop_grace_period"]) == ("unless-stopped", "2m")
    (gpu,) = services["geko"]["deploy"]["resources"]["reservations"]["devices"]
    assert gpu["capabilities"] == ["gpu"] and services["geko"]["shm_size"]


def test_the_space_is_described_apart_from_the_readme() -> None:
    facts = yaml.safe_load((ROOT / "space" / "README.md").read_text(encoding="utf-8").split("---")[1])
    assert (facts["sdk"], facts["app_port"], facts["hf_oauth"]) == ("docker", 7860, True)
    assert not README.startswith("---")


def test_the_lock_has_the_tested_versions_a_hash_for_each_and_no_address() -> None:
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    assert "://" not in text and "--index" not in text
    pinned = {name.lower().replace("_", "-"): version for name, version in PIN.findall(text)}
    tested = PIN.findall((ROOT / "constraints.txt").read_text(encoding="utf-8"))
    known = {name.lower().replace("_", "-"): version for name, version in tested}
    assert {name: version for name, version in pinned.items() if known.get(name, version) != version} == {}
    assert {"torch", "gradio", "mcp", "peft", "authlib"} <= set(pinned)
    entries = re.split(r"\n(?=\S)", text.split("\n", 2)[2])
    assert all("--hash=sha256:" in entry for entry in entries if entry.strip())
