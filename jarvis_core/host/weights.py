"""From a model's source to a path on this machine: a local path, or files of a hub repository."""

from __future__ import annotations

import asyncio
import fnmatch
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from jarvis_core.errors import ModelSourceError

Progress = Callable[[int, int], None]
"""Called with the bytes that are here and the bytes there will be."""

_HUB_ID = re.compile(
    r"(?P<repo>[\w][\w.-]*/[\w][\w.-]*)(?::(?P<quant>[\w.-]+))?(?:@(?P<revision>[\w./-]+))?"
)
_SHARD = re.compile(r"-(\d{5})-of-(\d{5})(?=\.gguf$)")
_PREFERRED_QUANT = "Q4_K_M"


async def locate(source: str, patterns: Sequence[str], progress: Progress) -> str:
    """Where the weights of ``source`` are, after downloading them if a hub has them.

    Args:
        source: A path; a hub id ``owner/name``, with ``:QUANT`` for one quantization of a GGUF
            repository and ``@revision`` for a pinned one; or a name that the engine knows.
        patterns: Files that the engine needs of a repository; empty if it downloads itself.
        progress: Told at most a few times a second while files are downloaded.

    Raises:
        ModelSourceError: The repository or its files cannot be had.
    """
    hub = _HUB_ID.fullmatch(source)
    if _is_path(source):
        return _absolute(source)
    if hub is not None and patterns:
        return await _Download(source, patterns, progress, **hub.groupdict()).run()
    return _absolute(source) if os.sep in source else source


def _is_path(source: str) -> bool:
    return source.endswith(".gguf") or os.path.lexists(_absolute(source))


def _absolute(source: str) -> str:
    return os.path.abspath(os.path.expanduser(source))


class _Download:
    """One model's files, fetched into the hub's cache off the event loop."""

    def __init__(
        self,
        source: str,
        patterns: Sequence[str],
        progress: Progress,
        *,
        repo: str,
        quant: str | None,
        revision: str | None,
    ) -> None:
        self._source, self._patterns, self._progress = source, patterns, progress
        self._repo, self._quant, self._revision = repo, quant, revision
        self._done = 0
        self._total = 0

    async def run(self) -> str:
        loop = asyncio.get_running_loop()
        fetching = loop.run_in_executor(None, self._fetch)
        while True:
            finished, _ = await asyncio.wait([fetching], timeout=0.5)
            if self._total:
                self._progress(min(self._done, self._total), self._total)
            if finished:
                return await fetching

    def _fetch(self) -> str:
        from huggingface_hub import HfApi, hf_hub_download
        from huggingface_hub.errors import RepositoryNotFoundError

        try:
            info = HfApi().model_info(self._repo, revision=self._revision, files_metadata=True)
            sizes = {f.rfilename: f.size or 0 for f in info.siblings or ()}
            names = self._choose(sorted(sizes))
            self._total = sum(sizes[name] for name in names)
            counter = self._counter()
            paths = [
                hf_hub_download(self._repo, name, revision=info.sha, tqdm_class=counter)
                for name in names
            ]
        except ModelSourceError:
            raise
        except RepositoryNotFoundError as error:
            raise ModelSourceError(
                f"{self._source}: neither a file here nor a repository that the hub lets you read; "
                "check JARVIS_MODEL_NAME, and set HF_TOKEN for gated repositories"
            ) from error
        except Exception as error:  # the hub's client raises whatever its HTTP library raises
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise ModelSourceError(
                f"{self._source}: no such file here, and downloading it failed: {reason}"
            ) from error
        if all(name.endswith(".gguf") for name in names):
            return paths[0]
        return str(Path(paths[0]).parents[names[0].count("/")])

    def _choose(self, names: list[str]) -> list[str]:
        """The files to fetch: one quantization of a GGUF repository, else all that match."""
        needed = [p for p in self._patterns if not p.startswith("!")]
        others = [p[1:] for p in self._patterns if p.startswith("!")]
        matching = [n for n in names if _matches(n, needed) and not _matches(n, others)]
        if not matching:
            raise ModelSourceError(
                f"{self._source}: the repository has none of {', '.join(needed)}; "
                "it holds weights for another engine"
            )
        if not any(n.endswith(".gguf") for n in matching):
            return matching
        by_quant = _by_quant(matching)
        wanted = self._quant or (next(iter(by_quant)) if len(by_quant) == 1 else _PREFERRED_QUANT)
        for label, files in by_quant.items():
            if label.lower() == wanted.lower():
                return files
        raise ModelSourceError(
            f"{self._source}: the repository has no quantization {wanted!r}; name one as "
            f"{self._repo}:QUANT of {', '.join(by_quant)}"
        )

    def _counter(self) -> type:
        """A progress bar for the hub's downloader that counts instead of drawing."""
        from huggingface_hub.utils import tqdm  # type: ignore[attr-defined]

        download = self

        class Counter(tqdm):
            def __init__(self, *args: Any, **kwargs: Any) -> None:
                download._done += kwargs.get("initial") or 0
                super().__init__(*args, **(kwargs | {"disable": True}))  # type: ignore[no-untyped-call]

            def update(self, n: float | None = 1) -> bool | None:
                download._done += int(n or 0)
                return None

        return Counter


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatch(name, pattern) for pattern in patterns)


def _by_quant(names: Sequence[str]) -> dict[str, list[str]]:
    """GGUF files by the label of their quantization; the shards of one model stay together."""
    groups: dict[str, list[str]] = {}
    for name in names:
        stem = _SHARD.sub("", name.rsplit("/", 1)[-1])[: -len(".gguf")]
        label = re.search(r"(?i)(?:^|[-._])((?:UD-)?(?:I?Q\d\w*|B?F\d+|MXFP4\w*))$", stem)
        groups.setdefault(label[1] if label else stem, []).append(name)
    return groups
