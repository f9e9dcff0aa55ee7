"""A disk that can fail to sync, be full and lose its power, below SQLite itself.

    with Disk(folder) as disk:
        ...  # every database that is opened below `folder` now
    image = disk.image(at=1234, chance=Random(7))

SQLite asks a table of functions, its VFS, for every write and every sync. `Disk` puts itself between them and the
system's own, in the very library that Python's `sqlite3` uses, notes what goes by, and refuses what it is told to.

What a power cut leaves is worked out from the notes: all that a sync had made durable, and of what was written since a
random part, each write whole, not at all, or torn between sectors. Of what a *failed* sync was asked to write a random
part stays and the rest is gone for good, whatever a later sync says: that is what Linux does.
"""

from __future__ import annotations

import _sqlite3
import ctypes
import sqlite3
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from types import TracebackType
from typing import Any, ClassVar, Final, NamedTuple, Self

SECTOR_BYTES: Final = 512
NAME: Final = b"shaky"
LOG_SUFFIXES: Final = ("-wal", "-journal")
"""Of the files that SQLite itself makes; the database is there before it is opened."""
_POINTER: Final = ctypes.c_void_p
_FILE: Final = ctypes.c_void_p
_NAME: Final = ctypes.c_void_p
"""Not a text: SQLite keeps more behind a name's end, and looks there."""


class _Methods(ctypes.Structure):
    """`sqlite3_io_methods`: what can be done with an open file."""

    _fields_: ClassVar = [
        ("iVersion", ctypes.c_int),
        ("xClose", ctypes.CFUNCTYPE(ctypes.c_int, _FILE)),
        ("xRead", _POINTER),
        ("xWrite", ctypes.CFUNCTYPE(ctypes.c_int, _FILE, _POINTER, ctypes.c_int, ctypes.c_int64)),
        ("xTruncate", ctypes.CFUNCTYPE(ctypes.c_int, _FILE, ctypes.c_int64)),
        ("xSync", ctypes.CFUNCTYPE(ctypes.c_int, _FILE, ctypes.c_int)),
        *((name, _POINTER) for name in ("xFileSize", "xLock", "xUnlock", "xCheckReservedLock", "xFileControl")),
        *((name, _POINTER) for name in ("xSectorSize", "xDeviceCharacteristics", "xShmMap", "xShmLock")),
        *((name, _POINTER) for name in ("xShmBarrier", "xShmUnmap", "xFetch", "xUnfetch")),
    ]


class _Open(ctypes.Structure):
    """`sqlite3_file`: its first word says which methods it has."""

    _fields_: ClassVar = [("methods", ctypes.POINTER(_Methods))]


class _Vfs(ctypes.Structure):
    """`sqlite3_vfs`: how files are opened and removed."""

    _fields_: ClassVar = [
        *((name, ctypes.c_int) for name in ("iVersion", "szOsFile", "mxPathname")),
        ("pNext", _POINTER),
        ("zName", ctypes.c_char_p),
        ("pAppData", _POINTER),
        (
            "xOpen",
            ctypes.CFUNCTYPE(ctypes.c_int, _POINTER, _NAME, ctypes.POINTER(_Open), ctypes.c_int, _POINTER),
        ),
        ("xDelete", ctypes.CFUNCTYPE(ctypes.c_int, _POINTER, _NAME, ctypes.c_int)),
        *((name, _POINTER) for name in ("xAccess", "xFullPathname", "xDlOpen", "xDlError", "xDlSym", "xDlClose")),
        *((name, _POINTER) for name in ("xRandomness", "xSleep", "xCurrentTime", "xGetLastError")),
        *((name, _POINTER) for name in ("xCurrentTimeInt64", "xSetSystemCall", "xGetSystemCall", "xNextSystemCall")),
    ]


class Write(NamedTuple):
    """Bytes were written."""

    file: str
    offset: int
    content: bytes


class Truncate(NamedTuple):
    """A file was cut."""

    file: str
    size: int


class Sync(NamedTuple):
    """Somebody asked for all that was written to be durable."""

    file: str
    is_good: bool


class Delete(NamedTuple):
    """A name was taken away, for good when its folder was synced as well."""

    file: str
    is_synced: bool


Note = Write | Truncate | Sync | Delete


