"""Files into a collection: read in batches, checked, stored in file order, resumable.

job  ->  sources  ->  parquet | jsonl | csv_rows  ->  checks  ->  load  ->  collection.upsert
                      Batch: ids, vectors, payloads               progress (where a killed run goes on), rejects
"""

from akidb.ingest.batch import Columns
from akidb.ingest.job import Job, Watcher
from akidb.ingest.progress import Place
from akidb.ingest.sources import Source

__all__ = ["Columns", "Job", "Place", "Source", "Watcher"]
