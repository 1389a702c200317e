"""What stands in a lease file, as SQL.

leases     one row an attachment
addresses  one row an address that cannot be given: held by a lease, or cooling down since `freed`
runs       the same addresses as unbroken stretches: the next free one is found without walking over the others
cursors    the address each list of ranges gave last
history    who had which address when; rows are only ever added, the oldest fall off the end
"""

import sqlite3

LAYOUT = 3

STATEMENTS = (
    """CREATE TABLE leases (
        id           INTEGER PRIMARY KEY,
        network      TEXT NOT NULL,
        container_id TEXT NOT NULL,
        ifname       TEXT NOT NULL,
        state        TEXT NOT NULL CHECK (state IN ('pending', 'active')),
        token        TEXT NOT NULL,
        netns_device INTEGER NOT NULL,
        netns_inode  INTEGER NOT NULL,
        boot_id      TEXT NOT NULL,
        host_veth    TEXT NOT NULL,
        owner        TEXT NOT NULL,
        mac          TEXT NOT NULL,
        UNIQUE (network, container_id, ifname)
    ) STRICT""",
    """CREATE TABLE addresses (
        network  TEXT NOT NULL,
        family   INTEGER NOT NULL CHECK (family IN (4, 6)),
        number   BLOB NOT NULL,
        lease    INTEGER REFERENCES leases (id),
        position INTEGER NOT NULL,
        subnet   TEXT NOT NULL,
        gateway  TEXT,
        freed    REAL,
        PRIMARY KEY (network, family, number),
        CHECK ((lease IS NULL) <> (freed IS NULL))
    ) STRICT, WITHOUT ROWID""",
    "CREATE INDEX held ON addresses (lease) WHERE lease IS NOT NULL",
    "CREATE INDEX cooling ON addresses (network, freed) WHERE freed IS NOT NULL",
    """CREATE TABLE runs (
        network TEXT NOT NULL,
        family  INTEGER NOT NULL,
        first   BLOB NOT NULL,
        last    BLOB NOT NULL,
        PRIMARY KEY (network, family, first)
    ) STRICT, WITHOUT ROWID""",
    """CREATE TABLE cursors (
        network  TEXT NOT NULL,
        position INTEGER NOT NULL,
        address  TEXT NOT NULL,
        PRIMARY KEY (network, position)
    ) STRICT, WITHOUT ROWID""",
    """CREATE TABLE history (
        id           INTEGER PRIMARY KEY,
        at           REAL NOT NULL,
        event        TEXT NOT NULL CHECK (event IN ('given', 'released')),
        network      TEXT NOT NULL,
        family       INTEGER NOT NULL,
        number       BLOB NOT NULL,
        container_id TEXT NOT NULL,
        ifname       TEXT NOT NULL,
        owner        TEXT NOT NULL
    ) STRICT""",
    "CREATE INDEX history_of ON history (family, number, id)",
    "CREATE TABLE boot (id TEXT NOT NULL) STRICT",
)


def create(sql: sqlite3.Connection) -> None:
    """Write an empty layout into a new file, complete or not at all."""
    sql.execute("PRAGMA journal_mode = WAL")
    sql.execute("BEGIN IMMEDIATE")
    for statement in STATEMENTS:
        sql.execute(statement)
    sql.execute(f"PRAGMA user_version = {LAYOUT}")
    sql.execute("COMMIT")