class Disk:
    """Stands below every database that is opened below a folder while its block runs."""

    def __init__(self, folder: Path, *, history: Sequence[Note] = (), is_noting: bool = True) -> None:
        """Stand below a folder; `history` is what led to the files that are there already, none by default."""
        self.notes: list[Note] = list(history)
        self._is_noting = is_noting
        self.fails_to_sync: Callable[[], bool] = lambda: False
        """Asked before every sync."""
        self.is_full: Callable[[], bool] = lambda: False
        """Asked before every write that would make a file longer."""
        self._folder = folder.resolve()
        self._library = _find_library()
        self._original: Any = None
        self._vfs = _Vfs()
        self._files: dict[int, str] = {}
        self._sizes: dict[str, int] = {}
        self._tables: dict[int, _Methods] = {}
        """Our own methods by the address of those they stand before; both live as long as we do."""
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        self._original = self._library.sqlite3_vfs_find(None)
        ctypes.pointer(self._vfs)[0] = self._original.contents
        self._vfs.zName = NAME
        self._vfs.xOpen = type(self._vfs.xOpen)(self._open)
        self._vfs.xDelete = type(self._vfs.xDelete)(self._delete)
        assert self._library.sqlite3_vfs_register(ctypes.byref(self._vfs), 1) == sqlite3.SQLITE_OK
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert not self._files, f"still open: {sorted(self._files.values())}"
        self._library.sqlite3_vfs_unregister(ctypes.byref(self._vfs))

    @property
    def moment(self) -> int:
        """How many things have happened so far."""
        return len(self.notes)

    def image(self, *, at: int, chance: Random) -> dict[str, bytes]:
        """Give what stands in each file when the power fails after so many notes."""
        left = {name: platter.cut(chance) for name, platter in _play(self.notes[:at], chance).items()}
        return {name: content for name, content in left.items() if content is not None}

    def cache(self, *, at: int) -> dict[str, bytes]:
        """Give what every process reads after so many notes, durable or not."""
        trusting = [Sync(note.file, is_good=True) if isinstance(note, Sync) else note for note in self.notes[:at]]
        platters = _play(trusting, Random())
        return {name: platter.whole() for name, platter in platters.items() if not platter.is_doomed}

    # ------------------------------------------------------------ below SQLite, in whichever thread it runs

    def _open(self, _vfs: int, name: int | None, file: Any, flags: int, out_flags: int | None) -> int:
        below = self._original.contents
        code = int(below.xOpen(ctypes.addressof(below), name, file, flags, out_flags))
        path = self._find(name)
        if code == sqlite3.SQLITE_OK and path is not None:
            with self._lock:
                self._files[ctypes.addressof(file.contents)] = path.name
                self._sizes[path.name] = path.stat().st_size
                file.contents.methods = ctypes.pointer(self._table(file.contents.methods))
        return code

    def _find(self, name: int | None) -> Path | None:
        """Give a name's path, None when it is none of ours or a temporary file, which has no name."""
        path = None if name is None else Path(ctypes.string_at(name).decode())
        return path if path is not None and path.is_relative_to(self._folder) else None

    def _table(self, original: Any) -> _Methods:
        """Give the methods that stand before a file's own."""
        address = ctypes.addressof(original.contents)
        if address not in self._tables:
            table = _Methods()
            ctypes.pointer(table)[0] = original.contents
            under = original.contents
            table.xClose = type(table.xClose)(lambda file: self._close(under, file))
            table.xWrite = type(table.xWrite)(lambda *given: self._write(under, *given))
            table.xTruncate = type(table.xTruncate)(lambda *given: self._truncate(under, *given))
            table.xSync = type(table.xSync)(lambda *given: self._sync(under, *given))
            self._tables[address] = table
        return self._tables[address]

    def _close(self, under: Any, file: int) -> int:
        with self._lock:
            self._files.pop(file, None)
        return int(under.xClose(file))

    def _note(self, note: Note) -> None:
        if self._is_noting:
            self.notes.append(note)

    def _write(self, under: Any, file: int, content: int, length: int, offset: int) -> int:
        name = self._files[file]
        if offset + length > self._sizes[name]:
            if self.is_full():
                return sqlite3.SQLITE_FULL
            self._sizes[name] = offset + length
        self._note(Write(name, offset, ctypes.string_at(content, length)))
        return int(under.xWrite(file, content, length, offset))

    def _truncate(self, under: Any, file: int, size: int) -> int:
        name = self._files[file]
        self._sizes[name] = min(size, self._sizes[name])
        self._note(Truncate(name, size))
        return int(under.xTruncate(file, size))

    def _sync(self, under: Any, file: int, flags: int) -> int:
        name = self._files[file]
        if self.fails_to_sync():
            self._note(Sync(name, is_good=False))
            return sqlite3.SQLITE_IOERR_FSYNC
        code = int(under.xSync(file, flags))
        self._note(Sync(name, is_good=code == sqlite3.SQLITE_OK))
        return code

    def _delete(self, _vfs: int, name: int, is_synced: int) -> int:
        below = self._original.contents
        code = int(below.xDelete(ctypes.addressof(below), name, is_synced))
        path = self._find(name)
        if code == sqlite3.SQLITE_OK and path is not None:
            self._note(Delete(path.name, bool(is_synced)))
        return code


