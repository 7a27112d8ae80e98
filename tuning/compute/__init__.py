"""Ray without Tune: the cluster, shares of GPUs, tasks."""
