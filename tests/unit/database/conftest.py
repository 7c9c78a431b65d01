"""A node over a store that fails when it is told to, as tests of collections have it."""

from tests.unit.collection.conftest import database as database
from tests.unit.collection.conftest import store as store
