"""Profile stores: users' histories in a database, read by a call that names its user."""

from r2p_dspy.stores.histories import Histories, History
from r2p_dspy.stores.opening import open_store
from r2p_dspy.stores.protocol import ProfileStore, Reading
from r2p_dspy.stores.sqlite import SQLite

__all__ = ["Histories", "History", "ProfileStore", "Reading", "SQLite", "open_store"]
