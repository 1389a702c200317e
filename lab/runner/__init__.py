"""Runs the pods of one lab node: what a kubelet and a container runtime do, with processes instead of images.

Each pod gets a network namespace, wired by executing the CNI plugin exactly as a runtime does, and its containers'
commands run in it as processes of the machine. A pod's network is the real thing; its files are the machine's own.
"""
