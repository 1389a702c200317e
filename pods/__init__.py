"""Runs the pods of one node: what a kubelet does, without what networking does not need.

Pods bound to the node become sandboxes and containers, are probed, started again, reported and ended in grace. What
makes sandboxes and containers is behind one small interface: `pods.cri` asks a container runtime, a lab can do with
processes of the machine.
"""
