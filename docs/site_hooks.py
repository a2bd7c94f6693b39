"""What MkDocs has to be told so that the site has the folders of the repository."""

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
OUTSIDE = ("README.md", "configs/*/README.md")
LINK = re.compile(r"(?<!!)\[([^\]]+)\]\(([^)#:\s]+)\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Put the files of ``docs`` into a folder of that name, and the READMEs beside."""
    pages = {
        path.relative_to(ROOT).as_posix(): path
        for pattern in OUTSIDE
        for path in ROOT.glob(pattern)
    }
    for file in list(files):
        path = Path(file.abs_src_path)
        if ROOT / "docs" in path.parents:  # and not of the theme
            files.remove(file)
            pages[path.relative_to(ROOT).as_posix()] = path
    for uri, path in sorted(pages.items()):
        files.append(File.generated(config, uri, abs_src_path=str(path)))
    return files


def on_page_markdown(
    markdown: str, page: Page, config: MkDocsConfig, files: Files
) -> str:
    """Leave only the words of links to sources and folders, which the site has not."""

    def words(link: re.Match[str]) -> str:
        folder = posixpath.dirname(page.file.src_uri)
        target = posixpath.normpath(posixpath.join(folder, link[2]))
        elsewhere = target not in files.src_uris and (ROOT / target).exists()
        return link[1] if elsewhere else link[0]

    return LINK.sub(words, markdown)
