"""What is on the disk, or fetched to it: files written whole or not at all,
read within bounds, and the format of a theta.
"""

from learned_opt.disk import aside, files, hub, moved_names, npz, reading, theta_file

__all__ = [
    "aside",
    "files",
    "hub",
    "moved_names",
    "npz",
    "reading",
    "theta_file",
]
