"""Notebooks as pages: each is run when the site is built, and becomes Markdown, to look and link as any other page."""

from __future__ import annotations

import functools
import re
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import nbformat
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from nbconvert import MarkdownExporter
from nbconvert.preprocessors import ExecutePreprocessor

NOT_RUN = {"gpu"}  # wants a GPU, and weights from the hub


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Put a page, and the figures on it, beside every notebook; the notebook stays, to be downloaded."""
    for file in [file for file in files if file.src_uri.endswith(".ipynb")]:
        page, figures = rendered(Path(file.abs_src_path or ""))
        folder, _, name = file.src_uri.rpartition("/")
        page = f"---\nhide: [toc]\n---\n{page}\n[This page as a notebook]({name}){{ download }}\n"
        files.append(File.generated(config, file.src_uri.replace(".ipynb", ".md"), content=page))
        for figure, content in figures.items():
            files.append(File.generated(config, f"{folder}/{figure}", content=content))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Let links to notebooks lead to their pages, but for a notebook's link to itself."""
    return re.sub(r"(\]\([\w./-]+)\.ipynb\)(?!\{)", r"\1.md)", markdown)


@functools.cache  # `mkdocs serve` builds again and again
def _rendered(path: Path, content: str) -> tuple[str, dict[str, bytes]]:
    notebook = nbformat.reads(content, as_version=4)
    with TemporaryDirectory() as folder:
        if path.stem not in NOT_RUN:
            run = ExecutePreprocessor(timeout=1800, coalesce_streams=True)
            run.preprocess(notebook, {"metadata": {"path": folder}})
    for cell in notebook.cells:  # bars and warnings are for who waits
        cell["outputs"] = [output for output in cell.get("outputs", []) if output.get("name") != "stderr"]
    resources = {"unique_key": path.stem, "output_files_dir": f"{path.stem}_files"}
    page, resources = MarkdownExporter().from_notebook_node(notebook, resources)
    return page, resources["outputs"]


def rendered(path: Path) -> tuple[str, dict[str, bytes]]:
    """The notebook as Markdown, and its figures by their names, as it stands now."""
    return _rendered(path, path.read_text(encoding="utf-8"))
