"""How a run is spread over processes: in step, or asynchronous workers."""

from learned_opt_lab.runs.engines import sources

__all__ = [
    "sources",
]
