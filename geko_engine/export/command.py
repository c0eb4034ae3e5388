"""geko-export: make a run's model ready for other programs. Knows no page.

Exit codes: 0 exported, 1 refused or failed, 2 wrong arguments, 130 stopped.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from geko_engine import __version__
from geko_engine.exceptions import GekoError
from geko_engine.export.request import TARGETS, ExportRequest
from geko_engine.export.results import never
from geko_engine.hub.downloads import exit_despite_downloads


def build_parser() -> argparse.ArgumentParser:
    """The command line of geko-export."""
    parser = argparse.ArgumentParser(
        prog="geko-export",
        description="Make the model of a run ready for other programs.",
        epilog="Example: geko-export runs/20261123-084353-demo-02fc --to merged",
    )
    parser.add_argument("run", metavar="RUN", help="folder of the run")
    kinds = "; ".join(f"{name}: {what}" for name, what in TARGETS.items())
    parser.add_argument("--to", required=True, choices=TARGETS, help=kinds)
    parser.add_argument("--out", metavar="FOLDER", help="new folder for the result; by default exports/ in the run")
    parser.add_argument("--dtype", default="auto", help="weights of --to merged: auto, bfloat16, float16 or float32")
    parser.add_argument(
        "--prompts", type=int, default=5, metavar="N", help="answers to compare before and after the merge; 0 for none"
    )
    parser.add_argument("--quantization", default="q8_0", help="of the GGUF file: q8_0, f16, bf16, f32, q4_k_m, ...")
    parser.add_argument("--llama-cpp", metavar="FOLDER", help="llama.cpp; by default LLAMA_CPP_DIR or what is on PATH")
    parser.add_argument("--repo", metavar="OWNER/NAME", help="repository for --to hub")
    parser.add_argument("--merged", action="store_true", help="push the complete model instead of the adapter")
    parser.add_argument("--public", action="store_true", help="push to a public repository instead of a private one")
    parser.add_argument("--version", action="version", version=f"geko {__version__}")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of geko-export. Returns the exit code."""
    parser = build_parser()
    options = parser.parse_args(argv)
    if options.to == "hub" and not options.repo:
        parser.error("--to hub needs --repo OWNER/NAME")
    try:
        made = _request(options).do(_say, never)
    except GekoError as error:
        print(f"geko-export: {error}", file=sys.stderr)
        return exit_despite_downloads(1)
    except KeyboardInterrupt:
        print("geko-export: stopped.", file=sys.stderr)
        return exit_despite_downloads(130)
    for sentence in made.sentences:
        print(f"[GEKO] {sentence}", file=sys.stderr)
    print(made.place)
    return exit_despite_downloads(0)


def _request(options: argparse.Namespace) -> ExportRequest:
    values = {name: value for name, value in vars(options).items() if name not in ("public", "repo")}
    return ExportRequest(**values, repo=options.repo or "", private=not options.public)


def _say(text: str) -> None:
    print(f"[GEKO] {text}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
