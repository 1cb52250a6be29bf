"""The result of a job, and where its document is kept."""

import os
import re
import tempfile
from pathlib import Path

from pydantic import BaseModel, Field

JOB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")


class Report(BaseModel):
    """What a finished `generate_docs` job hands back. The document itself is a file: results stay small."""

    url: str = Field(description="Where the crawl began.")
    title: str
    pages: int = Field(description="Pages in the document.")
    skipped: int = Field(description="Pages that were found and left out; the document lists them with the reason.")
    words: int
    bytes: int = Field(description="Size of the document.")
    path: str = Field(description="File name inside the folder of documents.")


class DocumentStore:
    """A folder with one Markdown file per job."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def write(self, job_id: str, markdown: str) -> tuple[str, int]:
        """Store the document of a job; returns file name and size in bytes.

        A job that runs twice replaces its own document. The file appears complete or not at all.

        Raises:
            OSError: the folder cannot be written to.
        """
        name = self._name(job_id)
        body = markdown.encode("utf-8")
        self._folder.mkdir(parents=True, exist_ok=True)
        handle, draft = tempfile.mkstemp(prefix=f".{job_id}-", suffix=".draft", dir=self._folder)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(body)
                file.flush()
                os.fsync(file.fileno())
            Path(draft).replace(self._folder / name)
        except BaseException:
            Path(draft).unlink(missing_ok=True)
            raise
        return name, len(body)

    def read(self, job_id: str) -> str | None:
        """The document of a job, or None when there is none."""
        try:
            return (self._folder / self._name(job_id)).read_text(encoding="utf-8")
        except FileNotFoundError:
            return None

    @staticmethod
    def _name(job_id: str) -> str:
        if not JOB_ID.fullmatch(job_id):
            raise ValueError(f"expected a job id of letters, digits, - and _, got {job_id!r}")
        return f"{job_id}.md"
