"""A store opened as a database: the catalogue of collections and the lifetime of their work."""

from akidb.database.database import Database

__all__ = ["Database"]
