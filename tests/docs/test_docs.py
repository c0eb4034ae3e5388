"""README and docs/: all code runs, the site builds without a warning, links lead somewhere, generated lists are complete."""

from __future__ import annotations

import dataclasses
import html
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from geko_app.cli import check_port
from geko_app.form.fields import FIELDS
from geko_engine.cli import main as geko_train
from geko_engine.config.run_config import SECTIONS, RunConfig
from geko_engine.data.local_files import local_rows
from geko_engine.exceptions import GekoError
from tests.docs.blocks import NOT_RUN, ROOT, blocks_of, commands_of, environment, run_page, why_not_run

README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").glob("*.md"))]
MOST_LINES = 150
LANGUAGES = {"python", "sh", "yaml", "json", "text"}
BANNED = re.compile(r"\b(told|tells|look-?alikes?|heed(s|ed|ing)?)\b", re.IGNORECASE)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
DATA_FILES = [
    b for b in blocks_of(ROOT / "docs" / "data.md") if b.title and not b.title.endswith((".yaml", "row_flags.json"))
]


def named(path: Path) -> str:
    return path.name


def words(markup: str) -> str:
    """What a reader sees of a piece of HTML, in one line."""
    return " ".join(html.unescape(re.sub(r"<[^>]+>", "", markup)).split())


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The documentation as `make docs` builds it; a broken link or an unlisted page is an error."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, env=environment(folder), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


# ------------------------------------------------------------ code
@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if blocks_of(page)], ids=named)
def test_the_code_of_a_page_runs(page: Path, tmp_path: Path) -> None:
    quickstart = {block.title: block.text for block in blocks_of(ROOT / "docs" / "index.md")}
    (tmp_path / "answers.jsonl").write_text(quickstart["answers.jsonl"], encoding="utf-8")  # what other pages refer to
    run_page(page, tmp_path)


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_a_block_says_its_language_and_yaml_describes_a_run(page: Path) -> None:
    for block in blocks_of(page):
        assert block.language in LANGUAGES, f"{page.name}, line {block.line}"
        if block.language == "yaml":
            RunConfig.from_dict(yaml.safe_load(block.text))


