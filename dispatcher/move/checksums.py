"""Counts and checksums of whole tables, computed by both databases in their own words, so that no row travels.

Each row was compared whole when it was written; this is the proof that none was missed or left over. A column's sum is
of a number made of each value, weighed by the row's id, so that values which changed places are noticed.
"""

from typing import Any

from dispatcher.move.tables import Table

NOTHING, PRIME, WEIGHTS = -7, 1_000_003, 8191


def of_source(table: Table) -> str:
    """The statement on SQLite."""
    text = "coalesce(length({c}), {nothing}) * 31 + coalesce(unicode({c}), 0) + coalesce(unicode(substr({c}, -1)), 0)"
    return _statement(table, {"TEXT": text, "INTEGER": "coalesce({c}, {nothing})"}, "*")


def of_target(table: Table) -> str:
    """The statement on PostgreSQL."""
    text = "coalesce(length({c}), {nothing}) * 31 + coalesce(ascii({c}), 0) + coalesce(ascii(right({c}, 1)), 0)"
    kinds = {"TEXT": f"({text})::bigint", "INTEGER": "coalesce({c}::int8, {nothing})"}
    booleans = {c for c, kind in zip(table.columns, table.types, strict=True) if kind == "boolean"}
    return _statement(table, kinds, "::bigint *", booleans)


def _statement(table: Table, numbers: dict[str, str], times: str, booleans: set[str] | None = None) -> str:
    first = dict(zip(table.columns, table.kinds, strict=True))[table.key[0]]
    weight = f"({table.key[0]} % {WEIGHTS} + 1)" if first == "INTEGER" else "1"
    numbers = {"BLOB": "coalesce(length({c}), {nothing})", "REAL": "CASE WHEN {c} IS NULL THEN 0 ELSE 1 END", **numbers}
    sums = ["count(*)"]
    for column, kind in zip(table.columns, table.kinds, strict=True):
        name = f"{column}::int" if column in (booleans or ()) else column
        number = numbers[kind].format(c=name, nothing=NOTHING)
        sums.append(f"coalesce(sum(({number}) % {PRIME} {times} {weight}), 0)")
    return f"SELECT {', '.join(sums)} FROM {table.name}"


def difference(table: Table, source: tuple[Any, ...], target: tuple[Any, ...]) -> str | None:
    """The first column whose sums differ, in words."""
    if source[0] != target[0]:
        return f"{table.name} has {source[0]} rows here and {target[0]} in the target"
    for column, ours, theirs in zip(table.columns, source[1:], target[1:], strict=True):
        if int(ours) != int(theirs):
            return f"the checksums of {table.name}.{column} differ"
    return None
