"""Lets the addresses of artifacts in mlflow.db, which are absolute, follow a project that was moved or copied."""

import logging
import os
import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import unquote, urlparse

from gee_core.errors import InputError
from pipelines.project.paths import find_project, original_project
from pipelines.tracking.outbox import one_at_a_time, outbox_root
from pipelines.tracking.redact import URI

log = logging.getLogger("pipelines.tracking")

ARTIFACTS = "mlartifacts"
"""The folder of artifacts beside a project's mlflow.db."""

ADDRESSES = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)
"""Tables and columns of MLflow's database that hold addresses of artifacts; a version need not have all of them."""


def own_database() -> Path | None:
    """The project's mlflow.db; None where the user has configured a store."""
    return None if os.environ.get(URI) else original_project(find_project()) / "mlflow.db"


def follow_own() -> None:
    """`follow` of the project's own database, if it is in use.

    Raises:
        InputError: it cannot be written.
    """
    if (database := own_database()) and database.is_file():
        with one_at_a_time(outbox_root(), "store"):
            follow(database)


def follow(database: Path) -> None:
    """Rewrite addresses in ``database`` that lead to the mlartifacts of the folder that its project was moved or copied from.

    They then lead to the mlartifacts beside it, but for single artifacts that only the other folder has. Callers hold the
    lock of the store.

    Raises:
        InputError: it cannot be written.
    """
    try:
        with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
            query = "select distinct artifact_location from experiments where artifact_location like 'file:///%'"
            others = [address for (address,) in connection.execute(query) if _is_left(address, database, connection)]
    except sqlite3.Error:  # MLflow says what is wrong with it
        return
    for address in others:
        try:
            n = _rewrite(database, address)
        except sqlite3.Error as error:
            raise InputError(
                f"{database}: its addresses of artifacts lead to {_path(address)} and cannot be changed ({error})",
                f"make it writable, or move the project back to {_path(address).parent}",
            ) from None
        log.warning(
            "MLflow: this project was moved or copied from %s: %d addresses in %s now lead to its own %s",
            *(_path(address).parent, n, database.name, ARTIFACTS),
        )


def _is_left(address: str, database: Path, connection: sqlite3.Connection) -> bool:
    """Whether ``address`` is the mlartifacts of the folder that the project was in, and not of one that the user chose."""
    own, other = database.parent, _path(address).parent
    if _path(address).name != ARTIFACTS or other == own:
        return False
    if not os.path.exists(other):
        return True
    if os.path.samefile(other, own):
        return False
    if os.path.exists(other / database.name):  # the project that it was copied from
        return True
    query = "select artifact_uri from runs where substr(artifact_uri, 1, ?) = ?"
    runs = connection.execute(query, (len(address) + 1, f"{address}/"))
    return any(os.path.exists(_own(uri, address, database)) for (uri,) in runs)


def _rewrite(database: Path, address: str) -> int:
    """Let the addresses below ``address`` lead to the project's own folder, in one transaction; how many were changed."""

    def own(uri: str) -> str:
        path = _own(uri, address, database)
        only_there = uri != address and os.path.exists(_path(uri)) and not os.path.exists(path)
        return uri if only_there else f"{(database.parent / ARTIFACTS).as_uri()}{uri[len(address) :]}"

    with closing(sqlite3.connect(database, timeout=60)) as connection, connection:
        connection.create_function("own", 1, own)
        before = connection.total_changes
        for table, column in ADDRESSES:
            if column in [name for _, name, *_ in connection.execute(f"pragma table_info({table})")]:
                below = f"({column} = ? or substr({column}, 1, ?) = ?)"
                values = address, len(address) + 1, f"{address}/"
                connection.execute(
                    f"update {table} set {column} = own({column}) where {below} and own({column}) != {column}", values
                )
        return connection.total_changes - before


def _own(uri: str, address: str, database: Path) -> Path:
    """The path in the project's own mlartifacts that ``uri``, below ``address``, has in the other one."""
    return database.parent / ARTIFACTS / unquote(uri[len(address) :]).lstrip("/")


def _path(address: str) -> Path:
    return Path(unquote(urlparse(address).path))
