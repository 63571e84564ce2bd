"""What starts, judges, searches and compares runs of outer-training."""

from learned_opt_lab.runs.user_path import own_first as _own_first

# Before anything else of ours: a script may have a `tasks.py` beside it.
_own_first()
