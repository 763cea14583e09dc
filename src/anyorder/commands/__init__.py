"""One module a verb: its settings as a dataclass, and ``run``."""
