"""Damage to a zip file: built wrong, patched to lie, put together wrongly, cut."""

from __future__ import annotations

import io
import stat
import struct
import warnings
import zipfile
from collections.abc import Callable, Sequence

from hypothesis import strategies as st

from heatmap_pipeline_tests.fuzz._mutate_csv import Step, Where

_CENTRAL, _END = b"PK\x01\x02", b"PK\x05\x06"
# Where (from the start of the local header, the central one, the end record), and how the number is written.
_PATCHES: tuple[tuple[str, int, str], ...] = (
    *(("local", at, kind) for at, kind in
      ((4, "H"), (6, "H"), (8, "H"), (14, "I"), (18, "I"), (22, "I"), (26, "H"), (28, "H"))),
    *(("central", at, kind) for at, kind in
      ((4, "H"), (6, "H"), (8, "H"), (10, "H"), (16, "I"), (20, "I"), (24, "I"), (28, "H"), (30, "H"), (32, "H"),
       (34, "H"), (36, "H"), (38, "I"), (42, "I"))),
    *(("end", at, kind) for at, kind in
      ((4, "H"), (6, "H"), (8, "H"), (10, "H"), (12, "I"), (16, "I"), (20, "H"))),
)  # fmt: skip
_NUMBERS = (0, 1, 2, 8, 9, 12, 14, 22, 93, 0x20, 0x40, 0x800, 0xFFFF, 1000, 2**31 - 1, 2**31, 2**32 - 1)
_LARGE = (0, 1, 10**12, 2**40, 2**63 - 1, 2**63, 2**64 - 1)
_MEMBERS = (
    "a.csv", "B.CSV", "a.txt", "a", "", ".csv", "../a.csv", "/etc/a.csv", "..\\a.csv", "C:\\a.csv", "a/b.csv", "a.csv/",
    "\\\\host\\a.csv", "a.csv\x00.txt", "ä.csv", "\x1b[2J.csv", "A" * 60_000 + ".csv", "BTCUSDT-5m-2020-01-01.csv",
    "ETHUSDT-metrics-2024-09-14.csv", "~/.profile", "~root.csv", "con.csv", "a\nb.csv", "a.zip",
)  # fmt: skip


def pack(
    data: bytes,
    name: str = "a.csv",
    *,
    method: int = zipfile.ZIP_DEFLATED,
    mode: int = 0o100644,
    extra: bytes = b"",
    more: Sequence[tuple[str, bytes]] = (),
) -> bytes:
    """Return a zip of one file, or of more."""
    stream = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # duplicate names are said to be a mistake
        with zipfile.ZipFile(stream, "w") as archive:
            for member, content in ((name, data), *more):
                entry = zipfile.ZipInfo(member, (2024, 1, 1, 0, 0, 0))
                entry.compress_type, entry.external_attr, entry.extra = method, mode << 16, extra
                archive.writestr(entry, content)
    return stream.getvalue()


def patched(packed: bytes, part: str, at: int, kind: str, number: int) -> bytes:
    """Return a zip with one number of one of its records replaced."""
    base = {"local": 0, "central": packed.rfind(_CENTRAL), "end": packed.rfind(_END)}[part]
    size = struct.calcsize("<" + kind)
    if base < 0 or base + at + size > len(packed):
        return packed
    number &= (1 << 8 * size) - 1
    return packed[: base + at] + struct.pack("<" + kind, number) + packed[base + at + size :]


def large_claims(data: bytes, unpacked: int, size: int, offset: int) -> bytes:
    """Return a zip that claims sizes and a place of its file in 64 bits."""
    packed = pack(data, extra=struct.pack("<HHQQQ", 1, 24, unpacked, size, offset))
    for at in (20, 24, 42):
        packed = patched(packed, "central", at, "I", 2**32 - 1)
    return packed


def large_end(packed: bytes, size: int, offset: int) -> bytes:
    """Return a zip whose table of contents is claimed to lie elsewhere, in 64 bits."""
    at = packed.rfind(_END)
    record = struct.pack("<4sQHHIIQQQQ", b"PK\x06\x06", 44, 45, 45, 0, 0, 1, 1, size, offset)
    locator = struct.pack("<4sIQI", b"PK\x06\x07", 0, at, 1)
    end = patched(patched(packed, "end", 12, "I", 2**32 - 1), "end", 16, "I", 2**32 - 1)[at:]
    return packed[:at] + record + locator + end


