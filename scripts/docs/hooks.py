"""What mkdocs does beyond Markdown: fills in the generated lists, and takes along files that stand outside of docs/.

A page shows a generated list where it says <!-- generated: NAME -->. On GitHub a link such as ../CONTRIBUTING.md works;
the built site has no such page, so there the link becomes one to the repository where mkdocs.yml names it, else the file's name.
A picture outside of docs/ is copied to images/.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from error_reference import Reader, errors_markdown, read_modules
from licenses import licenses_markdown
from mkdocs.structure.files import File, Files
from settings_reference import keys, settings_markdown

ROOT = Path(__file__).parents[2]
GENERATED: dict[str, Callable[[], str]] = {
    "settings": settings_markdown,
    "faults": lambda: (ROOT / "benchmarks" / "results" / "faults.md").read_text(encoding="utf-8"),
    "errors": lambda: errors_markdown(Reader(read_modules()).sentences(), dict.fromkeys(keys())),
    "licenses": licenses_markdown,
}
MARK = re.compile(r"<!-- generated: (\w+) -->")
PICTURE = re.compile(r"(!\[[^\]]*\]\()\.\./([^)\s]+)\)")
OUTSIDE = re.compile(r"(?<!!)\[([^\]]+)\]\(\.\./([^)\s]+)\)")


def on_files(files: Files, config: Any) -> Files:
    """Add the logo, and the pictures that pages show from outside of docs/."""
    files.append(File.generated(config, "images/logo.svg", abs_src_path=str(ROOT / "geko_app" / "static" / "logo.svg")))
    for page in list(files.documentation_pages()):
        for _, path in PICTURE.findall(page.content_string):
            name = f"images/{Path(path).name}"
            if files.get_file_from_path(name) is None:
                files.append(File.generated(config, name, abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """The page as it is built."""
    markdown = MARK.sub(lambda found: GENERATED[found[1]](), markdown)
    markdown = PICTURE.sub(lambda found: f"{found[1]}images/{Path(found[2]).name})", markdown)
    return OUTSIDE.sub(lambda found: _outside(found[1], found[2], config.repo_url), markdown)


def _outside(text: str, path: str, repository: str | None) -> str:
    if repository:
        return f"[{text}]({repository.rstrip('/')}/blob/main/{path})"
    return text if path in text else f"{text} (`{path}`)"
