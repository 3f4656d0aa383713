"""Key files and what is sealed under them."""

from __future__ import annotations

import attrs

from palyra.errors.base import Category, PalyraError


@attrs.define
class KeyFilePermission(PalyraError):
    """A file that holds a key can be read by others.  ``mode`` is the octal permission bits."""

    code = "key_file_permission"
    category = Category.PRECONDITION
    path: str
    mode: int

    @property
    def sentence(self) -> str:
        return f"{self.path} may be read by others (mode {self.mode:04o})."

    @property
    def hint(self) -> str:
        return f"chmod 600 {self.path}"


@attrs.define
class StoreKeyUnusable(PalyraError):
    """The key that an operator provided to seal secrets is missing or is not a key.  Nothing is
    ever sealed with a fresh one instead."""

    code = "store_key_unusable"
    category = Category.PRECONDITION
    path: str
    problem: str

    @property
    def sentence(self) -> str:
        return f"The store key {self.path} cannot be used: {self.problem}."

    @property
    def hint(self) -> str:
        return "put the key in its place, or correct gateway.store_key_file"


@attrs.define
class DirectoryNotPrivate(PalyraError):
    """A directory that is to hold secrets is open to others and was not made by us."""

    code = "directory_not_private"
    category = Category.PRECONDITION
    path: str
    mode: int

    @property
    def sentence(self) -> str:
        return f"{self.path} may be entered by others (mode {self.mode:04o}); keys do not go there."

    @property
    def hint(self) -> str:
        return f"chmod 700 {self.path}"


@attrs.define
class SealedEntryUnreadable(PalyraError):
    """A sealed entry cannot be opened, or its key is missing.  Names the entry, never contents."""

    code = "sealed_entry_unreadable"
    category = Category.INTERNAL
    entry: str
    problem: str

    @property
    def sentence(self) -> str:
        return f"{self.entry} cannot be read: {self.problem}; it was left as it is."

    @property
    def hint(self) -> str:
        return "put the identity directory of a backup in its place"