def _method(data: bytes, where: Where) -> bytes:
    methods = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
    return pack(data, method=methods[where.below(4)])


def _member(data: bytes, where: Where) -> bytes:
    return pack(data, _MEMBERS[where.below(len(_MEMBERS))])


def _more(data: bytes, where: Where) -> bytes:
    second = ("b.csv", "a.csv", "__MACOSX/._a.csv", "b.txt")[where.below(4)]
    return pack(data, more=[(second, data if where.below(2) else b"")])


def _nested(data: bytes, where: Where) -> bytes:
    inner = data
    for _ in range(1 + where.below(3)):
        inner = pack(inner)
    return inner


def _mode(data: bytes, where: Where) -> bytes:
    kind = (stat.S_IFLNK, stat.S_IFDIR, stat.S_IFIFO, stat.S_IFBLK)[where.below(4)]
    return pack((b"/etc/passwd", data)[where.below(2)], mode=kind | 0o777)


def _patch(data: bytes, where: Where) -> bytes:
    part, at, kind = _PATCHES[where.below(len(_PATCHES))]
    method = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)[where.below(2)]
    return patched(pack(data, method=method), part, at, kind, _NUMBERS[where.below(len(_NUMBERS))])


def _encrypted(data: bytes, where: Where) -> bytes:
    flag = (1, 0x41, 0x2001)[where.below(3)]
    return patched(patched(pack(data), "local", 6, "H", flag), "central", 8, "H", flag)


def _large(data: bytes, where: Where) -> bytes:
    return large_claims(data, *(_LARGE[where.below(len(_LARGE))] for _ in range(3)))


def _large_end(data: bytes, where: Where) -> bytes:
    return large_end(pack(data), _LARGE[where.below(len(_LARGE))], _LARGE[where.below(len(_LARGE))])


def _around(data: bytes, where: Where) -> bytes:
    packed, junk = pack(data), (b"\x00" * 30, b"#!/bin/sh\n", b"PK\x03\x04", b"<html>", b"\n")[where.below(5)]
    return (packed + junk, junk + packed, packed + packed, pack(b"1,2\n") + packed, packed + pack(b"1,2\n"))[
        where.below(5)
    ]


def _plain(data: bytes, where: Where) -> bytes:
    return (data, b"", b"<html>" + data, b"\x1f\x8b" + data, b"Rar!" + data, pack(b""), pack(b"\n"))[where.below(7)]


OPERATIONS: dict[str, Callable[[bytes, Where], bytes]] = {
    function.__name__.strip("_"): function
    for function in (
        _method, _member, _more, _nested, _mode, _patch, _encrypted, _large, _large_end, _around, _plain
    )
}  # fmt: skip
"""Ways to pack a CSV, nearly all of them wrong."""

CHECKSUMS = (
    "right", "right", "upper", "star", "none", "none", "none", "other", "other", "other", "name", "empty", "short",
    "twice", "long", "binary", "html",
)  # fmt: skip
"""What may stand in the CHECKSUM file."""


def zip_steps() -> st.SearchStrategy[Step]:
    """Return a strategy of one way to pack, with the numbers it draws from."""
    names = ["patch", "patch", "method", "member", "large", *OPERATIONS]
    return st.tuples(st.sampled_from(names), st.tuples(*[st.integers(0, 999)] * 4))


def mutate_zip(data: bytes, step: Step) -> bytes:
    """Return a CSV packed that way."""
    name, numbers = step
    return OPERATIONS[name](data, Where(numbers))


def checksum_text(kind: str, digest: str, name: str) -> bytes | None:
    """Return what stands in the CHECKSUM file beside a zip of that sha256; None for no such file."""
    right = f"{digest}  {name}\n"
    texts: dict[str, bytes | None] = {
        "right": right.encode(),
        "upper": right.replace(digest, digest.upper()).encode(),
        "star": f"{digest} *{name}".encode(),
        "none": None,
        "other": f"{'0' * 64}  {name}\n".encode(),
        "name": f"{digest}  ../{name}\n".encode(),
        "empty": b"",
        "short": right.encode()[1:],
        "twice": (right * 2).encode(),
        "long": right.encode() + b" " * 5000,
        "binary": bytes(range(256)),
        "html": b"<html>404</html>",
    }
    return texts[kind]