@pytest.mark.parametrize("block", DATA_FILES, ids=lambda block: block.title)
def test_each_example_of_a_data_format_is_read(block: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / block.title
    path.write_text(block.text, encoding="utf-8")
    columns = ["data.prompt_column=ticket", "data.completion_column=team"] if "ticket" in block.title else []
    settings = [word for setting in (f"data.train={path}", *columns) for word in ("--set", setting)]
    assert geko_train(["--check", *settings]) == 0, capsys.readouterr().err


def test_what_is_not_run_has_a_reason_that_is_still_needed() -> None:
    commands = [c for page in PAGES for b in blocks_of(page) if b.language == "sh" for c in commands_of(b)]
    needed = {beginning for beginning in NOT_RUN if any(c.startswith(beginning.strip()) for c in commands)}
    assert needed == set(NOT_RUN)
    assert any(not why_not_run(command) for command in commands)


def test_the_documented_extras_are_those_of_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    text = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    asked = {extra for names in re.findall(r"geko-finetune\[([\w,]+)\]", text) for extra in names.split(",")}
    assert asked and asked <= set(project["optional-dependencies"])
    assert set(project["scripts"]) == {"geko-train", "geko-export", "geko-app"}


# ------------------------------------------------------------ the README
def test_the_readme_fits_a_page_and_names_the_commands() -> None:
    text = README.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= MOST_LINES
    assert "make app" in text and "make test" in text
    assert "no better than a shorter plain run" in text  # the finding that matters most is not hidden
    assert not text.startswith("---")  # the front matter of the Space stands in space/README.md


LABEL = re.compile(r"\*\*([A-Z][^*:]+?)[.:]?\*\*|^\| ([A-Z][A-Za-z /]+) \| ", re.MULTILINE)
NO_LABELS = {"Figure", "Bucket"}  # heads of tables


def test_labels_in_the_guide_to_the_dashboard_are_those_of_the_page() -> None:
    files = [*(ROOT / "geko_app").rglob("*.py"), *(ROOT / "geko_app" / "static").iterdir()]
    source = "\n".join(file.read_text(encoding="utf-8") for file in files)
    text = (ROOT / "docs" / "dashboard.md").read_text(encoding="utf-8")
    labels = {found[1] or found[2] for found in LABEL.finditer(text)} - NO_LABELS
    assert len(labels) > 20
    assert {label for label in labels if label not in source} == set()


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_lead_to_files_of_this_repository(page: Path) -> None:
    for target in LINK.findall(page.read_text(encoding="utf-8")):
        path, _, anchor = target.partition("#")
        if path and not path.startswith(("http:", "https:")):
            assert (page.parent / path).exists(), f"{page.name}: {target}"
        if page == README and anchor:
            assert f'id="{anchor}"' in (ROOT / path).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "page", [*PAGES, ROOT / "benchmarks" / "README.md"], ids=lambda page: f"{page.parent.name}/{page.name}"
)
def test_what_users_read_is_plain(page: Path) -> None:
    assert BANNED.findall(page.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("name", ["settings.html", "troubleshooting.html"])
def test_the_generated_lists_are_plain(site: Path, name: str) -> None:
    assert BANNED.findall(words((site / name).read_text(encoding="utf-8"))) == []


# ------------------------------------------------------------ the site
def test_the_site_needs_no_network(site: Path) -> None:
    pages = list(site.glob("*.html"))
    assert len(pages) == len(PAGES)  # the README is none of them, the page of errors 404 is one more
    for page in pages:
        tags = re.findall(r"<(?:script|link|img|iframe|source)\b[^>]*>", page.read_text(encoding="utf-8"))
        assert [tag for tag in tags if re.search(r'(?:src|href)="(?:https?:)?//', tag)] == [], page.name
    for sheet in site.glob("assets/stylesheets/*.css"):
        assert not re.search(r"url\((?:https?:)?//|@import", sheet.read_text(encoding="utf-8"))


def test_every_setting_is_documented_with_its_help_default_and_label(site: Path) -> None:
    text = (site / "settings.html").read_text(encoding="utf-8")
    parts = dict(re.findall(r'<h3 id="([^"]+)">(.*?)(?=<h[23] |</article>)', text, re.DOTALL))
    declared = {
        f"{s}.{f.name}": f for s, cls in SECTIONS.items() for f in dataclasses.fields(cls) if f.metadata.get("spec")
    }
    assert set(parts) == {*declared, "output_dir"}
    for key, field in declared.items():
        section, name = key.split(".")
        shown, default = words(parts[key]), getattr(SECTIONS[section](), name)
        for text in (field.metadata["spec"].help, field.metadata["spec"].details):
            assert " ".join(text.split()) in shown
        assert (
            f"Default: {yaml.safe_dump(list(default) if isinstance(default, tuple) else default, default_flow_style=True).splitlines()[0]}"
            in shown
        )
    for field in FIELDS:
        if field.key in parts:
            assert f"On the page: {field.label}" in words(parts[field.key])


def sentences(site: Path) -> list[str]:
    """The listed errors, without the links to their settings."""
    text = (site / "troubleshooting.html").read_text(encoding="utf-8").split('id="every-error"')[1]
    return [
        words(item).split(" → ")[0] for item in re.findall(r"<li>(.*?)</li>", text.split("</article>")[0], re.DOTALL)
    ]


def raised(call: Any, *arguments: Any) -> str:
    with pytest.raises(GekoError) as caught:
        call(*arguments)
    return caught.value.problems[0][1]


def test_errors_are_listed_as_they_are_raised(site: Path, tmp_path: Path) -> None:
    listed = sentences(site)
    assert len(listed) > 120
    patterns = [re.compile(re.sub(r"‹[^›]*›", ".*", re.escape(sentence))) for sentence in listed]
    (tmp_path / "broken.jsonl").write_text('{"a": 1}\n{', encoding="utf-8")
    for message in (
        raised(RunConfig.from_dict, {"training": {"num_epochs": 0}}),
        raised(RunConfig.from_dict, {"data": {"train": ""}}),
        raised(RunConfig.from_dict, {"training": {"bf16": True, "fp16": True}}),
        raised(RunConfig.from_yaml, tmp_path / "none.yaml"),
        raised(lambda: list(local_rows(str(tmp_path / "none.jsonl")))),
        raised(lambda: list(local_rows(str(tmp_path / "broken.jsonl")))),
        raised(lambda: list(local_rows(str(tmp_path)))),
        raised(check_port, "127.0.0.1", 70000),
    ):
        assert any(pattern.fullmatch(message) for pattern in patterns), message


def test_listed_errors_read_as_sentences(site: Path) -> None:
    for sentence in sentences(site):
        assert len(sentence.split()) > 3
        assert not re.search(r"\{\w|__|\bself\b|\\n|‹›|‹…›", sentence), sentence


def test_errors_of_every_kind_are_found_in_the_source() -> None:
    sys.path.insert(0, str(ROOT / "scripts" / "docs"))
    try:
        from error_reference import Reader, read_modules
    finally:
        sys.path.pop(0)
    reader = Reader(read_modules())
    found = reader.sentences()
    assert {s.module.split("/")[1] for s in found} >= {"config", "data", "hub", "models", "runs", "training"}
    assert len(reader.unread) < 0.04 * len(found)  # those raise again what is listed already, as load_rows does


def test_every_library_is_listed_with_its_license(site: Path) -> None:
    sys.path.insert(0, str(ROOT / "scripts" / "docs"))
    try:
        from licenses import license_of, needed
    finally:
        sys.path.pop(0)
    page = (site / "dependencies.html").read_text(encoding="utf-8")
    for library in needed():
        assert f"<td>{library}</td>" in page and license_of(library) in page, library


def test_every_room_stands_in_the_architecture() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    for package in ("geko_engine", "geko_app"):
        for room in (ROOT / package).iterdir():
            if room.is_dir() and (room / "__init__.py").exists():
                assert f"`{room.name}/`" in text, f"{package}/{room.name}"


GEKOLIB = """Bucket SampleState GEKOConfig GEKOTrainer GEKOTrainingArgs GEKODataset MountainCurriculum SamplePartitioner apply_lora
is_peft_available GEKORichUI RICH_AVAILABLE PartitionStats CurriculumPhase CurriculumState visualize_mountain GEKO_AGGRESSIVE
GEKO_BALANCED GEKO_CONSERVATIVE create_app main train partition_samples get_pruned_count save_checkpoint load_checkpoint
get_efficiency_report get_hard_samples get_frozen_samples validate get_bucket_weight freeze_confidence freeze_quality
focus_confidence bucket_weights use_curriculum q_value_lr min_q_for_freeze q_value_loss_scale repartition_every log_bucket_stats
max_times_seen prune_frozen_after output_dir num_epochs batch_size learning_rate weight_decay warmup_steps logging_steps save_steps
eval_steps max_grad_norm fp16 bf16 gradient_accumulation_steps gradient_checkpointing compile_model use_8bit_optimizer
dataloader_num_workers dataloader_persistent_workers dataloader_prefetch_factor seed save_at_end use_rich_ui sample_id bucket q_value
confidence quality loss_history times_seen last_loss frozen_at_epoch correct consecutive_frozen_epochs update is_improving is_stuck
priority_score to_dict classify partition get_trainable_samples get_bucket_samples compute_efficiency should_stop_early total
freeze_count light_count focus_count hard_count freeze_ratio light_ratio focus_ratio hard_ratio trainable_count accuracy from_dict
step reset is_complete get_total_progress get_phase_progress get_state get_current_weights adjust_learning_rate
get_difficulty_multiplier print_training_header start_epoch_progress update_progress finish_epoch_progress print_partition
print_summary log_"""


def test_every_public_name_of_gekolib_has_its_line() -> None:
    text = (ROOT / "docs" / "from-gekolib.md").read_text(encoding="utf-8")
    named = {word for code in re.findall(r"`([^`\n]+)`", text) for word in re.findall(r"\w+", code)}
    assert set(GEKOLIB.split()) - named == set()
