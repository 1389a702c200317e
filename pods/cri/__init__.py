"""Pods as real containers, through the container runtime interface (CRI v1) of containerd or CRI-O.

The runtime is the memory: what there is of a pod is asked of it, by labels, so a runner that was killed finds its pods
again and one that lost its disk loses nothing.
"""