@dataclass(slots=True)
class _Platter:
    """What is durable of one file, and what is only on its way."""

    durable: bytearray = field(default_factory=bytearray)
    is_listed: bool = False
    """Its folder durably has its name."""
    is_doomed: bool = False
    """It was removed, and its folder not synced since."""
    pending: list[Write | Truncate] = field(default_factory=list)

    def meet(self, note: Note, chance: Random) -> None:
        """Let something happen."""
        if isinstance(note, Delete):
            self.pending.clear()
            self.is_doomed = True
            if note.is_synced:
                self.forget()
        elif isinstance(note, Sync):
            if note.is_good:
                for change in self.pending:
                    self._apply(change)
            else:
                self._apply_some(chance)
            self.pending.clear()
            self.is_listed |= note.is_good
        else:
            self.forget()  # if it was removed, this is another file of the same name
            self.pending.append(note)

    def forget(self) -> None:
        """Let its removal, if there was one, be durable."""
        if self.is_doomed:
            self.durable, self.is_doomed, self.is_listed = bytearray(), False, False

    def whole(self) -> bytes:
        """Give all that was written."""
        for change in self.pending:
            self._apply(change)
        self.pending.clear()
        return bytes(self.durable)

    def cut(self, chance: Random) -> bytes | None:
        """Lose the power; None when the file is not there afterwards."""
        if (self.is_doomed or not self.is_listed) and chance.random() < 0.5:
            return None
        self._apply_some(chance)
        return bytes(self.durable)

    def _apply_some(self, chance: Random) -> None:
        for change in self.pending:
            fate = chance.random()
            if fate < 0.4:
                self._apply(change)
            elif fate < 0.6 and isinstance(change, Write):
                self._tear(change, chance)

    def _tear(self, change: Write, chance: Random) -> None:
        """Apply those sectors of a write that chance wants."""
        begin = change.offset
        end = change.offset + len(change.content)
        while begin < end:
            stop = min(end, (begin // SECTOR_BYTES + 1) * SECTOR_BYTES)
            if chance.random() < 0.5:
                piece = change.content[begin - change.offset : stop - change.offset]
                self._apply(Write(change.file, begin, piece))
            begin = stop

    def _apply(self, change: Write | Truncate) -> None:
        if isinstance(change, Truncate):
            del self.durable[change.size :]
            return
        missing = change.offset - len(self.durable)
        if missing > 0:
            self.durable.extend(bytes(missing))
        self.durable[change.offset : change.offset + len(change.content)] = change.content


def _play(notes: Sequence[Note], chance: Random) -> dict[str, _Platter]:
    platters: dict[str, _Platter] = {}
    for note in notes:
        if note.file not in platters:
            platters[note.file] = _Platter(is_listed=not note.file.endswith(LOG_SUFFIXES))
        if isinstance(note, Sync) and note.is_good and not platters[note.file].is_listed:
            # The first sync of a new file syncs its folder too, and with it what was removed there.
            for platter in platters.values():
                platter.forget()
        platters[note.file].meet(note, chance)
    return platters


def _find_library() -> Any:
    """Give the SQLite that Python's own `sqlite3` uses: looked for in that module, and so in what it is linked with."""
    library = ctypes.CDLL(getattr(_sqlite3, "__file__", None))  # None: it is built into the program
    library.sqlite3_vfs_find.restype = ctypes.POINTER(_Vfs)
    library.sqlite3_vfs_find.argtypes = [ctypes.c_char_p]
    library.sqlite3_vfs_register.argtypes = [ctypes.c_void_p, ctypes.c_int]
    return library
