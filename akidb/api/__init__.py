"""The REST service over a database. Start at `app.py`; each resource has its file in `routes/`."""
