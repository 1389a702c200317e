"""Container images made of files of this machine, for machines that cannot or should not fetch any."""
