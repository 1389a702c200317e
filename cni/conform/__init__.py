"""Does a CNI plugin keep the specification? Black-box checks of any executable, in namespaces made for each of them.

The executable is called as a runtime calls it; what it did is read from the kernel. What is judged is written in
`answer`, `shapes` and `judge`, apart from the calls.
"""
