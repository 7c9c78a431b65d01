"""Handlers, one file per resource, each with the table of its routes."""
