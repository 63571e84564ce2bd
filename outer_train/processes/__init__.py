"""Several processes of one run: how they meet, trust each other and stay in step."""

from outer_train.processes import cluster, secret
from outer_train.processes._printable import printable
from outer_train.processes.cluster import Cluster

__all__ = [
    "Cluster",
    "cluster",
    "printable",
    "secret",
]
