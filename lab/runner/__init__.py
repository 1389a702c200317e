"""The pods of one lab node as processes of the machine: no images, no container runtime.

Each pod gets a network namespace, wired by executing the CNI plugin exactly as a runtime does, and its containers'
commands run in it as processes. A pod's network is the real thing; its files are the machine's own.
"""
