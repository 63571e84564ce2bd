"""What is on the disk: files written whole or not at all,
read within bounds, and the format of a theta.
"""

from learned_opt.disk import files, moved_names, reading, theta_file

__all__ = [
    "files",
    "moved_names",
    "reading",
    "theta_file",
]
